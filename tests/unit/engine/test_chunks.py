"""Chunks: accepted whole and once, compared afterwards, replaced only after a wrong whole."""

import asyncio
import hashlib
from contextlib import nullcontext

import pytest
import xxhash

from haulier.core.digest import Digest, DigestName
from haulier.core.errors import (
    BodyCut,
    ChunkConflict,
    ChunkOutOfRange,
    ChunksMissing,
    ChunkTooLong,
    ChunkTooShort,
    DigestMismatch,
    InvalidRequest,
    ServiceStopping,
    StorageFull,
    StorageUnavailable,
    UploadBusy,
    UploadComplete,
    UploadGone,
    UploadNotFound,
)
from haulier.core.session import Chunk, SessionId, SessionStatus
from haulier.ports import BodyEnd
from haulier.testing import MemorySink
from tests.support.bodies import FakeBody
from tests.support.engine import CHUNK, ME, beside, engine, let_others_run, until

A, B, C = b"a" * CHUNK, b"b" * CHUNK, b"c" * 10
WHOLE = A + B + C


def sha256(data: bytes) -> Digest:
    return Digest(DigestName.SHA_256, hashlib.sha256(data).digest())


async def test_chunks_in_any_order_become_the_file() -> None:
    async with engine() as one:
        upload = await one.begin(len(WHOLE))
        for index, data in ((2, C), (0, A), (1, B)):
            await one.uploads.put_chunk(upload.id, index, FakeBody(data), caller=ME)
        done = (await one.uploads.finish(upload.id, caller=ME)).upload
        assert done.status is SessionStatus.COMMITTED
        assert await one.content(done) == WHOLE
        assert done.details.digest == sha256(WHOLE)
        assert one.disk.parts == {}
        assert (one.counts.uploads, one.counts.bytes) == (1, len(WHOLE))
        assert one.counts.ends == [SessionStatus.COMMITTED]


async def test_received_ranges_are_exactly_the_accepted_chunks() -> None:
    async with engine() as one:
        upload = await one.begin(len(WHOLE))
        await one.uploads.put_chunk(upload.id, 2, FakeBody(C), caller=ME)
        await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        state = await one.state(upload.id)
        assert state.received.pairs == ((0, CHUNK), (2 * CHUNK, 2 * CHUNK + 10))
        assert state.missing_chunks(10) == [1]


async def test_the_same_bytes_again_succeed_and_write_nothing() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        one.sink.fail_next("write", AssertionError("written"))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        assert one.counts.bytes == len(A)


async def test_other_bytes_for_an_accepted_index_conflict_and_change_nothing() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        with pytest.raises(ChunkConflict) as raised:
            await one.uploads.put_chunk(upload.id, 0, FakeBody(B), caller=ME)
        assert raised.value.index == 0
        done = (await one.uploads.finish(upload.id, caller=ME)).upload
        assert await one.content(done) == A


async def test_replace_without_a_wrong_whole_is_an_ordinary_duplicate() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        with pytest.raises(ChunkConflict):
            await one.uploads.put_chunk(upload.id, 0, FakeBody(B), caller=ME, replace=True)


async def test_two_puts_of_one_index_at_once_store_the_accepted_bytes() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        results = await asyncio.gather(
            one.uploads.put_chunk(upload.id, 0, FakeBody(A[:99], A[99:]), caller=ME),
            one.uploads.put_chunk(upload.id, 0, FakeBody(B[:77], B[77:]), caller=ME),
            return_exceptions=True,
        )
        assert results[0] is None
        assert isinstance(results[1], ChunkConflict)
        done = (await one.uploads.finish(upload.id, caller=ME)).upload
        assert await one.content(done) == A


async def test_a_second_put_waits_for_the_first_and_is_compared() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        first, second = FakeBody(A[:5], A[5:], held=True), FakeBody(A)
        puts = [beside(one.uploads.put_chunk(upload.id, 0, b, caller=ME)) for b in (first, second)]
        await first.reached.wait()
        assert second.receives == 0
        first.release()
        await asyncio.gather(*puts)
        assert second.receives == 1
        assert one.counts.bytes == len(A)


