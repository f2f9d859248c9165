import asyncio
import uuid
from collections.abc import Callable

import pytest

from haulier.testing import ManualClock, SeededIdentifiers


async def _sleep(clock: ManualClock, seconds: float, woken: list[float]) -> None:
    await clock.sleep(seconds)
    woken.append(seconds)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a clock has nobody to tell
            await asyncio.sleep(0)


async def test_sleepers_wake_in_the_order_of_their_deadlines() -> None:
    clock, woken = ManualClock(), list[float]()
    async with asyncio.TaskGroup() as tasks:
        for seconds in (3, 1, 2, 50):
            tasks.create_task(_sleep(clock, seconds, woken))
        await _until(lambda: clock.sleepers == 4)
        clock.advance(3)
        await _until(lambda: len(woken) == 3)
        assert woken == [1, 2, 3]
        assert clock.next_wake_s == 47
        clock.advance(47)
    assert woken == [1, 2, 3, 50]
    assert clock.next_wake_s is None


async def test_a_step_of_the_wall_wakes_nobody() -> None:
    clock, woken = ManualClock(1000.0), list[float]()
    async with asyncio.TaskGroup() as tasks:
        sleeper = tasks.create_task(_sleep(clock, 5, woken))
        await _until(lambda: clock.sleepers == 1)
        clock.step_wall(3600)
        await asyncio.sleep(0)
        assert (clock.now(), clock.monotonic(), woken) == (4600.0, 0.0, [])
        clock.step_wall(-7200)
        assert clock.now() == -2600.0
        sleeper.cancel()


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = ManualClock()
    async with asyncio.TaskGroup() as tasks:
        sleeper = tasks.create_task(clock.sleep(5))
        await _until(lambda: clock.sleepers == 1)
        sleeper.cancel()
    assert clock.sleepers == 0
    clock.advance(10)


async def test_sleeping_no_time_only_lets_others_run() -> None:
    clock = ManualClock()
    await clock.sleep(0)
    await clock.sleep(-1)
    assert clock.sleepers == 0


async def test_both_clocks_advance() -> None:
    clock = ManualClock(1000.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (1002.5, 2.5)


def test_the_same_seed_draws_the_same_identifiers() -> None:
    def draw(seed: int) -> list[str]:
        ids = SeededIdentifiers(ManualClock(), seed)
        return [ids.session_id(), ids.record_id(), ids.blob_key(), ids.session_id()]

    assert draw(7) == draw(7)
    assert not set(draw(7)) & set(draw(8))


@pytest.mark.parametrize("seed", range(20))
def test_seeded_identifiers_have_the_form_of_real_ones(seed: int) -> None:
    ids = SeededIdentifiers(ManualClock(), seed)
    assert len(ids.session_id()) == 22
    assert uuid.UUID(ids.record_id()).version == 7
    assert uuid.UUID(ids.blob_key()).version == 4
