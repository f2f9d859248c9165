"""A disk that keeps its promises, and not a byte more."""

import random
from collections.abc import Awaitable
from dataclasses import field

from haulier.adapters.memory.sink import MemoryDisk, MemorySink, MemoryWriter, Pause
from haulier.core.digest import Buffer
from haulier.core.errors import StorageError
from haulier.core.values import dataclass


class LossyWriter:
    """A `RangeWriter` that knows what was flushed."""

    def __init__(self, sink: "LossySink", inner: MemoryWriter) -> None:
        self.inner = inner
        self.start = self.flushed = inner.position
        self.sink = sink

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
        self.sink.closed(self)
        await self.inner.close()


@dataclass(slots=True)
class Doubts:
    """What is not sure to be on a disk."""

    sized: set[str] = field(default_factory=set)
    """Parts that do not grow."""
    writers: dict[tuple[str, int], LossyWriter] = field(default_factory=dict)
    """Those of such parts that were closed without a flush, until somebody else writes their range."""


class LossySink(MemorySink):
    """Loses what was written but not flushed when its process dies."""

    def __init__(self, disk: MemoryDisk, *, pause: Pause, rng: random.Random, doubts: "Doubts") -> None:
        super().__init__(disk, pause=pause)
        self.writers: dict[LossyWriter, None] = {}
        self._rng = rng
        self._sized, self._doubtful = doubts.sized, doubts.writers

    async def prepare(self, key: str, *, size: int | None) -> None:
        """Make room for a part."""
        await super().prepare(key, size=size)
        if size is not None:
            self._sized.add(key)

    async def open(self, key: str, start: int, stop: int | None) -> LossyWriter:  # type: ignore[override]
        """Claim a range; the writer stands in for the one of the memory sink."""
        writer = LossyWriter(self, await super().open(key, start, stop))
        self.writers[writer] = None
        self._doubtful.pop((key, start), None)
        return writer

    async def store(self, blob_key: str, content: bytes) -> None:
        """Write a blob in two goes; who dies between them leaves half of it."""
        await super().store(blob_key, content[: len(content) // 2])
        try:
            await self.step("store")
            self.disk.require_room(len(content) - len(content) // 2)
        except StorageError:
            del self.disk.blobs[blob_key]
            raise
        self.disk.blobs[blob_key].data[:] = content

    def closed(self, writer: LossyWriter) -> None:
        """Remember what nobody was told to rely on. Of growing parts, `extent` told."""
        self.writers.pop(writer, None)
        if writer.flushed < writer.position and writer.inner.key in self._sized:
            self._doubtful[writer.inner.key, writer.start] = writer

    def die(self) -> None:
        """Lose all claims, and some of what was not flushed."""
        mine = {key: writer for key, writer in self._doubtful.items() if writer.sink is self}
        for writer in (*self.writers, *mine.values()):
            self._lose(writer)
        for key in mine:
            del self._doubtful[key]
        self.writers.clear()
        super().die()

    def _lose(self, writer: LossyWriter) -> None:
        part = self.disk.parts.get(writer.inner.key)
        if part is None:
            return
        kept, end = self._rng.randint(writer.flushed, writer.position), writer.position
        if writer.inner.key not in self._sized and end == len(part.data):
            del part.data[kept:]
        else:
            part.data[kept:end] = b"\xdd" * (end - kept)
