"""What the simulation itself stands on."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.simulation.loop import Process, SimLoop, Stalled, new_loop


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    made = new_loop(0)
    yield made
    made.close()


def order_of(seed: int) -> list[int]:
    loop, seen = new_loop(seed), list[int]()

    async def visit(number: int) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            seen.append(number)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(visit(number))

    loop.run_until_complete(main())
    return seen


def test_one_seed_is_one_order() -> None:
    assert order_of(7) == order_of(7)


def test_seeds_give_different_orders() -> None:
    assert len({tuple(order_of(seed)) for seed in range(20)}) > 10


def test_a_day_passes_without_waiting(loop: SimLoop) -> None:
    loop.run_until_complete(asyncio.sleep(86_400))
    assert loop.time() == 86_400


def test_a_timeout_strikes_at_its_virtual_time(loop: SimLoop) -> None:
    async def main() -> None:
        async with asyncio.timeout(5):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        loop.run_until_complete(main())
    assert loop.time() == 5


def test_waiting_for_nothing_is_noticed(loop: SimLoop) -> None:
    async def main() -> None:
        waiting = asyncio.Event().wait()
        try:
            await waiting
        finally:
            waiting.close()

    task = loop.create_task(main())
    with pytest.raises(Stalled):
        loop.run_until_complete(task)
    loop.unwind()


def test_a_thread_is_a_step_of_the_schedule(loop: SimLoop) -> None:
    async def main() -> int:
        return await asyncio.to_thread(lambda: 42)

    assert loop.run_until_complete(main()) == 42


def test_a_killed_process_runs_no_clean_up(loop: SimLoop) -> None:
    process, seen = Process("server"), list[str]()

    async def serve() -> None:
        try:
            await asyncio.sleep(1)
            seen.append("done")
        finally:
            seen.append("cleaned")

    loop.create_task(serve(), context=process.context)
    loop.call_later(0.5, loop.kill, process)
    loop.run_until_complete(asyncio.sleep(10))
    assert seen == []
    loop.unwind()
    assert seen == ["cleaned"]


def test_what_a_callback_raises_ends_the_scenario(loop: SimLoop) -> None:
    loop.call_soon(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        loop.run_until_complete(asyncio.sleep(1))
