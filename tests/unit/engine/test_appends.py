"""Appends: a true offset whatever happened, and one writer at a time."""

import asyncio
import hashlib
from collections.abc import Callable

import pytest

from haulier.core.digest import Digest, DigestName
from haulier.core.errors import (
    BodyCut,
    BodyMalformed,
    DigestMismatch,
    InvalidRequest,
    LengthExceeded,
    LengthInconsistent,
    OffsetMismatch,
    ServiceStopping,
    StorageFull,
    StorageUnavailable,
    UploadBusy,
    UploadComplete,
    UploadGone,
)
from haulier.core.quantity import MIB
from haulier.core.session import SessionId, SessionStatus
from haulier.engine.context import SessionLimits
from haulier.engine.planning import UploadLimits
from haulier.ports import BodyEnd, Deliver
from tests.support.bodies import FakeBody
from tests.support.engine import ME, Engine, beside, engine, let_others_run, until

DATA = bytes(range(256)) * 8
CHECKPOINT = 64 * 1024


@pytest.fixture(autouse=True)
def _small_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haulier.engine.appends.CHECKPOINT_BYTES", CHECKPOINT)


def sha256(data: bytes) -> Digest:
    return Digest(DigestName.SHA_256, hashlib.sha256(data).digest())


async def append(one: Engine, upload_id: SessionId, offset: int, body: FakeBody, **more: object) -> int:
    state = await one.uploads.append(upload_id, offset, body, caller=ME, **more)  # type: ignore[arg-type]
    return state.upload.offset


class Hooked(FakeBody):
    """A body that does something just before its first piece."""

    def __init__(self, before: Callable[[], object], *pieces: bytes, held: bool = False) -> None:
        super().__init__(*pieces, held=held)
        self._before = before

    async def receive(self, deliver: Deliver, *, limit: int | None = None) -> BodyEnd:
        self._before()
        return await super().receive(deliver, limit=limit)


async def test_the_append_that_brings_the_last_byte_commits() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        assert await append(one, upload.id, 0, FakeBody(DATA[:1000])) == 1000
        state = await one.uploads.append(upload.id, 1000, FakeBody(DATA[1000:]), caller=ME)
        assert state.upload.status is SessionStatus.COMMITTED
        assert state.upload.details.digest == sha256(DATA)
        assert await one.content(state.upload) == DATA
        assert one.disk.parts == {}


async def test_an_empty_upload_is_complete_at_once() -> None:
    async with engine() as one:
        upload = await one.begin_append(0)
        assert upload.status is SessionStatus.COMMITTED
        assert await one.content(upload) == b""
        assert upload.details.digest == sha256(b"")


async def test_an_empty_upload_that_is_begun_while_the_service_stops_comes_to_its_end() -> None:
    async with engine() as one:

        async def begin_to_stop() -> None:
            stopping.append(beside(one.uploads.stop()))
            await until(lambda: one.uploads._sessions._context.stopping)

        stopping: list[asyncio.Task[None]] = []
        one.before_sink("prepare", begin_to_stop)
        upload = await one.begin_append(0)
        await stopping[0]
        assert upload.status is SessionStatus.COMMITTED
        assert await one.uploads.probe() == []


async def test_an_empty_upload_whose_begin_a_crash_cut_is_finished_by_whoever_finds_it() -> None:
    async with engine() as one:
        reached = asyncio.Event()

        async def never() -> None:
            reached.set()
            await asyncio.Event().wait()

        one.before_sink("prepare", never)
        begin = beside(one.begin_append(0))
        await reached.wait()
        two = await one.restart()
        begin.cancel()
        (upload,) = await two.uploads.probe()
        assert await two.uploads.redo() == 1
        state = await two.uploads.wait(upload.id, caller=ME, timeout_s=5)
        assert state.upload.status is SessionStatus.COMMITTED
        await two.background.stop(grace_s=0)


