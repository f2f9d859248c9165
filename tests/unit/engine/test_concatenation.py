"""Uploads that are put together of others: when they start, what they hold, and how they fail."""

from typing import Any

import pytest

from haulier.core.caller import LOCAL, Caller
from haulier.core.capsule import CapsulePolicy
from haulier.core.errors import (
    AccessDenied,
    FileEmpty,
    InvalidRequest,
    LengthExceeded,
    QuotaExceeded,
    StorageError,
    StorageFull,
    StorageUnavailable,
    TypeNotAccepted,
    UploadBusy,
    UploadGone,
    UploadNotFound,
)
from haulier.core.record import RecordStatus
from haulier.core.session import Concat, Mode, SessionId, SessionStatus
from haulier.core.upload import MAX_PARTIALS, BeginUpload, Upload
from haulier.core.values import replace
from haulier.engine.context import SessionLimits
from haulier.engine.planning import UploadLimits
from haulier.ports import RangeBusy
from haulier.testing import MemorySink
from tests.support.bodies import FakeBody
from tests.support.engine import CHUNK, ME, Engine, beside, engine, until

HELLO = b"hello "
WORLD = b"world"


async def partial(one: Engine, content: bytes | None = None, *, size: int | None = None) -> Upload:
    """Begin a partial upload; with `content`, bring all of it."""
    length = size if content is None else len(content)
    upload = await one.begin_append(length, concat=Concat.PARTIAL)
    return upload if content is None else await bring(one, upload, content)


async def bring(
    one: Engine, upload: Upload, content: bytes, *, offset: int = 0, size: int | None = None
) -> Upload:
    """Append to an upload."""
    state = await one.uploads.append(upload.id, offset, FakeBody(content), caller=ME, size=size)
    return state.upload


async def join(one: Engine, *partials: Upload, **fields: object) -> Upload:
    """Begin a final upload."""
    ids = tuple(upload.id for upload in partials)
    return await one.begin_append(None, concat=Concat.FINAL, partials=ids, **fields)


async def bring_last(one: Engine, error: StorageError, content: bytes = HELLO) -> tuple[Upload, Upload]:
    """Bring what a final upload waits for, and let putting it together fail; return the partial and the final one."""
    waited = await partial(one, size=len(content))
    final = await join(one, waited)
    one.sink.fail_next("concatenate", error)
    waited = await bring(one, waited, content)
    await until(lambda: not one.background._tasks)
    assert (await one.state(final.id)).status is SessionStatus.FINISHING
    return waited, final


async def ended(one: Engine, upload: Upload) -> Upload:
    """Wait for the end of an upload."""
    return (await one.uploads.wait(upload.id, caller=ME, timeout_s=60)).upload


async def reserved(one: Engine, capsule: str = "default") -> tuple[int, int]:
    """Return the bytes that a capsule has used and keeps."""
    found = await one.database.read(lambda tx: tx.capsules.load(capsule))
    assert found is not None
    return found.used, found.reserved


async def set_capsule(one: Engine, *, quota: int | None = None, **policy: object) -> None:
    """Change the capsule `default`."""

    async def change(tx: object) -> None:
        capsule = await tx.capsules.lock("default")  # type: ignore[attr-defined]
        changed = replace(capsule, quota=quota, policy=CapsulePolicy(admits_users=True, **policy))  # type: ignore[arg-type]
        await tx.capsules.change(changed)  # type: ignore[attr-defined]

    await one.database.write(change)


