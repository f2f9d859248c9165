"""Beginning, reading and waiting; ends that everybody can read."""

import asyncio
from typing import Any

import pytest

from haulier.core.capsule import NO_POLICY, CapsulePolicy
from haulier.core.errors import (
    ChunksMissing,
    IdempotencyKeyReused,
    InvalidRequest,
    QuotaExceeded,
    ServiceStopping,
    StorageFull,
    StorageUnavailable,
    UploadGone,
    UploadNotFound,
    WaitTimeout,
)
from haulier.core.session import SessionId, SessionStatus
from haulier.core.upload import BeginUpload
from haulier.engine.context import SessionLimits
from haulier.engine.planning import UploadLimits
from haulier.ports import KeyTaken, RecordQuery
from tests.support.bodies import FakeBody
from tests.support.engine import CHUNK, ME, Engine, beside, engine, until

NOBODY = SessionId("nobody")


async def put_and_finish(one: Engine, upload_id: SessionId, data: bytes) -> None:
    await one.uploads.put_chunk(upload_id, 0, FakeBody(data), caller=ME)
    await one.uploads.finish(upload_id, caller=ME)


async def test_the_same_key_and_request_return_the_same_upload_and_token() -> None:
    async with engine() as one:
        request = BeginUpload(filename="a.bin", size=5, key="k")
        first = await one.uploads.begin(request, caller=ME)
        again = await one.uploads.begin(request, caller=ME)
        assert (first.created, again.created) == (True, False)
        assert (again.upload.id, again.token) == (first.upload.id, first.token)
        await put_and_finish(one, first.upload.id, b"12345")
        after = await one.uploads.begin(request, caller=ME)
        assert after.upload.id == first.upload.id
        assert after.upload.status is SessionStatus.COMMITTED


async def test_a_key_with_another_request_is_refused() -> None:
    async with engine() as one:
        await one.begin(5, key="k")
        with pytest.raises(IdempotencyKeyReused):
            await one.begin(6, key="k")


async def test_a_key_of_an_ended_upload_may_be_used_anew() -> None:
    async with engine() as one:
        first = await one.begin(5, key="k")
        await one.uploads.abort(first.id, caller=ME)
        second = await one.begin(6, key="k")
        assert second.id != first.id


async def test_begins_with_one_key_at_once_make_one_upload() -> None:
    async with engine() as one:
        found = await asyncio.gather(*(one.begin(5, key="k") for _ in range(20)))
        assert len({upload.id for upload in found}) == 1
        assert len(await one.uploads.probe()) == 1


async def test_a_begin_that_waited_for_one_that_failed_makes_an_upload_of_its_own() -> None:
    async with engine() as one:
        one.sink.fail_next("prepare", StorageUnavailable("no"))
        failed, made = await asyncio.gather(
            *(one.begin(5, key="k") for _ in range(2)), return_exceptions=True
        )
        assert isinstance(failed, StorageUnavailable)
        assert not isinstance(made, BaseException)
        assert [upload.id for upload in await one.uploads.probe()] == [made.id]


async def test_a_begin_that_was_faster_by_a_moment_is_found() -> None:
    async with engine() as one:
        first = await one.begin(5, key="k")
        one.database.fail_next(KeyTaken())
        one.database.fail_next(KeyTaken())
        # The look at the capsule is a read of its own and must not meet the planned failures.
        one.uploads._gate.enter = _let_in  # type: ignore[assignment, method-assign]
        assert (await one.begin(5, key="k")).id == first.id


async def _let_in(*_: object) -> CapsulePolicy:
    return NO_POLICY


async def test_a_part_that_a_crash_left_unmade_is_made_by_the_repeated_begin() -> None:
    async with engine() as one:
        upload = await one.begin(2 * CHUNK, key="k")
        await one.sink.discard(upload.id)
        await one.begin(2 * CHUNK, key="k")
        await one.uploads.put_chunk(upload.id, 1, FakeBody(b"b" * CHUNK), caller=ME)
        await one.uploads.put_chunk(upload.id, 0, FakeBody(b"a" * CHUNK), caller=ME)
        done = (await one.uploads.finish(upload.id, caller=ME)).upload
        assert await one.content(done) == b"a" * CHUNK + b"b" * CHUNK


