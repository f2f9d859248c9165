"""A bound on bytes per second, shared by everything that sends; changeable while bytes flow.

Rule 1: bytes are paid for before they go: whoever asks waits until its bytes are there, in the order of asking.
Rule 2: what was not used for a while is not saved up, but for a quarter of a second.
"""

import asyncio
from typing import Final

from haulier.core.given import require_number
from haulier.machine import Clock

SAVED_S: Final = 0.25
"""Seconds for which unused bytes are kept: enough that a pause of the machine costs nothing."""
PIECE_S: Final = 0.1
"""Seconds that one piece should take: all who send take turns that fast."""
LEAST_PIECE: Final = 4 * 1024
"""Bytes; below, the work for each piece costs more than the bytes."""
MOST_PIECE: Final = 256 * 1024
FASTEST: Final = 2**62
"""Bytes per second that nothing reaches, and that a journal can still hold."""
LOOK_S: Final = 0.25
"""Longest sleep before the rate is looked at again: so a higher one helps those that wait already."""


class Bandwidth:
    """A token bucket; a `Throttle`. It belongs to one event loop.

    Args:
        clock: only `monotonic` and `sleep` are used.
        bytes_per_s: None for no bound.
    """

    def __init__(self, clock: Clock, bytes_per_s: float | None = None) -> None:
        self._rate = checked_bandwidth(bytes_per_s)
        self._clock = clock
        self._there = 0.0
        self._counted_at = clock.monotonic()
        self._turn = asyncio.Lock()

    @property
    def bytes_per_s(self) -> float | None:
        """The bound; None for none."""
        return self._rate

    @property
    def piece(self) -> int | None:
        """Bytes to ask for at once; None while there is no bound."""
        if self._rate is None:
            return None
        return min(max(int(self._rate * PIECE_S), LEAST_PIECE), MOST_PIECE)

    def change(self, bytes_per_s: float | None) -> None:
        """Set another bound, for those that wait already, too."""
        rate = checked_bandwidth(bytes_per_s)
        self._count()
        self._rate = rate

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes may go. Whoever cancels this has taken nothing."""
        async with self._turn:
            while (wait_s := self._wait_s(count)) > 0:
                await self._clock.sleep(min(wait_s, LOOK_S))
            self._there -= count

    def _wait_s(self, count: int) -> float:
        self._count()
        if self._rate is None:
            self._there = float(count)
            return 0.0
        # More than the bucket holds was a piece under a higher bound: it goes when the bucket is full, and those behind
        # it wait until it is paid for. Half a byte is rounding: a clock may not tell how long that takes.
        lacking = min(count, self._most(self._rate)) - self._there
        return lacking / self._rate if lacking >= 0.5 else 0.0

    def _count(self) -> None:
        """Add what has come since the last look."""
        now = self._clock.monotonic()
        if self._rate is not None:
            self._there = min(self._there + (now - self._counted_at) * self._rate, self._most(self._rate))
        self._counted_at = now

    def _most(self, rate: float) -> float:
        """Return how much the bucket holds: one piece at least."""
        return max(rate * SAVED_S, float(self.piece or 0))


def checked_bandwidth(bytes_per_s: float | None) -> float | None:
    """Return a bound of bytes per second, None for none. Raises InvalidRequest."""
    if bytes_per_s is not None:
        what = "a number of bytes per second, 1 or more, or None for no bound"
        require_number("bandwidth", bytes_per_s, what=what, least=1, most=FASTEST)
    return bytes_per_s
