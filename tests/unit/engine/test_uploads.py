"""What a begin may ask for, what digests judge, and what a record becomes."""

from typing import Any

import pytest

from haulier.core.digest import Digest, DigestName, new_hasher
from haulier.core.errors import (
    CapsuleNotFound,
    DigestMalformed,
    DigestMismatch,
    InvalidRequest,
    LengthExceeded,
    RecordNotFound,
    StorageUnavailable,
)
from haulier.core.quantity import MIB
from haulier.core.record import AssetKind, RecordId, RecordStatus
from haulier.core.session import SessionStatus
from haulier.core.upload import BeginUpload, Upload
from haulier.core.values import replace
from haulier.engine.context import SessionLimits
from haulier.engine.planning import UploadLimits, guess_content_type
from tests.support.bodies import FakeBody
from tests.support.engine import CHUNK, ME, Engine, engine, let_others_run, until

DATA = b"12345"


def digest(name: DigestName, data: bytes) -> Digest:
    hasher = new_hasher(name)
    hasher.update(data)
    return Digest(name, hasher.digest())


async def commit(one: Engine, data: bytes = DATA, **request: Any) -> Upload:
    upload = await one.begin(len(data), **request)
    for index in range(upload.chunk_count):
        start, stop = upload.chunk_range(index)
        await one.uploads.put_chunk(upload.id, index, FakeBody(data[start:stop]), caller=ME)
    return (await one.uploads.finish(upload.id, caller=ME)).upload


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"filename": ""}, "filename"),
        ({"filename": "a/../b"}, "filename"),
        ({"filename": "a\0b"}, "filename"),
        ({"filename": "a\r\nb"}, "filename"),
        ({"filename": "x" * 65536}, "filename"),
        ({"path": "../etc/passwd"}, "path"),
        ({"path": "/etc/passwd"}, "path"),
        ({"content_type": "nonsense"}, "content_type"),
        ({"metadata": {"k": "\0"}}, "metadata"),
        ({"key": ""}, "Idempotency-Key"),
        ({"size": None}, "size"),
        ({"size": -1}, "size"),
        ({"size": 2**63}, "size"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"chunk_size": 2**63}, "chunk_size"),
        (
            {"digest_name": DigestName.MD5, "expected": digest(DigestName.SHA_256, DATA)},
            "digest_name",
        ),
        ({"asset": AssetKind.DISPLAY}, "asset"),
        ({"record": RecordId("r")}, "asset"),
        ({"record": RecordId("r"), "asset": AssetKind.DISPLAY, "lanes": True}, "lanes"),
    ],
)
async def test_a_begin_that_cannot_work_names_the_field(request_: dict[str, Any], field: str) -> None:
    async with engine() as one:
        with pytest.raises(InvalidRequest) as raised:
            await one.uploads.begin(BeginUpload(**{"filename": "a", "size": 5, **request_}), caller=ME)
        assert field in [problem.field for problem in raised.value.errors]
        assert list(await one.uploads.probe()) == []


async def test_all_problems_of_a_begin_are_told_at_once() -> None:
    async with engine() as one:
        with pytest.raises(InvalidRequest) as raised:
            await one.begin(-1, filename="", path="..")
        assert [problem.field for problem in raised.value.errors] == ["filename", "path", "size"]


async def test_a_file_beyond_the_limit_is_refused_before_a_byte() -> None:
    async with engine(limits=UploadLimits(sessions=SessionLimits(max_size=100))) as one:
        with pytest.raises(LengthExceeded) as raised:
            await one.begin(101)
        assert raised.value.limit == 100


async def test_an_unknown_size_is_bounded_too() -> None:
    async with engine(limits=UploadLimits(sessions=SessionLimits(max_size=100))) as one:
        upload = await one.begin_append()
        with pytest.raises(LengthExceeded):
            await one.uploads.append(upload.id, 0, FakeBody(b"x" * 101), caller=ME)
        with pytest.raises(LengthExceeded):
            await one.uploads.append(upload.id, 0, FakeBody(b"x" * 101, announced=False), caller=ME)
        await one.uploads.append(upload.id, 0, FakeBody(b"x" * 100, announced=False), caller=ME, final=True)


async def test_an_unknown_capsule_does_not_exist() -> None:
    async with engine() as one:
        with pytest.raises(CapsuleNotFound):
            await one.begin(5, capsule="other")


