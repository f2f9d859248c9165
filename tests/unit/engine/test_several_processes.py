"""Several processes on the same rows and bytes: whoever is asked answers, and whoever dies is replaced."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

import pytest

from haulier.core.digest import Digest, DigestName
from haulier.core.errors import (
    DigestMismatch,
    HookUnavailable,
    ServiceStopping,
    StorageFull,
    StorageUnavailable,
    UploadBusy,
    UploadComplete,
    UploadGone,
    UploadNotFound,
)
from haulier.core.session import Mode, SessionId, SessionStatus
from haulier.core.values import replace
from haulier.engine import append_claims, appends, digests, endings
from haulier.engine.hooks import FinishedUpload, Hooks
from haulier.testing import MemorySink
from tests.support.bodies import FakeBody
from tests.support.engine import CHUNK, ME, Engine, beside, engine, let_others_run, until

A, B, C = b"a" * CHUNK, b"b" * CHUNK, b"c" * 10
WHOLE = A + B + C


@pytest.fixture(autouse=True)
def _everything_is_big(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haulier.engine.policy.SHARED_FROM", 1)
    monkeypatch.setattr(appends, "CHECKPOINT_BYTES", CHUNK)
    monkeypatch.setattr(append_claims, "LOOK_S", 0.02)
    monkeypatch.setattr(endings, "LOOK_S", 0.02)


def sha256(data: bytes) -> Digest:
    return Digest(DigestName.SHA_256, hashlib.sha256(data).digest())


async def stop(*engines: Engine) -> None:
    for one in engines:
        await one.background.stop(grace_s=0)


class DeafBody(FakeBody):
    """Does not stop when it is told to."""

    def stop(self) -> None:
        """Do nothing."""


async def running_append(
    one: Engine, size: int = len(WHOLE), *, body: FakeBody | None = None
) -> tuple[SessionId, FakeBody, Any]:
    """Begin an append whose body has brought A, as its row says, and brings nothing more for now."""
    upload = await one.begin_append(size)
    body = body or FakeBody(A, B, held=True)
    running = beside(one.uploads.append(upload.id, 0, body, caller=ME))
    await until(lambda: one.counts.bytes == len(A))
    return upload.id, body, running


# --- appends -----------------------------------------------------------------------------------------


async def test_an_append_lets_go_when_another_process_needs_it() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id, _, running = await running_append(one)
        assert (await two.uploads.offset(upload_id, caller=ME)).offset == len(A)
        with pytest.raises(UploadBusy):
            await running
        done = await two.uploads.append(upload_id, len(A), FakeBody(B, C), caller=ME)
        assert done.upload.status is SessionStatus.COMMITTED
        assert await two.content(done.upload) == WHOLE
        assert one.uploads._sessions._context.holds == {}
        await stop(two)


async def test_an_append_goes_from_process_to_process_piece_by_piece() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload = await one.begin_append(len(WHOLE))
        for number in range(0, len(WHOLE), 60_000):
            process = (one, two)[number // 60_000 % 2]
            piece = WHOLE[number : number + 60_000]
            await process.uploads.append(upload.id, number, FakeBody(piece), caller=ME)
        assert (await two.state(upload.id)).details.digest == sha256(WHOLE)
        await stop(two)


async def test_what_a_killed_process_had_written_is_kept_by_the_next_one() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id, _, running = await running_append(one)
        await one.die()
        running.cancel()
        assert (await two.uploads.offset(upload_id, caller=ME)).offset == len(A)
        await stop(two)


async def test_a_process_that_does_not_let_go_keeps_its_append() -> None:
    async with engine() as one:
        two = one.neighbour()
        deaf = DeafBody(A, B, held=True)
        upload_id, body, running = await running_append(one, len(A + B), body=deaf)
        offset = beside(two.uploads.offset(upload_id, caller=ME))
        await two.pass_time_until(offset.done)
        with pytest.raises(UploadBusy, match="does not let go"):
            await offset
        body.release()
        assert (await running).upload.status is SessionStatus.COMMITTED
        await stop(two)


async def test_a_handler_that_was_taken_for_dead_writes_neither_row_nor_file() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload = await one.begin_append(len(WHOLE))
        checked, go = asyncio.Event(), asyncio.Event()

        async def sleep() -> None:
            checked.set()
            await go.wait()

        one.before_sink("open", sleep)
        body = FakeBody(b"!" * 100)
        running = beside(one.uploads.append(upload.id, 0, body, caller=ME))
        await checked.wait()
        one.workers.living.discard(one.holder)
        await two.uploads.append(upload.id, 0, FakeBody(A), caller=ME)
        go.set()
        with pytest.raises((UploadBusy, StorageUnavailable)):
            await running
        assert body.receives == 0
        assert bytes(two.disk.parts[upload.id].data) == A
        assert (await two.state(upload.id)).offset == len(A)
        await stop(two)


async def test_a_tail_is_measured_only_when_its_writer_is_gone() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id, body, running = await running_append(one)
        one.workers.living.discard(one.holder)  # as far as anybody can tell; it still writes
        offset = beside(two.uploads.offset(upload_id, caller=ME))
        await until(lambda: two.clock.sleepers)
        body.release()
        assert (await running).upload.offset == len(A + B)
        two.clock.advance(1)
        assert (await offset).offset == len(A + B)
        await stop(two)


async def test_an_end_that_could_not_be_written_is_written_when_somebody_asks() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id, body, running = await running_append(one)
        one.database.fail_next(StorageUnavailable("no"))
        one.database.fail_next(StorageUnavailable("no"))
        body.stop()
        with pytest.raises(StorageUnavailable):
            await running
        assert (await one.state(upload_id)).holder == one.holder
        assert (await two.uploads.offset(upload_id, caller=ME)).offset == len(A)
        assert (await one.state(upload_id)).holder is None
        await stop(two)


async def test_an_end_that_could_not_be_written_is_written_by_the_janitor() -> None:
    async with engine() as one:
        upload_id, body, running = await running_append(one)
        one.database.fail_next(StorageUnavailable("no"))
        one.database.fail_next(StorageUnavailable("no"))
        body.stop()
        with pytest.raises(StorageUnavailable):
            await running
        await one.janitor.sweep()
        assert (await one.state(upload_id)).holder is None


async def test_who_waits_for_an_append_of_another_process_goes_when_the_service_stops() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id, body, running = await running_append(one, body=DeafBody(A, B, held=True))
        offset = beside(two.uploads.offset(upload_id, caller=ME))
        await until(lambda: upload_id in two.uploads._sessions._context.changes.watched())
        stopping = beside(two.uploads.stop())
        with pytest.raises(ServiceStopping):
            await offset
        await stopping
        body.release()
        await running
        await stop(two)


# --- ends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(Mode))
async def test_an_abort_stops_the_bodies_of_other_processes(mode: Mode) -> None:
    async with engine() as one:
        two = one.neighbour()
        if mode is Mode.APPEND:
            upload_id, _, running = await running_append(one)
        else:
            upload_id = (await one.begin(len(A))).id
            body = FakeBody(A[:5], A[5:], held=True)
            running = beside(one.uploads.put_chunk(upload_id, 0, body, caller=ME))
            await body.reached.wait()
        await two.uploads.abort(upload_id, caller=ME)
        with pytest.raises(UploadGone):
            await running
        assert one.disk.parts == {}
        await stop(two)


async def sprayed(one: Engine, two: Engine, **request: Any) -> SessionId:
    upload = await one.begin(len(WHOLE), **request)
    await two.uploads.put_chunk(upload.id, 1, FakeBody(B), caller=ME)
    await two.uploads.put_chunk(upload.id, 2, FakeBody(C), caller=ME)
    await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
    return upload.id


async def test_the_process_that_has_read_the_bytes_finishes_for_the_one_that_is_asked() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        done = (await two.uploads.finish(upload_id, caller=ME)).upload
        assert (done.status, done.details.digest) == (SessionStatus.COMMITTED, sha256(WHOLE))
        assert (one.counts.ends, two.counts.ends) == ([SessionStatus.COMMITTED], [])
        await stop(two)


async def test_a_wrong_digest_is_told_by_the_process_that_was_asked() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        with pytest.raises(DigestMismatch) as wrong:
            await two.uploads.finish(upload_id, caller=ME, digest=sha256(b""))
        assert wrong.value.actual == sha256(WHOLE).hex
        assert (await two.state(upload_id)).replaceable
        await stop(two)


async def test_a_digest_is_taken_back_when_another_process_replaces_what_it_has_read() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        with pytest.raises(DigestMismatch):
            await one.uploads.finish(upload_id, caller=ME, digest=sha256(C + A))
        await two.uploads.put_chunk(upload_id, 0, FakeBody(B), caller=ME, replace=True)
        for process in (one, two):
            done = await process.uploads.finish(upload_id, caller=ME, digest=sha256(B + B + C))
            assert done.upload.status is SessionStatus.COMMITTED
        await stop(two)


@pytest.mark.parametrize("ask", ["finish", "wait", "watch", "abort"])
async def test_a_finish_goes_on_when_its_process_dies(ask: str) -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        reached = asyncio.Event()

        async def never() -> None:
            reached.set()
            await asyncio.Event().wait()

        one.before_sink("commit", never)
        first = beside(one.uploads.finish(upload_id, caller=ME))
        await reached.wait()
        asked = beside(_ask(two, ask, upload_id))
        await until(lambda: upload_id in two.uploads._sessions._context.changes.watched())
        await one.die()
        first.cancel()
        await two.pass_time_until(asked.done, step_s=0.1)
        done = await two.state(upload_id)
        assert (done.status, done.details.digest) == (SessionStatus.COMMITTED, sha256(WHOLE))
        await stop(two)


async def _ask(one: Engine, ask: str, upload_id: SessionId) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "finish": lambda: one.uploads.finish(upload_id, caller=ME),
        "wait": lambda: one.uploads.wait(upload_id, caller=ME, timeout_s=30),
        "abort": lambda: one.uploads.abort(upload_id, caller=ME),
        "watch": lambda: _watch(one, upload_id),
    }
    with suppress(UploadComplete):
        await calls[ask]()


async def _watch(one: Engine, upload_id: SessionId) -> None:
    async with aclosing(one.uploads.watch(upload_id, caller=ME)) as states:
        assert [state.upload.status async for state in states][-1] is SessionStatus.COMMITTED


async def test_a_wait_hears_of_a_result_in_another_process() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        waiting = beside(two.uploads.wait(upload_id, caller=ME, timeout_s=30))
        await until(lambda: upload_id in two.uploads._sessions._context.changes.watched())
        await one.uploads.finish(upload_id, caller=ME)
        assert (await waiting).upload.status is SessionStatus.COMMITTED
        await stop(two)


async def test_a_finish_of_a_process_that_lives_is_left_to_it() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        reached, go = asyncio.Event(), asyncio.Event()

        async def hold_up() -> None:
            reached.set()
            await go.wait()

        one.before_sink("commit", hold_up)
        finish = beside(one.uploads.finish(upload_id, caller=ME))
        await reached.wait()
        assert await two.uploads.redo() == 0
        go.set()
        assert (await finish).upload.fence == (await two.state(upload_id)).fence == 1
        await stop(two)


# --- following ---------------------------------------------------------------------------------------


async def test_chunks_that_others_accepted_are_read_while_more_come() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        await until(lambda: one.uploads._digests.verified(upload_id) == len(WHOLE))
        await stop(two)


async def test_a_process_that_takes_bytes_follows_them_when_the_one_that_did_is_dead() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload = await one.begin(len(WHOLE))
        await one.die()
        await two.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        await until(lambda: two.uploads._digests.verified(upload.id) == len(A))
        assert (await two.state(upload.id)).follower == two.holder
        await stop(two)


async def test_what_is_small_is_hashed_where_it_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haulier.engine.policy.SHARED_FROM", digests.SHARED_FROM)
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        await one.die()
        done = (await two.uploads.finish(upload_id, caller=ME)).upload
        assert (done.details.digest, done.follower) == (sha256(WHOLE), one.holder)
        assert two.counts.ends == [SessionStatus.COMMITTED]
        await stop(two)


async def test_each_open_upload_is_followed_by_one_process() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        await two.uploads.resume()
        assert upload_id not in two.uploads._digests.followed_uploads()
        await one.die()
        await asyncio.gather(two.uploads.resume(), two.uploads.resume())
        assert two.uploads._digests.followed_uploads() == {upload_id}
        assert (await two.state(upload_id)).follower == two.holder
        await stop(two)


async def test_an_upload_that_ended_elsewhere_is_forgotten() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        await two.uploads.abort(upload_id, caller=ME)
        await until(lambda: one.uploads._sessions._context.remembered() == set())
        await stop(two)


# --- expiry ------------------------------------------------------------------------------------------


async def test_an_upload_that_another_process_holds_does_not_expire() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id, body, running = await running_append(one, len(A + B))
        for _ in range(4):
            one.clock.advance(one.limits.ttl_s / 2)
            await one.janitor.sweep()
            await two.janitor.sweep()
        body.release()
        assert (await running).upload.status is SessionStatus.COMMITTED
        assert upload_id
        await stop(two)


# --- words -------------------------------------------------------------------------------------------


async def test_a_word_that_cannot_be_looked_after_is_looked_after_with_the_next_one() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        waiting = beside(two.uploads.wait(upload_id, caller=ME, timeout_s=30))
        await until(lambda: upload_id in two.uploads._sessions._context.changes.watched())
        attention = two.uploads._sessions._attention
        two.database.fail_next(StorageUnavailable("no"))
        await attention.hear(None)
        await attention.hear(())
        await one.uploads.finish(upload_id, caller=ME)
        assert (await waiting).upload.status is SessionStatus.COMMITTED
        await stop(two)


async def test_nobody_listens_while_nothing_matters_here() -> None:
    async with engine() as one:
        attention = one.uploads._sessions._attention
        wanted = beside(attention.wanted())
        await asyncio.sleep(0)
        assert not wanted.done()
        await one.begin(len(WHOLE))
        await wanted


# --- moments between two looks -----------------------------------------------------------------------


async def test_a_comparison_does_not_count_when_its_chunk_was_replaced_meanwhile() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        with pytest.raises(DigestMismatch):
            await one.uploads.finish(upload_id, caller=ME, digest=sha256(b""))
        body = FakeBody(A[:5], A[5:], held=True)
        compared = beside(one.uploads.put_chunk(upload_id, 0, body, caller=ME))
        await body.reached.wait()
        await two.uploads.put_chunk(upload_id, 0, FakeBody(B), caller=ME, replace=True)
        body.release()
        with pytest.raises(UploadBusy, match="replaced"):
            await compared
        await stop(two)


async def test_a_comparison_counts_when_the_upload_was_committed_meanwhile() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        body = FakeBody(A[:5], A[5:], held=True)
        compared = beside(one.uploads.put_chunk(upload_id, 0, body, caller=ME))
        await body.reached.wait()
        await two.uploads.finish(upload_id, caller=ME)
        body.release()
        await compared
        await stop(two)


@pytest.mark.parametrize("status", [SessionStatus.ABORTED, SessionStatus.OPEN])
async def test_a_part_that_cannot_be_opened_is_explained_by_its_row(status: SessionStatus) -> None:
    async with engine() as one:
        upload = await one.begin(len(A))

        async def lose_it() -> None:
            if status is SessionStatus.ABORTED:
                await one.database.write(
                    lambda tx: tx.sessions.end(upload.id, None, status, error=None, now=1.0)
                )
            one.sink.fail_next("open", StorageUnavailable("the part is gone"))

        one.before_sink("open", lose_it)
        expected = StorageUnavailable if status is SessionStatus.OPEN else UploadGone
        with pytest.raises(expected):
            await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        assert bool(one.disk.parts) is (status is SessionStatus.OPEN)


async def test_a_chunk_that_comes_late_in_the_life_of_its_upload_prolongs_it_at_once() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        one.clock.advance(one.limits.ttl_s * 0.9)
        body = FakeBody(A[:5], A[5:], held=True)
        running = beside(one.uploads.put_chunk(upload.id, 0, body, caller=ME))
        await body.reached.wait()
        assert (await one.state(upload.id)).last_seen_at == one.clock.now()
        body.release()
        await running


async def test_one_of_two_that_want_to_follow_does() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        stale = await two.state(upload_id)
        one.workers.living.discard(one.holder)
        await two.database.write(lambda tx: tx.sessions.follow(upload_id, "three", instead_of=one.holder))
        await two.uploads._sessions._context.follow(stale)
        assert upload_id not in two.uploads._digests.followed_uploads()
        await stop(two)


async def test_an_older_end_does_not_forget_a_newer_hold() -> None:
    async with engine() as one:
        upload = await one.begin_append(len(A))
        context = one.uploads._sessions._context
        context.holds[upload.id] = 7
        await context.release(upload.id, 3)
        assert context.holds == {upload.id: 7}


async def test_a_part_that_is_written_for_too_long_is_not_committed_now() -> None:
    async with engine() as one:
        upload = await one.begin(len(A))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)
        await MemorySink(one.disk).open(upload.id, 0, 1)
        finish = beside(one.uploads.finish(upload.id, caller=ME))
        await one.pass_time_until(finish.done)
        with pytest.raises(StorageUnavailable, match="still being written"):
            await finish


async def test_a_finish_whose_answer_was_lost_goes_on_when_another_process_is_asked() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        one.database.lose_next_answer()
        with pytest.raises(StorageUnavailable):
            await one.uploads.finish(upload_id, caller=ME)
        done = await two.uploads.finish(upload_id, caller=ME)
        assert done.upload.status is SessionStatus.COMMITTED
        assert one.counts.ends == [SessionStatus.COMMITTED]
        await stop(two)


async def test_a_word_about_what_is_known_changes_nothing() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        waiting = beside(two.uploads.wait(upload_id, caller=ME, timeout_s=30))
        await until(lambda: upload_id in two.uploads._sessions._context.changes.watched())
        attention = two.uploads._sessions._attention
        for _ in range(3):
            await attention.hear([upload_id])
        assert not waiting.done()
        waiting.cancel()
        await stop(two)


async def test_an_unknown_upload_is_not_found_by_any_way_to_read_it() -> None:
    async with engine() as one:
        sessions = one.uploads._sessions
        with pytest.raises(UploadNotFound):
            await sessions.load(SessionId("none"))
        with pytest.raises(UploadNotFound):
            await sessions.abort(SessionId("none"))


async def test_a_word_that_is_overtaken_starts_nothing() -> None:
    async with engine() as one:
        upload_id = (await one.begin(len(A))).id
        await one.uploads.put_chunk(upload_id, 0, FakeBody(A), caller=ME)
        marks = await one.database.read(lambda tx: tx.sessions.marks([upload_id]))
        old = replace(marks[upload_id], status=SessionStatus.FINISHING, holder=one.holder)
        await one.uploads._sessions._attention._changed(upload_id, old, None)
        assert one.uploads._sessions._endings._completions == {}


async def test_a_holder_is_asked_once_to_go_on_with_its_finish() -> None:
    async with engine() as one:
        two = one.neighbour()
        upload_id = await sprayed(one, two)
        reached, go = asyncio.Event(), asyncio.Event()

        async def hold_up() -> None:
            reached.set()
            await go.wait()

        one.before_sink("commit", hold_up)
        finish = beside(one.uploads.finish(upload_id, caller=ME))
        await reached.wait()
        asking = beside(two.uploads.finish(upload_id, caller=ME))
        watchers = two.uploads._sessions._context.changes._watchers
        await until(lambda: upload_id in watchers)
        again = beside(two.uploads.finish(upload_id, caller=ME))
        await until(lambda: len(watchers.get(upload_id, ())) > 1, turns=1_000_000)
        assert (await two.state(upload_id)).asked == 1
        go.set()
        assert (await asking).upload == (await again).upload == (await finish).upload
        await stop(two)


async def test_nothing_is_remembered_of_an_upload_that_ended_while_its_follower_was_looked_for() -> None:
    async with engine() as one:
        upload = await one.begin(len(A), digest_name=DigestName.NONE)
        context = one.uploads._sessions._context
        await context._follow_when_shared(upload.id)
        assert context._looked == {}


async def test_a_begin_that_found_no_room_takes_nothing_back_that_another_process_received() -> None:
    async with engine() as one:
        two = one.neighbour()

        async def the_other_is_faster() -> None:
            upload = await two.begin(len(A), key="k")
            await two.uploads.put_chunk(upload.id, 0, FakeBody(A), caller=ME)

        one.before_sink("prepare", the_other_is_faster)
        one.sink.fail_next("prepare", StorageFull(len(A)))
        with pytest.raises(StorageFull):
            await one.begin(len(A), key="k")
        found = await two.begin(len(A), key="k")
        assert (await two.state(found.id)).received.total == len(A)
        done = await two.uploads.finish(found.id, caller=ME, digest=sha256(A))
        assert done.upload.status is SessionStatus.COMMITTED
        await stop(two)


async def test_a_finish_that_fails_in_one_process_has_failed_for_whoever_asks_another() -> None:
    """Clients that ask a second worker for the offset took the end for a success, after half a minute."""
    asked, broken, release = 0, True, asyncio.Event()

    async def scan(_: FinishedUpload) -> None:
        nonlocal asked
        asked += 1
        await release.wait()
        if broken:
            raise ZeroDivisionError

    async with engine(hooks=Hooks(on_finish=scan)) as one:
        two = one.neighbour()
        upload = await one.begin_append(len(C))
        append = beside(one.uploads.append(upload.id, 0, FakeBody(C), caller=ME))
        await until(lambda: asked == 1)
        waiting = beside(two.uploads.offset(upload.id, caller=ME))
        await until(lambda: upload.id in two.uploads._sessions._context.changes.watched(), turns=1_000_000)
        await let_others_run()
        assert (state := await two.state(upload.id)).asked == state.fence
        release.set()
        with pytest.raises(HookUnavailable):
            await append
        with pytest.raises(UploadBusy, match="its finish failed"):
            await waiting
        two.signals.tell(upload.id)
        await let_others_run()
        assert asked == 1
        # Its holder is asked again by whoever looks, and says again what came of it.
        with pytest.raises(UploadBusy, match="its finish failed"):
            await two.uploads.offset(upload.id, caller=ME)
        broken = False
        assert (await two.uploads.offset(upload.id, caller=ME)).status is SessionStatus.COMMITTED
        assert asked == 3
        await stop(two)
