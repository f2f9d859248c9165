"""How uploads end: once, for everybody, and with nothing left behind."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from haulier.core.digest import Digest, DigestName
from haulier.core.errors import (
    ChunksMissing,
    DigestMismatch,
    ServiceStopping,
    StorageNotWritable,
    StorageUnavailable,
    UploadBusy,
    UploadComplete,
    UploadGone,
    UploadNotFound,
    UploadRefused,
)
from haulier.core.record import RecordStatus
from haulier.core.session import Mode, SessionId, SessionStatus
from haulier.core.upload import Upload
from haulier.engine import endings
from haulier.engine import sessions as sessions_module
from haulier.engine.hooks import FinishedUpload, Hooks
from haulier.ports import RecordQuery
from tests.support.bodies import FakeBody
from tests.support.engine import CHUNK, ME, Engine, beside, engine, let_others_run, lose_an_answer, until

DAY_S = 24 * 3600.0
DATA = b"12345"


async def ready(one: Engine, **request: object) -> Upload:
    """Begin an upload and bring all its bytes."""
    upload = await one.begin(len(DATA), **request)
    await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
    return upload


async def test_an_abort_may_be_repeated_and_frees_the_bytes() -> None:
    async with engine() as one:
        upload = await ready(one)
        await one.uploads.abort(upload.id, caller=ME)
        await one.uploads.abort(upload.id, caller=ME)
        state = await one.state(upload.id)
        assert (state.status, state.received.total) == (SessionStatus.ABORTED, 0)
        assert await one.database.read(lambda tx: tx.sessions.chunk(upload.id, 0)) is None
        assert one.disk.parts == {}
        assert one.counts.ends == [SessionStatus.ABORTED]
        record = await one.database.read(lambda tx: tx.records.load(upload.details.record))  # type: ignore[arg-type]
        assert record is not None
        assert record.status is RecordStatus.CANCELLED


async def test_a_part_that_resists_an_abort_is_left_for_the_janitor() -> None:
    async with engine() as one:
        upload = await one.begin(5)
        one.sink.fail_next("discard", StorageUnavailable("no"))
        await one.uploads.abort(upload.id, caller=ME)
        assert (await one.state(upload.id)).status is SessionStatus.ABORTED
        assert list(one.disk.parts) == [upload.id]
        await one.janitor.sweep()
        assert one.disk.parts == {}


async def test_a_committed_upload_cannot_be_aborted() -> None:
    async with engine() as one:
        upload = await ready(one)
        await one.uploads.finish(upload.id, caller=ME)
        with pytest.raises(UploadComplete) as raised:
            await one.uploads.abort(upload.id, caller=ME)
        assert raised.value.record == upload.details.record


async def test_an_abort_waits_for_a_finish_that_is_under_way() -> None:
    async with engine() as one:
        upload = await ready(one)
        reached, go = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            reached.set()
            await go.wait()

        one.before_sink("commit", hold)
        finish = beside(one.uploads.finish(upload.id, caller=ME))
        await reached.wait()
        abort = beside(one.uploads.abort(upload.id, caller=ME))
        await let_others_run()
        assert not abort.done()
        go.set()
        await finish
        with pytest.raises(UploadComplete):
            await abort


async def test_a_finish_that_another_one_overtook_has_its_result() -> None:
    async with engine() as one:
        upload = await ready(one)
        real = one.database.write

        async def write(work: Any, **how: bool) -> Any:
            one.database.write = real  # type: ignore[method-assign]
            started = await real(work, **how)
            await one.uploads.finish(upload.id, caller=ME)
            return started

        one.database.write = write  # type: ignore[method-assign]
        state = await one.uploads.finish(upload.id, caller=ME)
        assert state.upload.status is SessionStatus.COMMITTED
        assert await one.content(state.upload) == DATA


async def test_an_abort_says_when_the_finish_cannot_end() -> None:
    async with engine() as one:
        upload = await ready(one)
        one.sink.fail_next("commit", StorageUnavailable("no"))
        one.sink.fail_next("commit", StorageUnavailable("no"))
        with pytest.raises(StorageUnavailable):
            await one.uploads.finish(upload.id, caller=ME)
        with pytest.raises(StorageUnavailable):
            await one.uploads.abort(upload.id, caller=ME)


async def test_an_abort_does_not_go_round_for_ever_when_the_finish_crashes() -> None:
    async with engine() as one:
        upload = await ready(one)
        one.sink.fail_next("commit", AssertionError("a mistake of ours"))
        finish = beside(one.uploads.finish(upload.id, caller=ME))
        await asyncio.wait({finish})
        one.sink.fail_next("commit", AssertionError("a mistake of ours"))
        with pytest.raises(AssertionError, match="a mistake of ours"):
            await one.uploads.abort(upload.id, caller=ME)
        assert isinstance(finish.exception(), AssertionError)


async def test_an_abort_that_a_finish_was_faster_than_is_told_the_result() -> None:
    async with engine() as one:
        upload = await ready(one)
        one.before_write(lambda: one.uploads.finish(upload.id, caller=ME))
        with pytest.raises(UploadComplete):
            await one.uploads.abort(upload.id, caller=ME)


async def test_silence_expires_an_upload_and_activity_does_not() -> None:
    async with engine() as one:
        silent, active = await one.begin(5), await one.begin(2 * CHUNK)
        one.clock.advance(DAY_S / 2)
        await one.uploads.put_chunk(active.id, 0, FakeBody(b"a" * CHUNK), caller=ME)
        one.clock.advance(DAY_S / 2 + 1)
        assert await one.uploads.expire() == 1
        assert (await one.state(silent.id)).status is SessionStatus.EXPIRED
        assert (await one.state(active.id)).status is SessionStatus.OPEN
        assert list(one.disk.parts) == [active.id]
        record = await one.database.read(lambda tx: tx.records.load(silent.details.record))  # type: ignore[arg-type]
        assert record is not None
        assert record.status is RecordStatus.EXPIRED


async def test_an_upload_that_somebody_holds_is_not_expired() -> None:
    async with engine() as one:
        upload = await one.begin(len(DATA))
        body = FakeBody(DATA[:1], DATA[1:], held=True)
        put = beside(one.uploads.put_chunk(upload.id, 0, body, caller=ME))
        await body.reached.wait()
        one.clock.advance(10 * DAY_S)
        assert await one.uploads.expire() == 0
        body.release()
        await put


async def test_a_finishing_upload_is_not_expired() -> None:
    async with engine() as one:
        upload = await ready(one)
        one.sink.fail_next("commit", StorageUnavailable("no"))
        with pytest.raises(StorageUnavailable):
            await one.uploads.finish(upload.id, caller=ME)
        one.clock.advance(10 * DAY_S)
        assert await one.uploads.expire() == 0


async def test_many_expire_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "BATCH", 2)
    async with engine() as one:
        for _ in range(5):
            await one.begin(5)
        one.clock.advance(2 * DAY_S)
        assert await one.uploads.expire() == 5


async def test_what_is_left_of_ended_uploads_is_purged_and_their_records_stay() -> None:
    async with engine() as one:
        upload, detached = await ready(one), await ready(one, lanes=True)
        for each in (upload, detached):
            await one.uploads.finish(each.id, caller=ME)
        failed = await one.begin(5)
        await one.uploads.abort(failed.id, caller=ME)
        assert len(one.disk.blobs) == 2
        one.clock.advance(1)
        assert await one.uploads.purge(before=one.clock.now()) == 3
        assert len(one.disk.blobs) == 1
        for each in (upload, detached, failed):
            with pytest.raises(UploadNotFound):
                await one.state(each.id)
        page = await one.records.list(RecordQuery(), caller=ME)
        assert [record.id for record in page.items if record.status is RecordStatus.COMPLETED] == [
            upload.details.record
        ]


async def test_a_finish_whose_commit_lost_its_answer_takes_nothing_back() -> None:
    async with engine() as one:
        upload = await ready(one)

        async def lose_the_answer() -> None:
            one.database.lose_next_answer()

        one.before_sink("commit", lose_the_answer)
        with pytest.raises(StorageUnavailable):
            await one.uploads.finish(upload.id, caller=ME)
        done = (await one.uploads.finish(upload.id, caller=ME)).upload
        assert done.status is SessionStatus.COMMITTED
        assert await one.content(done) == DATA


async def test_an_abort_that_the_database_did_not_take_may_be_repeated() -> None:
    async with engine() as one:
        upload = await ready(one)
        one.before_write(refuse_next(one))
        with pytest.raises(StorageUnavailable):
            await one.uploads.abort(upload.id, caller=ME)
        assert_untouched(one, upload)
        await one.uploads.abort(upload.id, caller=ME)
        assert (await one.state(upload.id)).status is SessionStatus.ABORTED
        assert one.disk.parts == {}


def refuse_next(one: Engine) -> Callable[[], Awaitable[None]]:
    async def refuse() -> None:
        one.database.fail_next(StorageUnavailable("away"))

    return refuse


async def test_one_blob_of_nobody_that_cannot_be_removed_keeps_no_other_and_goes_later() -> None:
    async with engine() as one:
        for _ in range(3):
            upload = await ready(one, lanes=True)
            await one.uploads.finish(upload.id, caller=ME)
        one.clock.advance(1)
        one.sink.fail_next("delete", StorageUnavailable("busy"))
        assert await one.uploads.purge(before=one.clock.now()) == 3
        assert len(one.disk.blobs) == 1
        assert await one.records.erase_rest() == 1
        assert one.disk.blobs == {}


async def test_a_withdrawn_or_refused_blob_that_cannot_be_removed_goes_later() -> None:
    async def refuse(finished: FinishedUpload) -> None:
        if finished.upload.details.record is not None:
            raise UploadRefused("not this one")

    async with engine(hooks=Hooks(on_finish=refuse)) as one:
        withdrawn, refused = await ready(one, lanes=True), await ready(one)
        await one.uploads.finish(withdrawn.id, caller=ME)
        one.sink.fail_next("delete", StorageUnavailable("busy"))
        await one.uploads.abort(withdrawn.id, caller=ME)
        one.sink.fail_next("delete", StorageUnavailable("busy"))
        with pytest.raises(UploadRefused):
            await one.uploads.finish(refused.id, caller=ME)
        assert len(one.disk.blobs) == 2
        assert await one.records.erase_rest() == 2
        assert one.disk.blobs == {}


async def crash_while_finishing(one: Engine, upload_id: SessionId, operation: str) -> Engine:
    """Kill the process when the finish reaches that operation of the sink."""
    reached = asyncio.Event()

    async def never(*_: object, **__: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    setattr(one.sink, operation, never)
    finish = beside(one.uploads.finish(upload_id, caller=ME))
    await reached.wait()
    two = await one.restart()
    finish.cancel()
    return two


@pytest.mark.parametrize("operation", ["commit", "discard"])
async def test_a_finish_that_a_crash_cut_is_gone_on_with(operation: str) -> None:
    async with engine() as one:
        upload = await ready(one)
        two = await crash_while_finishing(one, upload.id, operation)
        await two.uploads.redo()
        state = await two.uploads.wait(upload.id, caller=ME, timeout_s=5)
        assert state.upload.status is SessionStatus.COMMITTED
        assert await two.content(state.upload) == DATA
        await two.janitor.sweep()
        assert two.disk.parts == {}
        assert len(two.disk.blobs) == 1
        await two.background.stop(grace_s=0)


async def test_a_repeated_finish_goes_on_where_a_dead_worker_stopped() -> None:
    async with engine() as one:
        upload = await ready(one)
        two = await crash_while_finishing(one, upload.id, "commit")
        state = await two.uploads.finish(upload.id, caller=ME)
        assert state.upload.status is SessionStatus.COMMITTED
        await two.background.stop(grace_s=0)


async def test_a_holder_that_was_taken_over_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "FINISH_WAIT_S", 0.05)
    async with engine() as one:
        upload = await ready(one)

        async def lose_the_fence() -> None:
            session = await one.state(upload.id)
            await one.database.write(lambda tx: tx.sessions.take_finish(upload.id, session.fence, "another"))

        one.workers.living.add("another")
        one.before_sink("commit", lose_the_fence)
        state = await one.uploads.finish(upload.id, caller=ME)
        assert (state.upload.status, state.upload.holder) == (SessionStatus.FINISHING, "another")
        assert one.counts.ends == []
        assert_untouched(one, upload)
        assert list(one.disk.blobs) == [state.upload.blob_key]


def lost_to_another(one: Engine, upload_id: SessionId) -> Callable[[], Awaitable[None]]:
    """Return what lets another worker, which lives, have the finish."""
    one.workers.living.add("another")

    async def lose() -> None:
        session = await one.state(upload_id)
        if session.status is SessionStatus.FINISHING:
            await one.database.write(lambda tx: tx.sessions.take_finish(upload_id, session.fence, "another"))

    return lose


def assert_untouched(one: Engine, upload: Upload) -> None:
    assert {key: bytes(part.data) for key, part in one.disk.parts.items()} == {upload.id: DATA}


async def assert_with_another(one: Engine, upload: Upload) -> None:
    """Check that the new holder finds the row and the part as it needs them."""
    state = await one.state(upload.id)
    assert (state.status, state.holder) == (SessionStatus.FINISHING, "another")
    assert one.counts.ends == []
    assert_untouched(one, upload)


async def test_a_refusal_after_a_takeover_removes_no_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "FINISH_WAIT_S", 0.05)

    async def refuse(finished: FinishedUpload) -> None:
        await lost_to_another(one, finished.upload.id)()
        raise UploadRefused("not this one")

    async with engine(hooks=Hooks(on_finish=refuse)) as one:
        upload = await ready(one)
        await one.uploads.finish(upload.id, caller=ME)
        await assert_with_another(one, upload)
        assert [bytes(blob.data) for blob in one.disk.blobs.values()] == [DATA]


async def test_an_append_whose_whole_is_wrong_frees_nothing_after_a_takeover() -> None:
    async with engine() as one:
        upload = await one.begin_append(
            len(DATA), expected=Digest(DigestName.MD5, bytes(16)), digest_name=None
        )
        one.before_sink("scan", lost_to_another(one, upload.id))
        with pytest.raises(DigestMismatch):
            await one.uploads.append(upload.id, 0, FakeBody(DATA), caller=ME)
        await assert_with_another(one, upload)


async def test_a_part_that_did_not_reach_the_disk_ends_no_finish_of_another_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endings, "FINISH_WAIT_S", 0.05)
    async with engine() as one:
        upload = await ready(one)
        one.before_sink("commit", lost_to_another(one, upload.id))
        one.sink.fail_next("commit", StorageUnavailable("it did not reach the disk", lost=True))
        await one.uploads.finish(upload.id, caller=ME)
        await assert_with_another(one, upload)


async def test_an_append_whose_bytes_are_lost_is_left_to_whoever_took_it_over() -> None:
    async with engine() as one:
        upload = await one.begin_append(None)
        await one.uploads.append(upload.id, 0, FakeBody(DATA), caller=ME)
        one.before_sink("commit", lambda: discard(one, upload))
        one.before_sink("recover", lost_to_another(one, upload.id))
        with pytest.raises(StorageUnavailable):
            await one.uploads.finish(upload.id, caller=ME, size=len(DATA))
        state = await one.state(upload.id)
        assert (state.status, state.holder) == (SessionStatus.FINISHING, "another")
        assert one.counts.ends == []


async def test_a_holder_that_was_taken_over_reopens_nothing() -> None:
    async with engine() as one:
        upload = await ready(one, expected=Digest(DigestName.MD5, bytes(16)), digest_name=None)

        async def lose_the_fence() -> None:
            session = await one.state(upload.id)
            if session.status is SessionStatus.FINISHING:
                await one.database.write(
                    lambda tx: tx.sessions.take_finish(upload.id, session.fence, "another")
                )

        await until(lambda: one.uploads._digests.verified(upload.id) == len(DATA))
        one.uploads._digests.forget(upload.id)
        one.before_sink("scan", lose_the_fence)
        with pytest.raises(DigestMismatch):
            await one.uploads.finish(upload.id, caller=ME)
        state = await one.state(upload.id)
        assert (state.status, state.holder) == (SessionStatus.FINISHING, "another")


async def test_a_takeover_that_comes_too_late_does_nothing() -> None:
    async with engine() as one:
        upload = await ready(one)
        two = await crash_while_finishing(one, upload.id, "commit")
        stale = await two.state(upload.id)
        await two.database.write(lambda tx: tx.sessions.take_finish(upload.id, stale.fence, "another"))
        await two.uploads._sessions._endings.completing(stale, take=True)
        assert (await two.state(upload.id)).holder == "another"
        await two.background.stop(grace_s=0)


async def test_chunks_that_a_power_loss_took_back_are_missing_at_the_finish() -> None:
    async with engine() as one:
        upload = await one.begin(3 * CHUNK)
        for index, data in enumerate((b"a" * CHUNK, b"b" * CHUNK, b"c" * CHUNK)):
            await one.uploads.put_chunk(upload.id, index, FakeBody(data), caller=ME)
        # What a file system may show after a halt: a block that never reached the disk, and a shorter file.
        part = one.disk.parts[upload.id].data
        part[CHUNK + 5] = 0
        del part[3 * CHUNK - 1 :]
        two = await one.restart(boot_id="boot 2")
        await two.uploads.resume()
        with pytest.raises(ChunksMissing) as raised:
            await two.uploads.finish(upload.id, caller=ME)
        assert raised.value.missing == ((CHUNK, 3 * CHUNK),)
        assert (await two.state(upload.id)).received.pairs == ((0, CHUNK),)
        for index, data in ((1, b"b" * CHUNK), (2, b"c" * CHUNK)):
            await two.uploads.put_chunk(upload.id, index, FakeBody(data), caller=ME)
        done = (await two.uploads.finish(upload.id, caller=ME)).upload
        assert done.status is SessionStatus.COMMITTED
        assert await two.content(done) == b"a" * CHUNK + b"b" * CHUNK + b"c" * CHUNK
        await two.background.stop(grace_s=0)


async def test_chunks_that_survived_a_halt_are_committed() -> None:
    async with engine() as one:
        upload = await ready(one)
        two = await one.restart(boot_id="boot 2")
        done = (await two.uploads.finish(upload.id, caller=ME)).upload
        assert done.status is SessionStatus.COMMITTED
        await two.background.stop(grace_s=0)


async def test_a_redo_that_was_overtaken_takes_nothing_back() -> None:
    async with engine() as one:
        upload = await ready(one)
        two = await crash_while_finishing(one, upload.id, "commit")
        three = await two.restart(boot_id="boot 2")
        three.disk.parts[upload.id].data[0] = 0

        async def lose_the_fence() -> None:
            session = await three.state(upload.id)
            await three.database.write(
                lambda tx: tx.sessions.take_finish(upload.id, session.fence, "another")
            )

        three.before_sink("scan", lose_the_fence)
        with pytest.raises(UploadBusy):
            await three.uploads.finish(upload.id, caller=ME)
        state = await three.state(upload.id)
        assert (state.status, state.holder) == (SessionStatus.FINISHING, "another")
        await three.background.stop(grace_s=0)


async def test_open_uploads_are_hashed_again_after_a_restart() -> None:
    async with engine() as one:
        upload = await one.begin(2 * CHUNK)
        await one.uploads.put_chunk(upload.id, 0, FakeBody(b"a" * CHUNK), caller=ME)
        two = await one.restart()
        await two.uploads.resume()
        await until(lambda: two.uploads._digests.verified(upload.id) == CHUNK)
        assert (await two.uploads.state(upload.id, caller=ME)).verified_bytes == CHUNK
        await two.background.stop(grace_s=0)


async def test_one_upload_that_cannot_be_followed_leaves_the_others_to_be_hashed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions_module, "SESSIONS_IN_A_PAGE", 2)
    async with engine() as one:
        uploads = [await one.begin(2 * CHUNK) for _ in range(5)]
        for upload in uploads:
            await one.uploads.put_chunk(upload.id, 0, FakeBody(b"a" * CHUNK), caller=ME)
        two = await one.restart()
        real = two.uploads._sessions._context.follow
        first = min(uploads, key=lambda upload: (upload.created_at, upload.id))

        async def follow(session: Upload) -> None:
            if session.id == first.id:
                raise StorageUnavailable("no")
            await real(session)

        monkeypatch.setattr(two.uploads._sessions._context, "follow", follow)
        await two.uploads.resume()
        followed = set(two.uploads._digests.followed_uploads())
        assert followed == {upload.id for upload in uploads} - {first.id}
        assert len(await two.uploads.probe()) == 5
        await two.background.stop(grace_s=0)


async def test_a_finishing_upload_is_not_resumed_but_redone() -> None:
    async with engine() as one:
        upload = await ready(one)
        two = await crash_while_finishing(one, upload.id, "commit")
        await two.uploads.resume()
        assert (await two.state(upload.id)).status is SessionStatus.FINISHING
        assert await two.uploads.redo() == 1
        assert await two.uploads.redo() == 0
        await two.uploads.wait(upload.id, caller=ME, timeout_s=5)
        await two.background.stop(grace_s=0)


async def lose_part_while_finishing(one: Engine, upload: Upload) -> None:
    """Have a finish fail for a moment, and its part vanish before the next one."""
    one.sink.fail_next("commit", StorageUnavailable("a moment"))
    with pytest.raises(StorageUnavailable):
        await one.uploads.finish(upload.id, caller=ME)
    assert (await one.state(upload.id)).status is SessionStatus.FINISHING
    del one.disk.parts[upload.id]


async def test_chunks_whose_part_vanished_during_the_finish_may_be_sent_again() -> None:
    async with engine() as one:
        upload = await ready(one)
        await lose_part_while_finishing(one, upload)
        with pytest.raises(ChunksMissing) as raised:
            await one.uploads.finish(upload.id, caller=ME)
        assert raised.value.missing == ((0, 5),)
        state = await one.state(upload.id)
        assert (state.status, state.received.total) == (SessionStatus.OPEN, 0)
        await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
        done = await one.uploads.finish(upload.id, caller=ME)
        assert done.upload.status is SessionStatus.COMMITTED
        assert await one.content(done.upload) == DATA


@pytest.mark.parametrize("mode", Mode)
async def test_an_upload_whose_part_vanished_during_the_finish_can_be_aborted(mode: Mode) -> None:
    async with engine() as one:
        if mode is Mode.CHUNKS:
            upload = await ready(one)
        else:
            upload = await one.begin_append(None)
            await one.uploads.append(upload.id, 0, FakeBody(DATA), caller=ME)
            one.sink.fail_next("commit", StorageUnavailable("a moment"))
            with pytest.raises(StorageUnavailable):
                await one.uploads.finish(upload.id, caller=ME, size=len(DATA))
        await lose_part_while_finishing(one, upload)
        await one.uploads.abort(upload.id, caller=ME)
        assert not (await one.state(upload.id)).status.live
        assert one.disk.parts == {}


async def test_an_append_whose_part_vanished_during_the_finish_has_failed() -> None:
    async with engine() as one:
        upload = await one.begin_append(None)
        await one.uploads.append(upload.id, 0, FakeBody(DATA), caller=ME)
        one.before_sink("commit", lambda: discard(one, upload))
        with pytest.raises(UploadGone) as raised:
            await one.uploads.finish(upload.id, caller=ME, size=len(DATA))
        assert (raised.value.status, raised.value.error) == ("failed", "its 5 bytes were lost on disk")
        assert (await one.state(upload.id)).status is SessionStatus.FAILED


async def discard(one: Engine, upload: Upload) -> None:
    """Lose a part."""
    one.disk.parts.pop(upload.id, None)


async def test_a_finish_goes_on_from_its_blob_when_the_part_vanished() -> None:
    async with engine() as one:
        upload = await ready(one)
        one.sink.fail_next("commit", StorageUnavailable("the process ends right after its link"))
        with pytest.raises(StorageUnavailable):
            await one.uploads.finish(upload.id, caller=ME)
        blob_key = (await one.state(upload.id)).blob_key
        assert blob_key is not None
        await one.sink.commit(upload.id, blob_key, size=len(DATA))
        two = await one.restart()
        del two.disk.parts[upload.id]
        with pytest.raises(StorageUnavailable):
            await two.uploads.finish(upload.id, caller=ME)
        done = await two.uploads.finish(upload.id, caller=ME)
        assert done.upload.status is SessionStatus.COMMITTED
        assert done.upload.details.digest == Digest(DigestName.SHA_256, hashlib.sha256(DATA).digest())
        assert len(two.disk.blobs) == 1
        assert two.disk.parts == {}
        await two.background.stop(grace_s=0)


async def test_a_storage_that_does_not_answer_ends_no_upload() -> None:
    async with engine() as one:
        upload = await ready(one)
        one.sink.fail_next("commit", StorageUnavailable("gone"))
        one.sink.fail_next("recover", StorageNotWritable("incoming"))
        with pytest.raises(StorageNotWritable):
            await one.uploads.finish(upload.id, caller=ME)
        assert (await one.state(upload.id)).status is SessionStatus.FINISHING
        done = await one.uploads.finish(upload.id, caller=ME)
        assert done.upload.status is SessionStatus.COMMITTED


async def test_a_loss_that_another_worker_found_first_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "FINISH_WAIT_S", 0.1)
    monkeypatch.setattr(endings, "LOOK_S", 0.01)
    async with engine() as one:
        upload = await ready(one)

        async def lose_all() -> None:
            session = await one.state(upload.id)
            await one.database.write(lambda tx: tx.sessions.take_finish(upload.id, session.fence, "another"))
            await discard(one, upload)

        one.before_sink("commit", lose_all)
        one.workers.living.add("another")
        state = (await one.uploads.finish(upload.id, caller=ME)).upload
        assert (state.status, state.holder) == (SessionStatus.FINISHING, "another")


async def test_an_empty_upload_that_could_not_be_made_a_file_at_its_begin_is_gone_on_with() -> None:
    async with engine() as one:
        one.sink.fail_next("commit", StorageUnavailable("not now"))
        with pytest.raises(StorageUnavailable):
            await one.begin_append(0, key="again")
        assert await one.uploads.redo() == 1
        await until(lambda: not one.background._tasks)
        assert (await one.begin_append(0, key="again")).status is SessionStatus.COMMITTED


async def test_an_abort_does_not_wait_for_ever_for_another_worker_s_finish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endings, "FINISH_WAIT_S", 0.05)
    async with engine() as one:
        upload = await ready(one)
        one.before_sink("commit", lost_to_another(one, upload.id))
        await one.uploads.finish(upload.id, caller=ME)
        with pytest.raises(UploadBusy, match="takes long"):
            await one.uploads.abort(upload.id, caller=ME)
        await assert_with_another(one, upload)


async def test_whoever_asks_for_the_offset_hears_that_the_disk_has_lost_the_bytes_for_good() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        one.sink.fail_next("commit", StorageUnavailable("it does not answer"))
        with pytest.raises(StorageUnavailable):
            await one.uploads.append(upload.id, 0, FakeBody(DATA), caller=ME)
        one.sink.fail_next("commit", StorageUnavailable("not synced", lost=True))
        with pytest.raises(StorageUnavailable, match="not synced"):
            await one.uploads.offset(upload.id, caller=ME)
        assert (await one.state(upload.id)).status is SessionStatus.FAILED


async def test_a_finish_whose_bytes_the_disk_has_lost_fails_for_good() -> None:
    async with engine() as one:
        upload = await ready(one)
        one.sink.fail_next("commit", StorageUnavailable("not synced", lost=True))
        with pytest.raises(StorageUnavailable):
            await one.uploads.finish(upload.id, caller=ME)
        state = await one.state(upload.id)
        assert (state.status, state.error) == (
            SessionStatus.FAILED,
            "storage is unavailable: not synced",
        )
        record = await one.database.read(lambda tx: tx.records.load(upload.details.record))  # type: ignore[arg-type]
        assert record is not None
        assert record.status is RecordStatus.FAILED


def hangs_at_commit(one: Engine) -> tuple[asyncio.Event, asyncio.Event]:
    """Let the next finish hang in the storage; return what is set then, and what ends it."""
    reached, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await go.wait()

    one.before_sink("commit", hold)
    return reached, go


async def stopped_in_finish(one: Engine) -> Upload:
    """Return an upload whose finish has outlasted a stop."""
    upload = await ready(one)
    reached, _ = hangs_at_commit(one)
    finish = beside(one.uploads.finish(upload.id, caller=ME))
    await reached.wait()
    await one.uploads.stop()
    await one.uploads.stop()  # which is harmless
    with pytest.raises(ServiceStopping):
        await finish
    return upload


async def test_a_finish_that_outlasts_a_stop_fails_for_now_and_is_gone_on_with_by_the_next_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endings, "STOP_S", 0.0)
    async with engine() as one:
        upload = await stopped_in_finish(one)
        assert (await one.state(upload.id)).status is SessionStatus.FINISHING
        two = await one.restart()
        await two.uploads.redo()
        state = await two.uploads.wait(upload.id, caller=ME, timeout_s=60)
        assert state.upload.status is SessionStatus.COMMITTED


async def test_a_finish_that_failed_as_the_service_stops_can_be_given_up_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endings, "STOP_S", 0.0)
    async with engine() as one:
        upload = await stopped_in_finish(one)
        await one.uploads.give_up(upload.id)
        two = await one.restart()
        assert await two.uploads.redo() == 0
        assert (await two.state(upload.id)).status is SessionStatus.FAILED
        assert (two.disk.parts, two.disk.blobs) == ({}, {})


async def test_a_finish_that_ends_in_time_does_not_notice_the_stop() -> None:
    async with engine() as one:
        upload = await ready(one)
        reached, go = hangs_at_commit(one)
        finish = beside(one.uploads.finish(upload.id, caller=ME))
        await reached.wait()
        await one.uploads.stop()
        go.set()
        assert (await finish).upload.status is SessionStatus.COMMITTED


async def test_what_is_given_up_has_ended_before_its_finish_lets_go() -> None:
    """A thread that hangs in the storage cannot be interrupted: the row must not wait for it."""
    async with engine() as one:
        upload = await ready(one)
        reached, go = hangs_at_commit(one)
        finish = beside(one.uploads.finish(upload.id, caller=ME))
        await reached.wait()
        giving_up = beside(one.uploads.give_up(upload.id))
        await let_others_run()
        assert (await one.state(upload.id)).status is SessionStatus.FAILED
        assert not giving_up.done()
        go.set()
        await giving_up
        await asyncio.wait({finish})
        assert (one.disk.parts, one.disk.blobs) == ({}, {})


async def test_a_timeout_in_the_storage_is_no_stop() -> None:
    async with engine() as one:
        upload = await ready(one)
        one.sink.fail_next("commit", TimeoutError("a mistake of ours"))
        state = await one.uploads.finish(upload.id, caller=ME)
        assert state.upload.status is SessionStatus.FINISHING


async def test_a_begin_that_completes_is_told_so_when_only_the_answer_to_its_commit_was_lost() -> None:
    async with engine() as one:
        lose_an_answer(one.database)
        upload = await one.begin(0, mode=Mode.APPEND)
        assert upload.status is SessionStatus.COMMITTED


async def test_who_gives_up_what_is_committed_by_then_is_told_so() -> None:
    async with engine() as one:
        upload = await ready(one)
        one.sink.fail_next("commit", StorageUnavailable("for a moment"))
        with pytest.raises(StorageUnavailable):
            await one.uploads.finish(upload.id, caller=ME)
        real = one.database.write

        async def write(work: Any, **how: bool) -> Any:
            one.database.write = real  # type: ignore[method-assign]
            await one.uploads.finish(upload.id, caller=ME)
            return await real(work, **how)

        one.database.write = write  # type: ignore[method-assign]
        with pytest.raises(UploadComplete):
            await one.uploads.give_up(upload.id)
        assert await one.content(await one.state(upload.id)) == DATA
