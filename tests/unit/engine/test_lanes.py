"""Records made of uploads that were committed on their own: all of them or none, each upload once."""

import asyncio

import pytest

from haulier.core.caller import Caller, Role, Scope
from haulier.core.capsule import Capsule
from haulier.core.digest import Digest, DigestName
from haulier.core.errors import (
    AccessDenied,
    CapsuleNotFound,
    DigestMismatch,
    IdempotencyKeyReused,
    InvalidRequest,
    RecordNotFound,
    UploadBusy,
    UploadComplete,
    UploadGone,
    UploadNotFound,
)
from haulier.core.finalisation import AssetSource, Finalisation
from haulier.core.record import AssetKind, RecordStatus
from haulier.core.session import SessionId, SessionStatus
from haulier.core.upload import BeginUpload, Upload
from haulier.core.values import replace
from haulier.ports import RecordQuery
from tests.support.bodies import FakeBody
from tests.support.engine import ME, Engine, engine

DATA = b"12345"
STRANGER = Caller(owner="user:stranger", scope=Scope.OWNER)


async def detached(
    one: Engine, asset: AssetKind = AssetKind.ORIGINAL, *, caller: Caller = ME, **request: object
) -> Upload:
    """Commit an upload that makes no record."""
    fields = {"filename": "a.png", "size": len(DATA), "asset": asset, "lanes": True, **request}
    upload = (await one.uploads.begin(BeginUpload(**fields), caller=caller)).upload  # type: ignore[arg-type]  # by name
    await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=caller)
    return (await one.uploads.finish(upload.id, caller=caller)).upload


def source(upload: Upload, kind: AssetKind | None = None) -> AssetSource:
    return AssetSource(kind=kind or upload.details.asset, upload=upload.id)


def asked(*records: tuple[Upload, ...], key: str | None = None, capsule: str = "default") -> Finalisation:
    groups = tuple(tuple(source(upload) for upload in uploads) for uploads in records)
    return Finalisation(capsule=capsule, records=groups, key=key)


def used(one: Engine) -> int:
    return one.database._rows.capsules["default"].used


async def shown(one: Engine) -> int:
    return len((await one.records.list(RecordQuery(), caller=ME)).items)


async def test_a_record_has_all_four_assets_and_each_its_own_blob() -> None:
    async with engine() as one:
        uploads = [await detached(one, kind, path="rome/a.png") for kind in AssetKind]
        assert await shown(one) == 0
        one.clock.advance(5)
        (record,) = await one.lanes.finalise(asked(tuple(reversed(uploads))), caller=ME)
        assert record == await one.records.get(record.id, caller=ME)
        assert [asset.kind for asset in record.assets] == list(AssetKind)
        assert [asset.blob_key for asset in record.assets] == [upload.blob_key for upload in uploads]
        assert (record.status, record.filename, record.path, record.size) == (
            RecordStatus.COMPLETED,
            "a.png",
            "rome/a.png",
            5,
        )
        now = one.clock.now()
        assert (record.created_at, record.uploaded_at, record.finished_at) == (now, now, now)
        assert used(one) == 4 * len(DATA)


async def test_several_records_come_in_the_order_that_was_asked_for() -> None:
    async with engine() as one:
        uploads = [await detached(one, filename=name) for name in ("c", "a", "b")]
        records = await one.lanes.finalise(asked(*((upload,) for upload in uploads)), caller=ME)
        assert [record.filename for record in records] == ["c", "a", "b"]
        assert await shown(one) == 3


async def test_one_bad_upload_leaves_no_record_and_takes_nothing() -> None:
    async with engine() as one:
        good, bad = await detached(one), await detached(one)
        await one.lanes.finalise(asked((bad,)), caller=ME)
        with pytest.raises(UploadComplete):
            await one.lanes.finalise(asked((good,), (bad,), key="k"), caller=ME)
        assert await shown(one) == 1
        assert (await one.state(good.id)).details.record is None
        # The key was not used up either.
        assert len(await one.lanes.finalise(asked((good,), key="k"), caller=ME)) == 1


async def test_the_same_key_gives_the_same_records_for_ever() -> None:
    async with engine() as one:
        request = asked((await detached(one),), (await detached(one),), key="k")
        first, *others = await asyncio.gather(*(one.lanes.finalise(request, caller=ME) for _ in range(5)))
        assert all([record.id for record in other] == [record.id for record in first] for other in others)
        assert await shown(one) == 2