class TestPartial:
    async def test_a_complete_one_stays_open_and_makes_no_record(self) -> None:
        async with engine() as one:
            upload = await partial(one, HELLO)
            assert (upload.status, upload.offset, upload.details.record) == (SessionStatus.OPEN, 6, None)
            assert (await one.uploads.offset(upload.id, caller=ME)).offset == 6
            assert await one.uploads.redo() == 0
            assert (await one.state(upload.id)).status is SessionStatus.OPEN
            assert await reserved(one) == (0, 6)

    async def test_an_empty_one_stays_open(self) -> None:
        async with engine() as one:
            upload = await partial(one, b"")
            assert (upload.status, upload.complete, upload.due) == (SessionStatus.OPEN, True, False)

    async def test_a_complete_one_takes_nothing_more(self) -> None:
        async with engine() as one:
            upload = await partial(one, HELLO)
            assert (await bring(one, upload, b"", offset=6)).offset == 6
            with pytest.raises(LengthExceeded):
                await bring(one, upload, b"x", offset=6)

    async def test_it_is_finished_by_no_request(self) -> None:
        async with engine() as one:
            upload = await partial(one, HELLO)
            with pytest.raises(InvalidRequest, match="is partial"):
                await one.uploads.finish(upload.id, caller=ME)

    async def test_it_survives_its_process(self) -> None:
        async with engine() as one:
            upload = await partial(one, HELLO)
            again = await one.restart()
            assert (await again.uploads.offset(upload.id, caller=ME)).offset == 6
            final = await join(again, upload)
            assert await again.content(final) == HELLO
            await again.background.stop(grace_s=0)

    async def test_bytes_that_the_disk_has_lost_are_asked_for_again(self) -> None:
        async with engine() as one:
            upload = await partial(one, HELLO)
            del one.disk.parts[upload.id].data[2:]
            assert (await one.uploads.offset(upload.id, caller=ME)).offset == 2
            await bring(one, upload, HELLO[2:], offset=2)
            assert await one.content(await join(one, upload)) == HELLO

    async def test_it_is_not_judged_as_the_file_is(self) -> None:
        async with engine() as one:
            await set_capsule(one, min_size=8, types=("image/*",))
            hello, world = await partial(one, HELLO), await partial(one, WORLD)
            assert hello.details.digest_name == "none"
            with pytest.raises(TypeNotAccepted):
                await join(one, hello, world)
            with pytest.raises(InvalidRequest, match="at least 8"):
                await join(one, hello, content_type="image/png")
            final = await join(one, hello, world, content_type="image/png")
            assert final.status is SessionStatus.COMMITTED

    async def test_complete_ones_are_not_counted_as_live(self) -> None:
        async with engine(limits=UploadLimits(sessions=SessionLimits(max_live=2))) as one:
            uploads = [await partial(one, HELLO) for _ in range(5)]
            assert await one.uploads.count_active_for(None, caller=ME) == 0
            assert (await join(one, *uploads)).size == 30