async def test_a_size_is_declared_once_and_never_below_what_is_here() -> None:
    async with engine(limits=UploadLimits(sessions=SessionLimits(max_size=100))) as one:
        upload = await one.begin_append(None)
        await append(one, upload.id, 0, FakeBody(DATA[:10]))
        with pytest.raises(LengthInconsistent):
            await append(one, upload.id, 10, FakeBody(b""), size=9)
        with pytest.raises(LengthExceeded):
            await append(one, upload.id, 10, FakeBody(b""), size=101)
        assert await append(one, upload.id, 10, FakeBody(DATA[10:11]), size=12) == 11
        with pytest.raises(LengthInconsistent):
            await append(one, upload.id, 11, FakeBody(b""), size=13)
        state = await one.uploads.append(upload.id, 11, FakeBody(DATA[11:12]), caller=ME, size=12)
        assert (state.upload.status, state.upload.size) == (SessionStatus.COMMITTED, 12)


async def test_an_offset_that_is_not_the_end_is_refused_with_the_right_one() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        await append(one, upload.id, 0, FakeBody(DATA[:10]))
        with pytest.raises(OffsetMismatch) as raised:
            await append(one, upload.id, 5, FakeBody(DATA[5:]))
        assert (raised.value.expected, raised.value.provided) == (10, 5)


async def test_what_arrived_before_a_body_broke_its_rules_is_kept_and_told_so() -> None:
    async with engine() as one:
        upload = await one.begin_append(None)
        with pytest.raises(BodyMalformed) as raised:
            await append(one, upload.id, 0, FakeBody(DATA[:10], end=BodyEnd.MALFORMED), final=True)
        assert raised.value.received == 10
        state = await one.state(upload.id)
        assert (state.status, state.offset) == (SessionStatus.OPEN, 10)


async def test_what_arrived_before_a_cut_is_kept() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        with pytest.raises(BodyCut) as raised:
            await append(one, upload.id, 0, FakeBody(DATA[:700], end=BodyEnd.CUT, length=len(DATA)))
        assert raised.value.received == 700
        assert (await one.uploads.offset(upload.id, caller=ME)).offset == 700
        assert await append(one, upload.id, 700, FakeBody(DATA[700:])) == len(DATA)


async def test_a_cut_behind_the_last_byte_of_a_known_size_completes() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        state = await one.uploads.append(
            upload.id, 0, FakeBody(DATA, end=BodyEnd.CUT, announced=False), caller=ME
        )
        assert state.upload.status is SessionStatus.COMMITTED


async def test_a_cut_body_is_never_the_end_of_an_unknown_size() -> None:
    async with engine() as one:
        upload = await one.begin_append()
        with pytest.raises(BodyCut):
            await append(one, upload.id, 0, FakeBody(DATA, end=BodyEnd.CUT, announced=False), final=True)
        assert (await one.state(upload.id)).status is SessionStatus.OPEN
        assert await append(one, upload.id, len(DATA), FakeBody(b"end", announced=False), final=True) == 2051
        state = await one.state(upload.id)
        assert (state.status, state.size) == (SessionStatus.COMMITTED, 2051)


async def test_a_body_that_announces_too_much_stores_nothing() -> None:
    async with engine() as one:
        upload = await one.begin_append(10)
        with pytest.raises(LengthExceeded):
            await append(one, upload.id, 0, FakeBody(DATA))
        assert (await one.uploads.offset(upload.id, caller=ME)).offset == 0


async def test_a_body_that_turns_out_too_long_stores_nothing_past_the_size() -> None:
    async with engine() as one:
        upload = await one.begin_append(10)
        with pytest.raises(LengthExceeded) as raised:
            await append(one, upload.id, 0, FakeBody(b"12345", b"6789012345", announced=False))
        assert raised.value.limit == 10
        found = await one.uploads.offset(upload.id, caller=ME)
        assert (found.offset, found.status) == (0, SessionStatus.OPEN)
        assert await append(one, upload.id, 0, FakeBody(b"0123456789")) == 10


async def test_a_body_with_a_wrong_digest_stores_nothing() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        await append(one, upload.id, 0, FakeBody(DATA[:10]))
        with pytest.raises(DigestMismatch):
            await append(one, upload.id, 10, FakeBody(DATA[10:]), digests=(sha256(b"other"),))
        assert (await one.uploads.offset(upload.id, caller=ME)).offset == 10
        assert await append(one, upload.id, 10, FakeBody(DATA[10:]), digests=(sha256(DATA[10:]),)) == 2048


