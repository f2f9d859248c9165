"""Tasks that belong together, and work in threads that a cancel does not leave behind.

Rule 1: the first error of a group ends all its tasks and comes out as itself.
Rule 2: when a wait for a thread returns or raises, the thread touches nothing any more. Otherwise a file could
        be closed, and its number reused, under a thread that still writes to it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


@asynccontextmanager
async def tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """Open a task group whose error is the first task's own, not a group of one.

    The others were cancelled because of it; what they raise while ending is its echo.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do `work` for as long as the block takes: its error ends the block and comes out, its end changes nothing."""
    async with tasks() as group:
        doing = group.create_task(work)
        yield
        doing.cancel()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def in_thread(
    work: Callable[..., T],
    *arguments: object,
    undo: Callable[[T], None] = lambda _: None,
    pool: Executor | None = None,
    interrupt: Callable[[], None] = lambda: None,
) -> T:
    """Run blocking `work` in a thread and return its result; a cancel is raised after its end.

    Args:
        work: what blocks.
        arguments: of the work.
        undo: gives back the result that a cancelled caller never gets.
        pool: whose threads; the loop's own when not given.
        interrupt: called at a cancel, to make the work end soon.
    """
    future = asyncio.get_running_loop().run_in_executor(pool, partial(work, *arguments))
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
            interrupt()
    if cancelled is None:
        return future.result()
    if future.exception() is None:
        undo(future.result())
    raise cancelled
