"""`haulier agent` and `haulier watch`: what runs for long without HTTP."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from haulier.cli.journal import (
    GiveUp,
    HomeDirectory,
    JournalFile,
    LogForm,
    RunBandwidth,
    journal_path,
    log_to_stderr,
    open_manager,
    open_places,
    wait_replaced,
)
from haulier.cli.outcome import DONE, explain, run, tell
from haulier.cli.push import To
from haulier.core.errors import HaulierError, TransferRemoved, was_replaced
from haulier.core.values import dataclass

if TYPE_CHECKING:
    from haulier.adapters.watched_files import Revision, WatchedFiles
    from haulier.engine.send import UploadManager

QUIET_S: Final = 5.0
"""How long a file has to be left alone: what writes pauses less."""
AGAIN_S: Final = 30.0
"""When to try again what could not be queued."""
WATCHED: Final = ".watched"
"""What the name of the file has more than the journal's beside it that keeps what was queued."""
LOOK_S: Final = 1.0
"""How often a watched folder is looked at."""
_BESIDE: Final = ("", "-wal", "-shm", "-journal")
"""What the names of a database's files end with."""


def agent(
    journal: JournalFile = None,
    give_up_s: GiveUp = None,
    bandwidth: RunBandwidth = None,
    log_form: LogForm = "console",
    home: HomeDirectory = None,
) -> None:
    """Run the transfer queue until SIGTERM or Ctrl-C."""
    log_to_stderr(log_form)

    async def work() -> None:
        async with open_manager(
            journal, home, lambda role: role.REQUIRED, give_up_s=give_up_s, bandwidth=bandwidth
        ) as manager:
            print(f"haulier agent ready, journal {journal_path(journal, home)}", flush=True)
            await wait_replaced(manager)

    run(_until_stopped(work()))


def watch(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="What is watched.")
    ],
    to: To,
    journal: JournalFile = None,
    give_up_s: GiveUp = None,
    bandwidth: RunBandwidth = None,
    log_form: LogForm = "console",
    home: HomeDirectory = None,
) -> None:
    """Queue files of a folder, and of those below it, that have been quiet for 5 seconds; until SIGTERM or Ctrl-C.

    A file that changes is queued again. Names that begin with a dot are left alone. Sends itself when nobody else runs
    the journal.
    """
    remote, colon, _ = to.partition(":")
    if not remote or not colon or not to.endswith((":", "/")):
        raise typer.BadParameter(
            "must be REMOTE:PATH, and a PATH that ends with / is needed: a folder for the files",
            param_hint="--to",
        )
    log_to_stderr(log_form)

    async def work() -> None:
        from haulier.adapters.watched_files import WatchedFiles
        from haulier.engine.tasks import tasks

        # A name that was mistyped would be told with the first file only.
        open_places(home).require_settings(remote)
        place = journal_path(journal, home)
        known = WatchedFiles(place.with_name(place.name + WATCHED), folder.absolute(), to)
        async with (
            open_manager(
                journal, home, lambda role: role.WHEN_FREE, give_up_s=give_up_s, bandwidth=bandwidth
            ) as manager,
            _opened(known),
        ):
            print(f"haulier watch ready, journal {place}", flush=True)
            async with tasks() as group:
                group.create_task(wait_replaced(manager))
                group.create_task(Watch(manager, known, folder, to, ours=_kept(place, home)).run())

    run(_until_stopped(work()))


