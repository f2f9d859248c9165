"""What parent and child say to each other: a length of four bytes, then that much JSON.

Rule 1: one request, one reply, never two under way. Files travel beside the request as open descriptors.
Rule 2: every message is short; whatever announces more is not one of ours.
"""

import struct
from typing import Final

LENGTH: Final = struct.Struct(">I")
MAX_MESSAGE: Final = 64 * 1024
"""Bytes of JSON. The longest reply has a preview of 500 characters, ten problems or a placeholder of 2 KB."""
MAX_FILES: Final = 3
MAX_DETAIL: Final = 500
"""Characters of a library's own words that are passed on."""

DERIVE: Final = "derive"
CHECK: Final = "check"


class ProtocolBroken(Exception):
    """The other side does not keep to this protocol; a signal inside this package."""


def frame(body: bytes) -> bytes:
    """Put the length before a message.

    Raises:
        ProtocolBroken: it is too long.
    """
    if len(body) > MAX_MESSAGE:
        raise ProtocolBroken(f"a message of {len(body)} bytes")
    return LENGTH.pack(len(body)) + body


def length_of(head: bytes) -> int:
    """Read a message's length from its first four bytes.

    Raises:
        ProtocolBroken: nobody here sends messages of that length.
    """
    (length,) = LENGTH.unpack(head)
    if not 0 < length <= MAX_MESSAGE:
        raise ProtocolBroken(f"a message of {length} bytes is announced")
    return int(length)
