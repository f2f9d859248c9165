"""Turns: so many at a time, one line after the other, none lost."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from haulier.bounded.turns import FairTurns, TurnsFull
from tests.support.engine import beside


def worker(turns: FairTurns, order: list[str]) -> Callable[[str, str], Coroutine[Any, Any, None]]:
    async def work(line: str, name: str) -> None:
        async with turns.turn(line):
            order.append(name)
            await asyncio.sleep(0)

    return work


async def test_lines_take_turns_whatever_their_length() -> None:
    turns = FairTurns(1, waiting=100)
    order: list[str] = []
    work = worker(turns, order)
    jobs = [work("a", f"a{number}") for number in range(4)] + [
        work("b", "b0"),
        work("b", "b1"),
        work("c", "c0"),
    ]
    await asyncio.gather(*jobs)
    assert order == ["a0", "a1", "b0", "c0", "a2", "b1", "a3"]
    assert turns.waiting == 0


async def test_no_more_than_the_places_work_at_a_time() -> None:
    turns, at_work, most = FairTurns(3, waiting=100), 0, 0

    async def work() -> None:
        nonlocal at_work, most
        async with turns.turn("a"):
            at_work += 1
            most = max(most, at_work)
            await asyncio.sleep(0)
            at_work -= 1

    await asyncio.gather(*(work() for _ in range(20)))
    assert most == 3


async def test_a_full_room_is_told_at_once() -> None:
    turns = FairTurns(1, waiting=0)
    async with turns.turn("a"):
        with pytest.raises(TurnsFull):
            async with turns.turn("b"):
                raise AssertionError
    async with turns.turn("b"):
        assert turns.waiting == 0


@pytest.mark.parametrize("steps", range(5))
async def test_a_cancelled_waiter_takes_no_turn_with_it(steps: int) -> None:
    turns = FairTurns(1, waiting=10)
    order: list[str] = []
    work = worker(turns, order)
    held = beside(work("a", "first"))
    await asyncio.sleep(0)
    leaving, staying = beside(work("a", "leaving")), beside(work("b", "staying"))
    for _ in range(steps):
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(held, leaving, staying, return_exceptions=True)
    assert order in (["first", "staying"], ["first", "leaving", "staying"])
    assert turns.waiting == 0
    await work("c", "after")
    assert order[-1] == "after"


async def test_a_waiter_that_is_cancelled_in_the_moment_of_its_turn_passes_it_on() -> None:
    turns = FairTurns(1, waiting=10)
    order: list[str] = []
    work = worker(turns, order)
    async with turns.turn("a"):
        first, second = beside(work("a", "first")), beside(work("a", "second"))
        await asyncio.sleep(0)
    first.cancel()  # its turn was given a moment ago
    await asyncio.gather(first, second, return_exceptions=True)
    assert order == ["second"]


async def test_a_waiter_that_is_cancelled_first_is_passed_over() -> None:
    turns = FairTurns(1, waiting=10)
    order: list[str] = []
    work = worker(turns, order)
    async with turns.turn("a"):
        first, second = beside(work("a", "first")), beside(work("b", "second"))
        await asyncio.sleep(0)
        first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert order == ["second"]
    assert turns.waiting == 0


async def test_who_fails_gives_its_turn_back() -> None:
    turns = FairTurns(1, waiting=10)
    with pytest.raises(ValueError, match="mine"):
        async with turns.turn("a"):
            raise ValueError("mine")
    async with turns.turn("a"):
        assert turns.waiting == 0
