"""Threads that a cancel does not leave behind, and errors that come out of groups as themselves."""

import asyncio
import threading

import pytest

from haulier.engine.tasks import in_thread, tasks


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
