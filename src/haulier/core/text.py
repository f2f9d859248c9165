"""Texts that can be written down anywhere."""

import re
from typing import Final

_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")
"""What no database and no encoding takes: NUL and lone surrogates."""


def is_storable(text: str) -> bool:
    """Whether a database and every encoding take a text: it has neither NUL nor lone surrogates."""
    return _UNSTORABLE.search(text) is None


def escaped(text: str) -> str:
    """Return text with all that `is_storable` refuses written out, bytes of names that are no UTF-8 in hex."""
    return _UNSTORABLE.sub(_escape, text)


def _escape(found: "re.Match[str]") -> str:
    code = ord(found[0])
    # Python reads such a byte as this surrogate (PEP 383).
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code
    return f"\\x{byte:02x}" if byte <= 0xFF else f"\\u{code:04x}"
