"""Smaller pictures of images that came alone: made once each, and found again whatever happens."""

import asyncio
from typing import Any

import pytest

from haulier.adapters.memory.processing import MemoryProcessingStore
from haulier.core.caller import LOCAL, Caller, Scope
from haulier.core.capsule import Capsule, CapsulePolicy
from haulier.core.digest import DigestName, new_hasher
from haulier.core.errors import (
    AccessDenied,
    AssetNotFound,
    InvalidRequest,
    RecordNotFound,
    ServiceStopping,
    StorageFull,
    StorageUnavailable,
    UploadBusy,
)
from haulier.core.event import START
from haulier.core.finalisation import AssetSource, Finalisation
from haulier.core.processing import ProcessingFailure, Unprocessed
from haulier.core.record import AssetKind, Record, RecordId, RecordStatus
from haulier.core.values import replace
from haulier.engine.planning import UploadLimits
from haulier.engine.processing import MAX_ATTEMPTS, ROOM
from haulier.testing import MemoryDatabase
from tests.support.bodies import FakeBody
from tests.support.engine import ME, Engine, beside, engine, until
from tests.support.fake_pictures import DISPLAY, PLACEHOLDER, PLACEHOLDER_URL, THUMBNAIL, FakePictures, Held
from tests.unit.engine.test_lanes import asked, detached, used

DATA = b"an image"
BROKEN = Unprocessed(ProcessingFailure.IMAGE_BROKEN, "not so")
ALL = [AssetKind.ORIGINAL, AssetKind.DISPLAY, AssetKind.THUMBNAIL, AssetKind.PLACEHOLDER]


async def send(one: Engine, filename: str = "a.png", **request: Any) -> RecordId:
    """Bring a file over in one go, and return its record's id."""
    upload = await one.begin_append(len(DATA), filename=filename, **request)
    await one.uploads.append(upload.id, 0, FakeBody(DATA), caller=ME, final=True)
    record_id = (await one.state(upload.id)).details.record
    assert record_id is not None
    return record_id


async def see(one: Engine, record_id: RecordId) -> Record:
    return await one.records.get(record_id, caller=ME)


async def settled(one: Engine, record_id: RecordId) -> Record:
    """Return the record once nothing of it waits or runs here."""
    await until(lambda: not one.jobs.knows(record_id))
    return await see(one, record_id)


def kinds(record: Record) -> list[AssetKind]:
    return [asset.kind for asset in record.assets]


def picturing(*answers: Any, **world: Any) -> Any:
    return engine(pictures=FakePictures(*answers), **world)


async def events(one: Engine) -> list[str]:
    told, _ = await one.database.read(lambda tx: tx.events.after(START, limit=100))
    return [f"{it.event.kind}:{it.event.facts['status']}" for it in told]


async def test_an_image_that_came_alone_gets_its_pictures() -> None:
    async with picturing() as one:
        record = await settled(one, await send(one))
        assert (record.status, record.error, kinds(record)) == (RecordStatus.COMPLETED, None, ALL)
        original, display, thumbnail, placeholder = record.assets
        assert (original.width, original.height) == (400, 300)
        assert (display.width, display.height, display.size) == (200, 150, len(DISPLAY))
        assert (thumbnail.width, thumbnail.height, thumbnail.size) == (100, 75, len(THUMBNAIL))
        assert (placeholder.width, placeholder.size) == (32, len(PLACEHOLDER))
        assert [it.data_url for it in record.assets] == [None, None, None, PLACEHOLDER_URL]
        assert {it.content_type for it in (display, thumbnail, placeholder)} == {"image/webp"}
        for asset, content in ((display, DISPLAY), (thumbnail, THUMBNAIL), (placeholder, PLACEHOLDER)):
            assert b"".join([piece async for piece in one.records.read(asset, 0, asset.size)]) == content
            hasher = new_hasher(DigestName.SHA_256)
            hasher.update(content)
            assert asset.digest is not None
            assert asset.digest.value == hasher.digest()
        assert used(one) == sum(asset.size for asset in record.assets)
        assert one.disk.parts == {}


