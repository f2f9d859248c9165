"""`haulier agent` and `haulier watch`: what runs for long without HTTP."""

import asyncio
import hashlib
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from haulier.cli.journal import HomeDirectory, JournalFile, LogForm, journal_path, log_to_stderr, open_manager
from haulier.cli.outcome import DONE, explain, run, tell
from haulier.cli.push import To
from haulier.core.errors import HaulierError

if TYPE_CHECKING:
    from haulier.sender import UploadManager

QUIET_S: Final = 5.0
"""How long a file has to be left alone: what writes pauses less."""
LOOK_S: Final = 1.0
"""How often a watched folder is looked at."""


def agent(journal: JournalFile = None, log_form: LogForm = "console", home: HomeDirectory = None) -> None:
    """Run the transfer queue until SIGTERM or Ctrl-C."""
    log_to_stderr(log_form)

    async def work() -> int:
        async with open_manager(journal, home, lambda role: role.REQUIRED):
            print(f"haulier agent ready, journal {journal_path(journal, home)}", flush=True)
            await _stopped()
        return DONE

    run(work())


def watch(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="What is watched.")
    ],
    to: To,
    journal: JournalFile = None,
    log_form: LogForm = "console",
    home: HomeDirectory = None,
) -> None:
    """Queue files of a folder, and of those below it, that have been quiet for 5 seconds; until SIGTERM or Ctrl-C.

    A file that changes is queued again. Names that begin with a dot are left alone. Sends itself when nobody else runs
    the journal.
    """
    if not to.endswith((":", "/")):
        raise typer.BadParameter(
            "a PATH that ends with / is needed: a folder for the files", param_hint="--to"
        )
    log_to_stderr(log_form)

    async def work() -> int:
        async with open_manager(journal, home, lambda role: role.WHEN_FREE) as manager:
            watching = asyncio.get_running_loop().create_task(_Watch(manager, folder, to).run())
            print(f"haulier watch ready, journal {journal_path(journal, home)}", flush=True)
            stopped = asyncio.get_running_loop().create_task(_stopped())
            await asyncio.wait({watching, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in (watching, stopped):
                task.cancel()
            await asyncio.wait({watching, stopped})
            if not watching.cancelled():
                watching.result()
        return DONE

    run(work())


async def _stopped() -> None:
    """Wait for SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as one look found it."""

    path: str
    name: str
    """Below the folder, with `/`."""
    revision: tuple[int, int, int, int]


class _Watch:
    def __init__(self, manager: "UploadManager", folder: Path, to: str) -> None:
        self._manager = manager
        self._folder = folder.absolute()
        self._to = to
        self._quiet_since: dict[str, tuple[tuple[int, int, int, int], float]] = {}
        self._queued: dict[str, tuple[int, int, int, int]] = {}

    async def run(self) -> None:
        """Look for ever."""
        loop = asyncio.get_running_loop()
        while True:
            seen = await asyncio.to_thread(lambda: list(_files(self._folder)))
            for each in self._quiet(seen, now=loop.time()):
                await self._queue(each)
            await asyncio.sleep(LOOK_S)

    def _quiet(self, seen: list[Seen], *, now: float) -> list[Seen]:
        """Return what has not changed for a while, and was not queued as it is."""
        before, self._quiet_since = self._quiet_since, {}
        quiet = []
        for each in seen:
            revision, since = before.get(each.path, (None, now))
            since = since if revision == each.revision else now
            self._quiet_since[each.path] = (each.revision, since)
            if now - since >= QUIET_S and self._queued.get(each.path) != each.revision:
                quiet.append(each)
        self._queued = {path: self._queued[path] for path in self._quiet_since if path in self._queued}
        return quiet

    async def _queue(self, each: Seen) -> None:
        self._queued[each.path] = each.revision
        try:
            # Under an id of its revision: what an earlier watch queued is known, and nothing is sent twice.
            await self._manager.queue(each.path, self._to + each.name, id=_id_of(each, self._to))
        except (HaulierError, OSError) as error:
            tell(f"{each.path}: {explain(error)}")


def _id_of(each: Seen, to: str) -> str:
    text = f"{to}\n{each.path}\n{each.revision}"
    return f"watch-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def _files(folder: Path) -> Iterator[Seen]:
    """Find the files below; what vanishes while it is looked at is not there."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(place) / name
            with suppress(OSError):
                status = path.stat()
                if path.is_file():
                    revision = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                    yield Seen(str(path), path.relative_to(folder).as_posix(), revision)
