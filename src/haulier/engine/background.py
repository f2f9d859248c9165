"""Work that outlives its request: owned, named, never lost, and ended with the service."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from haulier.core.errors import HaulierError

T = TypeVar("T")

log = structlog.get_logger()


class Background:
    """Owns tasks. What one raises is logged here, and is there for whoever awaits it."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def start(self, work: Coroutine[Any, Any, T], *, name: str) -> "asyncio.Task[T]":
        """Run `work` beside everything else; the returned task may be awaited by many."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.pop(task, None)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, HaulierError):
            log.warning("background.failed", task=task.get_name(), error=repr(error))
        else:
            # A mistake of ours. Nobody may be waiting for this task: without its traceback it would be silent.
            log.error("background.crashed", task=task.get_name(), exc_info=error)

    async def stop(self, *, grace_s: float) -> None:
        """Let the tasks end by themselves for `grace_s` seconds, then cancel and await the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        rest = list(self._tasks)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


async def finish_anyway(work: Coroutine[Any, Any, T], *, deadline_s: float = 10.0) -> T:
    """Await `work` to its end even when this task is cancelled; then the cancel goes on.

    For durable writes: a row that says what is on disk must not be lost because a client went away.
    Raises what `work` raises; `CancelledError` after `work` ended or `deadline_s` passed.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_tell_failure)
        await asyncio.wait({task}, timeout=deadline_s)
        task.cancel()
        raise


def _tell_failure(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("write.failed_after_cancel", error=repr(error))
