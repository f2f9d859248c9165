"""An end for every async test: one that waits for what never comes fails, and tells what it waits for.

Rule 1: it fails as a test does, with its name and where it stood. pytest's own `faulthandler_timeout`, which ends the
        whole worker, remains for what blocks the loop and for tests that are not async.
Rule 2: nothing is measured: the bound is far beyond what any test takes on the slowest machine.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from typing import Any, Final

PATIENCE_S: Final = 300


def bounded(
    test: Callable[..., Awaitable[None]], patience_s: float = PATIENCE_S
) -> Callable[..., Awaitable[None]]:
    """Return the async test with an end to its waiting, at which every task's place is printed."""

    @wraps(test)
    async def run(**given: Any) -> None:
        telling = asyncio.get_running_loop().call_later(patience_s, _tell_all)
        try:
            async with asyncio.timeout(patience_s):
                await test(**given)
        finally:
            telling.cancel()

    return run


def _tell_all() -> None:
    """Print where every task stands, before the first of them is cancelled."""
    for task in asyncio.all_tasks():
        print(task.get_name(), *_places(task.get_coro()), sep="\n    ", file=sys.stderr)


def _places(coroutine: Any) -> Iterator[str]:
    """Yield what a task waits in, from the outermost to the innermost; asyncio itself tells the outermost alone."""
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        yield f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
        coroutine = coroutine.cr_await
