"""Work that outlives its request, and writes that a cancel does not tear."""

import asyncio

import pytest
from structlog.testing import capture_logs

from haulier.core.errors import StorageUnavailable
from haulier.engine.background import Background, finish_anyway
from tests.support.engine import beside, until


async def test_stopping_waits_for_a_while_and_then_cancels() -> None:
    background, ended = Background(), []

    async def quick() -> None:
        await asyncio.sleep(0)
        ended.append("quick")

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("endless")

    background.start(quick(), name="quick")
    background.start(endless(), name="endless")
    await background.stop(grace_s=0.01)
    assert ended == ["quick", "endless"]
    await background.stop(grace_s=0)


async def test_what_background_work_raises_reaches_who_awaits_it() -> None:
    background = Background()

    async def fail() -> None:
        raise ValueError("no")

    task = background.start(fail(), name="fail")
    with pytest.raises(ValueError, match="no"):
        await task


async def test_a_cancel_is_raised_after_the_write_is_done() -> None:
    go, written = asyncio.Event(), []

    async def write() -> None:
        await go.wait()
        written.append(1)

    task = beside(finish_anyway(write()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert written == [1]


async def test_a_write_that_fails_after_a_cancel_does_not_hide_the_cancel() -> None:
    go = asyncio.Event()

    async def write() -> None:
        await go.wait()
        raise ValueError("no")

    task = beside(finish_anyway(write()))
    await asyncio.sleep(0)
    task.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_second_cancel_leaves_the_write_to_its_end() -> None:
    go, written = asyncio.Event(), []

    async def write() -> None:
        await go.wait()
        written.append(1)
        raise ValueError("no")

    task = beside(finish_anyway(write()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await until(lambda: written == [1])


async def test_a_write_that_never_ends_is_given_up_at_the_deadline() -> None:
    async def write() -> None:
        await asyncio.Event().wait()

    task = beside(finish_anyway(write(), deadline_s=0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_uncancelled_write_gives_its_result_or_its_error() -> None:
    async def five() -> int:
        return 5

    async def fail() -> int:
        raise ValueError("no")

    assert await finish_anyway(five()) == 5
    with pytest.raises(ValueError, match="no"):
        await finish_anyway(fail())


@pytest.mark.parametrize(
    ("error", "level", "event"),
    [
        (StorageUnavailable("no"), "warning", "background.failed"),
        (AssertionError("never"), "error", "background.crashed"),
    ],
)
async def test_what_nobody_awaits_is_logged_and_a_mistake_of_ours_with_its_traceback(
    error: Exception, level: str, event: str
) -> None:
    background = Background()

    async def fail() -> None:
        raise error

    with capture_logs() as logs:
        task = background.start(fail(), name="fail")
        await asyncio.wait({task})
        await asyncio.sleep(0)
    (logged,) = logs
    assert (logged["log_level"], logged["event"]) == (level, event)
    assert logged.get("exc_info") is (error if level == "error" else None)
