"""Claims of byte ranges inside one process: for memory, and for disks of platforms without OFD locks."""

from collections.abc import Hashable
from typing import Final

from haulier.core.values import dataclass
from haulier.ports import RangeBusy

END_OF_TIME: Final = 2**63
"""What `stop=None` means: no file gets there."""


@dataclass(frozen=True, slots=True, eq=False)
class RangeClaim:
    """One claimed range of one file; compared by identity."""

    file: Hashable
    start: int
    stop: int


class RangeTable:
    """Which ranges of which files are claimed. Not thread-safe."""

    def __init__(self) -> None:
        self._claims: dict[Hashable, list[RangeClaim]] = {}

    def take(self, file: Hashable, start: int, stop: int | None) -> RangeClaim:
        """Claim `[start, stop)` of `file`; an empty range is always free.

        Raises:
            RangeBusy: a part of it is claimed.
        """
        claim = RangeClaim(file, start, END_OF_TIME if stop is None else stop)
        held = self._claims.get(file, [])
        if any(max(start, other.start) < min(claim.stop, other.stop) for other in held):
            raise RangeBusy
        self._claims[file] = [*held, claim]
        return claim

    def release(self, claim: RangeClaim) -> None:
        """Let go; harmless when it was let go of."""
        left = [other for other in self._claims.pop(claim.file, []) if other is not claim]
        if left:
            self._claims[claim.file] = left
