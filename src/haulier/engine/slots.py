"""Slots: permission to run, in all and for each line (a remote, a peer).

Rule 1: a slot is a lease, not a count. One lease covers the whole and the line, is granted in one step, and
        only its holder can give it back; doing so twice is harmless.
Rule 2: who waits is granted by whoever makes room, in the order of asking; one whose line is full is passed
        over and blocks nobody.
Rule 3: everything here happens on one event loop, between two awaits; so no step can be seen half done.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Final, Self

from haulier.core.errors import ServiceStopping
from haulier.core.values import dataclass

IDLE_S: Final = 900.0
"""Seconds after which a line that holds nothing is forgotten. Precedent: slskd sweeps every 15 minutes."""


@dataclass(eq=False, slots=True)
class Lease:
    """One slot of the whole and of a line, until it is given back."""

    line: str
    small: bool
    _give_back: Callable[["Lease"], None]
    held: bool = True

    def release(self) -> None:
        """Give the slot back; once it is, nothing more happens."""
        if self.held:
            self.held = False
            self._give_back(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotLimits:
    """How many may run at once; 0 means without limit."""

    total: int
    per_line: int
    reserved: int = 0
    """Of the total, those that only small files may take; they may idle."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """Lines with a limit of their own; asked anew each time."""

    def __post_init__(self) -> None:
        assert 0 <= self.reserved <= max(0, self.total - 1), "files that are not small need a slot, too"

    def of_line(self, line: str) -> int:
        """Return the limit of a line."""
        return self.lines.get(line, self.per_line)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotStatistics:
    """What is in use now, and what has been since the start."""

    held: int
    waiting: int
    lines: int
    """Lines that are remembered."""
    granted: int
    most_held: int


@dataclass(slots=True)
class _Line:
    held: int = 0
    idle_since: float = 0.0


@dataclass(eq=False, slots=True)
class _Waiter:
    line: str
    small: bool
    granted: asyncio.Future[Lease]


class Slots:
    """Gives out leases. `now` is any clock's time, in seconds; it only decides what is idle."""

    def __init__(self, limits: SlotLimits, now: Callable[[], float]) -> None:
        self._limits = limits
        self._now = now
        self._lines: dict[str, _Line] = {}
        self._held: Counter[bool] = Counter()
        """Leases that are out, by whether they are for small files."""
        self._waiters: dict[_Waiter, None] = {}
        self._closed = False
        self._granted = 0
        self._most_held = 0

    @property
    def statistics(self) -> SlotStatistics:
        """What is in use."""
        return SlotStatistics(
            held=self._held.total(),
            waiting=len(self._waiters),
            lines=len(self._lines),
            granted=self._granted,
            most_held=self._most_held,
        )

    def is_free(self, line: str, *, small: bool = False) -> bool:
        """Whether a slot could be had at once."""
        return not self._closed and self._has_total(small=small) and self._has_line(line)

    def acquire_nowait(self, line: str, *, small: bool = False) -> Lease | None:
        """Return a lease, or None when there is no room."""
        return self._grant(line, small=small) if self.is_free(line, small=small) else None

    async def acquire(self, line: str, *, small: bool = False) -> Lease:
        """Return a lease as soon as there is room. Whoever cancels this holds nothing.

        Raises:
            ServiceStopping: no more slots are given out.
        """
        if self._closed:
            raise ServiceStopping
        lease = self.acquire_nowait(line, small=small)
        return lease if lease is not None else await self._wait(line, small=small)

    async def _wait(self, line: str, *, small: bool) -> Lease:
        waiter = _Waiter(line, small, asyncio.get_running_loop().create_future())
        self._waiters[waiter] = None
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            # It may have been granted in the same turn of the loop, and nobody else knows of that lease.
            if waiter.granted.done() and not waiter.granted.cancelled() and not waiter.granted.exception():
                waiter.granted.result().release()
            raise
        finally:
            self._waiters.pop(waiter, None)

    def close(self) -> None:
        """Give out no more; all that wait are told. What is held stays held. A second call is harmless."""
        self._closed = True
        for waiter in self._take_waiters():
            waiter.granted.set_exception(ServiceStopping())

    def _take_waiters(self) -> list[_Waiter]:
        waiters = [waiter for waiter in self._waiters if not waiter.granted.done()]
        self._waiters.clear()
        return waiters

    def change(self, limits: SlotLimits) -> None:
        """Set other limits; leases beyond lower ones are let run out, higher ones are granted at once."""
        self._limits = limits
        self._grant_waiters()

    def sweep(self) -> int:
        """Forget lines that have held nothing for `IDLE_S`; return how many. A held one is never forgotten."""
        before = self._now() - IDLE_S
        idle = [name for name, line in self._lines.items() if not line.held and line.idle_since <= before]
        for name in idle:
            del self._lines[name]
        return len(idle)

    def _has_total(self, *, small: bool) -> bool:
        if self._limits.total == 0:
            return True
        if self._held.total() >= self._limits.total:
            return False
        return small or self._held[False] < self._limits.total - self._limits.reserved

    def _has_line(self, line: str) -> bool:
        limit = self._limits.of_line(line)
        return limit == 0 or line not in self._lines or self._lines[line].held < limit

    def _grant(self, line: str, *, small: bool) -> Lease:
        self._lines.setdefault(line, _Line()).held += 1
        self._held[small] += 1
        self._granted += 1
        self._most_held = max(self._most_held, self._held.total())
        return Lease(line, small, self._give_back)

    def _give_back(self, lease: Lease) -> None:
        line = self._lines[lease.line]
        line.held -= 1
        line.idle_since = self._now()
        self._held[lease.small] -= 1
        self._grant_waiters()

    def _grant_waiters(self) -> None:
        for waiter in list(self._waiters):
            # A waiter that was cancelled in this turn of the loop is still in the list.
            if not waiter.granted.done() and self.is_free(waiter.line, small=waiter.small):
                del self._waiters[waiter]
                waiter.granted.set_result(self._grant(waiter.line, small=waiter.small))
