"""The header fields of the IETF's drafts: structured, strictly read; what cannot be read is as if it were not there.

Source: RFC 9651 for structured fields, RFC 6266 and RFC 8187 for names of files.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from haulier.core.errors import InvalidRequest

_PARAMETERS: Final = r"(?:; *+[a-z*][a-z0-9_.*-]*+(?:=[!-:<-~]*+)?)*+"
_BOOLEAN: Final = re.compile(rf" *+\?([01]){_PARAMETERS} *+")
_INTEGER: Final = re.compile(rf" *+([0-9]{{1,15}}){_PARAMETERS} *+")
_PARAMETER: Final = re.compile(
    r';[ \t]*+(filename\*?)[ \t]*+=[ \t]*+(?:"((?:[^"\\]|\\.)*+)"|([^";]++))', re.IGNORECASE
)
_EXTENDED: Final = re.compile(r"(utf-8|iso-8859-1)'[A-Za-z0-9-]*'([!#$&+.^_`|~%A-Za-z0-9-]*)", re.IGNORECASE)


def read_boolean(text: str | None) -> bool | None:
    """Read an Item that is a Boolean; None for anything else."""
    match = None if text is None else _BOOLEAN.fullmatch(text)
    return None if match is None else match[1] == "1"


def read_integer(text: str | None) -> int | None:
    """Read an Item that is an Integer, and not negative; None for anything else."""
    match = None if text is None else _INTEGER.fullmatch(text)
    return None if match is None else int(match[1])


def read_filename(text: str | None) -> str | None:
    """Return the name in `Content-Disposition`, the extended one where there are two; None when there is none.

    Raises:
        InvalidRequest: its bytes are not what it says that they are.
    """
    found = {name.lower(): quoted or token for name, quoted, token in _PARAMETER.findall(text or "")}
    extended = _EXTENDED.fullmatch(found.get("filename*", "").strip())
    try:
        if extended is not None:
            return unquote_to_bytes(extended[2]).decode(extended[1])
        plain = re.sub(r"\\(.)", r"\1", found.get("filename", "").strip())
        # Fields are bytes; what they mean is not said, and browsers mean UTF-8.
        return plain.encode("latin-1").decode("utf-8") or None
    except UnicodeDecodeError:
        raise InvalidRequest.of("Content-Disposition", "must have a filename in UTF-8") from None


def write_limits(limits: dict[str, int]) -> str:
    """Write a Dictionary of Integers."""
    return ", ".join(f"{key}={value}" for key, value in limits.items())
