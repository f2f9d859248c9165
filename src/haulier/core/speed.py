"""Speed as a moving average that forgets: what a progress line shows."""

from math import exp
from typing import Final

from haulier.core.values import dataclass

WINDOW_S: Final = 5.0
"""Seconds after which a burst weighs a third; short enough to show a stall, long enough to be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Bytes per second, weighted towards the last `WINDOW_S` seconds; times are any one clock's."""

    began_at: float
    _rate: float = 0.0
    _at: float = 0.0

    @classmethod
    def start(cls, now: float) -> "Speed":
        """Return a speed of nothing yet."""
        return cls(began_at=now, _at=now)

    def moved(self, size: int, *, now: float) -> "Speed":
        """`size` more bytes have arrived."""
        return Speed(
            began_at=self.began_at, _rate=self._decayed(now) + size / WINDOW_S, _at=max(now, self._at)
        )

    def at(self, now: float) -> float:
        """Return the speed; the first seconds are not diluted by the time before the start."""
        seen = 1.0 - exp(-max(now - self.began_at, 0.1) / WINDOW_S)
        return self._decayed(now) / seen

    def _decayed(self, now: float) -> float:
        return self._rate * exp(-max(now - self._at, 0.0) / WINDOW_S)