async def test_each_step_is_told() -> None:
    async with picturing() as one:
        await settled(one, await send(one))
        assert await events(one) == [
            "record.created:uploading",
            "record.updated:uploaded",
            "record.updated:processing",
            "record.completed:completed",
        ]


async def test_pictures_have_no_digest_where_none_is_wanted() -> None:
    async with picturing(limits=UploadLimits(digest=DigestName.NONE)) as one:
        record = await settled(one, await send(one))
        assert [asset.digest for asset in record.assets] == [None, None, None, None]


@pytest.mark.parametrize(
    "request_",
    [
        {"filename": "a.txt"},
        {"content_type": "application/pdf"},
        {"derivatives": False},
    ],
)
async def test_nothing_is_made_of_what_is_no_image_or_shall_have_none(request_: dict[str, Any]) -> None:
    async with picturing() as one:
        record = await see(one, await send(one, **request_))
        assert (record.status, kinds(record)) == (RecordStatus.COMPLETED, [AssetKind.ORIGINAL])


async def test_without_a_queue_a_record_completes_at_once() -> None:
    async with engine() as one:
        assert (await see(one, await send(one))).status is RecordStatus.COMPLETED
        (record,) = await one.lanes.finalise(asked((await detached(one),)), caller=ME)
        assert record.status is RecordStatus.COMPLETED


async def test_a_finalised_image_gets_pictures_only_when_it_came_alone() -> None:
    async with picturing() as one:
        alone, original, display = (
            await detached(one),
            await detached(one),
            await detached(one, AssetKind.DISPLAY),
        )
        one_record, two = await one.lanes.finalise(asked((alone,), (original, display)), caller=ME)
        assert (one_record.status, two.status) == (RecordStatus.UPLOADED, RecordStatus.COMPLETED)
        assert kinds(await settled(one, one_record.id)) == ALL
        assert kinds(await see(one, two.id)) == [AssetKind.ORIGINAL, AssetKind.DISPLAY]


async def test_a_bad_image_is_kept_with_the_reason() -> None:
    async with picturing(BROKEN) as one:
        record = await settled(one, await send(one))
        assert (record.status, record.error) == (RecordStatus.COMPLETED, "image-broken")
        assert kinds(record) == [AssetKind.ORIGINAL]
        assert (await events(one))[-1] == "record.completed:completed"


async def test_a_bad_image_fails_where_images_must_be_valid() -> None:
    database: MemoryDatabase[Any] = MemoryDatabase()
    strict = CapsulePolicy(valid_images=True, admits_users=True)
    database._rows.capsules["default"] = Capsule(name="default", owner=LOCAL.owner, policy=strict)
    async with picturing(BROKEN, database=database) as one:
        record = await settled(one, await send(one))
        assert (record.status, record.error) == (RecordStatus.FAILED, "image-broken")
        assert kinds(record) == [AssetKind.ORIGINAL]
        assert (await events(one))[-1] == "record.failed:failed"
        assert (await settled(one, await send(one))).status is RecordStatus.COMPLETED


async def test_pictures_that_the_quota_has_no_room_for_are_not_kept() -> None:
    database: MemoryDatabase[Any] = MemoryDatabase(capsules={"default": len(DATA) + 10})
    async with picturing(database=database) as one:
        record = await settled(one, await send(one))
        assert (record.status, record.error) == (RecordStatus.COMPLETED, "quota-exceeded")
        assert used(one) == len(DATA)
        assert len(one.disk.blobs) == 1


async def test_a_picture_that_somebody_brought_meanwhile_stays() -> None:
    async with picturing() as one:
        held = one.pictures.first = Held()
        record_id = await send(one)
        await held.reached.wait()
        upload = await one.begin_append(len(DATA), record=record_id, asset=AssetKind.DISPLAY)
        await one.uploads.append(upload.id, 0, FakeBody(DATA), caller=ME, final=True)
        held.go()
        record = await settled(one, record_id)
        assert kinds(record) == ALL
        assert record.assets[1].size == len(DATA)
        assert used(one) == sum(asset.size for asset in record.assets)
        assert len(one.disk.blobs) == 4


