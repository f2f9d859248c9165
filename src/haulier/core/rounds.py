"""The order of a queue by turns: lines (peers) take turns, and inside a line who came first goes first.

Rule 1: a line that had its turn goes behind all others; so of lines that always have something waiting none is ever
        more than one turn ahead. One that joins stands at the end.
Rule 2: favoured lines go first, but every fourth turn is the others' when they wait.
Rule 3: nobody blocks others: a line that is held (its slot is taken, it backs off, it is away) is passed over and keeps
        its place for when it is let go.
Rule 4: a turn is a bundle: small files of one line are not worth a round each.
"""

from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Final, Generic, TypeVar

from haulier.core.shelf import Seat, Shelf
from haulier.core.standing import Standings
from haulier.core.values import dataclass

BUNDLE_FILES: Final = 20
BUNDLE_BYTES: Final = 16 * 1024 * 1024
"""What one turn has at most; a file that is larger is a turn by itself."""
FAVOURED_IN_A_ROW: Final = 3
"""Turns of favoured lines after which the others have one."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Generic[K]):
    """One that waits for a turn of its line."""

    key: K
    line: str
    size: int


@dataclass(frozen=True, slots=True)
class _Standing:
    """A line as it counts for the places of others."""

    favoured: bool
    ticket: int
    length: int


@dataclass(eq=False, slots=True)
class _Line(Generic[K]):
    ticket: int
    """Where it stands among the lines of its class."""
    seats: Shelf = field(default_factory=Shelf)
    entries: dict[int, Waiting[K]] = field(default_factory=dict)
    """By the number of the seat."""
    standing: _Standing | None = None
    """None while it is absent."""

    @property
    def first(self) -> Waiting[K]:
        return self.entries[self.seats.head.number]

    def count_up_to(self, number: int) -> int:
        return self.seats.count_while(lambda seat: seat.number < number)


class TurnQueue(Generic[K]):
    """Entries whose lines take turns.

    The cost of adding, removing, taking and of a place follows neither the number of entries nor that of lines; only
    where whoever came first goes first does that of a place follow the number of lines.
    """

    def __init__(self, *, first_come: bool = False, bundle_files: int = BUNDLE_FILES) -> None:
        """Make an empty queue.

        Args:
            first_come: Whoever came first goes first, whatever line it is of, one at a time; instead of rule 1.
            bundle_files: Files that one turn has at most.
        """
        self._first_come = first_come
        self._bundle_files = 1 if first_come else bundle_files
        self._lines: dict[str, _Line[K]] = {}
        self._seats: dict[K, tuple[str, int]] = {}
        self._favoured: set[str] = set()
        self._held: set[str] = set()
        self._absent: set[str] = set()
        self._ready: dict[bool, Shelf] = {True: Shelf(), False: Shelf()}
        """Tickets of the lines that are not held, by whether they are favoured."""
        self._standings = {True: Standings(), False: Standings()}
        """Of the lines that are not absent, by whether they are favoured."""
        self._names: dict[int, str] = {}
        """Lines by ticket."""
        self._in_a_row = 0
        self._last = 0

    def __len__(self) -> int:
        return len(self._seats)

    def __contains__(self, key: K) -> bool:
        return key in self._seats

    def add(self, entry: Waiting[K], *, at_head: bool = False) -> None:
        """Let `entry` wait, behind those of its line or, when its turn was cut short, before them."""
        assert entry.key not in self, entry.key
        number = self._number()
        seat = Seat(0.0, -number if at_head else number)
        line = self._lines.get(entry.line)
        if line is None:
            line = self._lines[entry.line] = _Line(ticket=0)
        else:
            self._leave(entry.line)
        line.seats.add(seat)
        line.entries[seat.number] = entry
        self._seats[entry.key] = (entry.line, seat.number)
        self._join(entry.line, line.ticket or number)

    def remove(self, key: K) -> Waiting[K] | None:
        """Take out the entry, if it is there."""
        if key not in self._seats:
            return None
        name, number = self._seats.pop(key)
        line = self._lines[name]
        self._leave(name)
        line.seats.remove(Seat(0.0, number))
        entry = line.entries.pop(number)
        if line.entries:
            self._join(name, line.ticket)
        else:
            del self._lines[name]
        return entry

    def favour(self, lines: Iterable[str]) -> None:
        """Say which lines are favoured from now on; of no other one is."""
        now = set(lines)
        for name in (self._favoured ^ now) & self._lines.keys():
            self._leave(name)
        changed, self._favoured = self._favoured ^ now, now
        for name in changed & self._lines.keys():
            self._join(name, self._lines[name].ticket)

    def hold(self, line: str, *, absent: bool = False) -> None:
        """Pass the line over until it is let go; an `absent` one counts for nobody's place meanwhile."""
        with self._moving(line):
            self._held.add(line)
            if absent:
                self._absent.add(line)

    def let_go(self, line: str) -> None:
        """Let the line have turns again; harmless when it is not held."""
        with self._moving(line):
            self._held.discard(line)
            self._absent.discard(line)

    @contextmanager
    def _moving(self, line: str) -> Iterator[None]:
        """Take the line out of all orders, and put it back as it is then."""
        waits = line in self._lines
        if waits:
            self._leave(line)
        yield
        if waits:
            self._join(line, self._lines[line].ticket)

    def take(self) -> tuple[Waiting[K], ...]:
        """Take out those whose turn it is, in order; none when nobody can have one."""
        favoured = bool(self._ready[True]) and not (
            self._ready[False] and self._in_a_row >= FAVOURED_IN_A_ROW
        )
        if not self._ready[favoured]:
            return ()
        self._in_a_row = min(self._in_a_row + 1, FAVOURED_IN_A_ROW) if favoured else 0
        return self._take_bundle(self._names[self._ready[favoured].head.number])

    def place(self, key: K) -> int | None:
        """Return 1 + how many would start before it if nothing arrived any more and one were started at a time.

        None when it does not wait.
        """
        if key not in self._seats:
            return None
        name, number = self._seats[key]
        favoured = name in self._favoured
        before = self._count_earlier(name, number) if self._first_come else self._count_before(name, number)
        others = self._standings[not favoured].entries
        if favoured:
            others = min(others, (before + self._in_a_row) // FAVOURED_IN_A_ROW)
        else:
            others = min(others, FAVOURED_IN_A_ROW * (before + 1) - self._in_a_row)
        return 1 + before + others

    def _count_before(self, name: str, number: int) -> int:
        """Return how many of the same class start before that one: one a round of each line, in turns."""
        line = self._lines[name]
        mine = line.count_up_to(number)
        theirs = self._standings[name in self._favoured].before(line.ticket, mine)
        return theirs if line.standing is not None else mine + theirs

    def _count_earlier(self, name: str, number: int) -> int:
        """Return how many of the same class came before that one."""
        favoured = name in self._favoured
        return sum(
            line.count_up_to(number)
            for other, line in self._lines.items()
            if other == name or (line.standing is not None and line.standing.favoured is favoured)
        )

    def _take_bundle(self, name: str) -> tuple[Waiting[K], ...]:
        bundle: list[Waiting[K]] = []
        size = 0
        while name in self._lines and len(bundle) < self._bundle_files:
            entry = self._lines[name].first
            size += entry.size
            if bundle and size > BUNDLE_BYTES:
                break
            self.remove(entry.key)
            bundle.append(entry)
        if name in self._lines:
            self._leave(name)
            self._join(name, self._number())
        return tuple(bundle)

    def _leave(self, name: str) -> None:
        """Take the line out of the order of the lines."""
        line = self._lines[name]
        if line.standing is not None:
            self._standings[line.standing.favoured].remove(line.standing.ticket, line.standing.length)
            line.standing = None
        if self._names.pop(line.ticket, None) is not None:
            self._ready[name in self._favoured].remove(Seat(0.0, line.ticket))

    def _join(self, name: str, ticket: int) -> None:
        """Put the line into the order of the lines, unless it is held."""
        line = self._lines[name]
        line.ticket = line.seats.head.number if self._first_come else ticket
        favoured = name in self._favoured
        if name not in self._absent:
            line.standing = _Standing(favoured, line.ticket, len(line.entries))
            self._standings[favoured].add(line.ticket, len(line.entries))
        if name not in self._held:
            self._names[line.ticket] = name
            self._ready[favoured].add(Seat(0.0, line.ticket))

    def _number(self) -> int:
        self._last += 1
        return self._last
