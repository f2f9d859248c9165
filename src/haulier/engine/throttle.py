"""A bound on the bytes per second of everything that is sent; it may be changed while they run."""

from typing import Final

from haulier.ports import Clock

BURST_S: Final = 1.0
"""Seconds of unused allowance that are kept: a pause is not made up for by a flood."""
PIECE_S: Final = 0.1
"""Seconds that one piece stands for: a change of the bound shows at once, and pieces stay large enough to be cheap."""
LEAST_PIECE: Final = 4 * 1024
MOST_PIECE: Final = 256 * 1024


class Bandwidth:
    """A token bucket that all transfers draw from, in the order of asking. A `Throttle`."""

    def __init__(self, clock: Clock, bytes_per_s: float | None = None) -> None:
        """Begin with a full bucket; None is no bound."""
        self._clock = clock
        self._rate = bytes_per_s
        self._full_at = clock.monotonic()
        """When the bucket is, or was, full: later than now by what was drawn."""

    @property
    def bytes_per_s(self) -> float | None:
        """The bound."""
        return self._rate

    @property
    def piece(self) -> int | None:
        """Bytes to ask for at once; None while there is no bound."""
        if self._rate is None:
            return None
        return max(LEAST_PIECE, min(MOST_PIECE, int(self._rate * PIECE_S)))

    def change(self, bytes_per_s: float | None) -> None:
        """Set another bound; what waits under the old one waits to its end, for one piece."""
        assert bytes_per_s is None or bytes_per_s > 0, bytes_per_s
        self._rate = bytes_per_s
        self._full_at = self._clock.monotonic()

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes may go."""
        if self._rate is None:
            return
        now = self._clock.monotonic()
        self._full_at = max(self._full_at, now) + count / self._rate
        wait_s = self._full_at - now - BURST_S
        if wait_s > 0:
            await self._clock.sleep(wait_s)
