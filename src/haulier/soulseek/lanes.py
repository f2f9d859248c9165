"""Bounds on the rate of uploads: one for all together, one for each user."""

from weakref import WeakValueDictionary

from haulier.engine.throttle import Bandwidth
from haulier.machine import Clock
from haulier.sending_ports import Throttle


class Lanes:
    """Gives each user the buckets that its uploads draw from. A user's own lives as long as an upload holds it.

    Args:
        clock: For the buckets.
        together: Bytes per second of all uploads; None for no bound.
        each: Bytes per second of one user; None for no bound.
    """

    def __init__(self, clock: Clock, *, together: float | None = None, each: float | None = None) -> None:
        self._clock = clock
        self._each = each
        self.together = Bandwidth(clock, together)
        self._users: WeakValueDictionary[str, Bandwidth] = WeakValueDictionary()

    def __call__(self, user: str) -> tuple[Throttle, ...]:
        """Return the buckets of a user."""
        if self._each is None:
            return (self.together,)
        own = self._users.get(user)
        if own is None:
            own = self._users[user] = Bandwidth(self._clock, self._each)
        return self.together, own
