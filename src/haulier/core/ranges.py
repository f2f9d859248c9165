"""The set of received byte ranges.

Rule 1: ranges are half-open, sorted, disjoint and never touch; `Ranges` cannot be built otherwise.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from haulier.core.values import dataclass


@dataclass(frozen=True, slots=True)
class Ranges:
    """An immutable set of bytes, kept as half-open ranges `(start, stop)`."""

    pairs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        last = -1
        for start, stop in self.pairs:
            if not last < start < stop:
                message = f"ranges must be sorted, disjoint and non-empty: {self.pairs}"
                raise ValueError(message)
            last = stop

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> "Ranges":
        """Build from ranges in any order; empty, touching and overlapping ones are merged."""
        merged: list[tuple[int, int]] = []
        for start, stop in sorted(pair for pair in pairs if pair[0] < pair[1]):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
            else:
                merged.append((start, stop))
        return cls(tuple(merged))

    @classmethod
    def up_to(cls, size: int) -> "Ranges":
        """Return the first `size` bytes."""
        return cls.of([(0, size)])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.pairs)

    def __bool__(self) -> bool:
        return bool(self.pairs)

    @property
    def total(self) -> int:
        """Bytes in the set."""
        return sum(stop - start for start, stop in self.pairs)

    @property
    def prefix(self) -> int:
        """Where the run that starts at byte 0 ends; 0 when byte 0 is missing."""
        if self.pairs and self.pairs[0][0] == 0:
            return self.pairs[0][1]
        return 0

    def add(self, start: int, stop: int) -> "Ranges":
        """Return the set with `[start, stop)` in it."""
        _require_range(start, stop)
        first = bisect_left(self.pairs, start, key=lambda pair: pair[1])
        after = bisect_right(self.pairs, stop, key=lambda pair: pair[0])
        touched = self.pairs[first:after]
        if touched:
            start = min(start, touched[0][0])
            stop = max(stop, touched[-1][1])
        return Ranges((*self.pairs[:first], (start, stop), *self.pairs[after:]))

    def remove(self, start: int, stop: int) -> "Ranges":
        """Return the set without `[start, stop)`."""
        _require_range(start, stop)
        kept: list[tuple[int, int]] = []
        for low, high in self.pairs:
            kept.extend(
                pair for pair in ((low, min(high, start)), (max(low, stop), high)) if pair[0] < pair[1]
            )
        return Ranges(tuple(kept))

    def covers(self, start: int, stop: int) -> bool:
        """Whether every byte of `[start, stop)` is in the set; an empty range always is."""
        if start >= stop:
            return True
        index = bisect_right(self.pairs, start, key=lambda pair: pair[0]) - 1
        return index >= 0 and self.pairs[index][1] >= stop

    def missing(self, size: int) -> tuple[tuple[int, int], ...]:
        """Return the gaps of `[0, size)`, in order."""
        gaps: list[tuple[int, int]] = []
        position = 0
        for start, stop in self.pairs:
            if position >= size:
                break
            if position < start:
                gaps.append((position, min(start, size)))
            position = stop
        if position < size:
            gaps.append((position, size))
        return tuple(gaps)


def _require_range(start: int, stop: int) -> None:
    if not 0 <= start < stop:
        message = f"not a range: [{start}, {stop})"
        raise ValueError(message)
