"""What the simulation found, each as the smallest scenario that shows it."""

import asyncio

import pytest

from haulier.core.errors import LengthExceeded, ServiceStopping, StorageFull, StorageUnavailable
from haulier.core.session import Mode, SessionId, SessionStatus
from haulier.engine import appends
from haulier.engine.context import SessionLimits
from haulier.engine.planning import UploadLimits
from tests.support.bodies import FakeBody
from tests.support.engine import CHUNK, ME, Engine, beside, engine, until

DATA = b"12345"


def remembered(one: Engine) -> set[SessionId]:
    return one.uploads._sessions._context.remembered()


async def test_a_begin_that_fails_never_takes_back_what_another_begin_with_its_key_was_told() -> None:
    async with engine() as one:
        preparing, go = asyncio.Event(), asyncio.Event()

        async def hold_up() -> None:
            preparing.set()
            await go.wait()

        one.before_sink("prepare", hold_up)
        one.sink.fail_next("prepare", StorageFull(len(DATA), 0))
        first = beside(one.begin(len(DATA), key="k"))
        await preparing.wait()
        second = beside(one.begin(len(DATA), key="k"))
        await until(lambda: any(place.waiters for place in one.claims._places.values()) or second.done())
        go.set()
        with pytest.raises(StorageFull):
            await first
        assert (await one.state((await second).id)).status is SessionStatus.OPEN


async def test_an_abort_whose_part_cannot_be_removed_succeeds_and_keeps_nothing_in_memory() -> None:
    async with engine() as one:
        upload = await one.begin(len(DATA))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
        one.sink.fail_next("discard", StorageUnavailable("no"))
        await one.uploads.abort(upload.id, caller=ME)
        assert (await one.state(upload.id)).status is SessionStatus.ABORTED
        assert remembered(one) == set()
        await one.janitor.sweep()
        assert one.disk.parts == {}


async def test_a_finish_whose_part_cannot_be_removed_succeeds() -> None:
    async with engine() as one:
        upload = await one.begin(len(DATA))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
        one.sink.fail_next("discard", StorageUnavailable("no"))
        state = await one.uploads.finish(upload.id, caller=ME)
        assert state.upload.status is SessionStatus.COMMITTED


async def test_a_wait_is_woken_by_an_abort_whose_answer_was_lost() -> None:
    async with engine() as one:
        upload = await one.begin(len(DATA))
        wait = beside(one.uploads.wait(upload.id, caller=ME, timeout_s=3600.0))
        await until(lambda: bool(one.uploads._sessions._context.changes._watchers))
        one.database.lose_next_answer()
        with pytest.raises(StorageUnavailable):
            await one.uploads.abort(upload.id, caller=ME)
        assert (await wait).upload.status is SessionStatus.ABORTED


async def test_an_abort_that_is_repeated_after_a_lost_answer_frees_the_bytes() -> None:
    async with engine() as one:
        upload = await one.begin(len(DATA))
        one.database.lose_next_answer()
        with pytest.raises(StorageUnavailable):
            await one.uploads.abort(upload.id, caller=ME)
        assert one.disk.parts != {}
        await one.uploads.abort(upload.id, caller=ME)
        assert one.disk.parts == {}


async def test_an_expiry_whose_answer_was_lost_keeps_nothing_in_memory() -> None:
    async with engine() as one:
        upload = await one.begin(len(DATA))
        one.clock.advance(25 * 3600.0)
        one.database.lose_next_answer()
        with pytest.raises(StorageUnavailable):
            await one.janitor.expire()
        assert (await one.state(upload.id)).status is SessionStatus.EXPIRED
        assert remembered(one) == {upload.id}
        await one.janitor.sweep()
        assert remembered(one) == set()


@pytest.mark.parametrize("mode", Mode)
async def test_a_request_that_waits_for_its_turn_takes_no_byte_after_a_stop(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine() as one:
        upload = await one.begin(2 * CHUNK, mode=mode)
        bodies = [FakeBody(b"x", b"x" * (CHUNK - 1), held=True) for _ in range(2)]
        if mode is Mode.CHUNKS:
            calls = [one.uploads.put_chunk(upload.id, 0, body, caller=ME) for body in bodies]
            requests = [beside(call) for call in calls]
        else:
            requests = [beside(_append(one, upload.id, body)) for body in bodies[:1]]
            await bodies[0].reached.wait()
            monkeypatch.setattr(bodies[0], "stop", lambda: None)  # it has not heard of it yet
            requests.append(beside(_append(one, upload.id, bodies[1])))
        await bodies[0].reached.wait()
        await until(lambda: any(place.waiters for place in one.claims._places.values()))
        stop = beside(one.uploads.stop())
        await until(lambda: one.uploads._sessions._context.stopping)
        bodies[0].release()
        await stop
        with pytest.raises(ServiceStopping):
            await requests[1]
        assert bodies[1].receives == 0
        await asyncio.wait(requests)
        assert all(isinstance(request.exception(), ServiceStopping | None) for request in requests)


async def _append(one: Engine, upload_id: SessionId, body: FakeBody) -> None:
    await one.uploads.append(upload_id, 0, body, caller=ME)


async def test_a_checkpoint_never_counts_the_last_byte_before_the_body_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(appends, "CHECKPOINT_BYTES", 1)
    async with engine(limits=UploadLimits(sessions=SessionLimits(durable=True))) as one:
        upload = await one.begin_append(len(DATA))
        body = FakeBody(DATA[:2], DATA[2:], b"!", announced=False, held=True)
        syncing, go = asyncio.Event(), asyncio.Event()
        real = one.sink.step

        async def step(operation: str) -> None:
            if operation == "sync":
                syncing.set()
                await go.wait()
            await real(operation)

        monkeypatch.setattr(one.sink, "step", step)
        request = beside(one.uploads.append(upload.id, 0, body, caller=ME))
        await syncing.wait()
        await body.reached.wait()
        go.set()
        body.release()
        with pytest.raises(LengthExceeded):
            await request
        assert (await one.state(upload.id)).offset < len(DATA)
