"""A disk that keeps its promises, and not a byte more."""

import random
from collections.abc import Awaitable

from haulier.adapters.memory import MemoryDisk, MemorySink, MemoryWriter, Pause
from haulier.core.digest import Buffer


class LossyWriter:
    """A `RangeWriter` that knows what was flushed."""

    def __init__(self, sink: "LossySink", inner: MemoryWriter) -> None:
        self.inner = inner
        self.flushed = inner.position
        self._sink = sink

    @property
    def position(self) -> int:
        """Where in the file the next byte goes."""
        return self.inner.position

    def write(self, piece: Buffer) -> Awaitable[None] | None:
        """Store the next piece."""
        return self.inner.write(piece)

    async def flush(self, *, durable: bool) -> int:
        """Let what was written survive this process."""
        self.flushed = await self.inner.flush(durable=durable)
        return self.flushed

    async def close(self) -> None:
        """Release the range."""
        self._sink.writers.pop(self, None)
        await self.inner.close()


class LossySink(MemorySink):
    """Loses what was written but not flushed when its process dies."""

    def __init__(self, disk: MemoryDisk, *, pause: Pause, rng: random.Random) -> None:
        super().__init__(disk, pause=pause)
        self.writers: dict[LossyWriter, None] = {}
        self._rng = rng

    async def open(self, key: str, start: int, stop: int | None) -> LossyWriter:  # type: ignore[override]
        """Claim a range; the writer stands in for the one of the memory sink."""
        writer = LossyWriter(self, await super().open(key, start, stop))
        self.writers[writer] = None
        return writer

    def die(self) -> None:
        """Lose all claims, and some of what was not flushed."""
        for writer in self.writers:
            self._lose(writer)
        self.writers.clear()
        super().die()

    def _lose(self, writer: LossyWriter) -> None:
        part = self.disk.parts.get(writer.inner.key)
        if part is None:
            return
        kept, end = self._rng.randint(writer.flushed, writer.position), writer.position
        if end == len(part.data):
            del part.data[kept:]
        else:
            part.data[kept:end] = b"\xdd" * (end - kept)