async def test_a_key_is_for_one_request_of_one_owner() -> None:
    async with engine() as one:
        mine, another = await detached(one), await detached(one)
        theirs = await detached(one, caller=STRANGER)
        await one.lanes.finalise(asked((mine,), key="k"), caller=ME)
        with pytest.raises(IdempotencyKeyReused):
            await one.lanes.finalise(asked((another,), key="k"), caller=ME)
        (record,) = await one.lanes.finalise(asked((theirs,), key="k"), caller=STRANGER)
        assert record.owner == "user:stranger"


async def test_a_key_whose_record_is_gone_for_good_says_so() -> None:
    async with engine() as one:
        request = asked((await detached(one),), key="k")
        (record,) = await one.lanes.finalise(request, caller=ME)
        await one.records.delete(record.id, caller=ME)
        (trashed,) = await one.lanes.finalise(request, caller=ME)
        assert (trashed.id, trashed.deleted_at) == (record.id, one.clock.now())
        await one.records.delete(record.id, caller=ME, at_once=True)
        with pytest.raises(RecordNotFound):
            await one.lanes.finalise(request, caller=ME)


async def test_keys_are_forgotten_and_records_are_not() -> None:
    async with engine() as one:
        request = asked((await detached(one),), key="k")
        await one.lanes.finalise(request, caller=ME)
        one.clock.advance(10)
        assert await one.records.forget_keys(before=one.clock.now() - 10) == 0
        assert await one.records.forget_keys(before=one.clock.now()) == 1
        with pytest.raises(UploadComplete):
            await one.lanes.finalise(request, caller=ME)
        assert await shown(one) == 1


async def test_a_key_that_is_forgotten_meanwhile_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine() as one:
        request = asked((await detached(one),), key="k")
        await one.lanes.finalise(request, caller=ME)
        store = "haulier.adapters.memory.finalisations.MemoryFinalisationStore.find"

        async def forgotten(*_: object) -> None:
            """Be gone between two statements, as READ COMMITTED allows."""

        monkeypatch.setattr(store, forgotten)
        with pytest.raises(UploadBusy, match="forgotten right now"):
            await one.lanes.finalise(request, caller=ME)


async def test_a_kind_is_the_one_of_the_begin() -> None:
    async with engine() as one:
        upload = await detached(one, AssetKind.DISPLAY)
        wrong = Finalisation(capsule="default", records=((source(upload, AssetKind.ORIGINAL),),))
        with pytest.raises(InvalidRequest, match="was begun as"):
            await one.lanes.finalise(wrong, caller=ME)
        with pytest.raises(InvalidRequest, match="must have an 'original'"):
            await one.lanes.finalise(asked((upload,)), caller=ME)


async def test_an_upload_of_another_capsule_or_owner_is_refused() -> None:
    async with engine() as one:
        await one.database.write(
            lambda tx: tx.capsules.add("c2", Capsule(name="other", owner="local", quota=None))
        )
        elsewhere = await detached(one, capsule="other")
        theirs = await detached(one, caller=STRANGER)
        with pytest.raises(InvalidRequest, match="is in capsule 'other'"):
            await one.lanes.finalise(asked((elsewhere,)), caller=ME)
        with pytest.raises(InvalidRequest, match="another owner's"):
            await one.lanes.finalise(asked((theirs,)), caller=ME)
        with pytest.raises(UploadNotFound):
            await one.lanes.finalise(asked((await detached(one),)), caller=STRANGER)
        with pytest.raises(CapsuleNotFound):
            await one.lanes.finalise(asked((elsewhere,), capsule="nowhere"), caller=ME)


async def test_who_may_only_read_makes_no_records() -> None:
    async with engine() as one:
        reader = Caller(owner="user:reader", scope=Scope.OWNER)
        await one.database.write(lambda tx: tx.capsules.grant("default", reader.owner, Role.READER))
        with pytest.raises(AccessDenied):
            await one.lanes.finalise(asked((await detached(one),)), caller=reader)