async def test_a_wrong_whole_reopens_and_a_replaced_chunk_makes_it_right() -> None:
    async with engine() as one:
        upload = await one.begin(len(WHOLE), expected=sha256(WHOLE))
        for index, data in enumerate((A, A, C)):
            await one.uploads.put_chunk(upload.id, index, FakeBody(data), caller=ME)
        with pytest.raises(DigestMismatch) as raised:
            await one.uploads.finish(upload.id, caller=ME)
        assert raised.value.expected == sha256(WHOLE).hex
        assert raised.value.actual == sha256(A + A + C).hex
        state = await one.state(upload.id)
        assert state.status is SessionStatus.OPEN
        assert state.error is not None
        await one.uploads.put_chunk(upload.id, 1, FakeBody(B), caller=ME, replace=True)
        done = (await one.uploads.finish(upload.id, caller=ME)).upload
        assert done.status is SessionStatus.COMMITTED
        assert done.error is None
        assert await one.content(done) == WHOLE


async def test_a_replacement_that_is_cut_leaves_the_chunk_missing() -> None:
    async with engine() as one:
        upload = await one.begin(len(A), expected=sha256(B))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        with pytest.raises(DigestMismatch):
            await one.uploads.finish(upload.id, caller=ME)
        cut = FakeBody(B[:9], end=BodyEnd.CUT, length=len(B))
        with pytest.raises(BodyCut):
            await one.uploads.put_chunk(upload.id, 0, cut, caller=ME, replace=True)
        with pytest.raises(ChunksMissing) as raised:
            await one.uploads.finish(upload.id, caller=ME)
        assert raised.value.missing == ((0, CHUNK),)


async def test_a_replacement_that_lost_against_a_finish_is_told_so() -> None:
    async with engine() as one:
        upload = await one.begin(len(A), expected=sha256(B))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        with pytest.raises(DigestMismatch):
            await one.uploads.finish(upload.id, caller=ME)
        one.before_write(
            lambda: one.database.write(
                lambda tx: tx.sessions.start_finish(upload.id, "b" * 32, "worker 0", now=1.0)
            )
        )
        with pytest.raises(UploadBusy):
            await one.uploads.put_chunk(upload.id, 0, FakeBody(B), caller=ME, replace=True)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (FakeBody(A + b"x"), ChunkTooLong),
        (FakeBody(A, b"x", announced=False), ChunkTooLong),
        (FakeBody(A[1:]), ChunkTooShort),
        (FakeBody(A[1:], announced=False), ChunkTooShort),
        (FakeBody(), ChunkTooShort),
    ],
)
async def test_a_body_of_another_length_than_the_chunk_is_refused(
    body: FakeBody, error: type[Exception]
) -> None:
    async with engine() as one:
        upload = await one.begin(len(WHOLE))
        with pytest.raises(error):
            await one.uploads.put_chunk(upload.id, 0, body, caller=ME)
        assert not (await one.state(upload.id)).received


async def test_a_cut_body_accepts_nothing_but_counts_as_activity() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        one.clock.advance(100)
        cut = FakeBody(A[:100], end=BodyEnd.CUT, length=len(A))
        with pytest.raises(BodyCut) as raised:
            await one.uploads.put_chunk(upload.id, 0, cut, caller=ME)
        assert raised.value.received == 100
        state = await one.state(upload.id)
        assert not state.received
        assert state.last_seen_at == one.clock.now()


async def test_a_chunk_whose_own_digest_is_wrong_is_not_accepted() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        with pytest.raises(DigestMismatch):
            await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME, digests=(sha256(B),))
        assert not (await one.state(upload.id)).received
        await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME, digests=(sha256(A),))
        with pytest.raises(DigestMismatch):
            await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME, digests=(sha256(B),))