async def test_a_part_that_was_lost_with_accepted_bytes_does_not_come_back_as_zeros() -> None:
    async with engine() as one:
        upload = await one.begin(2 * CHUNK, key="k")
        await one.uploads.put_chunk(upload.id, 0, FakeBody(b"a" * CHUNK), caller=ME)
        await one.sink.discard(upload.id)
        await one.begin(2 * CHUNK, key="k")
        await one.uploads.put_chunk(upload.id, 1, FakeBody(b"b" * CHUNK), caller=ME)
        with pytest.raises(ChunksMissing) as raised:
            await one.uploads.finish(upload.id, caller=ME)
        assert raised.value.missing == ((0, CHUNK),)


async def test_a_key_finds_its_upload_when_there_is_no_room_for_another() -> None:
    async with engine() as one:
        upload = await one.begin(5, key="k")
        one.sink.fail_next("check", StorageFull(5))
        assert (await one.begin(5, key="k")).id == upload.id
        for key in ("another", None):
            one.sink.fail_next("check", StorageFull(5))
            with pytest.raises(StorageFull):
                await one.begin(5, key=key)


async def test_what_ended_elsewhere_with_a_lost_word_is_forgotten() -> None:
    async with engine() as one:
        context = one.uploads._sessions._context
        ended, live = await one.begin(5), await one.begin(5)
        deaf = Engine(database=one.database, disk=one.disk, clock=one.clock, seed=1)
        await deaf.uploads.abort(ended.id, caller=ME)
        assert context.remembered() == {ended.id, live.id}
        await one.uploads.redo()
        assert context.remembered() == {live.id}


async def test_a_begin_that_does_not_fit_leaves_nothing() -> None:
    async with engine() as one:
        one.disk.capacity = 100
        with pytest.raises(StorageFull):
            await one.begin(101)
        one.sink.fail_next("prepare", StorageFull(50, 10))
        with pytest.raises(StorageFull):
            await one.begin(50)
        one.sink.fail_next("prepare", StorageFull(50, 10))
        with pytest.raises(StorageFull):
            await one.begin(50, lanes=True)
        assert list(await one.uploads.probe()) == []
        assert await one.database.read(lambda tx: tx.capsules.exists("default"))
        page = await one.records.list(RecordQuery(), caller=ME)
        assert list(page.items) == []


async def test_an_owner_has_so_many_live_uploads_and_no_more() -> None:
    async with engine(limits=UploadLimits(sessions=SessionLimits(max_live=2))) as one:
        first = await one.begin(5)
        await one.begin(5)
        with pytest.raises(QuotaExceeded):
            await one.begin(5)
        await one.uploads.abort(first.id, caller=ME)
        await one.begin(5)


async def test_pending_and_active_are_the_live_ones() -> None:
    async with engine() as one:
        upload = await one.begin(5, key="k")
        await one.begin(5)
        pending = await one.uploads.find_pending("default", "k", caller=ME)
        assert pending is not None
        assert pending.id == upload.id
        assert await one.uploads.count_active_for("default", caller=ME) == 2
        assert await one.uploads.count_active_for(None, caller=ME) == 2
        await put_and_finish(one, upload.id, b"12345")
        assert await one.uploads.find_pending("default", "k", caller=ME) is None
        assert await one.uploads.find_pending("default", "other", caller=ME) is None
        assert await one.uploads.count_active_for("default", caller=ME) == 1


async def test_waits_before_and_after_the_end_give_the_same_result() -> None:
    async with engine() as one:
        upload = await one.begin(5)
        waits = [beside(one.uploads.wait(upload.id, caller=ME, timeout_s=60)) for _ in range(5)]
        await until(lambda: len(one.uploads._sessions._context.changes._watchers.get(upload.id, ())) == 5)
        await put_and_finish(one, upload.id, b"12345")
        results = [await wait for wait in waits]
        results.append(await one.uploads.wait(upload.id, caller=ME, timeout_s=0))
        assert {result.upload.status for result in results} == {SessionStatus.COMMITTED}
        assert {result.upload.details.record for result in results} == {upload.details.record}


