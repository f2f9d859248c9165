"""Tasks of a node: they end with it, and what they were given is let go of."""

import asyncio

import pytest

from haulier.soulseek.tasks import Tasks


def unheard(*_: object, **__: object) -> None:
    raise AssertionError("no task fails here")


@pytest.mark.parametrize("steps", range(3))
async def test_each_task_cleans_up_however_early_the_node_ends(steps: int) -> None:
    begun: list[str] = []
    let_go: list[str] = []
    tasks = Tasks(unheard)

    async def hold(name: str, *others: str) -> None:
        begun.append(name)
        try:
            if others:
                tasks(hold(*others))
            await asyncio.Event().wait()
        finally:
            let_go.append(name)

    tasks(hold("first", "second", "third"))
    for _ in range(steps):
        await asyncio.sleep(0)
    await tasks.stop()
    assert len(tasks) == 0
    assert begun == ["first", "second", "third"]
    assert sorted(let_go) == sorted(begun)


async def test_a_task_that_begins_another_while_it_ends_has_that_ended_too() -> None:
    let_go: list[str] = []
    tasks = Tasks(unheard)

    async def last() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            let_go.append("last")

    async def first() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tasks(last())

    tasks(first())
    await tasks.stop()
    assert (len(tasks), let_go) == (0, ["last"])
