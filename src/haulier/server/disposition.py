"""The name of a file in a `Content-Disposition`, as clients write it.

Source: RFC 6266 and RFC 8187. RFC 7578 section 4.2 wants no extended name in a form; .NET's `HttpClient` sends one
        nevertheless, beside a plain name that is encoded for mail.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from haulier.core.errors import InvalidRequest

_PARAMETER: Final = re.compile(
    r""";[ \t]*+([!#$%&'*+.^_`|~0-9a-z-]++)[ \t]*+=[ \t]*+(?:"((?:[^"\\]|\\.)*+)"|([^";]++))""", re.IGNORECASE
)
_EXTENDED: Final = re.compile(r"(utf-8|iso-8859-1)'[A-Za-z0-9-]*'([!#$&+.^_`|~%A-Za-z0-9-]*)", re.IGNORECASE)


def read_filename(text: str | None) -> str | None:
    """Return the name that a header has, the extended one where there are two; None when there is none.

    Raises:
        InvalidRequest: its bytes are not what it says that they are.
    """
    found = _parameters(text or "")
    extended = _extended(found)
    if extended is not None:
        return extended
    plain = re.sub(r"\\(.)", r"\1", found.get("filename", "").strip())
    try:
        # Fields are bytes; what they mean is not said, and browsers mean UTF-8.
        return plain.encode("latin-1").decode("utf-8") or None
    except UnicodeDecodeError:
        raise _unreadable() from None


def read_extended_filename(text: str) -> str | None:
    """Return the extended name alone, None when there is none. Raises as `read_filename`."""
    return _extended(_parameters(text))


def _parameters(text: str) -> dict[str, str]:
    return {name.lower(): quoted or token for name, quoted, token in _PARAMETER.findall(text)}


def _extended(found: dict[str, str]) -> str | None:
    match = _EXTENDED.fullmatch(found.get("filename*", "").strip())
    if match is None:
        return None
    try:
        return unquote_to_bytes(match[2]).decode(match[1])
    except UnicodeDecodeError:
        raise _unreadable() from None


def _unreadable() -> InvalidRequest:
    return InvalidRequest.of("Content-Disposition", "must have a filename in UTF-8")
