"""Leased slots: limits of the whole and of a line, who waits, and that nothing is given back twice."""

import asyncio

import pytest

from haulier.core.errors import ServiceStopping
from haulier.engine.slots import IDLE_S, Lease, SlotLimits, Slots


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def slots(total: int = 2, per_line: int = 1, reserved: int = 0, **lines: int) -> Slots:
    return Slots(SlotLimits(total=total, per_line=per_line, reserved=reserved, lines=lines), Time())


def take(of: Slots, line: str, *, small: bool = False) -> Lease:
    lease = of.acquire_nowait(line, small=small)
    assert lease is not None
    return lease


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_one_lease_takes_from_the_whole_and_from_the_line() -> None:
    of = slots(total=2, per_line=1)
    take(of, "a")
    assert of.acquire_nowait("a") is None
    take(of, "b")
    assert of.acquire_nowait("c") is None
    assert (of.statistics.held, of.statistics.granted, of.statistics.most_held) == (2, 2, 2)


def test_a_refusal_takes_nothing() -> None:
    of = slots(total=1, per_line=1)
    first = take(of, "a")
    assert of.acquire_nowait("b") is None
    assert (of.statistics.held, of.statistics.lines) == (1, 1)
    first.release()
    take(of, "b")


def test_releasing_twice_frees_one_slot() -> None:
    of = slots(total=2, per_line=0)
    first, _second = take(of, "a"), take(of, "a")
    first.release()
    first.release()
    take(of, "a")
    assert of.acquire_nowait("a") is None
    assert of.statistics.held == 2


def test_leaving_the_block_releases() -> None:
    of = slots()
    with take(of, "a") as lease:
        assert of.statistics.held == 1
    assert not lease.held
    assert of.statistics.held == 0


def test_zero_is_without_limit() -> None:
    of = slots(total=0, per_line=0)
    for _ in range(1000):
        take(of, "a")
    assert of.statistics.held == 1000


def test_a_line_may_have_a_limit_of_its_own() -> None:
    of = slots(total=0, per_line=1, wide=2)
    take(of, "wide")
    take(of, "wide")
    assert not of.is_free("wide")
    take(of, "narrow")
    assert not of.is_free("narrow")


def test_a_reserved_slot_is_for_small_files_only() -> None:
    of = slots(total=2, per_line=0, reserved=1)
    take(of, "a")
    assert of.acquire_nowait("a") is None
    take(of, "a", small=True)
    assert of.acquire_nowait("a", small=True) is None


def test_small_files_may_take_the_other_slots_too() -> None:
    of = slots(total=2, per_line=0, reserved=1)
    take(of, "a", small=True)
    take(of, "a", small=True)
    assert of.acquire_nowait("a", small=True) is None
    assert of.acquire_nowait("a") is None


def test_a_reserve_of_all_slots_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        SlotLimits(total=1, per_line=0, reserved=1)


async def test_a_free_slot_needs_no_wait() -> None:
    of = slots()
    assert (await of.acquire("a")).line == "a"


async def test_waiters_are_granted_in_the_order_of_asking_past_those_whose_line_is_full() -> None:
    of = slots(total=2, per_line=1)
    a, b = take(of, "a"), take(of, "b")
    order: list[str] = []

    async def wait(name: str, line: str) -> None:
        await of.acquire(line)
        order.append(name)

    async with asyncio.TaskGroup() as group:
        for name, line in (("first", "a"), ("second", "c"), ("third", "b")):
            group.create_task(wait(name, line))
            await settle()
        assert of.statistics.waiting == 3
        b.release()
        await settle()
        assert order == ["second"]
        a.release()
        await settle()
        assert order == ["second", "first"]
        of.change(SlotLimits(total=3, per_line=1))
    assert order == ["second", "first", "third"]
    assert (of.statistics.held, of.statistics.waiting) == (3, 0)


async def test_a_cancelled_waiter_holds_nothing() -> None:
    of = slots(total=1)
    held = take(of, "a")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(of.acquire("b"))
        await settle()
        waiting.cancel()
        held.release()
    assert waiting.cancelled()
    assert (of.statistics.held, of.statistics.waiting) == (0, 0)


async def test_a_waiter_cancelled_just_after_its_grant_gives_it_to_the_next() -> None:
    of = slots(total=1)
    held = take(of, "a")
    async with asyncio.TaskGroup() as group:
        first = group.create_task(of.acquire("b"))
        second = group.create_task(of.acquire("c"))
        await settle()
        held.release()
        first.cancel()
    assert first.cancelled()
    assert second.result().line == "c"
    assert of.statistics.held == 1


async def test_closing_tells_all_that_wait_and_all_that_ask_later() -> None:
    of = slots(total=1)
    held = take(of, "a")

    async def refused(line: str) -> None:
        with pytest.raises(ServiceStopping):
            await of.acquire(line)

    async with asyncio.TaskGroup() as group:
        for line in "abc":
            group.create_task(refused(line))
        await settle()
        of.close()
        of.close()
    assert of.statistics.waiting == 0
    assert held.held
    held.release()
    assert of.acquire_nowait("a") is None
    await refused("a")


async def test_a_waiter_cancelled_as_the_slots_close_ends_as_cancelled() -> None:
    of = slots(total=1)
    take(of, "a")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(of.acquire("b"))
        await settle()
        waiting.cancel()
        of.close()
    assert waiting.cancelled()
    assert of.statistics.waiting == 0


async def test_a_waiter_that_is_cancelled_after_it_was_told_ends_as_cancelled() -> None:
    of = slots(total=1)
    take(of, "a")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(of.acquire("b"))
        await settle()
        of.close()
        waiting.cancel()
    assert waiting.cancelled()


def test_idle_lines_are_forgotten_after_a_while_and_held_ones_never() -> None:
    time = Time()
    of = Slots(SlotLimits(total=0, per_line=1), time)
    gone, held = take(of, "gone"), take(of, "held")
    time.now = 100.0
    gone.release()
    time.now = 100.0 + IDLE_S - 1
    assert of.sweep() == 0
    time.now = 100.0 + IDLE_S
    assert of.sweep() == 1
    assert of.statistics.lines == 1
    assert of.acquire_nowait("held") is None
    held.release()
    take(of, "gone")
