"""Texts that can be written down anywhere."""


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
