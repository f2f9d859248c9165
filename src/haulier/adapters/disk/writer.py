"""Writes into one claimed range of a part file.

Rule 1: a piece goes into the page cache while it is still in the CPU's cache: at once, on the event
        loop. Handing it to a thread costs more than the write.
Rule 2: unless the disk is slow. A write that took over `SLOW_WRITE_S` moves the writer to the thread
        path, until writes there have been fast for a while.
Rule 3: the lock is the descriptor's; nothing is written before it is taken, nor after it is closed.
Rule 4: after a failed sync the kernel takes what it covered for written, and the next sync succeeds. So nothing
        is flushed by that writer any more; who comes next cuts those bytes off, or writes them again.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import field
from pathlib import Path
from typing import Final

from haulier.adapters.disk.system_calls import (
    LOCKS,
    RangeLocks,
    SystemCalls,
    stat_or_none,
    write_all,
    write_error,
)
from haulier.adapters.disk.threads import DiskThreads, wait_ended, wait_result
from haulier.adapters.disk.write_back import WriteBack
from haulier.core.digest import Buffer
from haulier.core.errors import StorageUnavailable
from haulier.core.values import dataclass

SLOW_WRITE_S: Final = 0.020
"""A page-cache write of 256 KiB takes 0.1 ms; 20 ms means that the kernel throttles us (dirty pages)."""
FAST_WRITES_TO_RETURN: Final = 16
"""So many fast writes in a row, 4 MiB of full pieces, bring a writer back to the event loop."""

WRITE_BACK_THREADS: Final = 4
"""Parts that are being written to the device at a time; one disk is not faster with more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskTools:
    """What a disk sink and its writers work with; tests put in calls that fail and timers that jump."""

    calls: SystemCalls = field(default_factory=SystemCalls)
    locks: RangeLocks = LOCKS
    threads: DiskThreads = field(default_factory=DiskThreads)
    write_back_threads: DiskThreads = field(default_factory=lambda: DiskThreads(WRITE_BACK_THREADS))
    """Of their own: on a slow disk these wait for long, and opening and reading must not wait with them."""
    timer: Callable[[], float] = time.perf_counter
    """Seconds; only differences count."""


class PartWriter:
    """The `RangeWriter` of a disk. One task at a time may use it."""

    def __init__(
        self,
        tools: DiskTools,
        descriptor: int,
        *,
        path: Path,
        start: int,
        stop: int | None,
        write_back: WriteBack,
        closed: Callable[["PartWriter"], None],
    ) -> None:
        """Own `descriptor`, whose range is locked already, and one use of `write_back`; `closed` is told the end."""
        self._tools = tools
        self._descriptor = descriptor
        self._path = path
        self._stop = stop
        self._position = start
        self._write_back = write_back
        self._closed = closed
        self._open = True
        self._unsynced: OSError | None = None
        """Why a sync failed: the kernel would not say so twice (Rule 4)."""
        self._in_threads = 0
        """Writes that still go to a thread; 0 on the event loop."""
        self._writing: Future[None] | None = None

    @property
    def key(self) -> str:
        """Of the part."""
        return self._path.name

    @property
    def descriptor(self) -> int:
        """The open part, whose range stays locked until `close`."""
        return self._descriptor

    @property
    def position(self) -> int:
        """Where in the file the next byte goes."""
        return self._position

    def write(self, piece: Buffer) -> Awaitable[None] | None:
        """Store the next piece; see `ports.Deliver`.

        Raises:
            StorageFull · StorageNotWritable · StorageUnavailable
        """
        self._require_right(len(piece))
        self._require_sound()
        if self._in_threads:
            # The caller's buffer is reused as soon as it has it back.
            self._writing = self._tools.threads.submit(self._put_timed, bytes(piece))
            # Shielded, since a cancel would skip a write that has not started and leave a hole.
            return asyncio.shield(asyncio.wrap_future(self._writing))
        self._put_timed(piece)
        return self._write_back.full()

    def _require_right(self, length: int) -> None:
        if not self._open:
            message = f"write to {self.key} after its range was released"
            raise AssertionError(message)
        if self._writing is not None and not self._writing.done():
            message = f"write to {self.key} before the last one was done"
            raise AssertionError(message)
        if self._stop is not None and self._position + length > self._stop:
            message = f"write to {self.key} past the claimed range, which ends at {self._stop}"
            raise AssertionError(message)

    def _require_sound(self) -> None:
        """Check that what was written so far is not known to be lost.

        Raises:
            StorageFull · StorageNotWritable · StorageUnavailable
        """
        self._write_back.raise_error()
        if self._unsynced is not None:
            raise write_error(self._unsynced, self._path.parent) from self._unsynced

    def _put_timed(self, piece: Buffer) -> None:
        started = self._tools.timer()
        self._put(piece)
        if self._tools.timer() - started > SLOW_WRITE_S:
            self._in_threads = FAST_WRITES_TO_RETURN
        elif self._in_threads:
            self._in_threads -= 1

    def _put(self, piece: Buffer) -> None:
        stop = self._position + len(piece)
        try:
            write_all(self._tools.calls, self._descriptor, piece, self._position, wrote=self._advance)
            self._write_back.wrote(self._descriptor, len(piece))
        except OSError as error:
            raise write_error(error, self._path.parent, needed=stop - self._position) from error

    def _advance(self, count: int) -> None:
        self._position += count

    async def flush(self, *, durable: bool) -> int:
        """Return the position up to which bytes survive this process (durable: a power loss).

        Raises:
            StorageFull · StorageNotWritable
            StorageUnavailable: the disk failed, or another process has set the part aside.
        """
        if self._writing is not None:
            await wait_result(self._writing)
        self._require_sound()
        try:
            self._require_named()
            if durable:
                await self._tools.threads.run(self._sync)
        except OSError as error:
            raise write_error(error, self._path.parent) from error
        return self._position

    def _require_named(self) -> None:
        """Check that the part is still what its name leads to, unless it was discarded: then nobody counts it."""
        state, named = os.fstat(self._descriptor), stat_or_none(self._path)
        if state.st_nlink and (named is None or not os.path.samestat(state, named)):
            raise StorageUnavailable(f"part {self.key} did not reach the disk and is set aside")

    def _sync(self) -> None:
        try:
            self._tools.calls.sync(self._descriptor)
        except OSError as error:
            self._unsynced = error
            raise
        self._write_back.judge_sync()
        self._write_back.make_name_durable()

    async def close(self) -> None:
        """Release the range once no thread writes any more; harmless when it is released."""
        if not self._open:
            return
        self._open = False
        try:
            # Its error was told by what `write` returned.
            if self._writing is not None:
                await wait_ended(self._writing)
        finally:
            self._closed(self)
            self._close_file()

    def abandon(self) -> None:
        """Release the range of a writer that was never used."""
        self._open = False
        self._close_file()

    def _close_file(self) -> None:
        self._write_back.let_go()
        self._tools.locks.free(self._descriptor)
        if os.fstat(self._descriptor).st_nlink:
            os.close(self._descriptor)
        else:
            # Closing the last descriptor of a removed file frees its blocks: slow for a big one.
            self._tools.threads.submit(os.close, self._descriptor)
