"""The order of a queue by rank: who starts next, and how many would start before whom.

Rule 1: rank = priority + one for every ten minutes waited, so that nothing starves.
Rule 2: inside a rank small files go first, then who came first. Whoever was bumped is the first of its
        priority, the last one bumped before all others.
Rule 3: ranks depend on the time, but on one shelf (one priority, one kind) the order of arrival is the
        order of starting, always: ageing moves whole shelves past each other. So only heads of shelves
        are compared, and places are counted by searching each shelf once.
"""

from collections.abc import Hashable, Iterable, Iterator
from enum import IntEnum
from functools import partial
from typing import Final, Generic, NamedTuple, TypeVar

from haulier.core.shelf import Seat, Shelf
from haulier.core.values import dataclass

AGEING_S: Final = 600.0
"""Seconds of waiting that count as one step of priority: a low one passes a new high one after 20 minutes."""
SMALL_FILE: Final = 8 * 1024 * 1024
"""Bytes up to which a file is small: about a second on an ordinary line."""

K = TypeVar("K", bound=Hashable)


class Kind(IntEnum):
    """What goes first inside a rank."""

    BUMPED = 0
    SMALL = 1
    LARGE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Generic[K]):
    """One that waits."""

    key: K
    line: str
    """Whose slots it takes: a remote's name, a peer's."""
    priority: int
    size: int
    arrived_at: float

    @property
    def small(self) -> bool:
        """Whether it may use the slot that is kept for small files."""
        return self.size <= SMALL_FILE


def rank_of(priority: int, arrived_at: float, *, now: float) -> int:
    """Return the rank of one that has waited since `arrived_at`; a clock that stepped back ages nobody."""
    return priority + int(max(0.0, now - arrived_at) // AGEING_S)


class _Class(NamedTuple):
    """What all on one shelf have in common."""

    priority: int
    kind: Kind
    small: bool


class _Shelves:
    """A shelf for each class: of one line, or of all."""

    def __init__(self) -> None:
        self._shelves: dict[_Class, Shelf] = {}

    def __bool__(self) -> bool:
        return bool(self._shelves)

    def add(self, of: _Class, seat: Seat) -> None:
        self._shelves.setdefault(of, Shelf()).add(seat)

    def remove(self, of: _Class, seat: Seat) -> None:
        shelf = self._shelves[of]
        shelf.remove(seat)
        if not shelf:
            del self._shelves[of]

    def heads(self) -> Iterator[tuple[_Class, Seat]]:
        return ((of, shelf.head) for of, shelf in self._shelves.items())

    def count_before(self, turn: "_Turn", *, now: float) -> int:
        """Return how many have their turn before `turn`."""
        return sum(
            shelf.count_while(partial(_goes_before, turn, now, of)) for of, shelf in self._shelves.items()
        )


_Turn = tuple[int, Kind, Seat]


def _turn_of(of: _Class, seat: Seat, *, now: float) -> _Turn:
    return -rank_of(of.priority, seat.since, now=now), of.kind, seat


def _goes_before(turn: _Turn, now: float, of: _Class, seat: Seat) -> bool:
    return _turn_of(of, seat, now=now) < turn


class RankedQueue(Generic[K]):
    """Entries in the order of their ranks; each belongs to a line.

    It starts nothing itself: `next` says who would, and whoever starts it removes it.
    """

    def __init__(self) -> None:
        self._all = _Shelves()
        self._lines: dict[str, _Shelves] = {}
        self._entries: dict[K, tuple[Entry[K], _Class, Seat]] = {}
        self._keys: dict[int, K] = {}
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    @property
    def lines(self) -> Iterable[str]:
        """The lines in which somebody waits."""
        return self._lines.keys()

    def add(self, entry: Entry[K]) -> None:
        """Let `entry` wait; it may have arrived before others that wait already."""
        assert entry.key not in self, entry.key
        kind = Kind.SMALL if entry.small else Kind.LARGE
        self._seat(entry, kind, Seat(entry.arrived_at, self._number()))

    def remove(self, key: K) -> Entry[K] | None:
        """Take out the entry, if it is there."""
        if key not in self._entries:
            return None
        entry, of, seat = self._entries.pop(key)
        del self._keys[seat.number]
        self._all.remove(of, seat)
        self._lines[entry.line].remove(of, seat)
        if not self._lines[entry.line]:
            del self._lines[entry.line]
        return entry

    def bump(self, key: K) -> None:
        """Make the entry, if it is there, the first of its priority."""
        if key not in self._entries:
            return
        priority = self._entries[key][0].priority
        since = min(seat.since for of, seat in self._all.heads() if of.priority == priority)
        entry = self.remove(key)
        assert entry is not None, key
        self._seat(entry, Kind.BUMPED, Seat(since, -self._number()))

    def next(self, lines: Iterable[str], *, now: float, small_only: bool = False) -> Entry[K] | None:
        """Return who starts next of those in `lines`; None when nobody can."""
        turns = (
            _turn_of(of, seat, now=now)
            for line in lines
            if line in self._lines
            for of, seat in self._lines[line].heads()
            if of.small or not small_only
        )
        first = min(turns, default=None)
        return None if first is None else self._entries[self._keys[first[2].number]][0]

    def place(self, key: K, *, now: float) -> int | None:
        """Return 1 + how many would start before it if every line had a slot and nothing arrived any more.

        None when it does not wait.
        """
        if key not in self._entries:
            return None
        _, of, seat = self._entries[key]
        return 1 + self._all.count_before(_turn_of(of, seat, now=now), now=now)

    def _seat(self, entry: Entry[K], kind: Kind, seat: Seat) -> None:
        of = _Class(entry.priority, kind, entry.small)
        self._entries[entry.key] = (entry, of, seat)
        self._keys[seat.number] = entry.key
        self._all.add(of, seat)
        self._lines.setdefault(entry.line, _Shelves()).add(of, seat)

    def _number(self) -> int:
        self._last_number += 1
        return self._last_number
