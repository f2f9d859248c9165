"""Numbers of bytes, and as people write them."""

import re
from typing import Final

MIB: Final = 1024 * 1024

_UNITS: Final = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("kMGT", 1)},
    "KB": 1000,
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
}
_RATE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([kKMGT]?i?B)?(?:/s)?", re.ASCII)

RATE: Final = "bytes per second like 500kB, 10MB or 2MiB, or 0 for no bound"
"""What `read_rate` takes."""


def read_rate(text: str) -> int | None:
    """Return the bytes per second that are written; None where 0 is, for no bound.

    `10M` is refused: to some programs it is a million, to others a mebibyte, to others bits.

    Raises:
        ValueError: it is none.
    """
    found = _RATE.fullmatch(text.strip())
    factor = None if found is None else _UNITS.get(found[2] or "B")
    if found is None or factor is None:
        raise ValueError(f"{text!r} must be {RATE}")
    number = float(found[1])
    if not number:
        return None
    return max(1, int(number * factor))
