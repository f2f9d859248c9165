"""How many stand before, against counting them line by line."""

import random

import pytest

from haulier.core.standing import Standings


def counted(lines: dict[int, int], ticket: int, rounds: int) -> int:
    return sum(min(length, rounds + (other < ticket)) for other, length in lines.items())


@pytest.mark.parametrize("seed", range(20))
def test_as_many_stand_before_as_are_counted_line_by_line(seed: int) -> None:
    chance = random.Random(seed)
    standings = Standings()
    lines: dict[int, int] = {}
    for ticket in range(60):
        lines[ticket] = chance.choice((1, 2, 15, 16, 17, 31, 32, 100))
        standings.add(ticket, lines[ticket])
        if ticket % 3 == 0:
            gone = chance.choice(list(lines))
            standings.remove(gone, lines.pop(gone))
        for rounds in (0, 1, 14, 15, 16, 17, 30, 31, 32, 99, 100, 101):
            for mine in (0, ticket // 2, ticket, 99):
                assert standings.before(mine, rounds) == counted(lines, mine, rounds)
    assert standings.entries == sum(lines.values())


def test_nobody_stands_before_where_nobody_stands() -> None:
    standings = Standings()
    standings.add(1, 5)
    standings.remove(1, 5)
    assert (standings.entries, standings.before(9, 9)) == (0, 0)
