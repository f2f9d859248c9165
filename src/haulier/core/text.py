"""Texts that can be written down anywhere, and those that HTTP can carry."""

import re
from typing import Final

_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def is_field_name(text: str) -> bool:
    """Whether it can be the name of a header. Source: RFC 9110 section 5.1."""
    return _FIELD_NAME.fullmatch(text) is not None


def is_field_value(text: str) -> bool:
    """Whether it can be what a header says: printable ASCII, and no space around it. Source: RFC 9110 section 5.5."""
    return bool(text) and text.isascii() and text.isprintable() and text == text.strip()


def is_storable(text: str) -> bool:
    """Whether a database and every encoding take a text: it has neither NUL nor lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def escaped(text: str) -> str:
    """Return text with all that `is_storable` refuses written out, bytes of names that are no UTF-8 in hex."""
    return "".join(each if is_storable(each) else _escape(ord(each)) for each in text)


def _escape(code: int) -> str:
    # Python reads a byte that is no UTF-8 as a surrogate of this range (PEP 383).
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code
    return f"\\x{byte:02x}" if byte <= 0xFF else f"\\u{code:04x}"
