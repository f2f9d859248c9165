"""What the commands of the sender share: their journal, the manager on it, how a transfer is told."""

import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from haulier.cli.display import print_json, printable
from haulier.cli.outcome import DONE, FAILED, REFUSED, UNREACHABLE, tell
from haulier.core.errors import ConfigError
from haulier.core.transfer import Outcome, Phase

if TYPE_CHECKING:
    from haulier.core.dispatch import Dispatch
    from haulier.engine.send import Role, TransferView
    from haulier.places import RemotePlaces
    from haulier.sender import UploadManager

NO_RUNNER: Final = "no process runs this journal; haulier agent does, and so does haulier serve"

JournalFile = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        envvar="HAULIER_JOURNAL",
        metavar="FILE",
        help="The journal of transfers.  [default: journal.db in the home directory]",
    ),
]
HomeDirectory = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar="HAULIER_HOME",
        hidden=True,
        help="Where remotes and the default journal are; the platform's user data directory by default.",
    ),
]
GiveUp = Annotated[
    float | None,
    typer.Option(
        "--transfer-give-up-s",
        envvar="HAULIER_TRANSFER_GIVE_UP_S",
        metavar="S",
        min=1,
        help="Seconds without progress after which a transfer ends as timed out, where this runs the journal.  "
        "[default: 86400]",
    ),
]
LogForm = Annotated[str, typer.Option("--log", envvar="HAULIER_LOG", hidden=True, help="console or json.")]


def open_places(home: Path | None) -> "RemotePlaces":
    """Return the remotes of this user."""
    from haulier.places import RemotePlaces, home_directory

    return RemotePlaces(home_directory(home))


def complete_remote(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of remotes that begin so, of the home that the command would use."""
    try:
        names = open_places(context.params.get("home")).settings()
    except ConfigError:
        return []  # a shell that completes shows no errors
    return [name for name in names if name.startswith(incomplete)]


def complete_target(context: typer.Context, incomplete: str) -> list[str]:
    """Return the beginnings of targets on remotes that begin so."""
    return [f"{name}:" for name in complete_remote(context, incomplete)]


def journal_path(journal: Path | None, home: Path | None) -> Path:
    """Return where the journal is."""
    from haulier.places import JOURNAL, home_directory

    return home_directory(home) / JOURNAL if journal is None else journal.expanduser().absolute()


def log_to_stderr(form: str = "console", *, quiet: bool = False) -> None:
    """Send log events to standard error; only what needs attention when `quiet`."""
    import structlog

    from haulier.server.logs import configure_logging

    if form not in {"console", "json"}:
        raise typer.BadParameter("must be console or json", param_hint="HAULIER_LOG")
    chosen: Literal["console", "json"] = "json" if form == "json" else "console"
    configure_logging(chosen)
    if quiet:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


@asynccontextmanager
async def open_manager(
    journal: Path | None,
    home: Path | None,
    role: "Callable[[type[Role]], Role]",
    *,
    give_up_s: float | None = None,
    unknown_s: float = 0.0,
) -> "AsyncIterator[UploadManager]":
    """Start a manager on this user's journal and remotes, and stop it at the end."""
    from haulier.core.verdict import GIVE_UP_S
    from haulier.engine.send import Role
    from haulier.sender import UploadManager

    places = open_places(home)
    manager = UploadManager(
        journal_path(journal, home),
        places,
        limits=places.limits(give_up_s=GIVE_UP_S if give_up_s is None else give_up_s),
        role=role(Role),
        unknown_s=unknown_s,
    )
    try:
        async with manager:
            yield manager
    finally:
        await places.close()


def document_of(view: "TransferView") -> dict[str, Any]:
    """Return the JSON of a transfer."""
    from haulier.core.transfer_document import transfer_document

    return transfer_document(view.row, view.snapshot, view.place)


def print_view(view: "TransferView", *, as_json: bool) -> None:
    """Print one transfer as a line."""
    if as_json:
        print_json(document_of(view))
        return
    row, snapshot = view.row, view.snapshot
    # Where it is, once it is there: perhaps it was renamed.
    target = f"{row.remote}:{row.target if row.stored is None else row.stored.name}"
    print(
        f"{row.id:36}  {row.transfer.label:22}  {snapshot.done:>15}/{snapshot.size:<15}  {printable(target)}",
        flush=True,
    )
    why = row.transfer.reason or (row.error if row.live else None)
    if why is not None:
        print(f"{'':36}  {printable(why)}", flush=True)


def print_row(row: "Dispatch", *, as_json: bool) -> None:
    """Print one transfer as a line, as its journal has it."""
    from haulier.engine.send import TransferView

    print_view(TransferView(row, row.transfer.snapshot), as_json=as_json)


def code_of(row: "Dispatch") -> int:
    """Return the exit code that tells how a transfer ended."""
    if row.transfer.outcome is Outcome.SUCCEEDED:
        return DONE
    return REFUSED if row.transfer.outcome is Outcome.REJECTED else FAILED


def tell_no_runner() -> int:
    """Say that nobody runs the journal, and return the code for that."""
    tell(NO_RUNNER)
    return UNREACHABLE


def tell_obstacle(row: "Dispatch") -> None:
    """Say what somebody has to do about a transfer that is blocked."""
    if row.transfer.phase is Phase.BLOCKED and sys.stderr is not None:
        tell(
            f"{row.path}: {row.transfer.reason}; it waits until that is mended and somebody says "
            f"haulier transfers resume {row.id}"
        )