async def test_a_cut_body_with_a_digest_acknowledges_nothing() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        cut = FakeBody(DATA[:100], end=BodyEnd.CUT, length=len(DATA))
        with pytest.raises(BodyCut):
            await append(one, upload.id, 0, cut, digests=(sha256(DATA),))
        assert (await one.uploads.offset(upload.id, caller=ME)).offset == 0


async def test_bytes_of_a_killed_request_count_when_it_had_no_digest() -> None:
    async with engine() as one:
        upload = await one.begin_append(4 * CHECKPOINT)
        body = FakeBody(b"a" * CHECKPOINT, b"b" * 77, b"", held=True)
        running = beside(append(one, upload.id, 0, body))
        await body.reached.wait()
        two = await one.restart()
        running.cancel()
        assert (await two.uploads.offset(upload.id, caller=ME)).offset == CHECKPOINT + 77
        await two.background.stop(grace_s=0)


@pytest.mark.parametrize("before", ["nothing", "a body with a digest", "another boot"])
async def test_the_first_bytes_of_a_killed_request_count_before_any_checkpoint(before: str) -> None:
    async with engine() as one:
        upload = await one.begin_append(4 * CHECKPOINT)
        if before == "a body with a digest":
            with pytest.raises(BodyCut):
                await append(
                    one, upload.id, 0, FakeBody(b"x", end=BodyEnd.CUT, length=9), digests=(sha256(DATA),)
                )
        boot = "boot 2" if before == "another boot" else "boot 1"
        two = await one.restart(boot_id=boot)
        body = FakeBody(b"b" * 77, b"", held=True)
        running = beside(append(two, upload.id, 0, body))
        await body.reached.wait()
        three = await two.restart(boot_id=boot)
        running.cancel()
        assert (await three.uploads.offset(upload.id, caller=ME)).offset == 77
        await three.background.stop(grace_s=0)


async def test_bytes_past_the_row_do_not_count_after_the_machine_was_down() -> None:
    async with engine() as one:
        upload = await one.begin_append(4 * CHECKPOINT)
        body = FakeBody(b"a" * CHECKPOINT, b"b" * 77, b"", held=True)
        running = beside(append(one, upload.id, 0, body))
        await body.reached.wait()
        two = await one.restart(boot_id="boot 2")
        running.cancel()
        assert (await two.uploads.offset(upload.id, caller=ME)).offset == CHECKPOINT
        assert len(two.disk.parts[upload.id].data) == CHECKPOINT
        await two.background.stop(grace_s=0)


async def test_bytes_of_a_killed_request_with_a_digest_never_count() -> None:
    async with engine() as one:
        upload = await one.begin_append(4 * CHECKPOINT)
        first = b"a" * CHECKPOINT
        with pytest.raises(BodyCut):  # without a digest: from here on the tail is trusted
            await append(one, upload.id, 0, FakeBody(first, b"b" * 10, end=BodyEnd.CUT, announced=False))
        body = FakeBody(b"c" * 100, b"", held=True)
        running = beside(append(one, upload.id, CHECKPOINT + 10, body, digests=(sha256(b""),)))
        await body.reached.wait()
        two = await one.restart()
        running.cancel()
        assert (await two.uploads.offset(upload.id, caller=ME)).offset == CHECKPOINT + 10
        await two.background.stop(grace_s=0)


async def test_a_part_that_lost_its_bytes_goes_back_to_where_it_ends() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        await append(one, upload.id, 0, FakeBody(DATA[:1000]))
        del one.disk.parts[upload.id].data[600:]
        assert (await one.uploads.offset(upload.id, caller=ME)).offset == 600
        state = await one.uploads.append(upload.id, 600, FakeBody(DATA[600:]), caller=ME)
        assert state.upload.details.digest == sha256(DATA)


