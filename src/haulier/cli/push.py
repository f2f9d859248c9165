"""`haulier push`: local files to remotes."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from haulier.cli.display import Bars, FileBar, Report, printable
from haulier.cli.journal import (
    GiveUp,
    HomeDirectory,
    JournalFile,
    Obstacles,
    RunBandwidth,
    code_of,
    complete_target,
    hindrances_told,
    journal_path,
    log_to_stderr,
    obstacles_told,
    open_manager,
    print_row,
    print_view,
    tell_no_runner,
    tell_once,
)
from haulier.cli.options import Json
from haulier.cli.outcome import DONE, USAGE, exit_code, explain, run, tell, tell_failed, worst_code
from haulier.core.errors import HaulierError, InvalidRequest, TransferTimeout
from haulier.core.outgoing import IfExists
from haulier.core.transfer import Phase, Priority

if TYPE_CHECKING:
    from haulier.core.dispatch import Dispatch
    from haulier.core.transfer import TransferId
    from haulier.engine.send import UploadManager


class Urgency(StrEnum):
    """Priorities by the names that people type."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def priority(self) -> Priority:
        """What the queue knows."""
        return Priority[self.name]


To = Annotated[
    str,
    typer.Option(
        "--to",
        envvar="HAULIER_TO",
        metavar="REMOTE:PATH",
        help="Where to; a PATH that ends with / is a folder.",
        autocompletion=complete_target,
    ),
]
IfThere = Annotated[
    IfExists,
    typer.Option("--if-exists", envvar="HAULIER_IF_EXISTS", help="What is done about a file that is there."),
]
_OPTIONS: Final = frozenset({"to", "id", "if_exists"})
"""Fields of options that the manager and the remote judge. A `target` that a remote refuses mostly has the file's name in it."""
MAX_BARS: Final = 20
"""Bars at once: more than any number of slots, fewer than a terminal has lines. Those that only wait may be thousands."""
HINT = (
    "interrupted; what was queued is kept, and goes on when haulier agent, haulier serve or another push runs"
)


def push(
    # Not judged here: one that may not be read keeps no other from being sent.
    files: Annotated[list[Path], typer.Argument(metavar="FILE", readable=False, help="What to send.")],
    to: To,
    priority: Annotated[
        Urgency, typer.Option(envvar="HAULIER_PRIORITY", help="Who goes first of those that wait.")
    ] = Urgency.NORMAL,
    if_exists: IfThere = IfExists.REPLACE,
    transfer_id: Annotated[
        str | None,
        typer.Option(
            "--id", envvar="HAULIER_ID", metavar="ID", help="The transfer's id, of your choice; for one FILE."
        ),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", envvar="HAULIER_NO_WAIT", help="Only queue; somebody else sends.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            envvar="HAULIER_TIMEOUT", min=0, metavar="S", help="Seconds to wait; the transfer goes on after."
        ),
    ] = None,
    journal: JournalFile = None,
    give_up_s: GiveUp = None,
    bandwidth: RunBandwidth = None,
    as_json: Json = False,
    home: HomeDirectory = None,
) -> None:
    """Queue files for a remote, and wait until they are there.

    A transfer is kept in the journal: whatever is interrupted, even by kill -9, goes on when somebody runs the journal
    again. The same file for the same target is never sent twice at once; a changed one takes the place of the old.
    """
    _judge_files(files, to, transfer_id)
    log_to_stderr(quiet=True)

    async def work() -> int:
        async with (
            open_manager(
                journal,
                home,
                lambda role: role.NEVER if no_wait else role.WHEN_FREE,
                give_up_s=give_up_s,
                bandwidth=bandwidth,
            ) as manager,
            obstacles_told(manager) as obstacles,
        ):
            sending = _Push(manager, obstacles, as_json=as_json, timeout_s=timeout)
            queue_all = partial(sending.queue_all, files, to, priority.priority, if_exists, transfer_id)
            if no_wait:
                return await sending.leave(await queue_all())
            with Bars(0) as bars:
                async with sending.shown(bars):
                    queued = await queue_all()
                    async with hindrances_told(manager, journal_path(journal, home)):
                        return await sending.wait_all(queued)

    run(work(), interrupted=HINT)


def _judge_files(files: list[Path], to: str, transfer_id: str | None) -> None:
    """Refuse several files that need a folder or ids of their own. Raises BadParameter."""
    if len(files) > 1 and not to.endswith((":", "/")):
        raise typer.BadParameter("several files need a folder: a PATH that ends with /", param_hint="--to")
    _refuse_same_names(files)
    if len(files) > 1 and transfer_id is not None:
        raise typer.BadParameter("an id names one transfer; give one FILE", param_hint="--id")


def _refuse_same_names(files: list[Path]) -> None:
    """Refuse files that would take each other's place; a file that is given twice is one."""
    named: dict[str, Path] = {}
    for file in files:
        other = named.setdefault(file.name, file)
        if os.path.abspath(other) != os.path.abspath(file):  # noqa: PTH100 - Path keeps what is between `d` and `..`
            raise typer.BadParameter(
                f"'{printable(str(other))}' and '{printable(str(file))}' would be one file there; push them apart",
                param_hint="FILE",
            )


