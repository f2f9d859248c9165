"""What uploads and records are known by."""

from typing import Final, NewType

SessionId = NewType("SessionId", str)
"""128 random bits, URL-safe; never derived from a client's file name."""
RecordId = NewType("RecordId", str)
"""A UUIDv7 in its usual text form; sorts by time of creation."""

_CHOSEN_4: Final = ~(0xF << 76 | 0b11 << 62)
"""The bits of a UUID that are not its version and its variant."""
_KIND_4: Final = 4 << 76 | 0b10 << 62
_KIND_7: Final = 7 << 76 | 0b10 << 62
"""Version and variant."""


def uuid4(chance: int) -> str:
    """Return the UUIDv4 of 128 bits, of which it has 122, in its usual text form.

    Source: RFC 9562 section 5.4. The standard library makes an object first, which takes longer than all else.
    """
    return _text(chance & _CHOSEN_4 | _KIND_4)


def uuid7(now: float, chance: int) -> str:
    """Return the UUIDv7 of that time, from 62 random bits.

    The 12 bits behind the milliseconds are their fraction, so that ids of one process sort by time more
    finely than by the millisecond.
    Source: RFC 9562 sections 5.7 and 6.2, method 3.
    """
    ticks = int(now * 1000 * 4096)
    time = (ticks >> 12 & (1 << 48) - 1) << 80 | (ticks & 0xFFF) << 64
    return _text(time | _KIND_7 | chance & (1 << 62) - 1)


def _text(value: int) -> str:
    """Return 128 bits as text."""
    text = value.to_bytes(16, "big").hex()  # half of the time of formatting a number
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