async def test_indexes_outside_of_the_upload_are_refused() -> None:
    async with engine() as one:
        upload = await one.begin(len(WHOLE))
        for index in (-1, 3, 10**30):
            with pytest.raises(ChunkOutOfRange):
                await one.uploads.put_chunk(upload.id, index, FakeBody(A), caller=ME)


async def test_unknown_ended_and_committed_uploads_take_no_chunks() -> None:
    async with engine() as one:
        with pytest.raises(UploadNotFound):
            await one.uploads.put_chunk(SessionId("nobody"), 0, FakeBody(A), caller=ME)
        aborted = await one.begin(len(A))
        await one.uploads.abort(aborted.id, caller=ME)
        with pytest.raises(UploadGone):
            await one.uploads.put_chunk(aborted.id, 0, FakeBody(A), caller=ME)
        done = await one.begin(len(A))
        await one.uploads.put_chunk(done.id, 0, FakeBody(A), caller=ME)
        await one.uploads.finish(done.id, caller=ME)
        with pytest.raises(UploadComplete) as raised:
            await one.uploads.put_chunk(done.id, 0, FakeBody(A), caller=ME)
        assert raised.value.record == done.details.record


async def test_an_append_upload_takes_no_chunks() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(A))
        with pytest.raises(InvalidRequest):
            await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)


async def test_a_finishing_upload_compares_and_accepts_nothing_new() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        await one.database.write(
            lambda tx: tx.sessions.start_finish(upload.id, "b" * 32, "worker 0", now=1.0)
        )
        await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        with pytest.raises(ChunkConflict):
            await one.uploads.put_chunk(upload.id, 0, FakeBody(B), caller=ME)


async def test_an_abort_ends_a_running_put_and_frees_the_bytes() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        body = FakeBody(A[:5], A[5:], held=True)
        put = beside(one.uploads.put_chunk(upload.id, 0, body, caller=ME))
        await body.reached.wait()
        await one.uploads.abort(upload.id, caller=ME)
        with pytest.raises(UploadGone):
            await put
        assert one.disk.parts == {}


async def test_an_acceptance_that_comes_after_the_end_does_not_count() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        one.before_sink(
            "open",
            lambda: one.database.write(
                lambda tx: tx.sessions.end(upload.id, None, SessionStatus.EXPIRED, error=None, now=1.0)
            ),
        )
        with pytest.raises(UploadGone):
            await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)


@pytest.mark.parametrize("same", [True, False])
async def test_a_chunk_that_another_process_was_faster_with_is_compared(same: bool) -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        accepted = Chunk(index=0, size=len(A), fingerprint=xxhash.xxh3_128_digest(A if same else B))

        async def be_faster() -> None:
            await one.database.write(lambda tx: tx.sessions.accept_chunk(upload.id, 0, accepted, now=1.0))

        one.before_sink("open", be_faster)
        with nullcontext() if same else pytest.raises(ChunkConflict):
            await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        assert await one.database.read(lambda tx: tx.sessions.chunk(upload.id, 0)) == accepted
        assert bytes(one.disk.parts[upload.id].data) == bytes(CHUNK)


async def test_an_acceptance_without_a_lock_that_another_was_faster_with_is_busy() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        chunk = Chunk(index=0, size=len(A), fingerprint=b"f" * 16)
        one.before_write(
            lambda: one.database.write(lambda tx: tx.sessions.accept_chunk(upload.id, 0, chunk, now=1.0))
        )
        with pytest.raises(UploadBusy):
            await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)


async def test_a_range_that_another_process_has_is_waited_for() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        other = MemorySink(one.disk)
        writer = await other.open(upload.id, 0, len(A))
        put = beside(one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME))
        await until(lambda: one.clock.sleepers)
        await writer.close()
        one.clock.advance(1)
        await put


async def test_a_range_that_another_process_keeps_is_busy_after_a_while() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        await MemorySink(one.disk).open(upload.id, 0, len(A))
        body = FakeBody(A)
        put = beside(one.uploads.put_chunk(upload.id, 0, body, caller=ME))
        await one.pass_time_until(put.done)
        with pytest.raises(UploadBusy):
            await put
        assert body.receives == 0


