"""What `haulier push` does for each of many files."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from haulier.adapters.memory.journal import MemoryJournal, MemoryJournalRows
from haulier.cli.journal import Obstacles
from haulier.cli.outcome import DONE, UNREACHABLE
from haulier.cli.push import MAX_BARS, _Drawing, _Push
from haulier.core.outgoing import IfExists
from haulier.core.transfer import Outcome, Priority, TransferId
from haulier.core.values import replace
from haulier.engine.send import Role
from tests.support.sending import Sending, settle

T = TypeVar("T")


class CountedId(str):
    """An id that counts how often it is compared."""

    compared: ClassVar[int] = 0
    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        CountedId.compared += 1
        return str.__eq__(self, other)


class CountingJournal(MemoryJournal):
    """Counts transactions."""

    transactions = 0

    async def read(self, work: Callable[[MemoryJournalRows], T]) -> T:
        self.transactions += 1
        return await super().read(work)

    async def write(self, work: Callable[[MemoryJournalRows], T], *, durable: bool = True) -> T:
        self.transactions += 1
        return await super().write(work, durable=durable)


async def steps_of(count: int) -> tuple[float, float]:
    """Push so many files; return comparisons of ids and transactions, for one of them."""
    world = Sending()
    journal = CountingJournal(world.journal)
    CountedId.compared = 0
    async with world.manager(journal=journal) as manager:
        pushing = _Push(manager, Obstacles(manager), as_json=True, timeout_s=None)
        queued: list[TransferId | None] = []
        for number in range(count):
            file = Path(world.file(f"file-{number}", b"1"))
            made = await pushing.queue(file, "any:to/", Priority.NORMAL, IfExists.REPLACE, None)
            assert made is not None
            queued.append(TransferId(CountedId(made)))
        assert await pushing.wait_all(queued) == DONE
    assert len(world.remote.files) == count
    return CountedId.compared / count, journal.transactions / count


async def test_a_file_costs_the_same_among_many_as_among_few() -> None:
    few, many = await steps_of(20), await steps_of(160)
    assert many[0] <= few[0] + 4, "the ids of all are looked through for each"
    assert many[1] <= few[1] + 2


async def test_whose_time_is_over_waits_for_no_end_of_what_runs() -> None:
    world = Sending()
    gate = world.remote.gate("commit")
    async with world.manager() as manager:
        pushing = _Push(manager, Obstacles(manager), as_json=True, timeout_s=0.0)
        made = await pushing.queue(
            Path(world.file("a", b"1")), "any:to/", Priority.NORMAL, IfExists.REPLACE, None
        )
        await gate.wait_reached()
        assert await pushing.wait_all([made]) == UNREACHABLE
        assert not manager.runs
    gate.open()
    async with world.manager() as manager:
        assert made is not None
        assert (await manager.wait(made)).transfer.outcome is Outcome.SUCCEEDED
    assert world.remote.files == {"to/a": [b"1"]}


class FakeBars:
    """Counts bars instead of drawing them."""

    drawn = True

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.total = 0

    def grow(self, size: int) -> None:
        self.total += size

    def file(self, name: str) -> Any:
        self.begun.append(name)
        return self

    def __enter__(self) -> Callable[[object], None]:
        return lambda _: None

    def __exit__(self, *_: object) -> None:
        return None


async def test_thousands_that_wait_do_not_get_a_bar_each() -> None:
    world, bars = Sending(), FakeBars()
    async with world.manager(role=Role.NEVER) as manager:
        drawing = _Drawing(bars)  # type: ignore[arg-type]  # a terminal's
        for number in range(2 * MAX_BARS):
            queued = await manager.queue(world.file(f"file-{number}", b"1"), f"any:{number}")
            row = await manager._require(queued)
            drawing.changed(replace(row, transfer=row.transfer.request()))
    assert len(bars.begun) == MAX_BARS


async def test_what_has_begun_before_all_is_queued_has_its_bar() -> None:
    world, bars = Sending(), FakeBars()
    gate = world.remote.gate("create")
    async with world.running() as manager:
        pushing = _Push(manager, Obstacles(manager), as_json=True, timeout_s=None)
        async with pushing.shown(bars):  # type: ignore[arg-type]  # a terminal's
            first = await queue_one(pushing, world.file("a", b"1"))
            await gate.wait_reached()
            await settle()
            second = await queue_one(pushing, world.file("b", b"22"))
            gate.open()
            assert await pushing.wait_all([first, second]) == DONE
    assert bars.begun == ["to/a", "to/b"]
    assert bars.total == 3


async def test_what_runs_for_somebody_else_already_has_its_bar() -> None:
    world, bars = Sending(), FakeBars()
    gate = world.remote.gate("create")
    async with world.running() as manager, world.running(role=Role.NEVER) as observer:
        path = world.file("a", b"1")
        joined = await manager.queue(path, "any:to/")
        await gate.wait_reached()
        pushing = _Push(observer, Obstacles(observer), as_json=True, timeout_s=None)
        async with pushing.shown(bars):  # type: ignore[arg-type]  # a terminal's
            assert await queue_one(pushing, path) == joined
            assert bars.begun == ["to/a"]
        gate.open()
        await manager.wait(joined)


async def test_a_file_that_is_given_twice_counts_once() -> None:
    world, bars = Sending(), FakeBars()
    gate = world.remote.gate("create")
    async with world.running() as manager:
        pushing = _Push(manager, Obstacles(manager), as_json=True, timeout_s=None)
        async with pushing.shown(bars):  # type: ignore[arg-type]  # a terminal's
            first = await queue_one(pushing, world.file("a", b"123"))
            second = await queue_one(pushing, "/a")
            assert first == second
            gate.open()
            assert await pushing.wait_all([first, second]) == DONE
    assert (bars.begun, bars.total) == (["to/a"], 3)


async def queue_one(pushing: _Push, path: str) -> TransferId | None:
    return await pushing.queue(Path(path), "any:to/", Priority.NORMAL, IfExists.REPLACE, None)


async def test_whose_output_nobody_reads_any_more_waits_for_none_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("haulier.cli.push.print_row", fail)
    world = Sending()
    async with world.running() as manager:
        pushing = _Push(manager, Obstacles(manager), as_json=True, timeout_s=None)
        ended = await queue_one(pushing, world.file("a", b"1"))
        assert ended is not None
        await manager.wait(ended)
        gate = world.remote.gate("create")
        running = await queue_one(pushing, world.file("b", b"1"))
        before = asyncio.all_tasks()
        with pytest.raises(BrokenPipeError):
            await pushing.wait_all([running, ended])
        assert not [task for task in asyncio.all_tasks() - before if "_wait" in repr(task.get_coro())]
        gate.open()


async def test_an_error_of_what_draws_ends_the_push_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise BrokenPipeError

    world, bars = Sending(), FakeBars()
    monkeypatch.setattr(bars, "file", fail)
    gate = world.remote.gate("create")
    async with world.running() as manager:
        pushing = _Push(manager, Obstacles(manager), as_json=True, timeout_s=None)
        with pytest.raises(BrokenPipeError):
            async with pushing.shown(bars):  # type: ignore[arg-type]  # a terminal's
                await pushing.wait_all([await queue_one(pushing, world.file("a", b"1"))])
        gate.open()
