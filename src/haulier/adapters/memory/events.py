"""The outbox in memory: the events of `MemoryDatabase`."""

from collections.abc import Sequence
from itertools import islice

from haulier.adapters.memory.access import Pause
from haulier.core.event import EVERYTHING, START, Event, Interest, Position, Told
from haulier.core.values import dataclass, replace


@dataclass(slots=True, kw_only=True)
class EventRows:
    """One version of these rows; a committed one is never changed again."""

    told: tuple[Told, ...] = ()
    last: int = 0
    """The number of the newest event there ever was."""

    def draft(self) -> "EventRows":
        """Return a version that may be changed."""
        return replace(self)


class MemoryEventStore:
    """`EventStore` on a draft; contracts as in the port. Writes follow each other, so all events are settled."""

    def __init__(self, rows: EventRows, pause: Pause) -> None:
        self._rows = rows
        self._pause = pause
        self._written = False

    @property
    def written(self) -> bool:
        """Whether this transaction has events."""
        return self._written

    async def append(self, *events: Event) -> None:
        """Write events."""
        await self._pause()
        self._written = True
        first = self._rows.last + 1
        told = (Told(Position(0, number), event) for number, event in enumerate(events, first))
        self._rows.told = (*self._rows.told, *told)
        self._rows.last += len(events)

    async def after(
        self, position: Position, *, limit: int, interest: Interest = EVERYTHING
    ) -> tuple[Sequence[Told], bool]:
        """Return the events behind that position."""
        await self._pause()
        last = self._rows.last
        behind = (told for told in self._rows.told if told.position > position)
        found = (told for told in behind if interest.covers(told.event) or told.position.number == last)
        return list(islice(found, limit)), True

    async def last_settled(self) -> Position:
        """Return where the last event is."""
        await self._pause()
        return self._rows.told[-1].position if self._rows.told else START

    async def kept(self) -> tuple[Position, Position] | None:
        """Return where the first and the last event are."""
        await self._pause()
        told = self._rows.told
        return (told[0].position, told[-1].position) if told else None

    async def prune(self, *, before: float, limit: int) -> int:
        """Remove what is older than everything younger, but the last of it."""
        await self._pause()
        told = self._rows.told
        young = (place for place, each in enumerate(told) if each.event.created_at >= before)
        count = min(max(next(young, len(told)) - 1, 0), limit)
        self._rows.told = told[count:]
        return count