async def test_a_newer_request_takes_over_without_losing_a_byte() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        body = FakeBody(DATA[:500], DATA[500:], held=True)
        running = beside(append(one, upload.id, 0, body))
        await body.reached.wait()
        assert (await one.uploads.offset(upload.id, caller=ME)).offset == 500
        with pytest.raises(UploadBusy):
            await running
        assert await append(one, upload.id, 500, FakeBody(DATA[500:])) == len(DATA)


async def test_an_abort_takes_over_too() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        body = FakeBody(DATA[:500], DATA[500:], held=True)
        running = beside(append(one, upload.id, 0, body))
        await body.reached.wait()
        await one.uploads.abort(upload.id, caller=ME)
        with pytest.raises(UploadGone):
            await running
        assert one.disk.parts == {}


async def test_a_handler_that_lost_its_fence_writes_no_row_any_more() -> None:
    async with engine() as one:
        upload = await one.begin_append(4 * CHECKPOINT)
        body = FakeBody(b"a" * CHECKPOINT, b"b", held=True)
        running = beside(append(one, upload.id, 0, body))
        await body.reached.wait()
        await until(lambda: one.counts.bytes == CHECKPOINT)
        await one.take_over(upload.id)
        body.release()
        with pytest.raises(UploadBusy):
            await running
        assert (await one.state(upload.id)).offset == CHECKPOINT


async def test_a_checkpoint_that_finds_the_fence_lost_stops_the_body() -> None:
    async with engine() as one:
        upload = await one.begin_append(4 * CHECKPOINT)
        # The next write is the checkpoint; the body is held behind the piece that brings it.
        body = Hooked(
            lambda: one.before_write(lambda: one.take_over(upload.id)), b"a" * CHECKPOINT, b"b", held=True
        )
        with pytest.raises(UploadBusy):
            await append(one, upload.id, 0, body)
        assert body.stopped
        assert (await one.state(upload.id)).offset == 0
        assert bytes(one.disk.parts[upload.id].data) == b"a" * CHECKPOINT


async def test_a_checkpoint_that_fails_ends_the_request_and_keeps_the_bytes() -> None:
    async with engine() as one:
        upload = await one.begin_append(4 * CHECKPOINT)
        fault = StorageUnavailable("no")  # of the next transaction, which is the checkpoint
        body = Hooked(lambda: one.database.fail_next(fault), b"a" * CHECKPOINT, b"b", held=True)
        with pytest.raises(StorageUnavailable):
            await append(one, upload.id, 0, body)
        assert body.stopped
        assert (await one.state(upload.id)).offset == 0
        assert (await one.uploads.offset(upload.id, caller=ME)).offset == CHECKPOINT


async def test_a_full_disk_keeps_what_was_stored() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        await append(one, upload.id, 0, FakeBody(DATA[:5]))
        one.sink.fail_next("write", StorageFull(1, 0))
        with pytest.raises(StorageFull):
            await append(one, upload.id, 5, FakeBody(DATA[5:]))
        assert (await one.uploads.offset(upload.id, caller=ME)).offset == 5
        assert await append(one, upload.id, 5, FakeBody(DATA[5:])) == len(DATA)


async def test_a_body_of_unknown_length_leaves_free_what_must_stay_free() -> None:
    # The last byte of a disk is taken from the rows: then nothing could be aborted that would free any.
    async with engine() as one:
        upload = await one.begin_append()
        body = FakeBody(b"a" * CHECKPOINT, b"b", held=True)
        one.sink.fail_next("check", StorageFull(100, 99))
        with pytest.raises(StorageFull):
            await append(one, upload.id, 0, body)
        await one.uploads.abort(upload.id, caller=ME)
        assert one.disk.parts == {}


async def test_an_append_that_goes_on_asks_for_room_before_its_body_is_read() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        await append(one, upload.id, 0, FakeBody(DATA[:5]))
        one.sink.fail_next("check", StorageFull(len(DATA), 99))
        body = FakeBody(DATA[5:])
        with pytest.raises(StorageFull):
            await append(one, upload.id, 5, body)
        assert bytes(one.disk.parts[upload.id].data) == DATA[:5]
        assert await append(one, upload.id, 5, FakeBody(DATA[5:])) == len(DATA)


