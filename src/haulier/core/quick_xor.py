"""quickXorHash: what OneDrive tells of every file.

Rule 1: byte i is XORed in at bit 11 * i mod 160, wrapping; then the length, as 8 bytes little-endian, into the last
        8 of 20 bytes. The positions repeat after 160 bytes, so whole blocks of 160 are XORed onto each other first,
        as one large number: that is what makes it fast here.

Source: Microsoft, "Code Snippets: QuickXorHash Algorithm", OneDrive developer documentation.
"""

import base64
from typing import Final

from haulier.core.digest import Buffer

BITS: Final = 160
SHIFT: Final = 11
BLOCK: Final = 160
"""Bytes after which the positions repeat: 11 and 160 have no common factor."""
_MASK: Final = (1 << BITS) - 1


class QuickXor:
    """The hash of the bytes that were taken so far."""

    def __init__(self) -> None:
        self._folded = 0
        """160 bytes as a number, the first byte lowest."""
        self._length = 0

    def update(self, data: Buffer, /) -> None:
        """Take the next bytes."""
        size = len(data)
        if not size:
            return
        # What came before decides where in a block the first byte stands.
        start = self._length % BLOCK
        number = int.from_bytes(data, "little") << (8 * start)
        blocks = -(-(start + size) // BLOCK)
        while blocks > 1:
            half = (blocks + 1) // 2
            bits = half * BLOCK * 8
            number = (number & ((1 << bits) - 1)) ^ (number >> bits)
            blocks = half
        self._folded ^= number
        self._length += size

    def digest(self) -> bytes:
        """Return 20 bytes."""
        total = 0
        for index, byte in enumerate(self._folded.to_bytes(BLOCK, "little")):
            placed = byte << (SHIFT * index % BITS)
            total ^= (placed & _MASK) ^ (placed >> BITS)
        total ^= self._length << (BITS - 64)
        return total.to_bytes(BITS // 8, "little")

    def text(self) -> str:
        """Return it as Graph tells it: base64."""
        return base64.b64encode(self.digest()).decode("ascii")