@pytest.mark.parametrize(
    ("asked", "size", "chunk_size"),
    [
        (None, 10, CHUNK),
        (1, 10, 256 * 1024),
        (1024 * MIB, 10, 64 * MIB),
        (5 * MIB + 1, 10, 5 * MIB + 1),
        (None, 10_000 * CHUNK, CHUNK),
        (None, 10_000 * CHUNK + 1, MIB),
        (None, 5 * 1024 * 1024 * MIB, 525 * MIB),
    ],
)
async def test_chunk_sizes_are_clamped_and_grow(asked: int | None, size: int, chunk_size: int) -> None:
    async with engine() as one:
        one.sink.prepare = _no_room_needed  # type: ignore[method-assign]
        upload = await one.begin(size, chunk_size=asked)
        assert upload.spec.chunk_size == chunk_size
        assert upload.chunk_count <= 10_000


async def _no_room_needed(key: str, *, size: int | None) -> None:
    """A sink on which everything fits."""


@pytest.mark.parametrize("name", [name for name in DigestName if name is not DigestName.NONE])
async def test_every_digest_is_computed_over_chunks_in_any_order(name: DigestName) -> None:
    data = bytes(range(256)) * 3000
    async with engine() as one:
        upload = await one.begin(len(data), digest_name=name)
        for index in (2, 0, 1):
            start, stop = upload.chunk_range(index)
            await one.uploads.put_chunk(upload.id, index, FakeBody(data[start:stop]), caller=ME)
        done = (await one.uploads.finish(upload.id, caller=ME)).upload
        assert done.details.digest == digest(name, data)


async def test_no_digest_is_computed_when_none_is_wanted() -> None:
    async with engine() as one:
        done = await commit(one, digest_name=DigestName.NONE)
        assert done.details.digest is None
        assert (await one.uploads.state(done.id, caller=ME)).verified_bytes == 0


async def test_a_digest_at_finish_overrides_the_one_from_begin() -> None:
    async with engine() as one:
        upload = await one.begin(5, expected=digest(DigestName.SHA_256, b"wrong"))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
        right = digest(DigestName.MD5, DATA)
        state = await one.uploads.finish(upload.id, caller=ME, digest=right)
        assert state.upload.details.digest == digest(DigestName.SHA_256, DATA)
        assert state.upload.details.promised == right


async def test_a_wrong_digest_at_a_finish_leaves_the_one_from_begin_in_force() -> None:
    async with engine() as one:
        upload = await one.begin(5, expected=digest(DigestName.SHA_256, DATA))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
        with pytest.raises(DigestMismatch) as raised:
            await one.uploads.finish(upload.id, caller=ME, digest=digest(DigestName.MD5, b"x"))
        assert raised.value.expected == digest(DigestName.MD5, b"x").value.hex()
        state = await one.uploads.finish(upload.id, caller=ME)
        assert state.upload.status is SessionStatus.COMMITTED


async def test_a_right_digest_at_a_finish_that_failed_otherwise_does_not_excuse_the_next_one() -> None:
    async with engine() as one:
        upload = await one.begin(5, expected=digest(DigestName.SHA_256, b"wrong"))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
        with pytest.raises(DigestMismatch):
            await one.uploads.finish(upload.id, caller=ME, digest=digest(DigestName.SHA_256, b"x"))
        with pytest.raises(DigestMismatch) as raised:
            await one.uploads.finish(upload.id, caller=ME)
        assert raised.value.expected == digest(DigestName.SHA_256, b"wrong").value.hex()


async def test_whoever_goes_on_with_a_finish_judges_by_the_digest_it_was_given() -> None:
    async with engine() as one:
        upload = await one.begin(5, expected=digest(DigestName.SHA_256, DATA))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
        one.sink.fail_next("scan", StorageUnavailable("a moment"))
        with pytest.raises(StorageUnavailable):
            await one.uploads.finish(upload.id, caller=ME, digest=digest(DigestName.MD5, b"x"))
        two = await one.restart()
        await two.uploads.redo()
        await until(lambda: not two.background._tasks)
        state = await two.state(upload.id)
        assert (state.status, state.details.promised) == (
            SessionStatus.OPEN,
            digest(DigestName.MD5, b"x"),
        )
        await two.background.stop(grace_s=0)