async def test_power_durability_syncs_before_it_says_so() -> None:
    limits = UploadLimits(sessions=SessionLimits(durable=True))
    async with engine(limits=limits) as one:
        upload = await one.begin_append(2 * CHECKPOINT)
        one.sink.fail_next("sync", StorageUnavailable("no"))
        body = FakeBody(b"a" * CHECKPOINT, b"b", held=True)
        with pytest.raises(StorageUnavailable):
            await append(one, upload.id, 0, body)
        assert (await one.state(upload.id)).offset == 0


@pytest.mark.parametrize("process", ["the same", "another", "the next"])
async def test_power_durability_counts_no_bytes_that_a_sync_failed_to_store(process: str) -> None:
    limits = UploadLimits(sessions=SessionLimits(durable=True))
    first, rest = b"a" * CHECKPOINT, b"b" * CHECKPOINT
    async with engine(limits=limits) as one:
        upload = await one.begin_append(2 * CHECKPOINT)
        assert await append(one, upload.id, 0, FakeBody(first)) == CHECKPOINT
        one.sink.fail_next("sync", StorageUnavailable("once"))
        with pytest.raises(StorageUnavailable):
            await append(one, upload.id, CHECKPOINT, FakeBody(rest[:5]))
        two = (
            one if process == "the same" else one.neighbour() if process == "another" else await one.restart()
        )
        assert (await two.uploads.offset(upload.id, caller=ME)).offset == CHECKPOINT
        await append(two, upload.id, CHECKPOINT, FakeBody(rest))
        done = await two.state(upload.id)
        assert done.status is SessionStatus.COMMITTED
        assert await two.content(done) == first + rest
        await two.background.stop(grace_s=0)


async def test_power_durability_lets_no_cancelled_request_flush_what_a_sync_failed_to_store() -> None:
    limits = UploadLimits(sessions=SessionLimits(durable=True))
    async with engine(limits=limits) as one:
        upload = await one.begin_append(4 * CHECKPOINT)
        body = FakeBody(b"a" * CHECKPOINT, b"b", held=True)
        tried = asyncio.Event()
        real = one.sink.step

        async def step(operation: str) -> None:
            if operation == "sync":
                running.cancel()
                tried.set()
            await real(operation)

        one.sink.step = step  # type: ignore[method-assign]
        one.sink.fail_next("sync", StorageUnavailable("once"))
        running = beside(append(one, upload.id, 0, body))
        await tried.wait()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await one.uploads.offset(upload.id, caller=ME)).offset == 0


async def test_a_finish_declares_an_unknown_size() -> None:
    async with engine() as one:
        upload = await one.begin_append()
        await append(one, upload.id, 0, FakeBody(DATA))
        with pytest.raises(InvalidRequest):
            await one.uploads.finish(upload.id, caller=ME)
        with pytest.raises(InvalidRequest):
            await one.uploads.finish(upload.id, caller=ME, size=10)
        done = (await one.uploads.finish(upload.id, caller=ME, size=len(DATA))).upload
        assert done.status is SessionStatus.COMMITTED
        assert await one.content(done) == DATA


async def test_an_append_whose_whole_is_wrong_has_failed() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA), expected=sha256(b"other"))
        with pytest.raises(DigestMismatch):
            await append(one, upload.id, 0, FakeBody(DATA))
        state = await one.state(upload.id)
        assert state.status is SessionStatus.FAILED
        assert one.disk.parts == {}
        assert one.counts.ends == [SessionStatus.FAILED]
        with pytest.raises(UploadGone):
            await append(one, upload.id, 0, FakeBody(DATA))
        with pytest.raises(UploadGone):
            await one.uploads.offset(upload.id, caller=ME)


async def test_an_aborted_upload_has_no_offset() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        await append(one, upload.id, 0, FakeBody(DATA[:700]))
        await one.uploads.abort(upload.id, caller=ME)
        with pytest.raises(UploadGone):
            await one.uploads.offset(upload.id, caller=ME)


