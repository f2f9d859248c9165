"""Records: listed, read, put into the trash, brought back, and removed for good."""

import pytest

from haulier.core.errors import AssetNotFound, RecordNotFound, StorageUnavailable, UploadBusy
from haulier.core.record import AssetKind, RecordId
from haulier.engine import erasing, records
from haulier.ports import RecordQuery
from tests.support.bodies import FakeBody
from tests.support.engine import ME, Engine, engine

DATA = b"12345"


async def commit(one: Engine, **request: object) -> RecordId:
    upload = await one.begin(len(DATA), **request)
    await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
    await one.uploads.finish(upload.id, caller=ME)
    assert upload.details.record is not None
    return upload.details.record


async def test_pages_are_newest_first_and_end() -> None:
    async with engine() as one:
        made = []
        for number in range(5):
            one.clock.advance(1)
            made.append(await commit(one, filename=f"{number}.bin"))
        first = await one.records.list(RecordQuery(limit=3), caller=ME)
        assert [record.id for record in first.items] == made[:1:-1]
        assert first.next is not None
        second = await one.records.list(RecordQuery(limit=3, after=first.next), caller=ME)
        assert [record.id for record in second.items] == made[1::-1]
        assert second.next is None
        page = await one.records.list(RecordQuery(capsule="default", limit=5), caller=ME)
        assert (len(page.items), page.next) == (5, None)


async def test_an_asset_is_read_in_ranges() -> None:
    async with engine() as one:
        record_id = await commit(one)
        record, asset = await one.records.asset(record_id, AssetKind.ORIGINAL, caller=ME)
        assert (record.id, asset.size) == (record_id, 5)
        assert b"".join([piece async for piece in one.records.read(asset, 1, 4)]) == b"234"
        with pytest.raises(AssetNotFound):
            await one.records.asset(record_id, AssetKind.DISPLAY, caller=ME)


async def test_unknown_records_do_not_exist() -> None:
    async with engine() as one:
        with pytest.raises(RecordNotFound):
            await one.records.get(RecordId("nobody"), caller=ME)


async def test_the_trash_gives_back_until_it_is_emptied() -> None:
    async with engine() as one:
        record_id = await commit(one)
        await one.records.delete(record_id, caller=ME)
        await one.records.delete(record_id, caller=ME)
        assert (await one.records.get(record_id, caller=ME)).deleted_at == one.clock.now()
        assert list((await one.records.list(RecordQuery(), caller=ME)).items) == []
        with pytest.raises(RecordNotFound):
            await one.records.asset(record_id, AssetKind.ORIGINAL, caller=ME)
        restored = await one.records.restore(record_id, caller=ME)
        assert restored.deleted_at is None
        assert (await one.records.restore(record_id, caller=ME)).id == record_id
        await one.records.delete(record_id, caller=ME)
        one.clock.advance(1)
        assert await one.records.purge(deleted_before=one.clock.now()) == 1
        assert one.disk.blobs == {}
        with pytest.raises(RecordNotFound):
            await one.records.restore(record_id, caller=ME)


async def test_deleting_now_removes_the_bytes_now() -> None:
    async with engine() as one:
        record_id = await commit(one)
        await one.records.delete(record_id, caller=ME, at_once=True)
        assert one.disk.blobs == {}
        with pytest.raises(RecordNotFound):
            await one.records.get(record_id, caller=ME)


async def test_one_blob_that_cannot_be_removed_keeps_no_other_and_goes_later() -> None:
    async with engine() as one:
        made = [await commit(one) for _ in range(3)]
        for record_id in made:
            await one.records.delete(record_id, caller=ME)
        one.clock.advance(1)
        one.sink.fail_next("delete", StorageUnavailable("busy"))
        assert await one.records.purge(deleted_before=one.clock.now()) == 3
        assert len(one.disk.blobs) == 1
        assert one.database._rows.capsules["default"].used == 0
        one.sink.fail_next("delete", StorageUnavailable("busy still"))
        assert await one.records.erase_rest() == 0
        two = await one.restart()
        assert await two.records.erase_rest() == 1
        assert (two.disk.blobs, two.database._rows.doomed) == ({}, set())
        assert await two.records.erase_rest() == 0


