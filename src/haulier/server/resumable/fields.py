"""The header fields of the IETF's drafts: structured, strictly read; what cannot be read is as if it were not there.

Source: RFC 9651 for structured fields.
"""

import re
from typing import Final

_TEXT: Final = r'"(?:[ !#-\[\]-~]|\\["\\])*+"'
_BARE_ITEM: Final = "|".join(
    (
        r"-?[0-9]{1,12}\.[0-9]{1,3}",
        r"@?-?[0-9]{1,15}",
        r"\?[01]",
        r":[A-Za-z0-9+/=]*+:",
        r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*+",
        _TEXT,
        rf"%{_TEXT}",
    )
)
_PARAMETERS: Final = rf"(?:; *+[a-z*][a-z0-9_.*-]*+(?:=(?:{_BARE_ITEM}))?)*+"
_BOOLEAN: Final = re.compile(rf" *+\?([01]){_PARAMETERS} *+")
_INTEGER: Final = re.compile(rf" *+([0-9]{{1,15}}){_PARAMETERS} *+")


def read_boolean(text: str | None) -> bool | None:
    """Read an Item that is a Boolean; None for anything else."""
    match = None if text is None else _BOOLEAN.fullmatch(text)
    return None if match is None else match[1] == "1"


def read_integer(text: str | None) -> int | None:
    """Read an Item that is an Integer, and not negative; None for anything else."""
    match = None if text is None else _INTEGER.fullmatch(text)
    return None if match is None else int(match[1])


def write_limits(limits: dict[str, int]) -> str:
    """Write a Dictionary of Integers."""
    return ", ".join(f"{key}={value}" for key, value in limits.items())