class TestFinal:
    async def test_it_is_the_ordered_sum_and_may_repeat_one(self) -> None:
        async with engine() as one:
            hello, world = await partial(one, HELLO), await partial(one, WORLD)
            final = await join(one, world, hello, world)
            assert (final.status, final.size, final.offset) == (SessionStatus.COMMITTED, 16, 16)
            assert await one.content(final) == WORLD + HELLO + WORLD
            record = await one.records.result_of(final)
            assert record is not None
            assert (record.status, record.size) == (RecordStatus.COMPLETED, 16)
            assert await reserved(one) == (16, 11)
            assert one.disk.parts.keys() == {hello.id, world.id}

    async def test_it_starts_when_its_last_partial_is_complete(self) -> None:
        async with engine() as one:
            hello, world = await partial(one, size=6), await partial(one, size=5)
            final = await join(one, hello, world)
            assert (final.status, final.size, final.offset) == (SessionStatus.OPEN, 11, 0)
            assert await reserved(one) == (0, 22)
            await bring(one, world, WORLD)
            assert (await one.state(final.id)).status is SessionStatus.OPEN
            await bring(one, hello, HELLO)
            assert await one.content(await ended(one, final)) == HELLO + WORLD
            assert await reserved(one) == (11, 11)

    async def test_its_size_is_known_when_all_others_are(self) -> None:
        async with engine() as one:
            hello, world = await partial(one, HELLO), await partial(one)
            final = await join(one, hello, world)
            assert (final.size, (await one.uploads.prospect_of(final))[0]) == (None, None)
            assert await reserved(one) == (0, 6)
            await bring(one, world, b"", size=5)
            assert (await one.uploads.prospect_of(await one.state(final.id)))[0] == 11
            await bring(one, world, WORLD)
            committed = await ended(one, final)
            assert (committed.size, (await one.uploads.prospect_of(committed))[0]) == (11, 11)
            assert await one.content(committed) == HELLO + WORLD
            assert await reserved(one) == (11, 11)

    async def test_one_that_waits_lives_as_long_as_the_last_of_its_partials(self) -> None:
        async with engine() as one:
            hello, world = await partial(one, HELLO), await partial(one, size=5)
            final = await join(one, hello, world)
            assert (await one.uploads.prospect_of(final))[1] == final.expires_at
            one.clock.advance(1000)
            await bring(one, world, b"wor")
            assert (await one.uploads.prospect_of(final))[1] == final.expires_at + 1000
            assert (await one.uploads.prospect_of(hello))[1] == hello.expires_at

    async def test_it_is_started_once(self) -> None:
        async with engine() as one:
            hello = await partial(one, HELLO)
            first = await join(one, hello)
            assert (await bring(one, hello, b"", offset=6)).offset == 6
            assert (await one.state(first.id)).status is SessionStatus.COMMITTED

    async def test_its_use_begins_the_time_of_its_partials_anew(self) -> None:
        async with engine() as one:
            hello = await partial(one, HELLO)
            one.clock.advance(1000)
            await join(one, hello)
            assert (await one.state(hello.id)).last_seen_at == one.clock.now()

    async def test_it_takes_no_bytes_itself_and_is_finished_by_no_request(self) -> None:
        async with engine() as one:
            final = await join(one, await partial(one, size=5))
            with pytest.raises(AccessDenied):
                await bring(one, final, WORLD)
            with pytest.raises(InvalidRequest, match="takes no bytes"):
                await one.uploads._sessions.append(final.id, 0, FakeBody(WORLD))
            with pytest.raises(InvalidRequest, match="is final"):
                await one.uploads.finish(final.id, caller=ME)
            assert (await one.uploads.offset(final.id, caller=ME)).status is SessionStatus.OPEN

    async def test_it_may_be_aborted_and_its_partials_stay(self) -> None:
        async with engine() as one:
            hello = await partial(one, size=6)
            final = await join(one, hello)
            await one.uploads.abort(final.id, caller=ME)
            assert (await bring(one, hello, HELLO)).offset == 6
            assert (await one.state(final.id)).status is SessionStatus.ABORTED
            assert await reserved(one) == (0, 6)

    async def test_more_than_an_upload_may_have_is_refused(self) -> None:
        async with engine(limits=UploadLimits(sessions=SessionLimits(max_size=10))) as one:
            hello, world = await partial(one, HELLO), await partial(one, WORLD)
            with pytest.raises(LengthExceeded):
                await join(one, hello, world)
            assert {live.id for live in await one.uploads.probe()} == {hello.id, world.id}

    async def test_what_it_cannot_be_made_of_is_refused_and_nothing_is_begun(self) -> None:
        async with engine() as one:
            good, gone = await partial(one, HELLO), await partial(one, WORLD)
            await one.uploads.abort(gone.id, caller=ME)
            ordinary = await one.begin_append(5)
            other = Caller(owner="user:x")
            asked = BeginUpload(
                filename="a", size=5, mode=Mode.APPEND, concat=Concat.PARTIAL, capsule="default"
            )
            foreign = (await one.uploads.begin(asked, caller=other)).upload
            cases: list[tuple[Upload, type[Exception]]] = [
                (replace(good, id=SessionId("none")), UploadNotFound),
                (foreign, UploadNotFound),
                (gone, UploadGone),
                (ordinary, InvalidRequest),
            ]
            before = await one.uploads.probe()
            for bad, error in cases:
                with pytest.raises(error):
                    await join(one, good, bad)
            assert await one.uploads.probe() == before
            assert await reserved(one) == (0, 16)

    async def test_words_that_contradict_each_other_are_refused(self) -> None:
        async with engine() as one:
            name = SessionId("a")
            for fields in (
                {"concat": Concat.FINAL, "partials": ()},
                {"concat": Concat.FINAL, "partials": (name,) * (MAX_PARTIALS + 1)},
                {"concat": Concat.FINAL, "partials": (name,), "size": 5},
                {"concat": Concat.FINAL, "partials": (name,), "key": "k"},
                {"concat": Concat.PARTIAL, "size": 5, "mode": Mode.CHUNKS},
                {"concat": Concat.PARTIAL, "partials": (name,)},
                {"partials": (name,)},
            ):
                asked: dict[str, Any] = {"size": None, "mode": Mode.APPEND, **fields}
                with pytest.raises(InvalidRequest):
                    await one.begin(**asked)

    async def test_a_sink_that_cannot_is_told_of(self) -> None:
        async with engine() as one:
            told = [one.uploads.concatenates]
            one.sink.__class__ = SinkWithoutPower
            assert [*told, one.uploads.concatenates] == [True, False]
            with pytest.raises(InvalidRequest, match="cannot put uploads together"):
                await partial(one, size=5)