async def test_a_digest_at_finish_is_the_result_when_none_was_wanted() -> None:
    async with engine() as one:
        upload = await one.begin(5, digest_name=DigestName.NONE)
        await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
        with pytest.raises(DigestMismatch):
            await one.uploads.finish(upload.id, caller=ME, digest=digest(DigestName.MD5, b"x"))
        state = await one.uploads.finish(upload.id, caller=ME, digest=digest(DigestName.MD5, DATA))
        assert state.upload.details.digest == digest(DigestName.MD5, DATA)


async def test_a_repeated_finish_with_another_digest_does_not_look_right() -> None:
    async with engine() as one:
        done = await commit(one)
        same = digest(DigestName.SHA_256, DATA)
        assert (await one.uploads.finish(done.id, caller=ME, digest=same)).upload.id == done.id
        with pytest.raises(DigestMismatch):
            await one.uploads.finish(done.id, caller=ME, digest=digest(DigestName.SHA_256, b"x"))


@pytest.mark.parametrize("name", [DigestName.SHA_256, DigestName.NONE])
async def test_a_digest_that_nobody_computed_for_a_complete_upload_does_not_look_right(
    name: DigestName,
) -> None:
    """An append ends with the last byte of its size, before a finish could say what it must have."""
    async with engine() as one:
        done = await commit(one, digest_name=name)
        for data in (DATA, b"x"):
            with pytest.raises(DigestMalformed, match="md5"):
                await one.uploads.finish(done.id, caller=ME, digest=digest(DigestName.MD5, data))


@pytest.mark.parametrize("at_finish", [False, True])
async def test_a_repeated_finish_is_compared_with_the_digest_that_was_promised(*, at_finish: bool) -> None:
    md5 = digest(DigestName.MD5, DATA)
    async with engine() as one:
        upload = await one.begin(
            5, digest_name=DigestName.SHA_256 if at_finish else None, expected=None if at_finish else md5
        )
        await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
        await one.uploads.finish(upload.id, caller=ME, digest=md5 if at_finish else None)
        assert (await one.uploads.finish(upload.id, caller=ME, digest=md5)).upload.id == upload.id
        with pytest.raises(DigestMismatch):
            await one.uploads.finish(upload.id, caller=ME, digest=digest(DigestName.MD5, b"x"))


async def test_verified_bytes_follow_the_accepted_prefix() -> None:
    async with engine() as one:
        upload = await one.begin(3 * CHUNK)
        await one.uploads.put_chunk(upload.id, 2, FakeBody(b"c" * CHUNK), caller=ME)
        await let_others_run()
        assert (await one.uploads.state(upload.id, caller=ME)).verified_bytes == 0
        await one.uploads.put_chunk(upload.id, 0, FakeBody(b"a" * CHUNK), caller=ME)
        await until(lambda: one.uploads._digests.verified(upload.id) == CHUNK)
        assert (await one.uploads.state(upload.id, caller=ME)).verified_bytes == CHUNK
        await one.uploads.put_chunk(upload.id, 1, FakeBody(b"b" * CHUNK), caller=ME)
        done = await one.uploads.finish(upload.id, caller=ME)
        assert done.verified_bytes == 3 * CHUNK
        assert done.speed == 0.0


async def test_a_record_is_there_from_begin_and_completed_with_its_original() -> None:
    async with engine() as one:
        upload = await one.begin(5, path="folder/a.bin", metadata={"k": "v"})
        assert upload.details.record is not None
        before = await one.records.get(upload.details.record, caller=ME)
        assert (before.status, before.size, before.assets) == (RecordStatus.UPLOADING, 5, ())
        await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
        await one.uploads.finish(upload.id, caller=ME)
        after = await one.records.get(upload.details.record, caller=ME)
        assert after.status is RecordStatus.COMPLETED
        assert (after.path, after.metadata, after.owner) == ("folder/a.bin", {"k": "v"}, ME.owner)
        assert after.digest == digest(DigestName.SHA_256, DATA)
        assert [asset.kind for asset in after.assets] == [AssetKind.ORIGINAL]
        assert after.finished_at == one.clock.now()


async def test_an_asset_is_added_to_an_existing_record_once() -> None:
    async with engine() as one:
        record = (await commit(one)).details.record
        assert record is not None
        second = await one.begin(3, record=record, asset=AssetKind.DISPLAY)
        third = await one.begin(3, record=record, asset=AssetKind.DISPLAY)
        for upload in (second, third):
            await one.uploads.put_chunk(upload.id, 0, FakeBody(b"abc"), caller=ME)
        await one.uploads.finish(second.id, caller=ME)
        with pytest.raises(InvalidRequest):
            await one.uploads.finish(third.id, caller=ME)
        assert (await one.state(third.id)).status is SessionStatus.FAILED
        assert len(one.disk.blobs) == 2
        assert one.disk.parts == {}
        with pytest.raises(InvalidRequest):
            await one.begin(3, record=record, asset=AssetKind.DISPLAY)
        kinds = [asset.kind for asset in (await one.records.get(record, caller=ME)).assets]
        assert kinds == [AssetKind.ORIGINAL, AssetKind.DISPLAY]