async def test_the_offset_of_a_committed_upload_is_its_size() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        await append(one, upload.id, 0, FakeBody(DATA))
        assert (await one.uploads.offset(upload.id, caller=ME)).offset == len(DATA)
        with pytest.raises(UploadComplete):
            await append(one, upload.id, 0, FakeBody(DATA))


async def test_a_chunked_upload_has_no_offset() -> None:
    async with engine() as one:
        upload = await one.begin(10)
        with pytest.raises(InvalidRequest):
            await one.uploads.offset(upload.id, caller=ME)
        with pytest.raises(InvalidRequest):
            await append(one, upload.id, 0, FakeBody(b"0123456789"))


@pytest.mark.parametrize("ask", ["offset", "append", "redo"])
async def test_an_open_upload_at_full_size_is_finished_by_whoever_finds_it(ask: str) -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        await append(one, upload.id, 0, FakeBody(DATA[:2000]))
        # What a crash between the last byte and its row leaves behind.
        one.disk.parts[upload.id].data.extend(DATA[2000:])
        if ask == "offset":
            assert (await one.uploads.offset(upload.id, caller=ME)).status is SessionStatus.COMMITTED
        elif ask == "append":
            assert await append(one, upload.id, 2000, FakeBody()) == len(DATA)
        else:
            await one.database.write(
                lambda tx: tx.sessions.advance(
                    upload.id, upload.fence + 1, len(DATA), tail_trusted=True, boot_id="boot 1", now=1.0
                )
            )
            assert await one.uploads.redo() == 1
            await one.uploads.wait(upload.id, caller=ME, timeout_s=5)
        done = await one.state(upload.id)
        assert done.status is SessionStatus.COMMITTED
        assert await one.content(done) == DATA


async def test_a_redo_that_finds_fewer_bytes_than_the_row_says_leaves_the_upload_open() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        await append(one, upload.id, 0, FakeBody(DATA[:2000]))
        await one.database.write(
            lambda tx: tx.sessions.advance(
                upload.id, upload.fence + 1, len(DATA), tail_trusted=True, boot_id="boot 1", now=1.0
            )
        )
        assert await one.uploads.redo() == 1
        state = await one.state(upload.id)
        assert (state.status, state.offset) == (SessionStatus.OPEN, 2000)


async def test_a_session_that_ends_while_its_append_waits_is_told_so() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        claim = await one.claims.claim(upload.id, "append")
        waiting = beside(append(one, upload.id, 0, FakeBody(DATA)))
        await until(lambda: one.waiters(upload.id, "append") == 1)
        await one.database.write(
            lambda tx: tx.sessions.end(upload.id, None, SessionStatus.EXPIRED, error=None, now=1.0)
        )
        claim.release()
        with pytest.raises(UploadGone):
            await waiting


async def test_a_stopping_service_saves_running_appends() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        body = FakeBody(DATA[:500], DATA[500:], held=True)
        running = beside(append(one, upload.id, 0, body))
        await body.reached.wait()
        await one.uploads.stop()
        with pytest.raises(ServiceStopping):
            await running
        assert (await one.state(upload.id)).offset == 500


async def test_a_cancelled_append_keeps_what_the_sink_has() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        body = FakeBody(DATA[:500], DATA[500:], held=True)
        running = beside(append(one, upload.id, 0, body))
        await body.reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await one.state(upload.id)).offset == 500


async def test_time_alone_writes_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haulier.engine.appends.CHECKPOINT_S", 0.0)
    async with engine() as one:
        upload = await one.begin_append(MIB)
        body = FakeBody(b"a" * 1000, b"b", held=True)
        running = beside(append(one, upload.id, 0, body))
        await body.reached.wait()
        await until(lambda: one.counts.bytes == 1000)
        assert (await one.state(upload.id)).offset == 1000
        await let_others_run()  # several checkpoints pass that have nothing to write
        assert one.counts.bytes == 1000
        body.release()
        await running