async def test_a_record_deleted_for_good_meanwhile_leaves_nothing() -> None:
    async with picturing() as one:
        held = one.pictures.first = Held()
        record_id = await send(one)
        await held.reached.wait()
        await one.records.delete(record_id, caller=ME, at_once=True)
        held.go()
        await until(lambda: not one.jobs.knows(record_id))
        assert (one.disk.blobs, used(one)) == ({}, 0)


async def test_what_was_in_the_trash_at_its_turn_is_processed_at_its_return() -> None:
    async with picturing() as one:
        held = one.pictures.first = Held()
        first, second = await send(one), await send(one)
        third = await send(one)  # waits: two run
        await held.reached.wait()
        await one.records.delete(third, caller=ME)
        held.go()
        await settled(one, first)
        await settled(one, second)
        assert (await settled(one, third)).status is RecordStatus.UPLOADED
        await one.records.restore(third, caller=ME)
        assert kinds(await settled(one, third)) == ALL


async def test_a_crash_in_the_middle_is_made_good_after_the_next_start() -> None:
    async with picturing() as one:
        one.pictures.first = Held()
        record_id = await send(one)
        await one.pictures.first.reached.wait()
        assert (await see(one, record_id)).status is RecordStatus.PROCESSING
        other = await one.restart()
        assert await other.processing.redo() == 1
        record = await settled(other, record_id)
        assert (record.status, kinds(record), record.attempts) == (RecordStatus.COMPLETED, ALL, 2)
        await other.background.stop(grace_s=0)


async def test_a_job_that_a_crash_forgot_is_found_by_its_record() -> None:
    async with picturing() as one:
        one.jobs.stop()
        record_id = await send(one)
        other = await one.restart()
        assert (await see(other, record_id)).status is RecordStatus.UPLOADED
        await other.janitor.sweep()
        assert ("processing", 1) in other.swept
        assert kinds(await settled(other, record_id)) == ALL
        await other.background.stop(grace_s=0)


async def test_two_processes_process_a_record_once() -> None:
    async with picturing() as one:
        held = one.pictures.first = Held()
        record_id = await send(one)
        await held.reached.wait()
        other = one.neighbour()
        assert await other.processing.redo() == 0
        await other.processing.run(record_id)
        held.go()
        assert kinds(await settled(one, record_id)) == ALL
        assert other.pictures.asked == []
        await other.processing.run(record_id)
        assert (await see(one, record_id)).attempts == 1
        await other.background.stop(grace_s=0)


async def test_of_two_that_take_at_once_one_goes_on() -> None:
    async with picturing() as one:
        held = one.pictures.first = Held()
        first, second, waiting = await send(one), await send(one), await send(one)
        await held.reached.wait()
        other = one.neighbour()
        other.pictures.first = held

        async def take() -> None:
            taken = beside(other.processing.run(waiting))
            await until(lambda: len(other.pictures.asked) == 1)
            jobs.append(taken)

        jobs: list[Any] = []
        one.before_write(take, nth=3)  # after the two that end, the one that takes
        held.go()
        for record_id in (first, second, waiting):
            await until(lambda record_id=record_id: not one.jobs.knows(record_id))
        await jobs[0]
        assert kinds(await see(one, waiting)) == ALL
        assert (one.pictures.asked, other.pictures.asked) == ([ME.owner] * 2, [ME.owner])
        await other.background.stop(grace_s=0)


async def test_a_record_that_runs_here_is_not_begun_again() -> None:
    async with picturing() as one:
        held = one.pictures.first = Held()
        record_id = await send(one)
        await held.reached.wait()
        one.jobs._tasks.clear()  # as a queue that forgets
        assert await one.processing.redo() == 0
        await one.processing.run(record_id)
        assert len(one.pictures.asked) == 1
        held.go()
        await until(lambda: one.disk.parts == {})
        await one.background.stop(grace_s=1)
        assert kinds(await see(one, record_id)) == ALL


