"""Work that outlives its request: owned, named, never lost, and ended with the service."""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from haulier.core.errors import HaulierError
from haulier.core.retry import Chance, RetryPolicy
from haulier.logs import get_logger
from haulier.machine import Clock

T = TypeVar("T")

RESTART: Final = RetryPolicy(retries=10**9, base_s=1.0, cap_s=30.0)
"""For ever: nobody else would start it again. Half a minute is what a back-off of Kubernetes begins to be noticed at,
and no more than what words from other processes may be late without any harm."""
STEADY_S: Final = 60.0
"""How long it has to run for its last failure to be over: twice the longest pause."""
KEEPS_DYING: Final = 3
"""Failures in a row that are told to who asks whether the service is well: one is an accident, two a coincidence."""
SETTLE_S: Final = 10.0
"""How long the last write of a request that was cancelled may take: a whole step of the disk, twice over. Who waits for
its end in another process (`append_claims.LET_GO_S`) waits as long."""

log = get_logger()


class _Kept:
    """Work that shall never end, and how it has gone."""

    def __init__(self, name: str, clock: Clock, chance: Chance) -> None:
        self.name = name
        self._clock = clock
        self._chance = chance
        self._delays = RESTART.delays(chance)
        self._failures = 0
        self._began = clock.monotonic()

    @property
    def _steady(self) -> bool:
        return self._clock.monotonic() - self._began >= STEADY_S

    @property
    def keeps_dying(self) -> bool:
        """Whether it has failed again and again, and has not run for long since."""
        return self._failures >= KEEPS_DYING and not self._steady

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run it, and again whenever it has ended."""
        while True:
            self._began = self._clock.monotonic()
            await self._run_once(work)
            await self._clock.sleep(self._next_pause())

    def _next_pause(self) -> float:
        if self._steady:
            self._failures = 0
            self._delays = RESTART.delays(self._chance)
        self._failures += 1
        pause = next(self._delays)
        log.warning("background.restarts", task=self.name, failures=self._failures, in_s=round(pause, 1))
        return pause

    async def _run_once(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Something that it waited for was cancelled, not this.
            log.exception("background.crashed", task=self.name)
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody else would start it again
            _tell(self.name, error)


class Background:
    """Owns tasks. What one raises is logged here, and is there for whoever awaits it."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._kept: dict[asyncio.Task[None], _Kept] = {}

    def start(self, work: Coroutine[Any, Any, T], *, name: str) -> "asyncio.Task[T]":
        """Run `work` beside everything else; the returned task may be awaited by many."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._done)
        return task

    def keep_running(
        self, name: str, work: Callable[[], Coroutine[Any, Any, None]], *, clock: Clock, chance: Chance
    ) -> "asyncio.Task[None]":
        """Run what shall never end, and start it again whenever it does; cancel the task to end it."""
        kept = _Kept(name, clock, chance)
        task = self.start(kept.run(work), name=name)
        self._kept[task] = kept
        return task

    def dying(self) -> Collection[str]:
        """Return the names of what shall run and keeps failing."""
        return sorted({kept.name for kept in self._kept.values() if kept.keeps_dying})

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.pop(task, None)
        self._kept.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _tell(task.get_name(), error)

    async def stop(self, *, grace_s: float) -> None:
        """Let the tasks end by themselves for `grace_s` seconds, then cancel and await the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        rest = list(self._tasks)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


def _tell(name: str, error: BaseException) -> None:
    if isinstance(error, HaulierError):
        log.warning("background.failed", task=name, error=repr(error))
    else:
        # A mistake of ours. Nobody may be waiting for this task: without its traceback it would be silent.
        log.error("background.crashed", task=name, exc_info=error)


async def finish_anyway(work: Coroutine[Any, Any, T], *, deadline_s: float = SETTLE_S) -> T:
    """Await `work` to its end even when this task is cancelled, however often; then the cancel goes on.

    For durable writes: a row that says what is on disk must not be lost because a client went away.
    Raises what `work` raises; `CancelledError` after `work` ended or `deadline_s` passed.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_tell_failure)
        await _wait_ended(task, deadline_s)
        task.cancel()
        raise


async def finish_if_soon(work: Coroutine[Any, Any, T], *, within_s: Callable[[], float]) -> T:
    """Await `work`; when this task is cancelled, for so long still, then it is cancelled too, and has ended when this ends.

    `within_s` is asked for the seconds when the cancel comes.

    For requests whose answer has to be known, or something is left where nobody finds it. Raises what `work` raises;
    `CancelledError` after that.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_tell_failure)
        await _wait_ended(task, within_s())
        task.cancel()
        await _wait_ended(task, SETTLE_S)
        raise


async def _wait_ended(task: "asyncio.Task[Any]", deadline_s: float) -> None:
    """Wait until it has ended, or for so long; more cancels change nothing, for one is on its way already."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_s
    while not task.done() and (left := deadline - loop.time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=left)


def _tell_failure(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("work.failed_after_cancel", error=repr(error))
