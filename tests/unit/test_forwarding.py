"""A capsule that forwards: what is written when a record completes, and what is queued of it."""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from haulier.core.errors import StorageUnavailable
from haulier.core.event import EventKind, Position, Told
from haulier.core.record import Record, RecordId
from haulier.core.transfer import Outcome
from haulier.core.values import replace
from haulier.engine.courier import ReceiverFailed
from haulier.engine.send import UploadManager
from haulier.forwarding import Forwarding, target_of
from haulier.testing.event_rows_contract import events_after
from tests.support.bodies import FakeBody
from tests.support.engine import ME, Engine, engine
from tests.support.sending import Sending


async def stored(one: Engine, **request: object) -> RecordId:
    upload = await one.begin(5, **request)
    await one.uploads.put_chunk(upload.id, 0, FakeBody(b"12345"), caller=ME)
    upload = (await one.uploads.finish(upload.id, caller=ME)).upload
    assert upload.details.record is not None
    return RecordId(upload.details.record)


async def on_disk(one: Engine, world: Sending, record_id: RecordId) -> Record:
    """Let the record's bytes be a file; returns the record."""
    record = await one.database.read(lambda tx: tx.records.load(record_id))
    assert record is not None
    world.files.write(path_of(record), b"12345")
    return record


def path_of(record: Record) -> str:
    return f"/{record.assets[0].blob_key}"


async def forward(one: Engine, to: str) -> None:
    async def change(tx: object) -> None:
        capsule = await tx.capsules.load("default")  # type: ignore[attr-defined]
        await tx.capsules.change(capsule.set({"forward": to}))  # type: ignore[attr-defined]

    await one.database.write(change)


@asynccontextmanager
async def forwarding() -> AsyncIterator[tuple[Engine, Sending, UploadManager, Forwarding]]:
    world = Sending()
    async with engine() as one, world.running() as manager:
        yield one, world, manager, Forwarding(manager, one.database, lambda key: Path(f"/{key}"))


async def last(one: Engine) -> Told:
    return [told for told in await events_after(one.database) if told.event.kind is EventKind.COMPLETED][-1]


async def test_what_completes_in_a_capsule_that_forwards_is_queued_once() -> None:
    async with forwarding() as (one, world, manager, receiver):
        await stored(one)
        told = await last(one)
        assert "forward" not in told.event.facts
        assert not receiver.interest.covers(told.event)
        await forward(one, "any:in")
        record = await stored(one, path="sub/name.bin", filename="name.bin")
        told = await last(one)
        assert told.event.facts["forward"] == "any:in"
        assert receiver.interest.covers(told.event)
        assert not receiver.interest.covers(replace(told.event, kind=EventKind.RESTORED))
        await on_disk(one, world, record)
        for _ in range(3):
            await receiver.receive(told)
        views, _ = await manager.list()
        assert len(views) == 1
        assert views[0].row.id.startswith(f"forward-{record}-")
        await manager.wait(views[0].row.id)
        await receiver.receive(told)
    assert world.remote.files == {"in/sub/name.bin": [b"12345"]}


async def test_a_repeat_sends_nothing_whose_transfer_somebody_has_removed() -> None:
    async with forwarding() as (one, world, manager, receiver):
        await forward(one, "any:in")
        await on_disk(one, world, await stored(one))
        told = await last(one)
        await receiver.receive(told)
        views, _ = await manager.list()
        await manager.wait(views[0].row.id)
        await manager.remove(views[0].row.id)
        await receiver.receive(told)
        assert await manager.list() == ([], None)


async def test_what_is_gone_before_its_turn_holds_up_nobody() -> None:
    async with forwarding() as (one, _, manager, receiver):
        await forward(one, "any:in/")
        record = await stored(one)
        told = await last(one)
        await one.records.delete(record, caller=ME, at_once=True)
        await receiver.receive(told)
        await receiver.receive(
            Told(Position(9, 9), replace(told.event, record=RecordId("00000000-0000-7000-8000-000000000000")))
        )
        assert await manager.list() == ([], None)


async def test_a_journal_that_cannot_be_written_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with forwarding() as (one, world, manager, receiver):
        await forward(one, "nowhere:in/")
        record = await stored(one)
        row = await on_disk(one, world, record)

        async def failing(*_: object, **__: object) -> None:
            raise StorageUnavailable("closed")

        with monkeypatch.context() as patched:
            patched.setattr(manager._journal, "write", failing)
            with pytest.raises(ReceiverFailed, match="closed"):
                await receiver.receive(await last(one))
        await receiver.receive(await last(one))
        assert len((await manager.list())[0]) == 1
        assert target_of(row, "nowhere:in/") == f"nowhere:in/{row.filename}"


async def test_a_blob_that_cannot_be_opened_now_is_tried_again() -> None:
    async with forwarding() as (one, world, manager, receiver):
        await forward(one, "any:in/")
        record = await stored(one)
        path = path_of(await on_disk(one, world, record))
        world.files.fail(path, OSError(errno.EMFILE, "Too many open files"))
        with pytest.raises(ReceiverFailed, match="Too many open files"):
            await receiver.receive(await last(one))
        world.files.fail(path, None)
        await receiver.receive(await last(one))
        assert len((await manager.list())[0]) == 1


async def failed(manager: UploadManager) -> list[tuple[Outcome | None, str | None]]:
    return [(view.row.transfer.outcome, view.row.transfer.reason) for view in (await manager.list())[0]]


async def test_a_blob_that_is_gone_is_shown_as_a_transfer_that_failed() -> None:
    async with forwarding() as (one, _, manager, receiver):
        await forward(one, "any:in/")
        await stored(one)
        for _ in range(2):
            await receiver.receive(await last(one))
        (found,) = await failed(manager)
        assert found[0] is Outcome.ERRORED
        assert found[1] is not None
        assert "No such file" in found[1]


async def test_a_mistake_of_ours_with_one_record_is_shown_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with forwarding() as (one, world, manager, receiver):
        await forward(one, "any:in")
        record = await stored(one, path="a.bin", filename="a.bin")
        await on_disk(one, world, record)

        async def mistaken(*_: object, **__: object) -> None:
            raise ZeroDivisionError("no such case")

        with monkeypatch.context() as patched:
            patched.setattr(manager, "queue", mistaken)
            await receiver.receive(await last(one))
        mistake = "a mistake in haulier itself: ZeroDivisionError: no such case"
        assert await failed(manager) == [(Outcome.ERRORED, mistake)]
        # Nothing is lost: whoever sees it can have it sent.
        await manager.wait(await manager.retry((await manager.list())[0][0].row.id))
        assert world.remote.files == {"in/a.bin": [b"12345"]}
        with monkeypatch.context() as patched:
            patched.setattr(manager, "queue", mistaken)
            patched.setattr(manager, "queue_failed", mistaken)
            await receiver.receive(await last(one))
        assert len(await failed(manager)) == 2


async def test_a_failure_that_cannot_be_noted_now_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with forwarding() as (one, _, manager, receiver):
        await forward(one, "any:in/")
        await stored(one)

        async def failing(*_: object, **__: object) -> None:
            raise StorageUnavailable("closed")

        with monkeypatch.context() as patched:
            patched.setattr(manager._journal, "write", failing)
            with pytest.raises(ReceiverFailed, match="closed"):
                await receiver.receive(await last(one))
        await receiver.receive(await last(one))
        assert len(await failed(manager)) == 1
