"""What is written about records, and how it reaches whoever follows."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from haulier.core.caller import LOCAL, Caller, Scope
from haulier.core.errors import AccessDenied, CapsuleNotFound, QuotaExceeded, StorageError, StorageUnavailable
from haulier.core.event import START, EventKind, Position
from haulier.core.record import AssetKind, RecordId
from haulier.core.session import SessionId
from haulier.core.upload import UploadDetails
from haulier.engine import outbox
from haulier.engine.attention import AllEars
from haulier.engine.outbox import FeedQuery, Step
from haulier.testing import MemoryDatabase
from haulier.testing.event_rows_contract import append, event, events_after
from haulier.testing.rows import T0
from tests.support.bodies import FakeBody
from tests.support.engine import ME, Engine, beside, engine, until

ALL = FeedQuery()
ANN = Caller(owner="user:ann")


async def told(one: Engine) -> list[tuple[str, str]]:
    """Return what the outbox says, in order: kind and status."""
    events = [told.event for told in await events_after(one.database)]
    return [(each.kind.value.removeprefix("record."), str(each.facts["status"])) for each in events]


async def stored(one: Engine, **request: Any) -> RecordId:
    """Bring five bytes over."""
    upload = await one.begin(5, **request)
    await one.uploads.put_chunk(upload.id, 0, FakeBody(b"12345"), caller=ME)
    upload = (await one.uploads.finish(upload.id, caller=ME)).upload
    assert upload.details.record is not None
    return RecordId(upload.details.record)


async def names(steps: AsyncGenerator[Step, None]) -> list[str]:
    """Return whose events come until there are no more."""
    return [step.event.record async for step in steps if step.event is not None]


class TestWritten:
    async def test_a_record_tells_its_whole_life(self) -> None:
        async with engine() as one:
            record = await stored(one)
            await one.records.delete(record, caller=ME)
            await one.records.delete(record, caller=ME)
            await one.records.restore(record, caller=ME)
            await one.records.delete(record, caller=ME, at_once=True)
            assert await told(one) == [
                ("created", "uploading"),
                ("completed", "completed"),
                ("deleted", "completed"),
                ("restored", "completed"),
                ("deleted", "completed"),
                ("erased", "completed"),
            ]

    async def test_another_asset_is_an_update(self) -> None:
        async with engine() as one:
            record = await stored(one)
            await stored(one, record=record, asset=AssetKind.THUMBNAIL)
            last = (await events_after(one.database))[-1].event
            assert (last.kind, last.facts["assets"]) == (EventKind.UPDATED, ["original", "thumbnail"])

    async def test_an_upload_without_result_tells_how_it_ended(self) -> None:
        async with engine() as one:
            await one.uploads.abort((await one.begin(5)).id, caller=ME)
            await one.begin(5)
            one.clock.advance(1e6)
            await one.uploads.expire()
            assert await told(one) == [
                ("created", "uploading"),
                ("cancelled", "cancelled"),
                ("created", "uploading"),
                ("expired", "expired"),
            ]

    async def test_a_begin_without_room_is_taken_back_in_words_too(self) -> None:
        async with engine() as one:

            async def fail() -> None:
                raise StorageUnavailable("no")

            one.before_sink("prepare", fail)
            with pytest.raises(StorageError):
                await one.begin(5)
            assert await told(one) == [("created", "uploading"), ("erased", "uploading")]

    async def test_a_detached_asset_tells_nothing(self) -> None:
        async with engine() as one:
            upload = await one.begin(0, lanes=True)
            await one.uploads.finish(upload.id, caller=ME)
            assert await told(one) == []

    async def test_about_a_record_that_is_not_there_nothing_is_told(self) -> None:
        async with engine() as one:
            await one.database.write(lambda tx: outbox.tell(tx, EventKind.DELETED, RecordId("none"), now=T0))
            assert await told(one) == []

    async def test_old_events_are_pruned_by_the_janitor(self) -> None:
        async with engine() as one:
            await append(one.database, event("a", at=one.clock.now()), event("b", at=one.clock.now()))
            one.clock.advance(6 * 24 * 3600.0)
            await one.janitor.sweep()
            assert [row.event.record for row in await events_after(one.database)] == ["a", "b"]
            one.clock.advance(2 * 24 * 3600.0)
            await one.janitor.sweep()
            assert [row.event.record for row in await events_after(one.database)] == ["b"]
            assert ("events", 1) in one.swept


class TestFollowed:
    async def test_a_reader_first_hears_where_it_stands_and_then_what_happens(self) -> None:
        async with engine() as one, aclosing(one.feed.follow(ALL, caller=ME)) as steps:
            assert await anext(steps) == Step(START)
            assert await anext(steps) == Step(START)
            reading = beside(anext(steps))
            await until(lambda: not reading.done())
            record = await stored(one)
            first = await reading
            assert first.event is not None
            assert (first.event.record, first.event.kind) == (record, EventKind.CREATED)

    async def test_who_comes_back_goes_on_behind_its_place(self) -> None:
        async with engine() as one:
            await append(one.database, event("a"), event("b"), event("c"))
            steps = one.feed.follow(ALL, caller=ME, after=Position(0, 1), wait=False)
            assert await names(steps) == ["b", "c"]

    async def test_many_events_come_in_batches(self) -> None:
        async with engine() as one:
            await append(one.database, *(event(str(n)) for n in range(250)))
            steps = one.feed.follow(ALL, caller=ME, after=START, wait=False)
            assert await names(steps) == [str(n) for n in range(250)]

    async def test_who_was_away_for_too_long_is_told_and_goes_on_from_now(self) -> None:
        async with engine() as one:
            await append(one.database, *(event(str(n)) for n in range(4)))
            await one.database.write(lambda tx: tx.events.prune(before=T0 + 1, limit=9))
            steps = one.feed.follow(ALL, caller=ME, after=Position(0, 1), wait=False)
            assert await anext(steps) == Step(Position(0, 4), missed=True)
            assert await names(steps) == []

    async def test_a_neighbour_hears_by_a_word(self) -> None:
        async with engine() as one:
            other = one.neighbour()
            async with aclosing(other.feed.follow(ALL, caller=ME)) as steps:
                await anext(steps)
                await anext(steps)
                reading = beside(anext(steps))
                await asyncio.sleep(0)
                await one.begin(5)
                assert (await reading).event is not None
            await other.background.stop(grace_s=0)

    async def test_words_about_other_things_wake_nobody(self) -> None:
        async with engine() as one, aclosing(one.feed.follow(ALL, caller=ME)) as steps:
            await anext(steps)
            await anext(steps)
            reading = beside(anext(steps))
            await asyncio.sleep(0)
            await append(one.database, event("a"))
            await one.feed.hear([SessionId("x")])
            await asyncio.sleep(0)
            assert not reading.done()
            await one.feed.hear(None)
            assert (await reading).event is not None

    async def test_only_what_the_caller_may_read_is_told(self) -> None:
        async with engine() as one:
            await append(one.database, event("a", owner="user:ann"), event("b", owner="user:bob"), event("c"))

            async def seen(caller: Caller, query: FeedQuery = ALL) -> list[str]:
                return await names(one.feed.follow(query, caller=caller, after=START, wait=False))

            assert await seen(ANN) == ["a"]
            assert await seen(LOCAL) == ["a", "b", "c"]
            assert await seen(LOCAL, FeedQuery(owner="local")) == ["c"]
            assert await seen(LOCAL, FeedQuery(capsule="default")) == ["a", "b", "c"]

    async def test_events_of_a_capsule_that_a_credential_is_not_for_are_left_out(self) -> None:
        database: MemoryDatabase[UploadDetails] = MemoryDatabase(capsules={"default": None, "other": None})
        async with engine(database=database) as one:
            await append(one.database, event("a", capsule="other"), event("b"), event("c"))
            caller = Caller(owner="local", scope=Scope.OPERATOR, capsule="default")
            steps = one.feed.follow(ALL, caller=caller, after=START, wait=False)
            assert await names(steps) == ["b", "c"]
            steps = one.feed.follow(FeedQuery(capsule="other"), caller=LOCAL, after=START, wait=False)
            assert await names(steps) == ["a"]

    async def test_refusals_come_before_the_first_step(self) -> None:
        async with engine() as one:
            with pytest.raises(CapsuleNotFound):
                await anext(one.feed.follow(FeedQuery(capsule="none"), caller=ME))
            for_one = Caller(owner="local", upload=SessionId("x"))
            with pytest.raises(AccessDenied):
                await anext(one.feed.follow(ALL, caller=for_one))

    async def test_no_more_readers_than_there_is_room_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outbox, "MAX_READERS", 1)
        async with engine() as one, aclosing(one.feed.follow(ALL, caller=ME)) as steps:
            await anext(steps)
            with pytest.raises(QuotaExceeded, match="1 event streams"):
                await anext(one.feed.follow(ALL, caller=ME))

    @pytest.mark.parametrize("waiting", [True, False])
    async def test_a_stop_ends_every_stream(self, waiting: bool) -> None:
        async with engine() as one, aclosing(one.feed.follow(ALL, caller=ME)) as steps:
            await anext(steps)
            await anext(steps)
            reading = beside(anext(steps, None))
            if waiting:
                await asyncio.sleep(0)
            one.feed.stop()
            assert await reading is None

    async def test_what_may_still_get_an_event_before_it_is_looked_for_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox, "UNSETTLED_S", 0.0)
        async with engine() as one:
            looks = 0
            real = one.database.read

            async def read(work: Any) -> Any:
                async def unsettled(tx: Any) -> Any:
                    nonlocal looks
                    looks += 1
                    after = tx.events.after

                    async def nothing_yet(position: Position, *, limit: int) -> Any:
                        return await after(position, limit=limit) if looks > 3 else ([], False)

                    tx.events.after = nothing_yet
                    return await work(tx)

                return await real(unsettled)

            await append(one.database, event("a"))
            one.database.read = read  # type: ignore[method-assign]
            async with aclosing(one.feed.follow(ALL, caller=ME, after=START)) as steps:
                async for step in steps:
                    if step.event is not None:
                        break
            assert looks == 4


class TestTold:
    async def test_only_transactions_with_events_wake_readers(self) -> None:
        async with engine() as one:
            woken: list[int] = []
            work = outbox.TellingWork(one.database, lambda: woken.append(1))
            await work.write(lambda tx: tx.capsules.reserve("default", 1))
            assert await work.read(lambda tx: tx.events.kept()) is None
            assert woken == []
            await append(work, event("a"))
            assert woken == [1]

    async def test_a_lost_answer_wakes_readers_too(self) -> None:
        async with engine() as one:
            woken: list[int] = []
            one.database.lose_next_answer()
            with pytest.raises(StorageUnavailable):
                await append(outbox.TellingWork(one.database, lambda: woken.append(1)), event("a"))
            assert woken == [1]

    async def test_two_pairs_of_ears_hear_the_same(self) -> None:
        async with engine() as one, engine() as other:
            both = AllEars(one.feed, other.feed)
            waiting = beside(both.wanted())
            await asyncio.sleep(0)
            assert not waiting.done()
            async with aclosing(other.feed.follow(ALL, caller=ME)) as steps:
                await anext(steps)
                await waiting
                await both.hear([outbox.WORD])
