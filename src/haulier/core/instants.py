"""Points in time, as JSON says them."""

from datetime import UTC, datetime
from functools import lru_cache
from math import modf


def iso_time(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601 with milliseconds and `Z`."""
    fraction, whole = modf(seconds)
    carry, millionths = divmod(round(fraction * 1_000_000), 1_000_000)  # as datetime rounds
    return f"{_second(int(whole) + carry)}.{millionths // 1000:03}Z"


@lru_cache(maxsize=64)  # of the times that are told together most are of the same second
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").removesuffix("+00:00")
