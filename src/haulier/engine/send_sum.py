"""The checksum of a file while it is being sent.

Rule 1: bytes are summed in file order, in a thread, not before their sending has begun: then they come from the page cache.
Rule 2: a sum cannot be saved, so after a restart what the remote holds is read and summed again, beside the sending; if the
        file had changed unnoticed, the sums would differ at the end.
"""

import asyncio
from typing import Final

from haulier.core.outgoing import Checksum, Summing
from haulier.engine.tasks import in_thread
from haulier.ports import Source

STEP: Final = 4 * 1024 * 1024
"""Bytes summed in one go; about 10 ms, so that a cancel is soon obeyed."""


class FollowingSum:
    """Sums a file up to where it is allowed to; `run` is a task of its own."""

    def __init__(self, source: Source, summing: Summing | None) -> None:
        self._source = source
        self._summing = summing
        self._position = 0
        self._allowed = 0
        self._moved = asyncio.Event()

    def allow(self, position: int) -> None:
        """Bytes below `position` are on their way, or with the remote."""
        if position > self._allowed:
            self._allowed = position
            self._moved.set()

    async def run(self) -> Checksum | None:
        """Return the checksum of the whole file; None when none is wanted.

        Raises:
            SourceChanged: the file became shorter.
            OSError
        """
        if self._summing is None:
            return None
        while self._position < self._source.size:
            self._moved.clear()
            if self._position < self._allowed:
                await in_thread(self._step, self._summing, min(self._position + STEP, self._allowed))
            else:
                await self._moved.wait()
        return self._summing.checksum()

    def _step(self, summing: Summing, stop: int) -> None:
        summing.update(self._source.read(self._position, stop))
        self._position = stop
