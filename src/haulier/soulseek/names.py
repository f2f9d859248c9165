r"""Names of files as peers see them: virtual paths, in which `\` separates and the share's name comes first.

Rule 1: the way from a local name to a virtual one is one to one, so that no two files have one name.
Rule 2: a peer may spell a name in the encoding of its time: each spelling leads to the same file.
"""

import re
from collections.abc import Iterator
from typing import Final

from haulier.core.errors import ConfigError, InvalidRequest
from haulier.soulseek.codec import NAME_LIMIT, bytes_of

SEPARATOR: Final = "\\"
TEXT_LIMIT: Final = 64 * 1024
"""Bytes of a path or a query that we say to others: a path in a file system has 4096, and a frame takes far more."""
QUERY_CHARACTERS: Final = 1_000
"""Of a search; nobody types more. A longer one is neither passed on nor looked up."""
_UNSAFE: Final = re.compile("[\\\\\ud800-\udfff]|%[0-9A-Fa-f]{2}")
"""What a name cannot hold as it is, and what would look like an escape."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_TO_ESCAPE: Final = re.compile("[%\\\\\ud800-\udfff]")


def escape(name: str) -> str:
    """Return a local name, with surrogates for bytes that are no UTF-8, as a part of a virtual path."""
    return _TO_ESCAPE.sub(_escaped, name) if _UNSAFE.search(name) else name


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))


def spellings(text: str) -> Iterator[str]:
    """Yield the names that a peer may mean by what came over the wire, the likeliest first."""
    raw = bytes_of(text)
    seen: set[str] = set()
    for encoding in ("utf-8", "cp1252", "latin-1"):
        try:
            name = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if name not in seen:
            seen.add(name)
            yield name


def check_text(field: str, text: str, *, limit: int = TEXT_LIMIT) -> str:
    """Return what is to be said to others if it can be; raises InvalidRequest."""
    try:
        size = len(bytes_of(text))
    except UnicodeEncodeError as error:
        raise InvalidRequest.of(field, "it holds half a surrogate pair; give text") from error
    if not 0 < size <= limit:
        raise InvalidRequest.of(field, f"give 1 to {limit} bytes; these are {size}")
    return text


def can_be_user(name: str) -> bool:
    """Whether somebody may have that name: no server lets anybody be nobody, or have a name of control characters."""
    return bool(name) and not _CONTROL.search(name)


def check_user(name: str, *, own: str) -> str:
    """Return the name of a user who can be asked, which we cannot ourselves; raises InvalidRequest."""
    if name == own:
        raise InvalidRequest.of("user", "that is this node itself")
    return check_text("user", name, limit=NAME_LIMIT)


def check_share_name(name: str) -> str:
    """Return the name of a share if it can be one; raises ConfigError."""
    if not name or "/" in name or SEPARATOR in name or name in {".", ".."}:
        raise ConfigError("share", name, "a share's name is not empty and has no slash or backslash")
    return name
