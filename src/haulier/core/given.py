"""What a program gives to a public method, looked at before it is used.

Whoever has no type checker may give anything. What cannot be meant is refused here, with the name of what it was given for; else
it would come back from some depth in Python's words, or a database's.
"""

import sys
from math import inf
from typing import Any, Final

from haulier.core.errors import InvalidRequest
from haulier.core.text import escaped, is_storable

_LARGEST: Final = sys.float_info.max


def given_text(field: str, given: Any, *, secret: bool = False) -> str:
    """Return text that can be written down, and sent; what is secret is not told. Raises InvalidRequest."""
    if not isinstance(given, str):
        raise InvalidRequest.of(field, "must be text" if secret else f"must be text, not {given!r}")
    if not is_storable(given):
        shown = "it" if secret else f"'{escaped(given)}'"
        raise InvalidRequest.of(field, f"{shown} is not UTF-8: it has half a character, or NUL, in it")
    return str(given)


def given_text_or_none(field: str, given: Any) -> str | None:
    """Return such text, or None where nothing was given. Raises InvalidRequest."""
    return None if given is None else given_text(field, given)


def given_path(field: str, given: Any) -> str:
    """Return the path of a file here; its name may be no UTF-8. Raises InvalidRequest."""
    read = getattr(type(given), "__fspath__", None)
    path = given if read is None else read(given)
    if not isinstance(path, str) or "\0" in path:
        raise InvalidRequest.of(field, f"must be text or a path of pathlib, not {given!r}")
    return path


def require_number(
    field: str, given: Any, *, what: str, least: float = -inf, most: float = inf, whole: bool = False
) -> None:
    """Refuse all but a number within bounds; `what` says in words what it must be. Raises InvalidRequest."""
    kinds = int if whole else int | float
    # No comparison holds for NaN. Of integers that no float can be, the first sum with one would not be possible.
    fits = isinstance(given, kinds) and not isinstance(given, bool) and least <= given <= most
    if not fits or (isinstance(given, int) and not whole and abs(given) > _LARGEST):
        raise InvalidRequest.of(field, f"must be {what}, not {given!r}")
