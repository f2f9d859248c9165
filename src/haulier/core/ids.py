"""What uploads and records are known by."""

from typing import Final, NewType

SessionId = NewType("SessionId", str)
"""128 random bits, URL-safe; never derived from a client's file name."""
RecordId = NewType("RecordId", str)
"""A UUIDv7 in its usual text form; sorts by time of creation."""

_VERSION: Final = 0xF << 76
_VARIANT: Final = 0b11 << 62


def uuid4(chance: int) -> str:
    """Return the UUIDv4 of 128 bits, of which it has 122, in its usual text form.

    Source: RFC 9562 section 5.4. The standard library makes an object first, which takes longer than all else.
    """
    return _text(chance & ~(_VERSION | _VARIANT) | 4 << 76 | 0b10 << 62)


def uuid7(now: float, chance: int) -> str:
    """Return the UUIDv7 of that time, from 62 random bits.

    The 12 bits behind the milliseconds are their fraction, so that ids of one process sort by time more
    finely than by the millisecond.
    Source: RFC 9562 sections 5.7 and 6.2, method 3.
    """
    ticks = int(now * 1000 * 4096)
    milliseconds, fraction = divmod(ticks, 4096)
    value = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62
    return _text(value | chance & (1 << 62) - 1)


def _text(value: int) -> str:
    """Return 128 bits as text."""
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