class _Push:
    """One `haulier push`."""

    def __init__(
        self, manager: "UploadManager", obstacles: Obstacles, *, as_json: bool, timeout_s: float | None
    ) -> None:
        self._manager = manager
        self._obstacles = obstacles
        self._as_json = as_json
        self._timeout_s = timeout_s
        self._codes: set[int] = set()
        self._told: set[str] = set()
        self._timed_out = False
        self._drawing: _Drawing | None = None
        self._ours: set[str] = set()
        """Those that are drawn."""

    async def queue_all(
        self, files: list[Path], to: str, priority: Priority, if_exists: IfExists, transfer_id: str | None
    ) -> "list[TransferId | None]":
        """Queue files, in their order; None where one could not be."""
        return [await self.queue(file, to, priority, if_exists, transfer_id) for file in files]

    async def queue(
        self, file: Path, to: str, priority: Priority, if_exists: IfExists, transfer_id: str | None
    ) -> "TransferId | None":
        """Queue one file; what is wrong with it keeps no other from being sent."""
        try:
            queued = await self._manager.queue(
                file, to, priority=priority, if_exists=if_exists, id=transfer_id
            )
        except (HaulierError, OSError) as error:
            code = tell_failed(str(file), error)
            self._codes.add(USAGE if _is_of_options(error) else code)
            return None
        known = queued in self._ours
        self._ours.add(queued)
        view = await self._obstacles.look(queued)
        if self._drawing is not None and view is not None and not known:
            # It may have begun before anybody knew its id, or for somebody else.
            self._drawing.begin(view.row)
        return queued

    async def leave(self, queued: "list[TransferId | None]") -> int:
        """Say what was queued, and leave it to who runs the journal; nobody is missed where nothing was."""
        for each in queued:
            view = None if each is None else await self._manager.get(each)
            if view is not None:
                print_view(view, as_json=self._as_json)
        if any(queued) and await self._manager.holder() is None:
            self._codes.add(tell_no_runner())
        return worst_code(self._codes)

    @asynccontextmanager
    async def shown(self, bars: Bars) -> AsyncIterator[None]:
        """Draw meanwhile what happens to what is queued."""
        from haulier.engine.tasks import beside

        self._drawing = _Drawing(bars)
        async with beside(self._show(self._drawing)):
            await asyncio.sleep(0)  # it listens from here on
            yield

    async def wait_all(self, queued: "list[TransferId | None]") -> int:
        """Wait for all, and tell each as it ends."""
        from haulier.engine.tasks import tasks

        async with tasks() as group:
            for each in queued:
                if each is not None:
                    group.create_task(self._wait(each))
        if self._timed_out:
            # He who has no more time has none for the end of what runs, either.
            await self._manager.stop(grace_s=0.0)
        return worst_code(self._codes)

    async def _wait(self, transfer_id: "TransferId") -> None:
        try:
            row = await self._manager.wait(transfer_id, timeout_s=self._timeout_s)
        except HaulierError as error:
            tell_once(explain(error), self._told)
            self._codes.add(exit_code(error))
            self._timed_out |= isinstance(error, TransferTimeout)
            return
        print_row(row, as_json=self._as_json, why=False)  # that is told below, where scripts do not read it
        if code_of(row) != DONE:
            tell(
                f"{row.path}: {row.transfer.label}"
                + (f": {row.transfer.reason}" if row.transfer.reason else "")
            )
        self._codes.add(code_of(row))

    async def _show(self, drawing: "_Drawing") -> None:
        from haulier.engine.send_watch import Changed, Progress

        async with aclosing(self._manager.events(anew=False)) as events:
            async for happening in events:
                if isinstance(happening, Progress) and happening.id in self._ours:
                    drawing.moved(happening.id, happening.snapshot.done, happening.snapshot.size)
                elif isinstance(happening, Changed) and happening.row.id in self._ours:
                    drawing.changed(happening.row)


def _is_of_options(error: Exception) -> bool:
    """Whether it is the command that is wrong, and not the file."""
    return isinstance(error, InvalidRequest) and all(problem.field in _OPTIONS for problem in error.errors)


class _Drawing:
    """A bar for each transfer that is on its way."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._shown: dict[str, tuple[FileBar, Report]] = {}

    def moved(self, transfer_id: str, done: int, size: int, waiting: str | None = None) -> None:
        """Move a bar."""
        if transfer_id in self._shown:
            from haulier.core.progress import Progress

            self._shown[transfer_id][1](Progress(done=done, size=size, waiting=waiting))

    def begin(self, row: "Dispatch") -> None:
        """Draw one more, as it is now."""
        if row.live:
            self._bars.grow(row.source.size)
        self.changed(row)

    def changed(self, row: "Dispatch") -> None:
        """Begin a bar, say why it stands still, or take it away."""
        if not self._bars.drawn:
            return
        begun = row.live and row.id not in self._shown and row.transfer.phase is not Phase.QUEUED
        if begun and len(self._shown) < MAX_BARS:
            bar = self._bars.file(row.target)
            self._shown[row.id] = (bar, bar.__enter__())
        snapshot = row.transfer.snapshot
        self.moved(row.id, snapshot.done, snapshot.size, row.transfer.reason if row.live else None)
        if not row.live and row.id in self._shown:
            self._shown.pop(row.id)[0].__exit__(None, None, None)
