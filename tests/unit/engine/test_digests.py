"""Digests that follow: in order, once, restartable, and never faster than the bytes."""

import asyncio
import hashlib
from functools import partial

import pytest
from structlog.testing import capture_logs

from haulier.core.digest import DigestName
from haulier.core.errors import StorageUnavailable, UploadBusy
from haulier.core.ranges import Ranges
from haulier.core.session import SessionId
from haulier.engine import digests as module
from haulier.engine.background import Background
from haulier.engine.digests import Digests
from haulier.testing import MemorySink
from tests.support.engine import beside, until

ID = SessionId("upload")


async def make(data: bytes, *, parallel: int = 1) -> tuple[Digests, MemorySink, list[SessionId], Background]:
    sink, background = MemorySink(), Background()
    told: list[SessionId] = []
    writer = await sink.open(ID, 0, None)
    writer.write(data)
    await writer.close()
    return Digests(sink, background, parallel=parallel, progressed=told.append), sink, told, background


async def test_a_gap_holds_the_digest_until_it_closes() -> None:
    digests, _, told, _ = await make(b"abcdef")
    digests.follow(ID, DigestName.SHA_256, Ranges(((0, 2),)))
    digests.accepted(ID, 4, 6)
    await until(lambda: digests.verified(ID) == 2)
    digests.accepted(ID, 2, 4)
    value = await digests.value(ID, DigestName.SHA_256, 6)
    assert value.value == hashlib.sha256(b"abcdef").digest()
    assert told == [ID, ID]


async def test_following_twice_changes_nothing_and_none_is_not_followed() -> None:
    digests, _, _, _ = await make(b"abc")
    digests.follow(ID, DigestName.NONE, Ranges(((0, 3),)))
    assert ID not in digests.followed_uploads()
    digests.follow(ID, DigestName.SHA_256, Ranges())
    digests.follow(ID, DigestName.MD5, Ranges())
    digests.accepted(ID, 0, 0)
    digests.accepted(SessionId("another"), 0, 3)
    assert digests.verified(SessionId("another")) == 0
    value = await digests.value(ID, DigestName.SHA_256, 3)
    assert value.value == hashlib.sha256(b"abc").digest()


async def test_another_digest_than_the_followed_one_is_computed_from_the_start() -> None:
    digests, _, _, _ = await make(b"abc")
    digests.follow(ID, DigestName.SHA_256, Ranges(((0, 3),)))
    value = await digests.value(ID, DigestName.MD5, 3)
    assert value.value == hashlib.md5(b"abc").digest()


async def test_an_empty_file_has_the_digest_of_nothing() -> None:
    digests, _, _, _ = await make(b"")
    digests.follow(ID, DigestName.SHA_256, Ranges())
    value = await digests.value(ID, DigestName.SHA_256, 0)
    assert value.value == hashlib.sha256(b"").digest()


async def test_bytes_that_cannot_be_read_are_told_and_asking_again_starts_again() -> None:
    digests, sink, _, _ = await make(b"abc")
    digests.follow(ID, DigestName.SHA_256, Ranges())
    sink.fail_next("scan", StorageUnavailable("no"))
    digests.accepted(ID, 0, 3)
    with pytest.raises(StorageUnavailable):
        await digests.value(ID, DigestName.SHA_256, 3)
    value = await digests.value(ID, DigestName.SHA_256, 3)
    assert value.value == hashlib.sha256(b"abc").digest()


async def test_bytes_that_are_gone_with_their_upload_alarm_nobody() -> None:
    """Another process has finished it, and this one has not heard of that yet."""
    digests, sink, _, background = await make(b"abc")
    digests.follow(ID, DigestName.SHA_256, Ranges())
    sink.fail_next("scan", StorageUnavailable("no such file"))
    with capture_logs() as logs:
        digests.accepted(ID, 0, 3)
        await until(lambda: not background._tasks)
    assert [(event["event"], event["log_level"]) for event in logs] == [("digest.left_off", "info")]
    assert ID not in digests.followed_uploads()


async def test_forgetting_stops_the_work() -> None:
    digests, sink, _, background = await make(b"abc")

    async def never() -> None:
        await asyncio.Event().wait()

    sink.pause = never
    digests.follow(ID, DigestName.SHA_256, Ranges(((0, 3),)))
    await asyncio.sleep(0)
    digests.forget(ID)
    digests.forget(ID)
    await until(lambda: not background._tasks)
    assert digests.verified(ID) == 0


async def test_what_was_received_in_many_pieces_is_taken_up_as_one_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digests, _, _, _ = await make(b"")
    received, built, real = (
        Ranges.of((10 * start, 10 * start + 5) for start in range(1, 500)),
        [],
        Ranges.__post_init__,
    )

    def count(ranges: Ranges) -> None:
        built.append(1)
        real(ranges)

    digests.follow(ID, DigestName.SHA_256, Ranges())
    monkeypatch.setattr(Ranges, "__post_init__", count)
    digests.follow(ID, DigestName.SHA_256, received)
    assert len(built) == 1


async def wait_for(event: asyncio.Event) -> None:
    await event.wait()


async def test_a_digest_that_is_forgotten_is_busy_and_no_cancel_of_who_waits_for_it() -> None:
    digests, sink, _, background = await make(b"abc")
    sink.pause = partial(wait_for, asyncio.Event())
    digests.follow(ID, DigestName.SHA_256, Ranges(((0, 3),)))
    value = beside(digests.value(ID, DigestName.SHA_256, 3))
    await asyncio.sleep(0)
    digests.forget(ID)
    with pytest.raises(UploadBusy, match="another worker"):
        await value
    assert not value.cancelled()
    await background.stop(grace_s=0)


async def test_who_waits_for_a_digest_can_be_cancelled_and_the_digest_goes_on() -> None:
    digests, sink, _, background = await make(b"abc")
    go = asyncio.Event()
    sink.pause = partial(wait_for, go)
    digests.follow(ID, DigestName.SHA_256, Ranges(((0, 3),)))
    value = beside(digests.value(ID, DigestName.SHA_256, 3))
    await asyncio.sleep(0)
    value.cancel()
    with pytest.raises(asyncio.CancelledError):
        await value
    go.set()
    await until(lambda: digests.verified(ID) == 3)
    await background.stop(grace_s=0)


async def test_who_is_far_ahead_is_held_back_until_the_digest_has_come_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_BEHIND", 4)
    monkeypatch.setattr(module, "STEP", 2)
    digests, sink, _, _ = await make(b"abcdef")
    steps = asyncio.Semaphore(0)

    async def wait() -> None:
        await steps.acquire()

    sink.pause = wait
    assert digests.caught_up(ID) is None
    digests.follow(ID, DigestName.SHA_256, Ranges(((0, 4),)))
    assert digests.caught_up(ID) is None
    digests.accepted(ID, 4, 6)
    held = digests.caught_up(ID)
    assert held is not None
    holding = asyncio.gather(held)
    steps.release()
    await until(lambda: digests.verified(ID) == 2)
    assert not holding.done()
    steps.release()
    await holding
    assert digests.verified(ID) == 4
    assert digests.caught_up(ID) is None


async def test_a_digest_that_cannot_go_on_holds_nobody_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BEHIND", 2)
    digests, sink, _, _ = await make(b"abcdef")
    digests.follow(ID, DigestName.SHA_256, Ranges())
    sink.fail_next("scan", StorageUnavailable("no"))
    digests.accepted(ID, 0, 6)
    held = digests.caught_up(ID)
    assert held is not None
    await held
    assert digests.caught_up(ID) is None
