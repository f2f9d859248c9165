"""What the clients know: what they sent, and what they were told. Written by nobody else.

Rule 1: an acknowledgement is written down at the moment it arrives; whatever the service does later must agree.
"""

import hashlib
import random
from collections import Counter
from dataclasses import field
from typing import Final

import xxhash

from haulier.core.digest import Digest, DigestName
from haulier.core.session import Mode, SessionId
from haulier.core.values import dataclass

RIGHT: Final = 0
"""The content that the client means."""
OTHER: Final = 1
"""A content that may be stored too: sent without a digest, or with its own."""
WRONG: Final = 2
"""A content that is only ever sent with a digest that it does not have."""


def sha_256(data: bytes) -> Digest:
    """Return the digest that the service computes by default."""
    return Digest(DigestName.SHA_256, hashlib.sha256(data).digest())


@dataclass(slots=True, kw_only=True)
class Truth:
    """One upload as its client sees it."""

    id: SessionId
    mode: Mode
    contents: tuple[bytes, bytes, bytes]
    """By variant: RIGHT, OTHER, WRONG. They differ at every position."""
    chunk_size: int
    sent: dict[int, set[int]] = field(default_factory=dict)
    """Chunks: the variants of each index that may have been accepted."""
    accepted: dict[int, int] = field(default_factory=dict)
    """Chunks: the variant of each index that was acknowledged and not replaced."""
    replacing: Counter[int] = field(default_factory=Counter)
    """Chunks: replacements of each index under way, or of unknown end."""
    spans: list[tuple[int, int, int]] = field(default_factory=list)
    """Appends: (start, stop, variant) of bytes that may have been accepted."""
    prefix: bytes = b""
    """Appends: what was stored up to the largest acknowledged offset when it was acknowledged."""
    aborting: bool = False
    """Whether an abort was ever asked for."""
    finishing: bool = False
    """Whether a finish was ever asked for."""
    deleted: bool = False
    """Whether the client asked for its record's removal."""

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.contents[RIGHT])

    def chunk(self, index: int, variant: int) -> bytes:
        """Return the bytes of a chunk."""
        return self.contents[variant][index * self.chunk_size : (index + 1) * self.chunk_size]

    def fingerprints(self, index: int) -> set[bytes]:
        """Return the fingerprints that an accepted chunk may have."""
        if index in self.accepted and not self.replacing[index]:
            return {xxhash.xxh3_128_digest(self.chunk(index, self.accepted[index]))}
        return {xxhash.xxh3_128_digest(self.chunk(index, v)) for v in self.sent.get(index, ())}

    def allows(self, position: int, value: int) -> bool:
        """Appends: whether that byte may be stored there."""
        if position < len(self.prefix):
            return self.prefix[position] == value
        return any(
            start <= position < stop and self.contents[variant][position] == value
            for start, stop, variant in self.spans
        )


def make_contents(rng: random.Random, size: int) -> tuple[bytes, bytes, bytes]:
    """Return three contents that differ at every position, and whose bytes tell their variant."""
    right = bytes(rng.randrange(64) for _ in range(size))
    return right, bytes(byte + 64 for byte in right), bytes(byte + 128 for byte in right)


class Ledger:
    """All uploads of a scenario, by id."""

    def __init__(self) -> None:
        self.uploads: dict[SessionId, Truth] = {}

    def __getitem__(self, session_id: SessionId) -> Truth:
        return self.uploads[session_id]