async def test_only_what_is_committed_and_detached_is_taken() -> None:
    async with engine() as one:
        still_open = await one.begin(5, lanes=True)
        with pytest.raises(UploadBusy, match="not finished yet"):
            await one.lanes.finalise(asked((still_open,)), caller=ME)
        await one.uploads.abort(still_open.id, caller=ME)
        with pytest.raises(UploadGone):
            await one.lanes.finalise(asked((still_open,)), caller=ME)
        unknown = AssetSource(kind=AssetKind.ORIGINAL, upload=SessionId("nobody"))
        with pytest.raises(UploadNotFound):
            await one.lanes.finalise(Finalisation(capsule="default", records=((unknown,),)), caller=ME)


async def test_two_finalisations_of_one_upload_make_one_record() -> None:
    async with engine() as one:
        request = asked((await detached(one),))
        both = await asyncio.gather(
            *(one.lanes.finalise(request, caller=ME) for _ in range(2)), return_exceptions=True
        )
        assert sorted(type(result).__name__ for result in both) == ["UploadComplete", "list"]
        assert await shown(one) == 1


async def test_an_upload_that_is_taken_between_two_statements_is_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with engine() as one:
        upload = await detached(one)

        async def lost(*_: object, **__: object) -> bool:
            return False

        monkeypatch.setattr("haulier.adapters.memory.rows.MemorySessionStore.settle", lost)
        with pytest.raises(UploadBusy, match="takes it, or gives it up"):
            await one.lanes.finalise(asked((upload,)), caller=ME)
        assert await shown(one) == 0


# --- what no record takes ----------------------------------------------------------------------------


async def test_a_committed_detached_upload_can_be_given_up_and_begun_again() -> None:
    async with engine() as one:
        upload = await detached(one, key="k")
        await one.uploads.abort(upload.id, caller=ME)
        await one.uploads.abort(upload.id, caller=ME)
        assert (await one.state(upload.id)).status is SessionStatus.ABORTED
        assert (one.disk.blobs, used(one)) == ({}, 0)
        with pytest.raises(UploadGone):
            await one.lanes.finalise(asked((upload,)), caller=ME)
        assert (await one.begin(5, lanes=True, filename="a.png", key="k")).id != upload.id


async def test_what_a_record_has_cannot_be_given_up() -> None:
    async with engine() as one:
        upload = await detached(one)
        (record,) = await one.lanes.finalise(asked((upload,)), caller=ME)
        with pytest.raises(UploadComplete, match=record.id):
            await one.uploads.abort(upload.id, caller=ME)
        assert used(one) == len(DATA)


async def test_giving_up_loses_against_a_record_that_is_made_meanwhile() -> None:
    async with engine() as one:
        upload = await detached(one)
        one.before_write(lambda: one.lanes.finalise(asked((upload,)), caller=ME))
        with pytest.raises(UploadComplete):
            await one.uploads.abort(upload.id, caller=ME)
        assert (len(one.disk.blobs), used(one)) == (1, len(DATA))


async def test_retention_frees_what_no_record_took_and_nothing_else() -> None:
    async with engine() as one:
        kept, left, given_up = [await detached(one) for _ in range(3)]
        await one.lanes.finalise(asked((kept,)), caller=ME)
        await one.uploads.abort(given_up.id, caller=ME)
        one.clock.advance(10)
        assert await one.uploads.purge(before=one.clock.now()) == 3
        assert (list(one.disk.blobs), used(one)) == ([kept.blob_key], len(DATA))
        with pytest.raises(UploadNotFound):
            await one.state(left.id)


async def test_a_taken_upload_still_tells_its_record() -> None:
    async with engine() as one:
        upload = await detached(one)
        assert await one.records.result_of(upload) is None
        (record,) = await one.lanes.finalise(asked((upload,)), caller=ME)
        taken = await one.state(upload.id)
        assert taken == replace(
            upload, details=replace(upload.details, record=record.id, adds_to_record=True)
        )
        assert await one.records.result_of(taken) == record


async def test_a_detached_upload_that_failed_is_not_paid_back_at_its_purge() -> None:
    async with engine() as one:
        kept = await detached(one)
        wrong = Digest(DigestName.SHA_256, bytes(32))
        failed = await one.begin_append(len(DATA), lanes=True, expected=wrong)
        with pytest.raises(DigestMismatch):
            await one.uploads.append(failed.id, 0, FakeBody(DATA), caller=ME)
        await one.lanes.finalise(asked((kept,)), caller=ME)
        one.clock.advance(10)
        await one.uploads.purge(before=one.clock.now())
        assert used(one) == len(DATA)
