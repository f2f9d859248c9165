"""Points in time, as JSON says them."""

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=64)  # one moment stands in several places of the same answer
def iso_time(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601 with milliseconds and `Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