async def test_a_wait_that_is_too_short_says_where_the_upload_stands() -> None:
    async with engine() as one:
        upload = await one.begin(2 * CHUNK)
        await one.uploads.put_chunk(upload.id, 1, FakeBody(b"b" * CHUNK), caller=ME)
        with pytest.raises(WaitTimeout) as raised:
            await one.uploads.wait(upload.id, caller=ME, timeout_s=0)
        assert (raised.value.status, raised.value.received, raised.value.size) == ("open", CHUNK, 2 * CHUNK)


async def test_a_wait_for_nobody_ends_at_once() -> None:
    async with engine() as one:
        for call in (
            one.uploads.wait(NOBODY, caller=ME, timeout_s=60),
            one.uploads.state(NOBODY, caller=ME),
            one.uploads.finish(NOBODY, caller=ME),
            one.uploads.abort(NOBODY, caller=ME),
            one.uploads.offset(NOBODY, caller=ME),
        ):
            with pytest.raises(UploadNotFound):
                await call


async def test_a_result_that_comes_as_the_deadline_passes_is_not_lost() -> None:
    async with engine() as one:
        upload = await one.begin(5)
        await one.uploads.put_chunk(upload.id, 0, FakeBody(b"12345"), caller=ME)
        real = one.database.read
        reads = 0

        async def finish_before_the_last_look(work: Any) -> Any:
            nonlocal reads
            reads += 1
            if reads == 3:  # peek for access, the first look, and now the look after the deadline
                await one.uploads._sessions.finish(upload.id)
            return await real(work)

        one.database.read = finish_before_the_last_look  # type: ignore[method-assign]
        state = await one.uploads.wait(upload.id, caller=ME, timeout_s=0)
        assert state.upload.status is SessionStatus.COMMITTED


async def test_a_stopping_service_wakes_waits_and_watchers_and_begins_nothing() -> None:
    async with engine() as one:
        upload = await one.begin(5)
        wait = beside(one.uploads.wait(upload.id, caller=ME, timeout_s=60))
        states = []

        async def watch() -> None:
            async for state in one.uploads.watch(upload.id, caller=ME):
                states.append(state)
                one.clock.advance(1)

        watching = beside(watch())
        await until(lambda: len(states) == 1)
        await asyncio.sleep(0)
        await one.uploads.stop()
        with pytest.raises(ServiceStopping):
            await wait
        await until(lambda: one.clock.sleepers > 0)
        one.clock.advance(1)
        await watching
        with pytest.raises(ServiceStopping):
            await one.begin(5)
        with pytest.raises(ServiceStopping):
            await one.uploads.finish(upload.id, caller=ME)


async def test_a_watcher_sees_progress_and_the_end_last() -> None:
    async with engine() as one:
        upload = await one.begin(2 * CHUNK)
        seen: list[tuple[SessionStatus, int]] = []

        async def watch() -> None:
            async for state in one.uploads.watch(upload.id, caller=ME):
                seen.append((state.upload.status, state.upload.received.total))  # noqa: PERF401 - it waits

        watching = beside(watch())
        await until(lambda: len(seen) == 1)
        await one.uploads.put_chunk(upload.id, 0, FakeBody(b"a" * CHUNK), caller=ME)
        await until(lambda: one.clock.sleepers > 0)
        one.clock.advance(1)
        await until(lambda: len(seen) == 2)
        await one.uploads.put_chunk(upload.id, 1, FakeBody(b"b" * CHUNK), caller=ME)
        await one.uploads.finish(upload.id, caller=ME)
        await until(lambda: one.clock.sleepers > 0)
        one.clock.advance(1)
        await watching
        assert seen[0] == (SessionStatus.OPEN, 0)
        assert seen[1] == (SessionStatus.OPEN, CHUNK)
        assert seen[-1][0] is SessionStatus.COMMITTED


