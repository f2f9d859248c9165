"""What operators see and may set going, and that nobody else does."""

import pytest

from haulier.core.caller import LOCAL, Caller, Scope
from haulier.core.errors import AccessDenied
from haulier.core.record import RecordStatus
from haulier.core.session import SessionStatus
from haulier.core.values import replace
from haulier.engine.operations import OperatorService
from tests.support.bodies import FakeBody
from tests.support.engine import CHUNK, ME, Engine, engine

OWNER = replace(LOCAL, scope=Scope.OWNER)


async def three() -> int:
    return 3


def operations(one: Engine) -> OperatorService:
    return OperatorService(one.database, expire=one.janitor.expire, count_workers=three)


async def test_live_uploads_are_paged_oldest_first() -> None:
    async with engine() as one:
        uploads = []
        for _ in range(3):
            uploads.append(await one.begin(CHUNK))
            one.clock.advance(1)
        calls = operations(one)
        first = await calls.live(after=None, limit=2, caller=LOCAL)
        assert [upload.id for upload in first.items] == [upload.id for upload in uploads[:2]]
        assert first.next == (uploads[1].created_at, uploads[1].id)
        second = await calls.live(after=first.next, limit=2, caller=LOCAL)
        assert [upload.id for upload in second.items] == [uploads[2].id]
        assert second.next is None


async def test_a_live_upload_shows_what_it_received() -> None:
    async with engine() as one:
        upload = await one.begin(2 * CHUNK)
        await one.uploads.put_chunk(upload.id, 1, FakeBody(b"x" * CHUNK), caller=ME)
        (shown,) = (await operations(one).live(after=None, limit=9, caller=LOCAL)).items
        assert shown.received.total == CHUNK


async def test_everything_is_counted() -> None:
    async with engine() as one:
        await one.begin(5)
        done = await one.begin_append(5)
        await one.uploads.append(done.id, 0, FakeBody(b"hello"), caller=ME)
        await one.begin(5)
        stats = await operations(one).stats(caller=LOCAL)
        assert (stats.uploads[SessionStatus.OPEN], stats.uploads[SessionStatus.FINISHING]) == (2, 0)
        assert stats.records[RecordStatus.COMPLETED] == 1
        assert stats.records[RecordStatus.UPLOADING] == 2
        assert stats.records[RecordStatus.FAILED] == stats.deleted_records == 0
        (capsule,) = stats.capsules
        assert (capsule.name, capsule.used, capsule.reserved) == ("default", 5, 10)
        assert stats.workers == 3
        assert await operations(one).count_live(caller=LOCAL) == 2


async def test_what_is_overdue_expires_when_asked() -> None:
    async with engine() as one:
        await one.begin(5)
        one.clock.advance(one.limits.ttl_s - 1)
        await one.begin(5)
        one.clock.advance(2)
        assert await operations(one).expire(caller=LOCAL) == 1
        assert await operations(one).expire(caller=LOCAL) == 0


async def test_a_clock_that_was_set_forward_expires_nothing() -> None:
    async with engine() as one:
        await one.begin(5)
        one.clock.step_wall(2 * one.limits.ttl_s)
        assert await operations(one).expire(caller=LOCAL) == 0


@pytest.mark.parametrize(
    "caller", [OWNER, Caller(owner="user:ann"), Caller(owner="user:ann", scope=Scope.READ)]
)
async def test_nobody_else_may(caller: Caller) -> None:
    async with engine() as one:
        calls = operations(one)
        for call in (
            calls.live(after=None, limit=1, caller=caller),
            calls.stats(caller=caller),
            calls.expire(caller=caller),
        ):
            with pytest.raises(AccessDenied):
                await call
