"""What an embedding program says at the begin and at the finish of uploads."""

from typing import Any

import pytest

from haulier.core.caller import Caller
from haulier.core.errors import (
    CapsuleNotFound,
    HookUnavailable,
    InvalidRequest,
    UploadBusy,
    UploadGone,
    UploadRefused,
)
from haulier.core.record import RecordStatus
from haulier.core.session import SessionStatus
from haulier.core.upload import BeginUpload, Upload
from haulier.core.values import replace
from haulier.engine.hooks import FinishedUpload, Hooks
from haulier.ports import RecordQuery
from tests.support.bodies import FakeBody
from tests.support.engine import ME, Engine, engine

HELLO = b"hello"


async def filled(one: Engine, **request: Any) -> Upload:
    """Return an upload whose five bytes are here."""
    upload = await one.begin(5, **request)
    await one.uploads.put_chunk(upload.id, 0, FakeBody(HELLO), caller=ME)
    return upload


class TestBegin:
    async def test_a_hook_amends_what_is_begun(self) -> None:
        seen: list[str] = []

        async def amend(request: BeginUpload, caller: Caller) -> BeginUpload:
            seen.append(caller.owner)
            return replace(request, filename=f"safe-{request.filename}", key="another")

        async with engine(hooks=Hooks(on_begin=amend)) as one:
            upload = await one.begin(5, key="k")
            assert (upload.details.filename, upload.spec.key, seen) == ("safe-a.bin", "k", ["local"])
            assert (await one.begin(5, key="k")).id == upload.id

    async def test_a_repeat_is_the_same_request_whatever_the_hook_makes_of_it(self) -> None:
        count = 0

        async def number(request: BeginUpload, _: Caller) -> BeginUpload:
            nonlocal count
            count += 1
            return replace(request, filename=f"{count}")

        async with engine(hooks=Hooks(on_begin=number)) as one:
            first = await one.begin(5, key="k")
            assert (await one.begin(5, key="k")).details.filename == first.details.filename == "1"

    async def test_a_hook_that_only_looks_changes_nothing(self) -> None:
        async def look(_: BeginUpload, __: Caller) -> None:
            """Nothing to say."""

        async with engine(hooks=Hooks(on_begin=look)) as one:
            assert (await one.begin(5)).details.filename == "a.bin"

    async def test_a_refusal_begins_nothing(self) -> None:
        async def refuse(_: BeginUpload, __: Caller) -> None:
            raise UploadRefused("not on Sundays")

        async with engine(hooks=Hooks(on_begin=refuse)) as one:
            with pytest.raises(UploadRefused, match="not on Sundays"):
                await one.begin(5)
            assert await one.uploads.probe() == []

    async def test_what_a_hook_makes_is_judged_like_any_request(self) -> None:
        async def spoil(request: BeginUpload, _: Caller) -> BeginUpload:
            return replace(request, filename="a/b")

        async with engine(hooks=Hooks(on_begin=spoil)) as one:
            with pytest.raises(InvalidRequest, match="filename"):
                await one.begin(5)

    async def test_a_hook_is_not_asked_about_what_is_refused_anyway(self) -> None:
        async def never(_: BeginUpload, __: Caller) -> None:
            raise AssertionError

        async with engine(hooks=Hooks(on_begin=never)) as one:
            with pytest.raises(CapsuleNotFound):
                await one.begin(5, capsule="none")

    async def test_a_hook_that_breaks_begins_nothing_and_asks_for_another_try(self) -> None:
        async def breaks(_: BeginUpload, __: Caller) -> None:
            raise ZeroDivisionError

        async with engine(hooks=Hooks(on_begin=breaks)) as one:
            with pytest.raises(HookUnavailable, match="on_begin"):
                await one.begin(5)
            assert HookUnavailable.retryable
            assert await one.uploads.probe() == []


