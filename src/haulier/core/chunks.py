"""How a file is cut into chunks: one rule for who sends them, who takes them and who stores them."""

from collections.abc import Iterator

from haulier.core.errors import ChunkOutOfRange
from haulier.core.ranges import Ranges
from haulier.core.values import dataclass


@dataclass(frozen=True, slots=True)
class ChunkGrid:
    """A file of `size` bytes in chunks of `chunk_size`; only the last one may be shorter, an empty file has none."""

    size: int
    chunk_size: int

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return -(-self.size // self.chunk_size)

    def span(self, index: int) -> tuple[int, int]:
        """Return the half-open byte range of chunk `index`.

        Raises:
            ChunkOutOfRange: there is no such chunk.
        """
        if not 0 <= index < self.count:
            raise ChunkOutOfRange(index, self.count)
        start = index * self.chunk_size
        return start, min(start + self.chunk_size, self.size)

    def missing(self, received: Ranges) -> Iterator[int]:
        """Yield, ascending, the chunks of which at least one byte is not received."""
        after = 0
        for start, stop in received.missing(self.size):
            # A chunk with two gaps is still one chunk.
            first, after = max(start // self.chunk_size, after), -(-stop // self.chunk_size)
            yield from range(first, after)