async def test_speed_is_that_of_the_last_seconds() -> None:
    async with engine() as one:
        upload = await one.begin(2 * CHUNK)
        assert (await one.uploads.state(upload.id, caller=ME)).speed == 0.0
        await one.uploads.put_chunk(upload.id, 0, FakeBody(b"a" * CHUNK), caller=ME)
        one.clock.advance(5)
        speed = (await one.uploads.state(upload.id, caller=ME)).speed
        assert 0 < speed < CHUNK
        one.clock.advance(500)
        assert (await one.uploads.state(upload.id, caller=ME)).speed < 1


async def test_finish_before_all_bytes_names_the_gaps() -> None:
    async with engine() as one:
        upload = await one.begin(3 * CHUNK)
        await one.uploads.put_chunk(upload.id, 1, FakeBody(b"b" * CHUNK), caller=ME)
        with pytest.raises(ChunksMissing) as raised:
            await one.uploads.finish(upload.id, caller=ME)
        assert raised.value.missing == ((0, CHUNK), (2 * CHUNK, 3 * CHUNK))


async def test_finish_with_another_size_is_refused() -> None:
    async with engine() as one:
        upload = await one.begin(5)
        with pytest.raises(InvalidRequest):
            await one.uploads.finish(upload.id, caller=ME, size=6)
        await put_and_finish(one, upload.id, b"12345")
        with pytest.raises(InvalidRequest):
            await one.uploads.finish(upload.id, caller=ME, size=6)


async def test_finishes_at_once_give_one_result() -> None:
    async with engine() as one:
        upload = await one.begin(5)
        await one.uploads.put_chunk(upload.id, 0, FakeBody(b"12345"), caller=ME)
        results = await asyncio.gather(*(one.uploads.finish(upload.id, caller=ME) for _ in range(20)))
        assert {result.upload.details.record for result in results} == {upload.details.record}
        assert len(one.disk.blobs) == 1
        assert one.counts.ends == [SessionStatus.COMMITTED]


async def test_a_finish_that_takes_long_is_answered_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haulier.engine.endings.FINISH_WAIT_S", 0)
    async with engine() as one:
        upload = await one.begin(5)
        await one.uploads.put_chunk(upload.id, 0, FakeBody(b"12345"), caller=ME)
        go = asyncio.Event()
        one.before_sink("commit", go.wait)
        state = await one.uploads.finish(upload.id, caller=ME)
        assert state.upload.status is SessionStatus.FINISHING
        go.set()
        state = await one.uploads.wait(upload.id, caller=ME, timeout_s=60)
        assert state.upload.status is SessionStatus.COMMITTED


async def test_finish_of_an_ended_upload_says_how_it_ended() -> None:
    async with engine() as one:
        upload = await one.begin(5)
        await one.uploads.abort(upload.id, caller=ME)
        with pytest.raises(UploadGone) as raised:
            await one.uploads.finish(upload.id, caller=ME)
        assert raised.value.status == "aborted"


async def test_a_finish_that_is_overtaken_by_an_abort_says_so() -> None:
    async with engine() as one:
        upload = await one.begin(5)
        await one.uploads.put_chunk(upload.id, 0, FakeBody(b"12345"), caller=ME)
        one.before_write(lambda: one.uploads.abort(upload.id, caller=ME))
        with pytest.raises(UploadGone):
            await one.uploads.finish(upload.id, caller=ME)


async def test_a_storage_error_in_a_finish_is_told_and_the_finish_can_be_repeated() -> None:
    async with engine() as one:
        upload = await one.begin(5)
        await one.uploads.put_chunk(upload.id, 0, FakeBody(b"12345"), caller=ME)
        one.sink.fail_next("commit", StorageUnavailable("no"))
        with pytest.raises(StorageUnavailable):
            await one.uploads.finish(upload.id, caller=ME)
        assert (await one.state(upload.id)).status is SessionStatus.FINISHING
        state = await one.uploads.finish(upload.id, caller=ME)
        assert state.upload.status is SessionStatus.COMMITTED
        assert len(one.disk.blobs) == 1
