"""How far a file is that is being sent or fetched."""

from haulier.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an upload or a download is."""

    done: int
    """Bytes that will not be sent, or fetched, again."""
    moving: int = 0
    """Bytes on their way beyond that; after a cut they are sent again."""
    size: int | None
    """None while it is unknown (a stream)."""
    waiting: str | None = None
    """Why nothing moves at the moment; None while it does."""
    lane: str | None = None
    """Which of two lanes this is: `original`, or `derivatives` for all pictures of it together."""
