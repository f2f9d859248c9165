"""Uploads that end by their client's word: not by their last byte, with an answer that stays, or as failed."""

import pytest

from haulier.core.errors import UploadBusy, UploadGone, UploadNotFound
from haulier.core.session import SessionId, SessionStatus
from tests.support.bodies import FakeBody
from tests.support.engine import ME, beside, engine, until

CHECKPOINT = 1024


async def test_the_last_byte_completes_nothing_without_the_word() -> None:
    async with engine() as one:
        upload = await one.begin_append(5, ends_by_word=True)
        state = await one.uploads.append(upload.id, 0, FakeBody(b"hello"), caller=ME)
        assert (state.upload.status, state.upload.offset) == (SessionStatus.OPEN, 5)
        assert await one.uploads.redo() == 0
        done = (await one.uploads.append(upload.id, 5, FakeBody(), caller=ME, final=True)).upload
        assert done.status is SessionStatus.COMMITTED
        assert await one.content(done) == b"hello"


async def test_the_word_with_the_last_byte_completes_it() -> None:
    async with engine() as one:
        upload = await one.begin_append(None, ends_by_word=True)
        done = (await one.uploads.append(upload.id, 0, FakeBody(b"hello"), caller=ME, final=True)).upload
        assert (done.status, done.size) == (SessionStatus.COMMITTED, 5)


async def test_a_failed_upload_says_why_and_frees_its_bytes() -> None:
    async with engine() as one:
        upload = await one.begin_append(5)
        await one.uploads.append(upload.id, 0, FakeBody(b"he"), caller=ME)
        await one.uploads.fail(upload.id, "too much", caller=ME)
        failed = await one.state(upload.id)
        assert (failed.status, failed.error) == (SessionStatus.FAILED, "too much")
        assert one.disk.parts == {}
        with pytest.raises(UploadGone):
            await one.uploads.append(upload.id, 2, FakeBody(b"llo"), caller=ME)
        await one.uploads.fail(upload.id, "again", caller=ME)
        assert (await one.state(upload.id)).error == "too much"


async def test_the_first_answer_is_kept() -> None:
    async with engine() as one:
        upload = await one.begin_append(0)
        assert await one.uploads.keep_answer(upload.id, "first", caller=ME) == "first"
        assert await one.uploads.keep_answer(upload.id, "second", caller=ME) == "first"
        assert (await one.state(upload.id)).answer == "first"
        with pytest.raises(UploadNotFound):
            await one.uploads._sessions.keep_answer(SessionId("none"), "x")


async def test_whoever_sends_hears_of_each_new_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haulier.engine.appends.CHECKPOINT_BYTES", CHECKPOINT)
    async with engine() as one:
        told: list[int] = []
        upload = await one.begin_append(4 * CHECKPOINT)
        body = FakeBody(bytes(CHECKPOINT), bytes(CHECKPOINT), b"", held=True)
        running = beside(one.uploads.append(upload.id, 0, body, caller=ME, progressed=told.append))
        await body.reached.wait()
        await until(lambda: 2 * CHECKPOINT in told)
        body.stop()
        with pytest.raises(UploadBusy):
            await running
        assert told == sorted(set(told))