@pytest.mark.parametrize(
    "error",
    [
        ServiceStopping(),
        StorageUnavailable("no child process"),
        Unprocessed(ProcessingFailure.QUEUE_FULL),
    ],
)
async def test_what_is_not_the_fault_of_the_image_is_tried_again(error: Any) -> None:
    async with picturing(error) as one:
        record_id = await send(one)
        record = await settled(one, record_id)
        assert (record.status, record.attempts, record.holder) == (RecordStatus.PROCESSING, 0, None)
        assert await one.processing.redo() == 1
        record = await settled(one, record_id)
        assert (record.status, kinds(record), record.attempts) == (RecordStatus.COMPLETED, ALL, 1)


@pytest.mark.parametrize("answer", [BROKEN, None])
async def test_a_full_disk_is_not_the_fault_of_the_image(answer: Unprocessed | None) -> None:
    async with picturing(*([answer] if answer else [])) as one:
        one.pictures.first = held = Held()
        record_id = await send(one)
        await held.reached.wait()
        one.sink.fail_next("check" if answer else "write", StorageFull(1, 0))
        if answer is None:
            one.sink.fail_next("discard", StorageUnavailable("no"))
        held.go()
        record = await settled(one, record_id)
        assert (record.status, kinds(record)) == (RecordStatus.PROCESSING, [AssetKind.ORIGINAL])
        one.disk.parts.clear()
        await one.processing.redo()
        assert kinds(await settled(one, record_id)) == ALL


async def test_a_disk_with_too_little_room_for_pictures_is_not_the_fault_of_the_image() -> None:
    """Whether anything must stay free on it or not."""
    async with picturing(BROKEN) as one:
        one.pictures.first = held = Held()
        record_id = await send(one)
        await held.reached.wait()
        one.disk.capacity = ROOM
        held.go()
        record = await settled(one, record_id)
        assert (record.status, record.attempts) == (RecordStatus.PROCESSING, 0)
        one.disk.capacity = None
        await one.processing.redo()
        assert kinds(await settled(one, record_id)) == ALL


@pytest.mark.parametrize("deleting", [True, False])
async def test_a_commit_that_fails_leaves_no_picture(*, deleting: bool) -> None:
    async with picturing() as one:
        one.pictures.first = held = Held()
        record_id = await send(one)
        await held.reached.wait()

        async def fail_second() -> None:
            if len(one.disk.blobs) == 2:
                if not deleting:
                    one.sink.fail_next("delete", StorageUnavailable("no"))
                raise StorageUnavailable("the disk failed")

        one.before_sink("commit", fail_second)
        held.go()
        record = await settled(one, record_id)
        assert (record.status, kinds(record)) == (RecordStatus.PROCESSING, [AssetKind.ORIGINAL])
        assert len(one.disk.blobs) == (1 if deleting else 2)


async def test_a_lost_answer_of_the_last_write_loses_no_picture() -> None:
    async with picturing() as one:
        one.pictures.first = held = Held()
        record_id = await send(one)
        await held.reached.wait()
        one.database.lose_next_answer()
        held.go()
        record = await settled(one, record_id)
        assert (record.status, kinds(record)) == (RecordStatus.COMPLETED, ALL)
        assert {asset.blob_key for asset in record.assets} == set(one.disk.blobs)


async def test_an_attempt_that_cannot_be_given_back_is_taken_again() -> None:
    async with picturing(StorageUnavailable("no child process")) as one:
        one.pictures.first = held = Held()
        record_id = await send(one)
        await held.reached.wait()
        one.database.fail_next(StorageUnavailable("gone"))
        held.go()
        await until(lambda: not one.jobs.knows(record_id))
        record = await see(one, record_id)
        assert (record.status, record.attempts, record.holder) == (RecordStatus.PROCESSING, 1, one.holder)
        assert await one.processing.redo() == 1
        assert kinds(await settled(one, record_id)) == ALL


async def test_an_image_that_ends_every_attempt_is_not_tried_for_ever() -> None:
    mistakes = [RuntimeError("nobody expected this") for _ in range(MAX_ATTEMPTS)]
    async with picturing(*mistakes) as one:
        record_id = await send(one)
        for _ in range(MAX_ATTEMPTS):
            assert (await settled(one, record_id)).status is RecordStatus.PROCESSING
            assert await one.processing.redo() == 1
        record = await settled(one, record_id)
        assert (record.status, record.error) == (RecordStatus.COMPLETED, "image-crashed")
        assert len(one.pictures.asked) == MAX_ATTEMPTS


