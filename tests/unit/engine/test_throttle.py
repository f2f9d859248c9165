"""A bound on bytes per second."""

import asyncio

import pytest

from haulier.core.errors import InvalidRequest
from haulier.engine.throttle import Bandwidth
from haulier.testing import ManualClock


async def turns(count: int = 20) -> None:
    """Let everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def run_until(clock: ManualClock, task: "asyncio.Task[None]") -> float:
    """Advance the clock from sleeper to sleeper until the task is done; return how long that took."""
    began = clock.monotonic()
    await turns()
    while not task.done():
        wake = clock.next_wake_s
        assert wake is not None
        clock.advance(wake)
        await turns()
    await task
    return clock.monotonic() - began


async def take(bandwidth: Bandwidth, count: int, times: int = 1) -> None:
    for _ in range(times):
        await bandwidth.take(count)


async def test_without_a_bound_nobody_waits() -> None:
    clock = ManualClock()
    bandwidth = Bandwidth(clock)
    assert bandwidth.piece is None
    await bandwidth.take(10**9)
    assert clock.sleepers == 0


async def test_ten_pieces_take_their_time() -> None:
    clock = ManualClock()
    bandwidth = Bandwidth(clock, 100_000)
    assert bandwidth.piece == 10_000
    async with asyncio.TaskGroup() as group:
        task = group.create_task(take(bandwidth, 10_000, times=10))
        assert await run_until(clock, task) == pytest.approx(1.0)


async def test_a_rest_saves_a_quarter_of_a_second_and_no_more() -> None:
    clock = ManualClock()
    bandwidth = Bandwidth(clock, 100_000)
    clock.advance(3600)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(take(bandwidth, 10_000, times=10))
        assert await run_until(clock, task) == pytest.approx(0.75)


async def test_two_that_send_share_the_bound_in_turns() -> None:
    clock = ManualClock()
    bandwidth = Bandwidth(clock, 100_000)
    order: list[str] = []

    async def send(name: str) -> None:
        for _ in range(3):
            await bandwidth.take(10_000)
            order.append(name)

    async with asyncio.TaskGroup() as group:
        first, second = group.create_task(send("a")), group.create_task(send("b"))
        await run_until(clock, first)
        await run_until(clock, second)
    assert order == ["a", "b", "a", "b", "a", "b"]


async def test_a_higher_bound_helps_those_that_wait() -> None:
    clock = ManualClock()
    bandwidth = Bandwidth(clock, 100)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(take(bandwidth, 4_000))
        await turns()
        bandwidth.change(1_000_000)
        assert await run_until(clock, task) <= 0.25
    assert bandwidth.bytes_per_s == 1_000_000


async def test_a_piece_of_a_higher_bound_is_paid_for_under_a_lower_one() -> None:
    clock = ManualClock()
    bandwidth = Bandwidth(clock, 10_000_000)
    piece = bandwidth.piece
    assert piece == 256 * 1024
    bandwidth.change(10_000)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(bandwidth.take(piece))
        await run_until(clock, first)
        second = group.create_task(bandwidth.take(10_000))
        await run_until(clock, second)
    assert clock.monotonic() == pytest.approx((piece + 10_000) / 10_000, abs=1.0)


async def test_lifting_the_bound_frees_those_that_wait() -> None:
    clock = ManualClock()
    bandwidth = Bandwidth(clock, 100)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(take(bandwidth, 4_000))
        await turns()
        bandwidth.change(None)
        assert await run_until(clock, task) <= 0.25


async def test_who_cancels_has_taken_nothing() -> None:
    clock = ManualClock()
    bandwidth = Bandwidth(clock, 100_000)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(take(bandwidth, 20_000))
        await turns()
        task.cancel()
        await turns()
        other = group.create_task(take(bandwidth, 10_000))
        assert await run_until(clock, other) == pytest.approx(0.1)


@pytest.mark.parametrize(("rate", "piece"), [(1, 4096), (1_000_000, 100_000), (10**9, 262_144)])
def test_pieces_are_neither_tiny_nor_huge(rate: int, piece: int) -> None:
    assert Bandwidth(ManualClock(), rate).piece == piece


@pytest.mark.parametrize("rate", [0, -1, 0.5, float("nan"), float("inf"), 2**70, "x", True])
def test_a_bound_of_nothing_is_a_mistake(rate: float) -> None:
    with pytest.raises(
        InvalidRequest, match="bandwidth: must be a number of bytes per second, 1 or more, or None"
    ):
        Bandwidth(ManualClock(), rate)
