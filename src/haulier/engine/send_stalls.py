"""For how long transfers have failed without any progress.

Rule 1: within one run the clock that never steps says so: neither a wall clock that is set forward nor a machine that slept
        ends a transfer before its time, and one that is set back keeps none for longer.
Rule 2: what was before the run only the wall clock knows.
"""

from haulier.core.dispatch import Dispatch
from haulier.core.transfer import TransferId
from haulier.machine import Clock


class Stalls:
    """The stalls of one run; whoever looks at a row asks for its own, so that its beginning and its end are noticed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[TransferId, float] = {}
        """By the clock that never steps; before the run began where they did."""

    def seconds(self, row: Dispatch) -> float:
        """Return how long it has failed without progress; 0 when it has not failed since the last."""
        if row.stalled_at is None:
            self.forget(row.id)
            return 0.0
        now = self._clock.monotonic()
        return now - self._since.setdefault(row.id, now - max(0.0, self._clock.now() - row.stalled_at))

    def forget(self, transfer_id: TransferId) -> None:
        """It has ended, or made progress."""
        self._since.pop(transfer_id, None)
