"""A bound on bytes per second, on a clock that is moved by hand."""

import asyncio

from haulier.engine.throttle import Bandwidth
from haulier.testing import ManualClock
from tests.support.engine import beside


async def passed(bandwidth: Bandwidth, clock: ManualClock, count: int, size: int) -> float:
    """Seconds until `count` pieces of `size` bytes have passed, to the tenth."""
    began = clock.monotonic()

    async def draw() -> None:
        for _ in range(count):
            await bandwidth.take(size)

    task = beside(draw())
    await asyncio.sleep(0)
    while not task.done():
        clock.advance(0.1)
        for _ in range(5):
            await asyncio.sleep(0)
    return round(clock.monotonic() - began, 1)


async def test_the_first_second_is_free_and_the_rest_takes_its_time() -> None:
    clock = ManualClock()
    assert await passed(Bandwidth(clock, 1000), clock, 10, 500) == 4.0


async def test_an_unused_minute_is_not_made_up_for() -> None:
    clock = ManualClock()
    bandwidth = Bandwidth(clock, 1000)
    clock.advance(60)
    assert await passed(bandwidth, clock, 4, 1000) == 3.0


async def test_without_a_bound_nobody_waits() -> None:
    clock = ManualClock()
    bandwidth = Bandwidth(clock)
    assert (bandwidth.piece, bandwidth.bytes_per_s) == (None, None)
    assert await passed(bandwidth, clock, 10, 10**9) <= 0.1
    bandwidth.change(1000)
    assert bandwidth.bytes_per_s == 1000
    assert await passed(bandwidth, clock, 3, 1000) == 2.0
    bandwidth.change(None)
    assert await passed(bandwidth, clock, 10, 10**9) <= 0.1


def test_pieces_are_a_tenth_of_a_second_within_bounds() -> None:
    clock = ManualClock()
    pieces = [Bandwidth(clock, rate).piece for rate in (100, 1_000_000, 10**9)]
    assert pieces == [4 * 1024, 100_000, 256 * 1024]
