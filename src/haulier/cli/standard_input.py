"""Standard input as an async iterable."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError
from typing import Final

PIECE: Final = 1024 * 1024
"""Bytes asked for at once; a pipe gives 64 KiB."""


async def read_descriptor(descriptor: int) -> AsyncIterator[bytes]:
    """Yield what the descriptor gives until its end.

    A thread of our own reads it: one of the event loop's pool would keep the process from ending after
    Ctrl-C for as long as nothing arrives. `os.read` holds no lock that the interpreter wants at its end.

    Raises:
        OSError: reading failed.
    """
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes | OSError] = asyncio.Queue(maxsize=1)

    def pump() -> None:
        piece: bytes | OSError = b"-"
        while piece and not isinstance(piece, OSError):
            try:
                piece = os.read(descriptor, PIECE)
            except OSError as error:
                piece = error
            try:
                asyncio.run_coroutine_threadsafe(pieces.put(piece), loop).result()
            except (RuntimeError, CancelledError):  # the loop has ended; nobody listens
                return

    threading.Thread(target=pump, name="standard input", daemon=True).start()
    while piece := await pieces.get():
        if isinstance(piece, OSError):
            raise piece
        yield piece
