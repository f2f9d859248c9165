"""How names are compared in searches: one rule for every database."""

import unicodedata


def fold(text: str) -> str:
    """Return the form in which names that differ only in case or composition are equal.

    Source: Unicode Standard, section 3.13, D145 (canonical caseless matching); composed at the end, so that
    a search for a bare letter does not find its accented siblings.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
