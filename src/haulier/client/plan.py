"""Which chunks are still to be sent. Pure."""

from dataclasses import dataclass

from haulier.core.ranges import Ranges


@dataclass(frozen=True, slots=True)
class Chunk:
    """Chunk `index` of a file: its bytes `[start, stop)`."""

    index: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stop - self.start


def missing_chunks(size: int, chunk_size: int, received: Ranges) -> list[Chunk]:
    """Return the chunks that the service does not hold whole, in order.

    A chunk of which only a part is held is sent whole: the service accepts chunks, not parts of them.
    """
    found: list[Chunk] = []
    after = 0
    for low, high in received.missing(size):
        first, last = max(low // chunk_size, after), -(-high // chunk_size)
        found.extend(
            Chunk(index, index * chunk_size, min((index + 1) * chunk_size, size))
            for index in range(first, last)
        )
        after = last
    return found
