"""What `files.make_file` writes, without the file: bytes that follow from a seed, no block like another."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import field
from typing import Final

from haulier.core.values import dataclass

BLOCK: Final = 1024 * 1024


@dataclass(frozen=True)
class Content:
    """`size` bytes of which any range can be had without keeping the rest."""

    size: int
    seed: int = 1
    _pattern: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pattern", random.Random(self.seed).randbytes(BLOCK)[8:])

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes `[start, stop)`, at most a block at a time."""
        stop = self.size if stop is None else min(stop, self.size)
        while start < stop:
            number, skipped = divmod(start, BLOCK)
            piece = self._block(number)[skipped : skipped + stop - start]
            yield piece
            start += len(piece)

    def range(self, start: int, stop: int) -> bytes:
        """Return the bytes `[start, stop)`."""
        return b"".join(self.pieces(start, stop))

    def sha256(self) -> str:
        """Return the digest of the whole file in hex."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    def _block(self, number: int) -> bytes:
        return number.to_bytes(8, "big") + self._pattern