class TestFailures:
    async def test_it_fails_when_a_partial_is_aborted(self) -> None:
        async with engine() as one:
            hello, world = await partial(one, HELLO), await partial(one, size=5)
            first, second = await join(one, hello, world), await join(one, world)
            await one.uploads.abort(world.id, caller=ME)
            for final in (first, second):
                failed = await ended(one, final)
                assert failed.status is SessionStatus.FAILED
                assert failed.error == f"upload {world.id!r}, of which it was to be made, is aborted"
                assert failed.details.record is not None
                record = await one.records.get(failed.details.record, caller=ME)
                assert record.status is RecordStatus.FAILED
            assert await reserved(one) == (0, 6)

    async def test_a_partial_stays_while_it_is_used(self) -> None:
        async with engine() as one:
            hello, _ = await bring_last(one, StorageUnavailable("not now"))
            with pytest.raises(UploadBusy):
                await one.uploads.abort(hello.id, caller=ME)
            assert await one.uploads.redo() == 1
            await until(lambda: not one.background._tasks)
            await one.uploads.abort(hello.id, caller=ME)

    async def test_sizes_that_a_capsule_wants_since_its_begin_do_not_hold_for_it(self) -> None:
        async with engine() as one:
            hello = await partial(one)
            final = await join(one, hello)
            await set_capsule(one, min_size=100)
            assert (await bring(one, hello, HELLO, size=6)).offset == 6
            whole = await ended(one, final)
            assert (whole.status, await reserved(one)) == (SessionStatus.COMMITTED, (6, 6))

    async def test_one_that_finds_no_room_in_its_capsule_fails_and_its_partial_is_taken(self) -> None:
        async with engine() as one:
            hello = await partial(one)
            final = await join(one, hello)
            await set_capsule(one, quota=8)
            assert (await bring(one, hello, HELLO, size=6)).offset == 6
            failed = await ended(one, final)
            assert (failed.status, await reserved(one)) == (SessionStatus.FAILED, (0, 6))

    async def test_one_that_comes_to_more_than_is_taken_fails_and_its_partial_is_taken(self) -> None:
        async with engine(limits=UploadLimits(sessions=SessionLimits(max_size=11))) as one:
            hello = await partial(one)
            twice, once = await join(one, hello, hello), await join(one, hello)
            assert (await bring(one, hello, HELLO, size=6)).offset == 6
            failed = await ended(one, twice)
            assert (failed.status, failed.error) == (
                SessionStatus.FAILED,
                "more bytes than the 11 that are allowed",
            )
            assert (await ended(one, once)).status is SessionStatus.COMMITTED

    async def test_one_that_is_refused_at_its_begin_is_not_begun(self) -> None:
        async with engine() as one:
            hello = await partial(one, HELLO)
            await set_capsule(one, quota=8)
            with pytest.raises(QuotaExceeded):
                await join(one, hello)
            empty = await partial(one, b"")
            await set_capsule(one, min_size=1)
            with pytest.raises(FileEmpty):
                await join(one, empty)
            assert {live.id for live in await one.uploads.probe()} == {hello.id, empty.id}

    async def test_it_is_built_later_when_the_disk_has_no_room_now(self) -> None:
        async with engine() as one:
            _, final = await bring_last(one, StorageFull(6))
            assert await one.uploads.redo() == 1
            assert await one.content(await ended(one, final)) == HELLO

    async def test_one_that_the_disk_has_no_room_for_is_given_up_by_an_abort_and_frees_its_partial(
        self,
    ) -> None:
        async with engine() as one:
            hello, final = await bring_last(one, StorageFull(6))
            with pytest.raises(UploadBusy):
                await one.uploads.abort(hello.id, caller=ME)
            one.sink.fail_next("concatenate", StorageFull(6))
            await one.uploads.abort(final.id, caller=ME)
            assert (await one.state(final.id)).status is SessionStatus.FAILED
            await one.uploads.abort(hello.id, caller=ME)
            assert (one.disk.parts, one.disk.blobs, await reserved(one)) == ({}, {}, (0, 0))

    async def test_one_that_cannot_be_put_together_at_its_begin_is_not_begun(self) -> None:
        async with engine() as one:
            hello = await partial(one, HELLO)
            one.sink.fail_next("concatenate", StorageFull(6))
            with pytest.raises(StorageFull):
                await join(one, hello)
            assert {live.id for live in await one.uploads.probe()} == {hello.id}
            assert await one.uploads.redo() == 0
            assert (await join(one, hello)).status is SessionStatus.COMMITTED

    async def test_it_fails_when_the_disk_has_lost_what_it_is_made_of(self) -> None:
        async with engine() as one:
            hello, world = await partial(one, HELLO), await partial(one, size=5)
            final = await join(one, hello, world)
            del one.disk.parts[hello.id].data[2:]
            await bring(one, world, WORLD)
            failed = await ended(one, final)
            assert (failed.status, failed.error) == (SessionStatus.FAILED, "its 11 bytes were lost on disk")

    async def test_while_somebody_else_builds_it_nothing_is_built(self) -> None:
        async with engine() as one:
            hello = await partial(one, size=6)
            final = await join(one, hello)

            async def busy(*_: object) -> None:
                raise RangeBusy

            real, one.sink.concatenate = one.sink.concatenate, busy  # type: ignore[method-assign,assignment]
            await bring(one, hello, HELLO)
            finishing = beside(one.uploads.finish(final.id, caller=ME))
            await one.pass_time_until(finishing.done)
            with pytest.raises(StorageUnavailable, match="still being put together"):
                await finishing
            one.sink.concatenate = real  # type: ignore[method-assign]
            assert await one.uploads.redo() == 1
            await until(lambda: not one.background._tasks)

    async def test_one_that_waits_for_room_is_made_of_a_partial_that_was_brought_again(self) -> None:
        async with engine() as one:
            hello, final = await bring_last(one, StorageFull(6))
            del one.disk.parts[hello.id].data[2:]
            assert (await one.uploads.offset(hello.id, caller=ME)).offset == 2
            assert (await bring(one, hello, HELLO[2:], offset=2)).offset == 6
            assert await one.uploads.redo() == 1
            assert await one.content(await ended(one, final)) == HELLO

    async def test_one_that_fails_in_another_worker_is_not_given_up_here(self) -> None:
        async with engine() as one:
            _, final = await bring_last(one, StorageUnavailable("no"))
            two = one.neighbour()
            one.sink.fail_next("concatenate", StorageUnavailable("no"))
            with pytest.raises(StorageUnavailable, match="in another worker"):
                await two.uploads.abort(final.id, caller=ME)
            assert (await two.state(final.id)).status is SessionStatus.FINISHING
            await two.background.stop(grace_s=0)


