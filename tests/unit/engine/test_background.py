"""Work that outlives its request, and writes that a cancel does not tear."""

import asyncio

import pytest
from structlog.testing import capture_logs

from haulier.core.errors import StorageUnavailable
from haulier.engine.background import STEADY_S, Background, finish_anyway, finish_if_soon
from haulier.testing import ManualClock
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


async def test_more_cancels_still_wait_for_the_write_and_are_raised_once() -> None:
    go, written = asyncio.Event(), []

    async def write() -> None:
        await go.wait()
        written.append(1)
        raise ValueError("no")

    task = beside(finish_anyway(write()))
    await asyncio.sleep(0)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert written == [1]


async def test_a_write_that_never_ends_is_given_up_at_the_deadline() -> None:
    async def write() -> None:
        await asyncio.Event().wait()

    task = beside(finish_anyway(write(), deadline_s=0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("within_s", [0.0, 20.0])
async def test_an_answer_is_waited_for_after_a_cancel_for_as_long_as_is_said_then(within_s: float) -> None:
    go, ended = asyncio.Event(), list[str]()

    async def ask() -> None:
        try:
            await go.wait()
            ended.append("answered")
        except asyncio.CancelledError:
            ended.append("given up")
            raise

    task = beside(finish_if_soon(ask(), within_s=lambda: within_s))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    if within_s:
        go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["answered" if within_s else "given up"]


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


class Fragile:
    """Work that shall never end, and ends as a test says."""

    def __init__(self) -> None:
        self.starts = 0
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Run until it breaks."""
        self.starts += 1
        self.end = asyncio.get_running_loop().create_future()
        await self.end


async def broken(work: Fragile, error: BaseException | None, clock: ManualClock) -> None:
    """Let it break, and wait until it is to be started again."""
    if error is None:
        work.end.set_result(None)
    elif isinstance(error, asyncio.CancelledError):
        work.end.cancel()
    else:
        work.end.set_exception(error)
    await until(lambda: clock.sleepers == 1)


ENDS = [
    ValueError("ours"),
    StorageUnavailable("theirs"),
    ExceptionGroup("", [OSError()]),
    asyncio.CancelledError(),
]


@pytest.mark.parametrize("error", [*ENDS, None], ids=repr)
async def test_what_shall_never_end_is_started_again_however_it_ended(error: BaseException | None) -> None:
    background, clock, work = Background(), ManualClock(), Fragile()
    with capture_logs() as logs:
        background.keep_running("signals", work.run, clock=clock, chance=lambda: 1.0)
        await until(lambda: work.starts == 1)
        await broken(work, error, clock)
        clock.advance(0.5)
        await asyncio.sleep(0)
        assert work.starts == 1
        clock.advance(0.5)
        await until(lambda: work.starts == 2)
    assert {
        "event": "background.restarts",
        "task": "signals",
        "failures": 1,
        "in_s": 1.0,
        "log_level": "warning",
    } in logs
    await background.stop(grace_s=0)


async def test_what_keeps_dying_is_told_until_it_has_run_for_a_while() -> None:
    with capture_logs():  # showing a traceback would take longer than all the rest
        await _dies_and_recovers()


async def _dies_and_recovers() -> None:
    background, clock, work = Background(), ManualClock(), Fragile()
    task = background.keep_running("signals", work.run, clock=clock, chance=lambda: 1.0)
    for failures in (1, 2, 3):
        await until(lambda: work.starts == failures)  # noqa: B023 - awaited at once
        assert background.dying() == []
        await broken(work, ValueError("ours"), clock)
        clock.advance(30)
    assert background.dying() == ["signals"]
    await until(lambda: work.starts == 4)
    assert background.dying() == ["signals"]
    clock.advance(STEADY_S)
    assert background.dying() == []
    await broken(work, ValueError("ours"), clock)  # the first one again
    clock.advance(1.0)
    await until(lambda: work.starts == 5)
    assert background.dying() == []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert background.dying() == []
