"""What `haulier push` does for each of many files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from haulier.adapters.memory.journal import MemoryJournal, MemoryJournalRows
from haulier.cli.display import Bars
from haulier.cli.journal import Obstacles
from haulier.cli.outcome import DONE, UNREACHABLE
from haulier.cli.push import MAX_BARS, _Drawing, _Push
from haulier.core.outgoing import IfExists
from haulier.core.transfer import Outcome, Priority, TransferId
from haulier.core.values import replace
from haulier.engine.send import Role
from tests.support.sending import Sending

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
        assert await pushing.wait_all(queued, Bars(0)) == DONE
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
        assert await pushing.wait_all([made], Bars(0)) == UNREACHABLE
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
