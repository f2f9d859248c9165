"""Threads that a cancel does not leave behind, and errors that come out of groups as themselves."""

import asyncio
import threading

import pytest

from haulier.engine.tasks import beside, in_thread, tasks


class Slow:
    """Blocking work that ends when the test says so."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go = threading.Event()
        self.ended = False
        self.undone: list[int] = []
        self._error = error

    def __call__(self, result: int) -> int:
        assert self.go.wait(10)
        self.ended = True
        if self._error is not None:
            raise self._error
        return result


async def cancelled_twice(slow: Slow) -> None:
    running = asyncio.get_running_loop().create_task(in_thread(slow, 5, undo=slow.undone.append))
    for _ in range(2):
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.sleep(0)
        assert not running.done()
    slow.go.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert slow.ended


async def test_a_cancel_is_raised_after_the_thread_has_ended_and_its_result_is_given_back() -> None:
    slow = Slow()
    await cancelled_twice(slow)
    assert slow.undone == [5]


async def test_an_error_after_a_cancel_is_dropped() -> None:
    slow = Slow(OSError("too late"))
    await cancelled_twice(slow)
    assert slow.undone == []


async def test_results_and_errors_come_out() -> None:
    right, wrong = Slow(), Slow(OSError("no"))
    right.go.set()
    wrong.go.set()
    assert await in_thread(right, 5, undo=right.undone.append) == 5
    assert right.undone == []
    with pytest.raises(OSError, match="no"):
        await in_thread(wrong, 5)


async def test_the_first_error_of_a_group_comes_out_as_itself() -> None:
    async def fail() -> None:
        raise OSError("no")

    async def endless() -> None:
        await asyncio.Event().wait()

    async def both() -> None:
        async with tasks() as group:
            group.create_task(endless())
            group.create_task(fail())

    with pytest.raises(OSError, match="no"):
        await both()


async def test_what_is_done_beside_a_block_ends_with_it() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    async with beside(work()):
        await asyncio.sleep(0)
    assert ended.is_set()
    ended.clear()

    async def fail() -> None:
        async with beside(work()):
            await asyncio.sleep(0)
            raise OSError("of the block")

    with pytest.raises(OSError, match="of the block"):
        await fail()
    assert ended.is_set()


async def test_an_error_beside_a_block_ends_the_block_and_comes_out() -> None:
    async def work() -> None:
        raise OSError("beside")

    with pytest.raises(OSError, match="beside"):
        async with beside(work()):
            await asyncio.get_running_loop().create_future()


async def test_what_ends_beside_a_block_lets_it_go_on() -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    done = False
    async with beside(work()):
        for _ in range(3):
            await asyncio.sleep(0)
        done = True
    assert done
