"""The tasks of a node: each has an owner, and none can take the node down with it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from haulier.core.errors import PeerError

T = TypeVar("T")


class Spawn(Protocol):
    """Starts a task that lives no longer than the node."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> asyncio.Task[T]:
        """Return the task."""
        ...


class Tasks:
    """Tasks that live no longer than their node.

    Args:
        log: Told of one that failed in a way that nobody expected; a peer cannot stop the node by it.
    """

    def __init__(self, log: Callable[..., None]) -> None:
        self._log = log
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def __call__(self, work: Coroutine[Any, Any, T], /) -> asyncio.Task[T]:
        """Start a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, PeerError):
            self._log("task.failed", error=repr(error), exc_info=error)

    async def stop(self) -> None:
        """Cancel all, and wait until they have ended."""
        while running := set(self._running):
            # One that is cancelled before its first step does nothing at all: what it was given would stay open.
            await asyncio.sleep(0)
            for task in running:
                task.cancel()
            await asyncio.wait(running)
