"""What a program gives to a public method, looked at before it is used.

Whoever has no type checker may give anything. What cannot be meant is refused here, with the name of what it was given for; else
it would come back from some depth in Python's words, or a database's.
"""

from math import inf
from typing import Any

from haulier.core.errors import InvalidRequest
from haulier.core.text import escaped, is_storable


def given_text(field: str, given: Any) -> str:
    """Return text that can be written down. Raises InvalidRequest."""
    require_texts(**{field: given})
    text = str(given)
    if not is_storable(text):
        raise InvalidRequest.of(
            field, f"'{escaped(text)}' is no text: it has half a character, or NUL, in it"
        )
    return text


def require_texts(**given: Any) -> None:
    """Refuse what is no text, by the name that it is given under. Raises InvalidRequest."""
    for field, each in given.items():
        if not isinstance(each, str):
            raise InvalidRequest.of(field, f"must be text, not {each!r}")


def require_number(
    field: str, given: Any, *, what: str, least: float = -inf, most: float = inf, whole: bool = False
) -> None:
    """Refuse all but a number within bounds; `what` says in words what it must be. Raises InvalidRequest."""
    kinds = int if whole else int | float
    # No comparison holds for NaN.
    if not isinstance(given, kinds) or isinstance(given, bool) or not least <= given <= most:
        raise InvalidRequest.of(field, f"must be {what}, not {given!r}")