async def test_an_asset_that_arrives_after_its_record_was_erased_does_not_bring_it_back() -> None:
    async with engine() as one:
        record = (await commit(one)).details.record
        assert record is not None
        late = await one.begin(3, record=record, asset=AssetKind.DISPLAY)
        await one.uploads.put_chunk(late.id, 0, FakeBody(b"abc"), caller=ME)
        await one.records.delete(record, caller=ME, at_once=True)
        with pytest.raises(InvalidRequest):
            await one.uploads.finish(late.id, caller=ME)
        assert (await one.state(late.id)).status is SessionStatus.FAILED
        for ask in (one.records.get, one.records.restore):
            with pytest.raises(RecordNotFound):
                await ask(record, caller=ME)
        assert (one.disk.blobs, one.disk.parts) == ({}, {})


async def test_an_aborted_asset_leaves_its_record_as_it_was() -> None:
    async with engine() as one:
        record = (await commit(one)).details.record
        assert record is not None
        second = await one.begin(3, record=record, asset=AssetKind.DISPLAY)
        await one.uploads.abort(second.id, caller=ME)
        assert (await one.records.get(record, caller=ME)).status is RecordStatus.COMPLETED


async def test_only_a_live_record_of_the_same_capsule_takes_an_asset() -> None:
    async with engine() as one:
        with pytest.raises(RecordNotFound):
            await one.begin(3, record=RecordId("nobody"), asset=AssetKind.DISPLAY)
        record = (await commit(one)).details.record
        assert record is not None
        stored = await one.records.get(record, caller=ME)
        await one.database.write(
            lambda tx: tx.records.insert(replace(stored, id=RecordId("other"), capsule="other", assets=()))
        )
        with pytest.raises(InvalidRequest):
            await one.begin(3, record=RecordId("other"), asset=AssetKind.DISPLAY)
        await one.records.delete(record, caller=ME)
        with pytest.raises(RecordNotFound):
            await one.begin(3, record=record, asset=AssetKind.DISPLAY)


async def test_lanes_make_a_detached_asset_and_no_record() -> None:
    async with engine() as one:
        done = await commit(one, lanes=True, asset=AssetKind.THUMBNAIL)
        assert done.details.record is None
        assert done.status is SessionStatus.COMMITTED
        failed = await one.begin(3, lanes=True)
        await one.uploads.abort(failed.id, caller=ME)


async def test_content_types_are_guessed_from_names() -> None:
    assert guess_content_type("a.png") == "image/png"
    assert guess_content_type("a.unheard-of") == "application/octet-stream"
    async with engine() as one:
        assert (await one.begin(1, filename="x.txt")).details.content_type == "text/plain"
        given = await one.begin(1, filename="x.txt", content_type="image/png")
        assert given.details.content_type == "image/png"


async def test_what_cannot_be_a_commit_is_a_programming_mistake() -> None:
    from haulier.engine.endings import _final_name
    from haulier.engine.policy import asset_of

    async with engine() as one:
        upload = await one.begin(5)
        for broken in (upload, replace(upload, blob_key="b", size=None)):
            with pytest.raises(AssertionError):
                asset_of(broken)
            with pytest.raises(AssertionError):
                _final_name(broken)


async def test_a_service_without_an_observer_works() -> None:
    async with engine() as one:
        one.uploads._observer = None
        one.uploads._sessions._context.policy._observer = None  # type: ignore[attr-defined]
        assert (await commit(one)).status is SessionStatus.COMMITTED


async def test_a_capsule_counts_what_it_holds() -> None:
    async with engine() as one:
        done = await commit(one)
        pending = await one.begin(7)
        rows = one.database._rows.capsules["default"]
        assert (rows.used, rows.reserved) == (5, 7)
        await one.uploads.abort(pending.id, caller=ME)
        assert done.details.record is not None
        await one.records.delete(done.details.record, caller=ME, at_once=True)
        rows = one.database._rows.capsules["default"]
        assert (rows.used, rows.reserved) == (0, 0)
