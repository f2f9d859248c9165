"""What every `EventStore` does, as a suite to inherit from; see `unit_of_work_contract`."""

import asyncio
import time
from functools import partial
from typing import Any

import pytest

from haulier.core.errors import RequestError
from haulier.core.event import EVERYTHING, START, Event, EventKind, Interest, Position, Told, event_of
from haulier.core.values import replace
from haulier.testing.rows import T0, Database, record

DEADLINE_S = 30.0


class Refusal(RequestError):
    """Raised by a test's work."""


def event(name: str, *, at: float = T0, **fields: Any) -> Event:
    """Return what is told of a new record of that name."""
    return event_of(EventKind.CREATED, record(name, **fields), now=at)


async def append(database: Database, *events: Event) -> None:
    """Write events in one transaction."""
    await database.write(lambda tx: tx.events.append(*events))


async def events_after(
    database: Database, position: Position = START, *, limit: int = 100, interest: Interest = EVERYTHING
) -> list[Told]:
    """Return what a reader finds once no older transaction runs; of a server's other databases one may."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found, settled = await database.read(
            lambda tx: tx.events.after(position, limit=limit, interest=interest)
        )
        if settled:
            return list(found)
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def names(database: Database) -> list[str]:
    """Return whose events are kept."""
    return [told.event.record for told in await events_after(database)]


class EventRowsContract:
    """The outbox."""

    async def test_an_event_is_read_as_it_was_written(self, database: Database) -> None:
        """Every field comes back as it was."""
        one = event("a", filename="Größe 😀.txt", path="x/ÿ", capsule="other", owner="user:ann")
        two = replace(event("b", at=T0 + 1), kind=EventKind.FAILED, facts={"": [None, {"x": 1}]})
        await append(database, one, two)
        assert [told.event for told in await events_after(database)] == [one, two]

    async def test_a_reader_goes_on_behind_its_place(self, database: Database) -> None:
        """Whatever its batches, it sees every event once, in order."""
        for number in range(5):
            await append(database, event(f"{number}a"), event(f"{number}b"))
        seen: list[str] = []
        position = START
        while batch := await events_after(database, position, limit=3):
            seen += [told.event.record for told in batch]
            assert position < batch[0].position
            position = batch[-1].position
        assert seen == [f"{number}{letter}" for number in range(5) for letter in "ab"]

    async def test_of_what_interests_nobody_a_reader_is_brought_the_last_one(
        self, database: Database
    ) -> None:
        """So it moves on, and reads nothing twice; what does interest it is never left out."""
        kinds = (EventKind.CREATED, EventKind.COMPLETED, EventKind.DELETED)
        told = [replace(event(f"{n}"), kind=kinds[n % 3]) for n in range(9)]
        await append(database, *told)
        for interest, seen in (
            (Interest(frozenset({EventKind.COMPLETED})), ["1", "4", "7", "8"]),
            (Interest(frozenset({EventKind.COMPLETED, EventKind.DELETED})), ["1", "2", "4", "5", "7", "8"]),
            (Interest(frozenset({EventKind.ERASED})), ["8"]),
            (Interest(frozenset()), ["8"]),
        ):
            found = await events_after(database, interest=interest)
            assert [one.event.record for one in found] == seen
            assert found[-1].event == told[-1]
            assert await events_after(database, found[-1].position, interest=interest) == []
            first = await events_after(database, interest=interest, limit=1)
            rest = await events_after(database, first[-1].position, interest=interest)
            assert first + rest == found

    async def test_a_reader_may_be_interested_in_a_fact(self, database: Database) -> None:
        """Which an event has as one, not as a part of another."""
        one, two, three = (event(name, filename='"wanted":') for name in "abc")
        with_fact = replace(two, facts={**two.facts, "wanted": None})
        await append(database, one, with_fact, three, one)
        interest = Interest(frozenset({EventKind.CREATED}), "wanted")
        found = await events_after(database, interest=interest)
        assert [told.event for told in found] == [with_fact, one]
        assert [interest.covers(told.event) for told in found] == [True, False]
        kind = Interest(frozenset({EventKind.ERASED}), "wanted")
        assert [told.event for told in await events_after(database, interest=kind)] == [one]

    async def test_events_of_one_transaction_are_read_in_the_order_in_which_they_were_written(
        self, database: Database
    ) -> None:
        """One by one, and many at once."""
        written = [f"{number:03}" for number in range(101)]

        async def work(tx: Any) -> None:
            await tx.events.append(event(written[0]))
            await tx.events.append(*map(event, written[1:]))

        await database.write(work)
        assert [told.event.record for told in await events_after(database, limit=200)] == written

    async def test_only_committed_events_are_read(self, database: Database) -> None:
        """What rolls back tells nothing."""

        async def work(tx: Any) -> None:
            await tx.events.append(event("a"))
            assert tx.events.written
            raise Refusal

        with pytest.raises(Refusal):
            await database.write(work)
        await append(database, event("b"))
        assert await names(database) == ["b"]

    async def test_a_transaction_knows_whether_it_has_events(self, database: Database) -> None:
        """One that only looks has none."""

        async def look(tx: Any) -> bool:
            await tx.events.kept()
            return bool(tx.events.written)

        assert not await database.write(look)

    async def test_the_last_settled_place_has_everything_new_behind_it(self, database: Database) -> None:
        """Also when there is nothing yet."""
        assert await database.read(lambda tx: tx.events.last_settled()) == START
        await append(database, event("a"))
        await events_after(database)  # no older transaction runs any more
        place = await database.read(lambda tx: tx.events.last_settled())
        assert await events_after(database, place) == []
        await append(database, event("b"))
        assert [told.event.record for told in await events_after(database, place)] == ["b"]

    async def test_the_kept_range_is_from_the_first_to_the_last(self, database: Database) -> None:
        """None when there are no events."""
        assert await database.read(lambda tx: tx.events.kept()) is None
        await append(database, event("a"), event("b"), event("c"))
        places = [told.position for told in await events_after(database)]
        assert await database.read(lambda tx: tx.events.kept()) == (places[0], places[2])

    async def test_old_events_are_pruned_but_the_last_of_them(self, database: Database) -> None:
        """Who had seen that one can go on; what is younger stays."""
        assert await self._prune(database, before=T0 + 9) == 0
        await append(database, *(event(str(n), at=T0 + n) for n in range(6)))
        assert await self._prune(database, before=T0 + 4) == 3
        assert await names(database) == ["3", "4", "5"]
        assert await self._prune(database, before=T0 + 4) == 0
        assert await self._prune(database, before=T0 + 99) == 2
        assert await names(database) == ["5"]

    async def test_pruning_stops_at_its_limit(self, database: Database) -> None:
        """The oldest go first."""
        await append(database, *(event(str(n), at=T0) for n in range(5)))
        assert await self._prune(database, before=T0 + 1, limit=3) == 3
        assert await names(database) == ["3", "4"]

    async def test_an_old_event_behind_a_young_one_stays(self, database: Database) -> None:
        """A clock that was set back must leave no hole."""
        await append(database, *(event(str(n), at=T0 + at) for n, at in enumerate((0, 1, 9, 2, 3))))
        assert await self._prune(database, before=T0 + 5) == 1
        assert await names(database) == ["1", "2", "3", "4"]

    async def test_no_place_is_given_twice(self, database: Database) -> None:
        """Even when all but one are gone."""
        await append(database, event("a"), event("b"))
        (_, last) = [told.position for told in await events_after(database)]
        await self._prune(database, before=T0 + 1)
        await append(database, event("c"))
        assert [told.event.record for told in await events_after(database, last)] == ["c"]

    @staticmethod
    async def _prune(database: Database, *, before: float, limit: int = 100) -> int:
        return await database.write(partial(_prune, before, limit))


async def _prune(before: float, limit: int, tx: Any) -> int:
    return int(await tx.events.prune(before=before, limit=limit))
