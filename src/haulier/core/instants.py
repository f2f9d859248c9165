"""Points in time, as JSON says them."""

from datetime import UTC, datetime
from functools import lru_cache


# All times of a short file's record are the same one.
@lru_cache(maxsize=64)
def iso_time(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601 with milliseconds and `Z`."""
    second, millionths = _split(seconds)
    return f"{_second(second)}.{millionths // 1000:03}Z"


def iso_time_finely(seconds: float) -> str:
    """As `iso_time`, with microseconds."""
    second, millionths = _split(seconds)
    return f"{_second(second)}.{millionths:06}Z"


def _split(seconds: float) -> tuple[int, int]:
    """Return the whole seconds and the microseconds behind them."""
    whole = int(seconds)
    millionths = round((seconds - whole) * 1_000_000)  # as datetime rounds
    if 0 <= millionths < 1_000_000:
        return whole, millionths
    carry, millionths = divmod(millionths, 1_000_000)
    return whole + carry, millionths


# Of the times that are told together most are of the same second.
@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").removesuffix("+00:00")