async def test_what_was_restored_and_deleted_anew_while_the_trash_is_emptied_has_its_time_anew() -> None:
    async with engine() as one:
        made = [await commit(one) for _ in range(2)]
        for record_id in made:
            await one.records.delete(record_id, caller=ME)
            one.clock.advance(1)
        before = one.clock.now()

        async def change_ones_mind() -> None:
            await one.records.restore(made[1], caller=ME)
            await one.records.delete(made[1], caller=ME)

        one.before_sink("delete", change_ones_mind)
        await one.records.purge(deleted_before=before)
        assert (await one.records.restore(made[1], caller=ME)).assets
        with pytest.raises(RecordNotFound):
            await one.records.restore(made[0], caller=ME)


async def test_bytes_that_are_gone_but_could_not_be_forgotten_are_forgotten_later() -> None:
    async with engine() as one:
        record_id = await commit(one)
        await one.records.delete(record_id, caller=ME)

        async def fail() -> None:
            one.database.fail_next(StorageUnavailable("away"))

        one.before_sink("delete", fail)
        await one.records.delete(record_id, caller=ME, at_once=True)
        assert one.disk.blobs == {}
        assert len(one.database._rows.doomed) == 1
        two = await one.restart()
        assert await two.records.erase_rest() == 1
        assert two.database._rows.doomed == set()


async def test_many_doomed_blobs_are_removed_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "BATCH", 2)
    async with engine() as one:
        await one.database.write(lambda tx: tx.doomed_blobs.add([f"blob{number}" for number in range(5)]))
        one.sink.fail_next("delete", StorageUnavailable("busy"))
        assert await one.records.erase_rest() == 4
        assert one.database._rows.doomed == {"blob0"}


async def test_kept_assets_outlive_the_trash() -> None:
    async with engine() as one:
        record_id = await commit(one)
        await one.records.delete(record_id, caller=ME, keep_assets=True)
        one.clock.advance(10**9)
        assert await one.records.purge(deleted_before=one.clock.now()) == 0
        assert len(one.disk.blobs) == 1
        await one.records.delete(record_id, caller=ME, at_once=True)
        assert one.disk.blobs == {}


async def test_a_record_whose_upload_is_under_way_cannot_be_deleted() -> None:
    async with engine() as one:
        upload = await one.begin(5)
        assert upload.details.record is not None
        with pytest.raises(UploadBusy):
            await one.records.delete(upload.details.record, caller=ME)


async def test_a_restore_that_lost_against_the_purge_finds_nothing() -> None:
    async with engine() as one:
        record_id = await commit(one)
        await one.records.delete(record_id, caller=ME)
        one.before_write(lambda: one.records._remove(record_id))
        with pytest.raises(RecordNotFound):
            await one.records.restore(record_id, caller=ME)


async def test_two_purges_free_the_bytes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "PURGE_BATCH", 1)
    async with engine() as one:
        made = [await commit(one), await commit(one)]
        for record_id in made:
            await one.records.delete(record_id, caller=ME)
        one.clock.advance(1)
        assert await one.records.purge(deleted_before=one.clock.now()) == 2
        await one.records._remove(made[0])
        await one.records._remove(RecordId("nobody"))
        assert one.database._rows.capsules["default"].used == 0


async def test_a_bulk_deletion_tells_each_record_and_stops_at_none() -> None:
    async with engine() as one:
        first, second = await commit(one), await commit(one)
        upload = await one.begin(5)
        busy, nobody = upload.details.record, RecordId("nobody")
        assert busy is not None
        results = await one.records.delete_many([nobody, first, busy, second, first], caller=ME)
        assert {name: type(error) for name, error in results.items()} == {
            nobody: RecordNotFound,
            first: type(None),
            busy: UploadBusy,
            second: type(None),
        }
        assert list(results) == [nobody, first, busy, second]
        assert [(await one.records.get(name, caller=ME)).deleted_at for name in (first, second)] == [
            one.clock.now()
        ] * 2
        assert len(one.disk.blobs) == 2


async def test_a_bulk_deletion_now_removes_the_bytes_unless_they_are_kept() -> None:
    async with engine() as one:
        dropped, kept = await commit(one), await commit(one)
        await one.records.delete_many([dropped], caller=ME, at_once=True)
        assert len(one.disk.blobs) == 1
        await one.records.delete_many([kept], caller=ME, at_once=True, keep_assets=True)
        assert len(one.disk.blobs) == 1


async def test_a_bulk_deletion_goes_on_after_a_database_that_failed_once() -> None:
    async with engine() as one:
        first, second = await commit(one), await commit(one)
        one.database.fail_next(StorageUnavailable("the database is away"))
        results = await one.records.delete_many([first, second], caller=ME)
        assert isinstance(results[first], StorageUnavailable)
        assert results[second] is None