class SinkWithoutPower(MemorySink):
    """One that cannot put parts together."""

    concatenate = None  # type: ignore[assignment]


class TestCrashes:
    async def test_a_final_upload_that_was_being_built_is_built_by_the_next_process(self) -> None:
        async with engine() as one:
            _, final = await bring_last(one, StorageUnavailable("killed"), bytes(CHUNK))
            again = await one.restart()
            assert await again.uploads.redo() == 1
            assert await again.content(await ended(again, final)) == bytes(CHUNK)
            await again.background.stop(grace_s=0)

    async def test_one_that_was_made_a_blob_is_not_built_again(self) -> None:
        async with engine() as one:
            hello = await partial(one, size=6)
            final = await join(one, hello)

            async def fail() -> None:
                one.database.fail_next(StorageUnavailable("killed"))

            one.before_sink("commit", fail)
            await bring(one, hello, HELLO)
            await until(lambda: not one.background._tasks)
            again = await one.restart()
            assert await again.uploads.redo() == 1
            assert await again.content(await ended(again, final)) == HELLO
            await again.background.stop(grace_s=0)

    async def test_the_owner_s_rights_are_those_of_any_upload(self) -> None:
        async with engine() as one:
            hello = await partial(one, HELLO)
            assert (await join(one, hello)).spec.owner == LOCAL.owner