async def test_whoever_waits_for_a_range_goes_when_the_service_stops() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        await MemorySink(one.disk).open(upload.id, 0, len(A))
        put = beside(one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME))
        await until(lambda: one.clock.sleepers)
        stop = beside(one.uploads.stop())
        await one.pass_time_until(stop.done)
        with pytest.raises(ServiceStopping):
            await put


async def test_a_chunk_of_an_upload_that_ended_in_another_process_leaves_no_part() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))

        async def abort() -> None:
            await one.database.write(
                lambda tx: tx.sessions.end(upload.id, None, SessionStatus.ABORTED, error=None, now=1.0)
            )
            await MemorySink(one.disk).discard(upload.id)

        one.before_sink("open", abort)
        with pytest.raises(UploadGone):
            await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        assert one.disk.parts == {}


async def test_a_full_disk_refuses_the_chunk_and_the_session_goes_on() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        one.sink.fail_next("write", StorageFull(len(A), 0))
        with pytest.raises(StorageFull):
            await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        done = (await one.uploads.finish(upload.id, caller=ME)).upload
        assert await one.content(done) == A


async def test_a_cancelled_put_accepts_nothing_and_releases_its_range() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        body = FakeBody(A[:5], A[5:], held=True)
        put = beside(one.uploads.put_chunk(upload.id, 0, body, caller=ME))
        await body.reached.wait()
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        assert one.claims.held() == frozenset()


async def test_a_stopping_service_ends_running_chunks_and_takes_no_more() -> None:
    async with engine() as one:
        upload = await one.begin(2 * len(A))
        body, behind = FakeBody(A[:5], A[5:], held=True), FakeBody(A)
        put = beside(one.uploads.put_chunk(upload.id, 0, body, caller=ME))
        await body.reached.wait()
        waiting = beside(one.uploads.put_chunk(upload.id, 0, behind, caller=ME))
        await until(lambda: waiting.done() or one.claims.held())
        await one.uploads.stop()
        for ended in (put, waiting):
            with pytest.raises(ServiceStopping):
                await ended
        with pytest.raises(ServiceStopping):
            await one.uploads.put_chunk(upload.id, 1, FakeBody(A), caller=ME)


async def test_an_upload_that_vanishes_while_its_put_waits_does_not_exist() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        claim = await one.claims.claim(upload.id, "chunk 0")
        waiting = beside(one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME))
        await until(lambda: one.waiters(upload.id, "chunk 0") == 1)
        await one.database.write(lambda tx: tx.sessions.erase(upload.id))
        claim.release()
        with pytest.raises(UploadNotFound):
            await waiting


async def test_a_digest_that_falls_behind_holds_the_next_chunk_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haulier.engine.digests.MAX_BEHIND", 0)
    async with engine() as one:
        upload = await one.begin(2 * CHUNK)
        go = asyncio.Event()
        one.before_sink("scan", go.wait)
        await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        body = FakeBody(B)
        put = beside(one.uploads.put_chunk(upload.id, 1, body, caller=ME))
        await until(lambda: "chunk 1" in {what for _, what in one.claims._places})
        await let_others_run()
        assert body.receives == 0
        go.set()
        await put
        await until(lambda: one.uploads._digests.verified(upload.id) == 2 * CHUNK)
        assert (await one.uploads.state(upload.id, caller=ME)).verified_bytes == 2 * CHUNK


