"""A file read and summed up beside its sending.

Rule 1: bytes are read in file order, in a thread, not before their sending has begun: then they come from the page
        cache, not from the disk again.
Rule 2: a sum cannot be saved, so after a restart what the other side holds is read and summed again, beside the
        sending; if the file had changed unnoticed, the sums would differ at the end.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from haulier.engine.tasks import in_thread

T = TypeVar("T")

STEP: Final = 4 * 1024 * 1024
"""Bytes summed in one go; about 10 ms, so that a cancel is soon obeyed."""


class Readable(Protocol):
    """A file that is being sent."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes of `[start, stop)`; blocks. Raises SourceChanged when it became shorter."""
        ...


class Following(Generic[T]):
    """Sums a file up to where it is allowed to; `run` is a task of its own."""

    def __init__(
        self,
        source: Readable,
        update: Callable[[bytes], object] | None = None,
        result: Callable[[], T] | None = None,
    ) -> None:
        """Give the bytes to `update`, in order, and ask `result` at the end; without them nothing is read."""
        self._source = source
        self._update = update
        self._result = result
        self._position = 0
        self._allowed = 0
        self._moved = asyncio.Event()

    def allow(self, position: int) -> None:
        """Bytes below `position` are on their way, or with the other side."""
        if position > self._allowed:
            self._allowed = position
            self._moved.set()

    async def run(self) -> T | None:
        """Return the sum of the whole file; None when none is wanted.

        Raises:
            SourceChanged: the file became shorter.
            OSError
        """
        if self._update is None or self._result is None:
            return None
        while self._position < self._source.size:
            self._moved.clear()
            if self._position < self._allowed:
                await in_thread(self._step, self._update, min(self._position + STEP, self._allowed))
            else:
                await self._moved.wait()
        return self._result()

    def _step(self, update: Callable[[bytes], object], stop: int) -> None:
        update(self._source.read(self._position, stop))
        self._position = stop
