"""The dirty bytes of parts: on their way to the device early, and never many of them.

Rule 1: all writers of a part count together, since a finish syncs what all of them left.
Rule 2: one write-back of a part at a time; who would fill another step meanwhile waits for it. So a finish finds two
        steps at most, whatever the size of the file, and no upload takes longer for it: its finish would have waited.
Rule 3: the kernel reports a failed write-back once. Whoever hears of it sets the part aside, for all processes; those
        who are writing it here remember.
Rule 4: what is known of a part is kept while it is written here, and of a bounded number of parts after that.
"""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from itertools import chain
from pathlib import Path
from typing import Final

from haulier.adapters.disk.system_calls import SystemCalls, write_error
from haulier.adapters.disk.threads import DiskThreads

STEP: Final = 8 * 1024 * 1024
"""Bytes that start a write-back: some 30 ms of a plain SSD, so that two of them hardly lengthen a finish."""
IDLE_PARTS: Final = 1024
"""Parts without a writer that are remembered, some 500 bytes each: chunks of an upload follow each other, and count
together. One that is forgotten has its directory synced once more, and starts to count anew."""

Spoiled = Callable[[Path, int], None]
"""Hears of a part that does not reach the device, with a descriptor of it; must not raise."""


class WriteBack:
    """Of one part, in one process."""

    def __init__(self, owner: "WriteBacks", part: Path) -> None:
        self.part: Final = part
        self.users = 0
        """Open writers."""
        self.named = False
        """Whether the part's name is known to survive a power loss."""
        self._owner = owner
        self._gate = threading.Lock()
        self._pushing = threading.Lock()
        """Held while the kernel writes back, until its error is known here."""
        self._dirty = 0
        self._running: Future[None] | None = None
        self._error: OSError | None = None

    @property
    def failed(self) -> bool:
        """Whether bytes of the part are known to be lost."""
        return self._error is not None

    def wrote(self, descriptor: int, size: int) -> None:
        """`size` more bytes are in the page cache; `descriptor` is the part's, and may be closed afterwards.

        Raises:
            OSError: no more files can be opened.
        """
        with self._gate:
            self._dirty += size
            if self._dirty >= STEP and not self._busy():
                self._dirty = 0
                self._running = self._owner.threads.submit(self._push, os.dup(descriptor))

    def _busy(self) -> bool:
        return self._running is not None and not self._running.done()

    def _push(self, descriptor: int) -> None:
        try:
            with self._pushing:
                self._write_back(descriptor)
        finally:
            os.close(descriptor)

    def _write_back(self, descriptor: int) -> None:
        try:
            self._owner.calls.write_back(descriptor)
        except OSError as error:
            self._error = error
            self._owner.spoiled(self.part, descriptor)

    def full(self) -> Awaitable[None] | None:
        """Return what to await before more is written, None when there is room. It never fails."""
        running = self._running
        if running is None or running.done() or self._dirty < STEP:
            return None
        return asyncio.shield(asyncio.wrap_future(running))

    def raise_error(self) -> None:
        """Tell of a write-back that failed.

        Raises:
            StorageFull · StorageNotWritable · StorageUnavailable
        """
        if self._error is not None:
            raise write_error(self._error, self.part.parent) from self._error

    def judge_sync(self) -> None:
        """After a sync that succeeded: perhaps a write-back was told of its failure instead. Waits; for threads only.

        Raises as `raise_error`.
        """
        with self._pushing:
            self.raise_error()

    def make_name_durable(self) -> None:
        """Put the part's directory entry on the device, unless that is known to be there. Raises OSError."""
        if not self.named:
            self._owner.calls.sync_directory(self.part.parent)
            self.named = True

    def let_go(self) -> None:
        """A writer has ended."""
        self._owner.let_go(self)


class WriteBacks:
    """Those of all parts that one process writes."""

    def __init__(self, calls: SystemCalls, threads: DiskThreads, spoiled: Spoiled) -> None:
        """Call `spoiled`, in a thread, when a part could not be written back."""
        self.calls: Final = calls
        self.threads: Final = threads
        self.spoiled: Final = spoiled
        self._gate = threading.Lock()
        self._used: dict[Path, WriteBack] = {}
        """Those with writers, or with an error."""
        self._idle: dict[Path, WriteBack] = {}
        """Those without, the one that ended first first."""

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._used) + len(self._idle)

    def take(self, part: Path) -> WriteBack:
        """Return that of a part for one more writer, who calls `let_go` at its end."""
        with self._gate:
            found = self._idle.pop(part, None) or self._used.get(part) or WriteBack(self, part)
            found.users += 1
            self._used[part] = found
            return found

    def let_go(self, write_back: WriteBack) -> None:
        """One of its writers has ended."""
        with self._gate:
            write_back.users -= 1
            mine = self._used.get(write_back.part) is write_back  # else the part was removed
            if write_back.users or write_back.failed or not mine:
                return
            del self._used[write_back.part]
            self._idle[write_back.part] = write_back
            if len(self._idle) > IDLE_PARTS:
                del self._idle[next(iter(self._idle))]

    def known(self, part: Path) -> WriteBack | None:
        """Return that of a part, None when nothing is known of it here."""
        return self._used.get(part) or self._idle.get(part)

    def forget(self, part: Path) -> None:
        """The part was removed."""
        with self._gate:
            self._used.pop(part, None)
            self._idle.pop(part, None)

    def forget_names(self) -> None:
        """The directory of the parts was made anew."""
        with self._gate:
            for each in self._all():
                each.named = False

    def _all(self) -> Iterator[WriteBack]:
        return chain(self._used.values(), self._idle.values())