class TestAPartThatIsGone:
    async def test_costs_what_was_in_it_and_no_more(self) -> None:
        async with engine() as one:
            upload = await one.begin(len(WHOLE))
            for index, data in ((0, A), (1, B)):
                await one.uploads.put_chunk(upload.id, index, FakeBody(data), caller=ME)
            del one.disk.parts[upload.id]
            await one.uploads.put_chunk(upload.id, 2, FakeBody(C), caller=ME)
            state = await one.state(upload.id)
            assert state.received.pairs == ((2 * CHUNK, len(WHOLE)),)
            assert state.error == f"{2 * CHUNK} accepted bytes were lost on disk"
            with pytest.raises(ChunksMissing) as raised:
                await one.uploads.finish(upload.id, caller=ME)
            assert raised.value.missing == ((0, 2 * CHUNK),)
            for index, data in ((1, B), (0, A)):
                await one.uploads.put_chunk(upload.id, index, FakeBody(data), caller=ME)
            done = (await one.uploads.finish(upload.id, caller=ME)).upload
            assert await one.content(done) == WHOLE
            assert done.details.digest == sha256(WHOLE)

    async def test_counts_no_chunk_that_was_on_its_way_into_it(self) -> None:
        async with engine() as one:
            upload = await one.begin(len(WHOLE))
            body = FakeBody(B[:5], B[5:], held=True)
            running = beside(one.uploads.put_chunk(upload.id, 1, body, caller=ME))
            await body.reached.wait()
            del one.disk.parts[upload.id]
            await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
            body.release()
            with pytest.raises(UploadBusy):
                await running
            assert (await one.state(upload.id)).received.pairs == ((0, CHUNK),)
            for index, data in ((1, B), (2, C)):
                await one.uploads.put_chunk(upload.id, index, FakeBody(data), caller=ME)
            done = (await one.uploads.finish(upload.id, caller=ME)).upload
            assert await one.content(done) == WHOLE

    async def test_is_made_anew_once_for_all_that_come_at_once(self) -> None:
        async with engine() as one:
            upload = await one.begin(len(WHOLE))
            del one.disk.parts[upload.id]
            puts = [
                one.uploads.put_chunk(upload.id, index, FakeBody(data), caller=ME)
                for index, data in enumerate((A, B, C))
            ]
            await asyncio.gather(*puts)
            state = await one.state(upload.id)
            assert (state.received.total, state.fence, state.error) == (len(WHOLE), 1, None)
            done = (await one.uploads.finish(upload.id, caller=ME)).upload
            assert await one.content(done) == WHOLE

    async def test_is_left_to_another_process_that_was_faster(self) -> None:
        async with engine() as one:
            upload = await one.begin(len(WHOLE))
            await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
            del one.disk.parts[upload.id]
            one.before_sink(
                "recover",
                lambda: one.database.write(lambda tx: tx.sessions.lose_chunks(upload.id, 0, None, now=1.0)),
            )
            with pytest.raises(UploadBusy):
                await one.uploads.put_chunk(upload.id, 1, FakeBody(B), caller=ME)
            await one.uploads.put_chunk(upload.id, 1, FakeBody(B), caller=ME)
            assert (await one.state(upload.id)).received.pairs == ((CHUNK, 2 * CHUNK),)

    async def test_of_an_upload_that_has_ended_elsewhere_is_not_made_anew(self) -> None:
        async with engine() as one:
            upload = await one.begin(len(WHOLE))
            del one.disk.parts[upload.id]
            one.before_sink(
                "recover",
                lambda: one.database.write(
                    lambda tx: tx.sessions.end(upload.id, None, SessionStatus.ABORTED, error=None, now=1.0)
                ),
            )
            with pytest.raises(UploadGone):
                await one.uploads.put_chunk(upload.id, 1, FakeBody(B), caller=ME)
            assert one.disk.parts == {}

    async def test_that_may_come_back_costs_nothing(self) -> None:
        async with engine() as one:
            upload = await one.begin(len(WHOLE))
            await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
            part = one.disk.parts.pop(upload.id)
            one.sink.fail_next("recover", StorageUnavailable("another file system"))
            with pytest.raises(StorageUnavailable):
                await one.uploads.put_chunk(upload.id, 1, FakeBody(B), caller=ME)
            one.disk.parts[upload.id] = part
            for index, data in ((1, B), (2, C)):
                await one.uploads.put_chunk(upload.id, index, FakeBody(data), caller=ME)
            done = (await one.uploads.finish(upload.id, caller=ME)).upload
            assert await one.content(done) == WHOLE
