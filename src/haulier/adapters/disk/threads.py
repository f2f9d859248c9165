"""Worker threads for the disk, waited for in a way that a cancel cannot cut.

Rule 1: when a wait returns or raises, no thread touches what it was given any more. Otherwise a file
        could be closed, and its number reused, under a thread that still writes to it.
Rule 2: what takes the kernel microseconds is done at once, on the event loop: handing it to a thread and its answer
        back costs ten times as much. One such call that took longer sends the next ones to threads.
Rule 3: whether a sync takes microseconds is a matter of the device: on one in memory, or with a cache that outlives the
        power, it does. So syncs of short files have a limit of their own, which any other device passes at once.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final, TypeVar

T = TypeVar("T")

DISK_THREADS: Final = 8
"""Blocking calls at a time. More do not make a disk faster; fewer let one slow fsync hold up the rest."""
SLOW_CALL_S: Final = 0.020
"""A short call takes some 0.05 ms; one of 20 ms waited for the device."""
CALLS_TO_RETURN: Final = 64
"""So many short calls go to threads after a slow one, a few uploads' worth."""
SLOW_SYNC_S: Final = 0.001
"""A sync that the device does not wait for takes 0.02 ms; longer than this is longer than a way to a thread."""
LAST_SYNCS: Final = 4
"""Syncs of which one has to be short: a single long one may have waited for its turn in the interpreter, not for the
device. The first of all, and the first after the threads, decides alone."""
SYNCS_TO_RETURN: Final = 256
"""So many go to threads after a slow one: on a common disk the event loop waits for one of 256 short files."""


class _Shortcut:
    """Whether calls of one kind are short enough to be made at once: one of the `last` ones was."""

    def __init__(self, timer: Callable[[], float], *, slow_s: float, to_return: int, last: int = 1) -> None:
        self._timer = timer
        self._slow_s = slow_s
        self._to_return = to_return
        self._in_threads = 0
        """Calls that still go to threads; 0 at once."""
        self._last_s: deque[float] = deque(maxlen=last)

    def is_open(self) -> bool:
        """Whether the next call is to be made at once; it counts when it is not."""
        if not self._in_threads:
            return True
        self._in_threads -= 1
        return False

    def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Make a call, and see how long it takes."""
        started = self._timer()
        try:
            return work(*arguments)
        finally:
            self._last_s.append(self._timer() - started)
            if min(self._last_s) > self._slow_s:
                self._last_s.clear()
                self._in_threads = self._to_return


async def wait_ended(*works: "Future[Any]") -> None:
    """Wait until all have ended, however; a cancel is raised after that.

    There is no deadline: a thread inside the kernel cannot be left, only waited for.
    """
    waiters = [asyncio.wrap_future(work) for work in works if not work.done()]
    cancelled: asyncio.CancelledError | None = None
    while pending := [waiter for waiter in waiters if not waiter.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
    for waiter in waiters:
        waiter.exception()  # marks it as seen; whoever wants the error has the work itself
    if cancelled is not None:
        raise cancelled


async def wait_result(work: "Future[T]") -> T:
    """Wait for the end and return the result; after a cancel the result is dropped."""
    await wait_ended(work)
    return work.result()


class DiskThreads:
    """A pool of threads that starts them when they are needed."""

    def __init__(self, limit: int = DISK_THREADS, *, timer: Callable[[], float] = time.perf_counter) -> None:
        self._looks = _Shortcut(timer, slow_s=SLOW_CALL_S, to_return=CALLS_TO_RETURN)
        self._syncs = _Shortcut(timer, slow_s=SLOW_SYNC_S, to_return=SYNCS_TO_RETURN, last=LAST_SYNCS)
        self._pool = ThreadPoolExecutor(limit, thread_name_prefix="haulier-disk")

    def submit(self, work: Callable[..., T], *arguments: object) -> "Future[T]":
        """Start `work` and return its future; whoever starts it has to see it end.

        It runs in a copy of the caller's context: what it logs names the request that it is for.
        """
        return self._pool.submit(copy_context().run, work, *arguments)

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Run `work` and return its result; returns or raises only after it has ended."""
        return await wait_result(self.submit(work, *arguments))

    async def run_short(self, work: Callable[..., T], *arguments: object) -> T:
        """As `run`, for work that only a slow disk makes long (Rule 2)."""
        return await self._run_by(self._looks, work, *arguments)

    async def run_sync(self, work: Callable[..., T], *arguments: object) -> T:
        """As `run`, for work that writes little and syncs it (Rule 3)."""
        return await self._run_by(self._syncs, work, *arguments)

    async def _run_by(self, shortcut: _Shortcut, work: Callable[..., T], *arguments: object) -> T:
        if shortcut.is_open():
            return shortcut.run(work, *arguments)
        return await self.run(work, *arguments)

    async def acquire(self, work: Callable[..., T], *arguments: object, undo: Callable[[T], None]) -> T:
        """As `run_short`, for work whose result must be given back: after a cancel `undo` does that."""
        if self._looks.is_open():
            return self._looks.run(work, *arguments)
        future = self.submit(work, *arguments)
        try:
            return await wait_result(future)
        except asyncio.CancelledError:
            if future.exception() is None:
                undo(future.result())
            raise

    def close(self) -> None:
        """End the idle threads; work that was started goes on to its end."""
        self._pool.shutdown(wait=False)
