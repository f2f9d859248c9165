"""A test that waits forever fails, and says where it waits."""

import asyncio

import pytest

from tests.support.patience import bounded


async def _wait_for_nothing() -> None:
    await asyncio.Event().wait()


async def test_a_test_that_ends_is_left_alone() -> None:
    given: list[str] = []

    async def test(name: str) -> None:
        given.append(name)

    await bounded(test)(name="a")
    assert given == ["a"]


async def test_a_test_that_never_ends_fails_and_every_place_of_waiting_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def test() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_wait_for_nothing(), name="another task")
            await _wait_for_nothing()

    with pytest.raises(TimeoutError):
        await bounded(test, patience_s=0.01)()
    told = capsys.readouterr().err
    assert "another task" in told
    assert told.count("_wait_for_nothing") == 2


async def test_every_async_test_is_bounded(request: pytest.FixtureRequest) -> None:
    assert request.node.obj.__wrapped__.__name__ == request.node.obj.__name__
    assert request.node.obj is not request.node.obj.__wrapped__
