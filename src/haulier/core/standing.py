"""How many stand before: lines in the order of their tickets, by how many entries each has.

A place in a queue by turns asks how much of each other line starts earlier. Asked line by line that costs as much as
there are lines; here it costs as much as there are lengths of lines, and those are few.
"""

from typing import Final

from haulier.core.shelf import Seat, Shelf

_WIDTH: Final = 16
"""Lengths that share a shelf beside their own: a count looks at few shelves, and a change touches two."""


class Standings:
    """Lines that count for a place: the ticket and the length of each."""

    def __init__(self) -> None:
        self.entries = 0
        """Of all lines together."""
        self._lines: dict[int, int] = {}
        """How many lines have a length."""
        self._shelves: dict[int, Shelf] = {}
        """Tickets by length."""
        self._wide: dict[int, Shelf] = {}
        """Tickets by the length divided by `_WIDTH`."""

    def add(self, ticket: int, length: int) -> None:
        """Take in a line."""
        self.entries += length
        self._lines[length] = self._lines.get(length, 0) + 1
        self._shelves.setdefault(length, Shelf()).add(Seat(0.0, ticket))
        self._wide.setdefault(length // _WIDTH, Shelf()).add(Seat(0.0, ticket))

    def remove(self, ticket: int, length: int) -> None:
        """Take out a line, as it was taken in."""
        self.entries -= length
        self._lines[length] -= 1
        self._shelves[length].remove(Seat(0.0, ticket))
        self._wide[length // _WIDTH].remove(Seat(0.0, ticket))
        if not self._lines[length]:
            del self._lines[length], self._shelves[length]
        if not self._wide[length // _WIDTH]:
            del self._wide[length // _WIDTH]

    def before(self, ticket: int, rounds: int) -> int:
        """Return how many entries start in so many rounds, and in the next one before the turn of that ticket."""
        whole = sum(lines * min(length, rounds) for length, lines in self._lines.items())
        return whole + self._longer(ticket, rounds)

    def _longer(self, ticket: int, rounds: int) -> int:
        """Return how many lines with earlier tickets have more than so many entries."""
        mine = rounds // _WIDTH
        wide = [shelf for width, shelf in self._wide.items() if width > mine]
        near = range(rounds + 1, (mine + 1) * _WIDTH)
        shelves = wide + [self._shelves[length] for length in near if length in self._shelves]
        return sum(shelf.count_below(Seat(0.0, ticket)) for shelf in shelves)