async def test_an_original_that_vanished_is_no_answer() -> None:
    async with picturing() as one:
        one.pictures.first = Held()
        first, second = await send(one), await send(one)
        third = await send(one)
        await one.pictures.first.reached.wait()

        async def lose(tx: Any) -> None:
            record = await tx.records.load(third)
            tx.processing._records[third] = replace(record, assets=())

        await one.database.write(lose)
        one.pictures.first.go()
        for record_id in (first, second):
            await settled(one, record_id)
        await until(lambda: not one.jobs.knows(third))
        assert (await see(one, third)).status is RecordStatus.PROCESSING


async def test_pictures_are_made_on_a_disk_that_makes_writers_wait() -> None:
    async with picturing() as one:

        async def pause() -> None:
            await asyncio.sleep(0)

        one.sink.pause = pause
        assert kinds(await settled(one, await send(one))) == ALL


async def test_a_full_queue_is_asked_again_later() -> None:
    async with picturing() as one:
        one.jobs._waiting = 2
        one.pictures.first = held = Held()
        records = [await send(one) for _ in range(4)]
        await held.reached.wait()
        assert await one.processing.redo() == 0
        held.go()
        for record_id in records[:2]:
            assert kinds(await settled(one, record_id)) == ALL
        assert await one.processing.redo() == 2
        for record_id in records[2:]:
            assert kinds(await settled(one, record_id)) == ALL


async def test_a_placeholder_that_is_sent_is_shown_as_a_url() -> None:
    async with picturing() as one:
        uploads = [
            await detached(one, kind, content_type="image/webp", width=3, height=2) for kind in AssetKind
        ]
        (record,) = await one.lanes.finalise(asked(tuple(uploads)), caller=ME)
        assert [asset.data_url for asset in record.assets] == [
            None,
            None,
            None,
            "data:image/webp;base64,MTIzNDU=",
        ]
        assert {(asset.width, asset.height) for asset in record.assets} == {(3, 2)}


async def test_a_placeholder_that_is_large_or_no_picture_is_not() -> None:
    async with picturing() as one:
        large = await one.begin_append(
            2000, lanes=True, asset=AssetKind.PLACEHOLDER, content_type="image/webp"
        )
        await one.uploads.append(large.id, 0, FakeBody(b"x" * 2000), caller=ME, final=True)
        script = await detached(one, AssetKind.PLACEHOLDER, content_type="image/svg+xml")
        for upload in (large, script):
            assert (await one.state(upload.id)).details.data_url is None


async def test_dimensions_that_are_known_at_the_end_only_are_told_there() -> None:
    async with picturing() as one:
        original, display = await detached(one), await detached(one, AssetKind.DISPLAY, width=3, height=2)
        sources = (
            AssetSource(kind=AssetKind.ORIGINAL, upload=original.id, width=30, height=20),
            AssetSource(kind=AssetKind.DISPLAY, upload=display.id),
        )
        (record,) = await one.lanes.finalise(Finalisation(capsule="default", records=(sources,)), caller=ME)
        assert [(asset.width, asset.height) for asset in record.assets] == [(30, 20), (3, 2)]