class TestFinish:
    async def test_a_hook_reads_what_is_stored_before_anybody_else_can(self) -> None:
        seen: list[tuple[bytes, int, str]] = []

        async def scan(finished: FinishedUpload) -> None:
            data = b"".join([piece async for piece in finished.read()])
            record = finished.details.record
            assert record is not None
            status = (await one.records.get(record, caller=ME)).status
            assert finished.details.digest is not None
            seen.append((data, finished.size, status.value))

        async with engine(hooks=Hooks(on_finish=scan)) as one:
            upload = await filled(one)
            assert (await one.uploads.finish(upload.id, caller=ME)).upload.status is SessionStatus.COMMITTED
            assert seen == [(HELLO, 5, "uploading")]

    async def test_a_refusal_fails_the_upload_and_frees_its_bytes(self) -> None:
        async def refuse(_: FinishedUpload) -> None:
            raise UploadRefused("it has a virus")

        async with engine(hooks=Hooks(on_finish=refuse)) as one:
            upload = await filled(one)
            with pytest.raises(UploadRefused, match="it has a virus"):
                await one.uploads.finish(upload.id, caller=ME)
            with pytest.raises(UploadGone, match="it has a virus"):
                await one.uploads.finish(upload.id, caller=ME)
            assert upload.details.record is not None
            record = await one.records.get(upload.details.record, caller=ME)
            assert (record.status.value, record.error) == ("failed", "the upload is refused: it has a virus")
            assert (one.disk.blobs, one.disk.parts) == ({}, {})

    async def test_a_hook_that_breaks_lets_nothing_through_and_is_asked_again(self) -> None:
        tries = 0

        async def breaks_once(_: FinishedUpload) -> None:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise ZeroDivisionError

        async with engine(hooks=Hooks(on_finish=breaks_once)) as one:
            upload = await filled(one)
            with pytest.raises(HookUnavailable, match="on_finish"):
                await one.uploads.finish(upload.id, caller=ME)
            assert (await one.state(upload.id)).status is SessionStatus.FINISHING
            await one.janitor.sweep()
            assert (await one.uploads.wait(upload.id, caller=ME, timeout_s=1)).upload.status is (
                SessionStatus.COMMITTED
            )
            assert tries == 2

    @pytest.mark.parametrize("refuses", [False, True])
    async def test_nobody_who_asks_for_the_offset_takes_a_finish_that_failed_for_done(
        self, *, refuses: bool
    ) -> None:
        broken = True

        async def scan(_: FinishedUpload) -> None:
            if broken:
                raise ZeroDivisionError
            if refuses:
                raise UploadRefused("it has a virus")

        async with engine(hooks=Hooks(on_finish=scan)) as one:
            upload = await one.begin_append(5)
            with pytest.raises(HookUnavailable):
                await one.uploads.append(upload.id, 0, FakeBody(HELLO), caller=ME)
            with pytest.raises(UploadBusy, match="its finish failed"):
                await one.uploads.offset(upload.id, caller=ME)
            broken = False
            if refuses:
                with pytest.raises(UploadRefused):
                    await one.uploads.offset(upload.id, caller=ME)
                with pytest.raises(UploadGone):
                    await one.uploads.offset(upload.id, caller=ME)
            else:
                assert (await one.uploads.offset(upload.id, caller=ME)).status is SessionStatus.COMMITTED

    @pytest.mark.parametrize("key", [None, "k"])
    async def test_an_empty_file_whose_sender_hears_of_no_id_is_not_stored_later(
        self, key: str | None
    ) -> None:
        broken = True

        async def scan(_: FinishedUpload) -> None:
            if broken:
                raise ZeroDivisionError

        async with engine(hooks=Hooks(on_finish=scan)) as one:
            with pytest.raises(HookUnavailable):
                await one.begin_append(0, key=key)
            broken = False
            await one.janitor.sweep()
            if key is not None:  # it is found again
                upload = await one.begin_append(0, key=key)
                await one.uploads.wait(upload.id, caller=ME, timeout_s=1)
            page = await one.records.list(RecordQuery(), caller=ME)
            kept = RecordStatus.FAILED if key is None else RecordStatus.COMPLETED
            assert [record.status for record in page.items] == [kept]

    async def test_after_a_crash_the_hook_is_asked_again(self) -> None:
        asked: list[int] = []

        async def scan(_: FinishedUpload) -> None:
            asked.append(1)

        async with engine(hooks=Hooks(on_finish=scan)) as one:
            upload = await filled(one)
            finishing = await one.database.write(
                lambda tx: tx.sessions.start_finish(upload.id, "blob", one.holder, now=one.clock.now())
            )
            assert finishing is not None
            again = await one.restart()
            again.workers.living.discard(one.holder)
            assert await again.uploads.redo() == 1
            done = await again.uploads.wait(upload.id, caller=ME, timeout_s=1)
            assert (done.upload.status, asked) == (SessionStatus.COMMITTED, [1])
            await again.background.stop(grace_s=0)