async def _until_stopped(work: Coroutine[Any, Any, None]) -> int:
    from haulier.adapters.stop_signals import until_stopped

    await until_stopped(work)
    return DONE


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as one look found it."""

    path: str
    name: str
    """Below the folder, with `/`."""
    revision: "Revision"


class Watch:
    """Queues the files of a folder.

    Rule 1: a file counts as queued once it is, and that is kept for as long as the file is there: it is not sent again as it
            is, however old its result.
    Rule 2: what cannot be queued is told once, and tried again.
    Rule 3: what we keep ourselves is never sent: it has secrets in it, and changes with each file that is queued.
    """

    def __init__(
        self,
        manager: "UploadManager",
        known: "WatchedFiles",
        folder: Path,
        to: str,
        *,
        ours: Callable[[Path], bool],
    ) -> None:
        """Take the parts; `known` is open. `ours` tells by its path, without links in it, what we keep ourselves."""
        self._ours = ours
        self._manager = manager
        self._known = known
        self._folder = folder.absolute()
        self._to = to
        self._quiet_since: dict[str, tuple[Revision, float]] = {}
        self._queued: dict[str, Revision] = {}
        self._told: dict[str, str] = {}

    async def run(self) -> None:
        """Look for ever."""
        self._queued = await self._known.load()
        loop = asyncio.get_running_loop()
        while True:
            seen = await asyncio.to_thread(lambda: list(_files(self._folder, self._ours)))
            await self.look(seen, now=loop.time())
            await asyncio.sleep(LOOK_S)

    async def look(self, seen: list[Seen], *, now: float) -> None:
        """Queue what has not changed for a while, and was not queued as it is.

        Raises:
            StorageUnavailable: the journal, or the file that keeps what was queued, was removed or replaced.
        """
        for each in self._quiet(seen, now=now):
            try:
                await self._queue(each)
            except (HaulierError, OSError) as error:
                if was_replaced(error):
                    raise
                self._put_off(each, explain(error), now=now)
        gone = self._queued.keys() - self._quiet_since.keys()
        if gone and seen:  # a folder that is not mounted has nothing in it; that forgets nothing
            with suppress(HaulierError):
                await self._known.forget(gone)
                self._queued = {path: it for path, it in self._queued.items() if path not in gone}

    def _quiet(self, seen: list[Seen], *, now: float) -> list[Seen]:
        before, self._quiet_since = self._quiet_since, {}
        quiet = []
        for each in seen:
            revision, since = before.get(each.path, (None, now))
            since = since if revision == each.revision else now
            self._quiet_since[each.path] = (each.revision, since)
            if now - since >= QUIET_S and self._queued.get(each.path) != each.revision:
                quiet.append(each)
        self._told = {path: why for path, why in self._told.items() if path in self._quiet_since}
        return quiet

    async def _queue(self, each: Seen) -> None:
        # Under an id of its revision: if we die before that is kept, the journal knows it, also if it was removed there.
        with suppress(TransferRemoved):
            await self._manager.queue(each.path, self._to + each.name, id=_id_of(each, self._to))
        await self._known.note({each.path: each.revision})
        self._queued[each.path] = each.revision
        self._told.pop(each.path, None)

    def _put_off(self, each: Seen, why: str, *, now: float) -> None:
        self._quiet_since[each.path] = (each.revision, now + AGAIN_S - QUIET_S)
        if self._told.get(each.path) != why:
            tell(f"{each.path}: {why}")
        self._told[each.path] = why


@asynccontextmanager
async def _opened(known: "WatchedFiles") -> AsyncIterator[None]:
    await known.open()
    try:
        yield
    finally:
        await known.close()


def _id_of(each: Seen, to: str) -> str:
    text = f"{to}\n{each.path}\n{each.revision}"
    return f"watch-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def _kept(journal: Path, home: Path | None) -> Callable[[Path], bool]:
    """Return what tells by its path, without links in it, whether a file is one that we keep ourselves."""
    places, default = open_places(home), journal_path(None, home)
    links = {journal, default}
    files = links | {Path(os.path.realpath(each)) for each in links}
    kept = {
        Path(os.path.realpath(each.parent), f"{each.name}{what}")
        for each in files
        for what in (".lock", *_BESIDE, *(WATCHED + end for end in _BESIDE))
    }
    return lambda path: path in kept or places.keeps(path)


def _files(folder: Path, ours: Callable[[Path], bool]) -> Iterator[Seen]:
    """Find the files below, but for ours; what vanishes while it is looked at is not there."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        real = Path(os.path.realpath(place))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(place) / name
            if ours(real / name):
                continue
            with suppress(OSError):
                status = path.stat()
                if path.is_file():
                    revision = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                    yield Seen(str(path), path.relative_to(folder).as_posix(), revision)