async def test_pictures_are_tried_again_when_somebody_asks() -> None:
    """Only what is missing is made."""
    async with picturing(BROKEN) as one:
        record_id = await send(one)
        assert (await settled(one, record_id)).error == "image-broken"
        upload = await one.begin_append(len(DATA), record=record_id, asset=AssetKind.DISPLAY)
        await one.uploads.append(upload.id, 0, FakeBody(DATA), caller=ME, final=True)
        held = one.pictures.first = Held()
        begun = await one.lanes.retry(record_id, caller=ME)
        assert (begun.status, begun.error, kinds(begun)) == (
            RecordStatus.PROCESSING,
            None,
            [AssetKind.ORIGINAL, AssetKind.DISPLAY],
        )
        await held.reached.wait()
        assert (
            await one.lanes.retry(record_id, caller=ME)
        ).fence == begun.fence + 1  # it is under way already
        held.go()
        record = await settled(one, record_id)
        assert (record.status, record.error, kinds(record)) == (RecordStatus.COMPLETED, None, ALL)
        assert (record.assets[1].size, len(one.disk.blobs)) == (len(DATA), 4)
        assert used(one) == sum(asset.size for asset in record.assets)
        assert (await events(one))[-3:] == [
            "record.updated:processing",
            "record.updated:processing",
            "record.completed:completed",
        ]
        assert await one.lanes.retry(record_id, caller=ME) == record


async def test_a_retry_that_fails_says_why_and_attempts_count_anew() -> None:
    async with picturing(BROKEN, *[Unprocessed(ProcessingFailure.IMAGE_TIMEOUT)] * (MAX_ATTEMPTS + 1)) as one:
        record_id = await send(one)
        await settled(one, record_id)
        for _ in range(MAX_ATTEMPTS + 1):
            await one.lanes.retry(record_id, caller=ME)
            assert (await settled(one, record_id)).error == "image-timeout"


async def test_a_retry_that_was_forgotten_is_found_again() -> None:
    """Whoever asked died before it could be begun."""
    async with picturing(BROKEN) as one:
        record_id = await send(one)
        before = await settled(one, record_id)
        assert await one.database.write(lambda tx: tx.processing.again(record_id, before.fence))
        assert await one.processing.redo() == 1
        assert kinds(await settled(one, record_id)) == ALL


async def test_pictures_are_not_tried_again_of_what_has_none() -> None:
    async with picturing() as one:
        text = await send(one, "a.txt")
        with pytest.raises(InvalidRequest, match="no pictures are made of text/plain"):
            await one.lanes.retry(text, caller=ME)
        with pytest.raises(RecordNotFound):
            await one.lanes.retry(RecordId("none"), caller=ME)
        image = await settled(one, await send(one, derivatives=False))
        with pytest.raises(RecordNotFound):
            await one.lanes.retry(image.id, caller=Caller(owner="user:stranger", scope=Scope.OWNER))
        with pytest.raises(AccessDenied, match="pictures made of record"):
            await one.lanes.retry(image.id, caller=replace(ME, scope=Scope.READ))
        await one.records.delete(image.id, caller=ME)
        with pytest.raises(RecordNotFound):
            await one.lanes.retry(image.id, caller=ME)
        upload = await one.begin_append(len(DATA), filename="b.png")
        begun = upload.details.record
        assert begun is not None
        with pytest.raises(UploadBusy, match="under way"):
            await one.lanes.retry(begun, caller=ME)
        await one.uploads.abort(upload.id, caller=ME)
        with pytest.raises(AssetNotFound):
            await one.lanes.retry(begun, caller=ME)


async def test_pictures_are_not_tried_again_where_none_are_made() -> None:
    async with engine() as one:
        with pytest.raises(InvalidRequest, match="makes no pictures"):
            await one.lanes.retry(await send(one), caller=ME)


async def test_a_retry_that_somebody_else_was_faster_with_begins_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a database where both transactions saw the record before either had changed it."""

    async def too_late(*_: object) -> bool:
        return False

    async with picturing(BROKEN) as one:
        record_id = await send(one)
        before, told = await settled(one, record_id), await events(one)
        monkeypatch.setattr(MemoryProcessingStore, "again", too_late)
        assert await one.lanes.retry(record_id, caller=ME) == before
        assert await events(one) == told


async def test_of_two_retries_at_once_one_begins() -> None:
    async with picturing(BROKEN) as one:
        record_id = await send(one)
        before = await settled(one, record_id)
        found = await asyncio.gather(*(one.lanes.retry(record_id, caller=ME) for _ in range(5)))
        assert {record.status for record in found} <= {RecordStatus.PROCESSING, RecordStatus.COMPLETED}
        assert (await settled(one, record_id)).fence == before.fence + 2
