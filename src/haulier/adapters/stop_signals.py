"""SIGTERM and Ctrl-C for what runs until somebody stops it."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final

from haulier.engine.tasks import tasks

STOPS: Final = (signal.SIGTERM, signal.SIGINT)


async def until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Do the work to its end, or until a signal cancels it; raises its error.

    Start and end of whatever is run belong into the work: a signal is heard from the first moment on, and one that comes
    again while the work ends changes nothing. After that signals do what they always do.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in STOPS:
        loop.add_signal_handler(number, stopped.set)
    try:
        async with tasks() as group:
            working, waiting = group.create_task(work), group.create_task(stopped.wait())
            await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
            working.cancel()
            waiting.cancel()
    finally:
        for number in STOPS:
            loop.remove_signal_handler(number)
