"""Names that OneDrive refuses, so that they are refused before anything is sent."""

import re
from typing import Final

_FORBIDDEN: Final = re.compile(r'["*:<>?\\|\x00-\x1f]')
_RESERVED: Final = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9]|\.lock|desktop\.ini)")


def why_forbidden(segment: str) -> str:
    """Return why OneDrive refuses a name; empty when it does not.

    Source: Microsoft support, "Restrictions and limitations in OneDrive and SharePoint".
    """
    if segment in {"", ".", ".."}:
        return "a segment must not be empty, . or .."
    if found := _FORBIDDEN.search(segment):
        return f"it has {found[0]!r}"
    if segment != segment.strip(" ") or segment.endswith("."):
        return "it begins or ends with a space, or ends with a dot"
    if _RESERVED.fullmatch(segment) or segment.startswith("~$") or "_vti_" in segment:
        return "the name is reserved"
    return ""