@pytest.mark.parametrize(("meanwhile", "stored"), [(10, CHECKPOINT), (CHECKPOINT, 2 * CHECKPOINT)])
async def test_what_came_while_a_checkpoint_was_written_has_another_one_when_it_is_enough(
    meanwhile: int, stored: int
) -> None:
    async with engine() as one:
        upload = await one.begin_append(4 * CHECKPOINT)
        body = FakeBody(b"a" * CHECKPOINT, b"b" * meanwhile, b"", held=True)
        # The first write claims the session.
        one.before_write(body.reached.wait, nth=2)
        running = beside(append(one, upload.id, 0, body))
        await until(lambda: one.counts.bytes >= stored)
        await let_others_run()
        assert (await one.state(upload.id)).offset == stored
        body.stop()
        with pytest.raises(UploadBusy):
            await running


async def test_a_hold_that_is_lost_before_the_first_byte_takes_none() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(DATA))
        with pytest.raises(BodyCut):
            await append(one, upload.id, 0, FakeBody(DATA[:10], end=BodyEnd.CUT, length=len(DATA)))
        body = FakeBody(DATA[10:])
        # The first write is the claim, the second distrusts the tail.
        one.before_write(lambda: one.take_over(upload.id), nth=2)
        with pytest.raises(UploadBusy):
            await append(one, upload.id, 10, body, digests=(sha256(DATA[10:]),))
        assert body.receives == 0


async def test_a_digest_that_falls_behind_holds_the_bytes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haulier.engine.digests.MAX_BEHIND", 0)
    size = 3 * CHECKPOINT
    for slow in (False, True):
        async with engine() as one:
            if slow:
                one.sink.pause = lambda: asyncio.sleep(0)
            one.before_sink("scan", lambda: asyncio.sleep(0.001))
            upload = await one.begin_append(size)
            pieces = [bytes([number]) * (CHECKPOINT // 2) for number in range(6)]
            state = await one.uploads.append(upload.id, 0, FakeBody(*pieces), caller=ME)
            assert state.upload.details.digest == sha256(b"".join(pieces))


async def left_open_at_full_size(one: Engine, **request: object) -> SessionId:
    """Begin an append upload whose last row says that all is here, but not that it is being finished."""
    upload = await one.begin_append(len(DATA), **request)
    await append(one, upload.id, 0, FakeBody(DATA[:10]))
    one.disk.parts[upload.id].data.extend(DATA[10:])
    fence = upload.fence + 1
    advanced = await one.database.write(
        lambda tx: tx.sessions.advance(
            upload.id, fence, len(DATA), tail_trusted=True, boot_id="boot 1", now=1.0
        )
    )
    assert advanced
    return upload.id


async def test_one_upload_that_cannot_be_redone_does_not_keep_the_others_waiting() -> None:
    async with engine() as one:
        broken, wrong = (
            await left_open_at_full_size(one),
            await left_open_at_full_size(one, expected=sha256(b"")),
        )
        right = await left_open_at_full_size(one)
        real = one.sink.extent

        async def extent(key: str) -> int:
            if key == broken:
                raise StorageUnavailable("a bad sector")
            return await real(key)

        one.sink.extent = extent  # type: ignore[method-assign]  # one part fails, and only one
        assert await one.uploads.redo() == 3
        assert (
            await one.uploads.wait(right, caller=ME, timeout_s=5)
        ).upload.status is SessionStatus.COMMITTED
        assert (await one.uploads.wait(wrong, caller=ME, timeout_s=5)).upload.status is SessionStatus.FAILED
        assert (await one.state(broken)).status is SessionStatus.OPEN


async def test_a_body_that_turns_out_too_long_during_a_checkpoint_is_cut_to_what_the_row_says() -> None:
    for turns in range(12):
        async with engine() as one:
            upload = await one.begin_append(2 * CHECKPOINT)
            body = FakeBody(b"a" * CHECKPOINT, b"b" * (CHECKPOINT + 1), announced=False, held=True)
            one.database.pause = lambda: asyncio.sleep(0)
            running = beside(append(one, upload.id, 0, body))
            await body.reached.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            body.release()
            with pytest.raises(LengthExceeded):
                await running
            assert (await one.state(upload.id)).offset == len(one.disk.parts[upload.id].data)
