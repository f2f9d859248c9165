"""What the commands of the sender share: their journal, the manager on it, how a transfer is told."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from haulier.cli.display import print_json, printable
from haulier.cli.outcome import DONE, FAILED, REFUSED, UNREACHABLE, tell
from haulier.core.errors import ConfigError, HaulierError, StorageFull, was_replaced
from haulier.core.quantity import read_rate
from haulier.core.transfer import Outcome, Phase
from haulier.logs import catch_libraries, get_logger

if TYPE_CHECKING:
    from haulier.core.dispatch import Dispatch
    from haulier.core.errors import StorageError
    from haulier.engine import send
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


def check_rate(text: str | None) -> str | None:
    """Return a rate as it was written. Raises BadParameter: it is none."""
    try:
        rate_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return text


def rate_of(text: str | None) -> int | None:
    """Return the bytes per second; None is no bound."""
    return None if text is None else read_rate(text)


RunBandwidth = Annotated[
    str | None,
    typer.Option(
        "--bandwidth",
        envvar="HAULIER_BANDWIDTH",
        metavar="RATE",
        callback=check_rate,
        help="Bytes per second of all transfers together, like 10MB or 2MiB, where this runs the journal.  "
        "[default: no bound]",
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


def is_there(journal: Path) -> bool:
    """Return whether there is such a journal; who only looks makes none. One that may not be looked at is there."""
    try:
        journal.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # whoever opens it tells why
    return True


async def wait_there(journal: Path, within_s: float) -> float:
    """Wait until there is such a journal, for that long at most; return the seconds that it took."""
    from haulier.engine.send import POLL_S

    began = monotonic()
    while not is_there(journal) and monotonic() - began < within_s:  # noqa: ASYNC110 - nobody tells us of files
        await asyncio.sleep(POLL_S)
    return monotonic() - began


def tell_no_journal(journal: Path) -> None:
    """Say that nothing was ever queued there."""
    tell(f"there is no journal {journal}; a push, a watch or an agent makes it")


def log_to_stderr(form: str = "console", *, quiet: bool = False) -> None:
    """Send log events to standard error; only what needs attention when `quiet`."""
    if form not in {"console", "json"}:
        raise typer.BadParameter("must be console or json", param_hint="HAULIER_LOG")
    chosen: Literal["console", "json"] = "json" if form == "json" else "console"

    def configure() -> None:
        from haulier.server.logs import configure_logging

        configure_logging(chosen)

    if quiet:
        get_logger().show_from(logging.ERROR, prepare=configure)
        catch_libraries(logging.ERROR)
    else:
        configure()


@asynccontextmanager
async def open_manager(
    journal: Path | None,
    home: Path | None,
    role: "Callable[[type[Role]], Role]",
    *,
    give_up_s: float | None = None,
    bandwidth: str | None = None,
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
        limits=places.limits(
            give_up_s=GIVE_UP_S if give_up_s is None else give_up_s, bandwidth=rate_of(bandwidth)
        ),
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


def print_view(view: "TransferView", *, as_json: bool, why: bool = True) -> None:
    """Print one transfer as a line, and why it does not go on, or failed, below it."""
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
    reason = row.transfer.reason or (row.error if row.live else None)
    if why and reason is not None:
        print(f"{'':36}  {printable(reason)}", flush=True)


def print_row(row: "Dispatch", *, as_json: bool, why: bool = True) -> None:
    """Print one transfer as `print_view` does, as its journal has it."""
    from haulier.engine.send import TransferView

    print_view(TransferView(row, row.transfer.snapshot), as_json=as_json, why=why)


def code_of(row: "Dispatch") -> int:
    """Return the exit code that tells how a transfer ended."""
    if row.transfer.outcome is Outcome.SUCCEEDED:
        return DONE
    return REFUSED if row.transfer.outcome is Outcome.REJECTED else FAILED


def tell_once(text: str, told: set[str]) -> None:
    """Say what several transfers may fail with, once."""
    if text not in told:
        tell(text)
    told.add(text)


def tell_no_runner() -> int:
    """Say that nobody runs the journal, and return the code for that."""
    tell(NO_RUNNER)
    return UNREACHABLE


@asynccontextmanager
async def hindrances_told(manager: "send.UploadManager", place: Path) -> AsyncIterator[None]:
    """Say meanwhile when the journal cannot be written, and when it can again."""
    from haulier.engine.tasks import beside

    async with beside(_tell_hindrances(manager, place)):
        yield


async def _tell_hindrances(manager: "send.UploadManager", place: Path) -> None:
    async with aclosing(_hindrances(manager)) as errors:
        async for error in errors:
            if not was_replaced(error):  # that ends the waits, and is told there
                tell(_hindrance(place, error))


async def wait_replaced(manager: "UploadManager") -> None:
    """Wait until the journal is removed or replaced, and raise StorageUnavailable then."""
    async with aclosing(_hindrances(manager)) as errors:
        async for error in errors:
            if error is not None and was_replaced(error):
                raise error


async def _hindrances(manager: "send.UploadManager") -> "AsyncGenerator[StorageError | None, None]":
    from haulier.engine.send_watch import Hindered

    async with aclosing(manager.events(anew=False)) as events:
        async for happening in events:
            if isinstance(happening, Hindered):
                yield happening.error


def _hindrance(place: Path, error: "StorageError | None") -> str:
    if error is None:
        return f"the journal {place} can be written again; what waited goes on"
    cure = "free space on its disk" if isinstance(error, StorageFull) else "mend that"
    return f"the journal {place} cannot be written: {error}; {cure}, and what waits goes on by itself"


@asynccontextmanager
async def obstacles_told(manager: "send.UploadManager") -> "AsyncIterator[Obstacles]":
    """Say meanwhile what somebody has to do about transfers that stand still until he does."""
    from haulier.engine.tasks import beside

    obstacles = Obstacles(manager)
    async with beside(obstacles.follow()):
        await asyncio.sleep(0)  # it listens from here on
        yield obstacles


class Obstacles:
    """Tells each obstacle once, whether it was there before somebody began to wait, or came then."""

    def __init__(self, manager: "send.UploadManager") -> None:
        self._manager = manager
        self._waited_for: set[str] = set()
        self._unknown: set[str] = set()
        """Of these, those that nobody had queued yet: they may join a transfer that has another id."""
        self._told: dict[str, str] = {}

    async def look(self, transfer_id: str) -> "TransferView | None":
        """Tell of this transfer from now on, and return how it stands."""
        self._waited_for.add(transfer_id)
        view = await self._manager.get(transfer_id)
        if view is None:
            self._unknown.add(transfer_id)
        else:
            self._unknown.discard(transfer_id)
            self._waited_for.add(view.row.id)  # another one, where it joined that
            self._tell(view.row)
        return view

    async def follow(self) -> None:
        """Tell what comes; that the journal cannot be read whoever waits hears by himself."""
        from haulier.engine.send_watch import Changed, Lagged

        async with aclosing(self._manager.events(anew=False)) as events:
            async for happening in events:
                if isinstance(happening, Lagged):
                    await self._look_at(self._waited_for)
                elif isinstance(happening, Changed) and happening.row.id in self._waited_for:
                    self._tell(happening.row)
                elif isinstance(happening, Changed):
                    await self._look_at(self._unknown)

    async def _look_at(self, transfer_ids: set[str]) -> None:
        with suppress(HaulierError):
            for each in tuple(transfer_ids):
                await self.look(each)

    def _tell(self, row: "Dispatch") -> None:
        why = _obstacle(row)
        if why is not None and self._told.get(row.id) != why:
            tell(why)
        self._told[row.id] = why or ""


def _obstacle(row: "Dispatch") -> str | None:
    from haulier.core.dispatch import Wanted

    if row.wanted is not Wanted.PAUSE:
        return None
    again = f"somebody says haulier transfers resume {row.id}"
    if row.transfer.phase is Phase.BLOCKED:
        return f"{row.path}: {row.transfer.reason}; it waits until that is mended and {again}"
    if row.transfer.phase is Phase.PAUSED:
        return f"{row.path}: it was paused; it waits until {again}"
    return None
