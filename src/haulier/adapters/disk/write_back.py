"""The dirty bytes of one part: on their way to the device early, and never many of them.

Rule 1: all writers of a part count together, since a finish syncs what all of them left.
Rule 2: one write-back of a part at a time; who would fill another step meanwhile waits for it. So a finish finds two
        steps at most, whatever the size of the file, and no upload takes longer for it: its finish would have waited.
Rule 3: the kernel reports a failed write-back once. Here it is remembered for as long as the part lives.
"""

import asyncio
import os
import threading
from collections.abc import Awaitable
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from haulier.adapters.disk.system_calls import SystemCalls, write_error
from haulier.adapters.disk.threads import DiskThreads

STEP: Final = 8 * 1024 * 1024
"""Bytes that start a write-back: some 30 ms of a plain SSD, so that two of them hardly lengthen a finish."""


class WriteBack:
    """Of one part, in one process."""

    def __init__(self, calls: SystemCalls, threads: DiskThreads, part: Path) -> None:
        self._calls = calls
        self._threads = threads
        self._part = part
        self._gate = threading.Lock()
        self._dirty = 0
        self._running: Future[None] | None = None
        self._error: OSError | None = None

    def wrote(self, descriptor: int, size: int) -> None:
        """`size` more bytes are in the page cache; `descriptor` is the part's, and may be closed afterwards.

        Raises:
            OSError: no more files can be opened.
        """
        with self._gate:
            self._dirty += size
            if self._dirty >= STEP and not self._busy():
                self._dirty = 0
                self._running = self._threads.submit(self._push, os.dup(descriptor))

    def _busy(self) -> bool:
        return self._running is not None and not self._running.done()

    def _push(self, descriptor: int) -> None:
        try:
            self._calls.write_back(descriptor)
        except OSError as error:
            self._error = error
        finally:
            os.close(descriptor)

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
            raise write_error(self._error, self._part.parent) from self._error
