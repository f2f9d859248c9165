"""What a capsule takes and how much of it: judged at the begin, while bytes come, and at completion."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from haulier.core.capsule import Capsule
from haulier.core.digest import Digest, DigestName
from haulier.core.errors import (
    FileEmpty,
    InvalidRequest,
    LengthExceeded,
    LengthInconsistent,
    QuotaExceeded,
    RequestError,
    TypeNotAccepted,
    UploadBusy,
)
from haulier.core.session import Mode, SessionStatus
from haulier.engine import appends
from haulier.engine.accounts import Accounts
from haulier.testing import SeededIdentifiers
from tests.support.bodies import FakeBody
from tests.support.engine import ME, Engine, beside, engine, until


async def change(one: Engine, **settings: str) -> Capsule:
    """Set keys of the capsule `default`."""
    accounts = Accounts(one.database, one.clock, SeededIdentifiers(one.clock, 7))
    return await accounts.set_capsule("default", settings)


def held(one: Engine) -> tuple[int, int]:
    """Return what the capsule has used and reserved."""
    capsule = one.database._rows.capsules["default"]
    return capsule.used, capsule.reserved


@pytest.fixture
async def one() -> AsyncIterator[Engine]:
    async with engine() as running:
        yield running


# --- at the begin ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "request_", "error"),
    [
        ({"max_size": "4"}, {"size": 5}, LengthExceeded),
        ({"min_size": "1"}, {"size": 0}, FileEmpty),
        ({"min_size": "9"}, {"size": 5}, InvalidRequest),
        ({"types": "image/*"}, {"size": 5, "content_type": "text/plain"}, TypeNotAccepted),
        ({"types": "image/*"}, {"size": 5, "filename": "a.txt"}, TypeNotAccepted),
        ({"digests": "blake3"}, {"size": 5, "digest_name": DigestName.MD5}, InvalidRequest),
        ({"digests": "blake3"}, {"size": 5, "expected": Digest(DigestName.MD5, bytes(16))}, InvalidRequest),
        ({"quota": "4"}, {"size": 5}, QuotaExceeded),
    ],
)
async def test_what_the_capsule_does_not_take_is_not_begun(
    one: Engine, settings: dict[str, str], request_: dict[str, Any], error: type[RequestError]
) -> None:
    await change(one, **settings)
    with pytest.raises(error):
        await one.begin(**request_)
    assert await one.uploads.probe() == []
    assert held(one) == (0, 0)


async def test_the_limit_that_is_told_is_the_capsules(one: Engine) -> None:
    await change(one, max_size="4")
    with pytest.raises(LengthExceeded) as refused:
        await one.begin(5)
    assert refused.value.limit == 4


async def test_what_the_capsule_takes_is_begun_its_way(one: Engine) -> None:
    await change(one, types="image/*", digests="blake3,md5", ttl="60", max_ttl="90", max_size="5")
    upload = await one.begin(5, filename="a.png")
    assert (upload.details.digest_name, upload.spec.ttl_s) == (DigestName.BLAKE3, 60.0)
    asked = await one.begin(5, content_type="image/x", digest_name=DigestName.MD5, ttl_s=1000.0)
    assert (asked.details.digest_name, asked.spec.ttl_s) == (DigestName.MD5, 90.0)


async def test_a_repeated_begin_may_ask_for_another_time(one: Engine) -> None:
    first = await one.begin(5, key="k")
    assert (await one.begin(5, key="k", ttl_s=30.0)).id == first.id
    with pytest.raises(InvalidRequest):
        await one.begin(5, ttl_s=0.0)


async def test_fifty_begins_at_once_never_pass_the_quota(one: Engine) -> None:
    await change(one, quota="100")
    results = await asyncio.gather(*(one.begin(10) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(result, QuotaExceeded) for result in results) == 40
    assert held(one) == (0, 100)


# --- bytes of unknown number -------------------------------------------------------------------------


async def append(one: Engine, upload: Any, data: bytes, *, final: bool = False) -> Any:
    body = FakeBody(data, announced=False)
    return (await one.uploads.append(upload.id, upload.offset, body, caller=ME, final=final)).upload


async def test_an_upload_of_unknown_size_reserves_what_it_has(one: Engine) -> None:
    await change(one, quota="100")
    upload = await one.begin_append()
    assert held(one) == (0, 0)
    upload = await append(one, upload, b"x" * 30)
    assert held(one) == (0, 30)
    done = await append(one, upload, b"y" * 30, final=True)
    assert done.status is SessionStatus.COMMITTED
    assert held(one) == (60, 0)


async def test_a_declared_size_changes_nothing_about_what_is_reserved(one: Engine) -> None:
    upload = await append(one, await one.begin_append(), b"x" * 30)
    done = (await one.uploads.finish(upload.id, caller=ME, size=30)).upload
    assert done.status is SessionStatus.COMMITTED
    assert held(one) == (30, 0)


@pytest.mark.parametrize("end", ["abort", "expire"])
async def test_an_upload_of_unknown_size_gives_back_what_it_had(one: Engine, end: str) -> None:
    upload = await append(one, await one.begin_append(), b"x" * 30)
    if end == "abort":
        await one.uploads.abort(upload.id, caller=ME)
    else:
        one.clock.advance(10**6)
        assert await one.uploads.expire() == 1
    assert held(one) == (0, 0)


async def test_an_abort_gives_back_what_came_while_it_looked(one: Engine) -> None:
    upload = await one.begin_append()

    async def grow() -> None:
        await append(one, upload, b"x" * 30)

    one.before_write(grow)
    await one.uploads.abort(upload.id, caller=ME)
    assert held(one) == (0, 0)


async def test_a_body_that_would_pass_the_quota_is_stopped_at_its_next_row(
    one: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appends, "CHECKPOINT_BYTES", 10)
    await change(one, quota="25")
    upload = await one.begin_append()
    pieces = [b"x" * 10] * 1000
    body = FakeBody(*pieces, announced=False)
    with pytest.raises(QuotaExceeded):
        await one.uploads.append(upload.id, 0, body, caller=ME, final=True)
    kept = await one.state(upload.id)
    assert (kept.status, kept.offset) == (SessionStatus.OPEN, held(one)[1])
    assert kept.offset <= 25
    assert len(one.disk.parts[upload.id].data) == kept.offset
    assert body.stopped


async def test_what_passes_the_quota_at_its_end_leaves_the_upload_as_it_was(one: Engine) -> None:
    await change(one, quota="25")
    upload = await append(one, await one.begin_append(), b"x" * 20)
    with pytest.raises(QuotaExceeded):
        await append(one, upload, b"y" * 10, final=True)
    assert held(one) == (0, 20)
    # What came beyond the last row never counted, and goes when somebody asks.
    seen = await one.uploads.offset(upload.id, caller=ME)
    assert (seen.status, seen.offset) == (SessionStatus.OPEN, 20)
    assert len(one.disk.parts[upload.id].data) == 20
    done = await append(one, seen, b"z" * 5, final=True)
    assert await one.content(done) == b"x" * 20 + b"z" * 5


async def test_two_bodies_at_once_share_what_is_left(one: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appends, "CHECKPOINT_BYTES", 10)
    await change(one, quota="100")
    uploads = [await one.begin_append() for _ in range(5)]
    bodies = [FakeBody(*[b"x" * 10] * 100, announced=False) for _ in uploads]
    results = await asyncio.gather(
        *(
            one.uploads.append(upload.id, 0, body, caller=ME)
            for upload, body in zip(uploads, bodies, strict=True)
        ),
        return_exceptions=True,
    )
    assert all(isinstance(result, QuotaExceeded) for result in results)
    offsets = [(await one.state(upload.id)).offset for upload in uploads]
    assert held(one) == (0, sum(offsets))
    assert sum(offsets) <= 100


# --- at completion -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "data", "error"),
    [
        ({"max_size": "4"}, b"12345", LengthExceeded),
        ({"min_size": "1"}, b"", FileEmpty),
        ({"min_size": "9"}, b"12345", InvalidRequest),
    ],
)
async def test_a_size_that_was_unknown_is_judged_at_its_end(
    one: Engine, settings: dict[str, str], data: bytes, error: type[RequestError]
) -> None:
    await change(one, **settings)
    upload = await one.begin_append()
    with pytest.raises(error):
        await append(one, upload, data, final=True)
    kept = await one.state(upload.id)
    assert (kept.status, kept.size) == (SessionStatus.OPEN, None)


async def test_a_declared_size_is_judged_too(one: Engine) -> None:
    await change(one, min_size="9")
    upload = await append(one, await one.begin_append(), b"12345")
    with pytest.raises(InvalidRequest):
        await one.uploads.finish(upload.id, caller=ME, size=5)
    upload = await append(one, await one.state(upload.id), b"6789")
    assert (await one.uploads.finish(upload.id, caller=ME, size=9)).upload.status is SessionStatus.COMMITTED


async def test_a_body_without_end_is_stopped_at_the_capsules_limit(one: Engine) -> None:
    await change(one, max_size="25")
    upload = await one.begin_append()
    with pytest.raises(LengthExceeded) as refused:
        await one.uploads.append(
            upload.id, 0, FakeBody(*[b"x" * 10] * 1000, announced=False), caller=ME, final=True
        )
    assert refused.value.limit == 25
    assert len(one.disk.parts[upload.id].data) <= 25


async def test_below_what_is_used_nothing_new_is_completed(one: Engine) -> None:
    first, second = await one.begin(5), await one.begin(5)
    for upload in (first, second):
        await one.uploads.put_chunk(upload.id, 0, FakeBody(b"12345"), caller=ME)
    await change(one, quota="5")
    with pytest.raises(QuotaExceeded):
        await one.begin(1)
    assert (await one.uploads.finish(first.id, caller=ME)).upload.status is SessionStatus.COMMITTED
    with pytest.raises(QuotaExceeded):
        await one.uploads.finish(second.id, caller=ME)
    assert (await one.state(second.id)).status is SessionStatus.OPEN
    assert held(one) == (5, 5)
    await change(one, quota="")
    assert (await one.uploads.finish(second.id, caller=ME)).upload.status is SessionStatus.COMMITTED
    assert held(one) == (10, 0)


async def test_a_policy_that_changed_does_not_judge_a_size_that_was_accepted(one: Engine) -> None:
    upload = await one.begin(5)
    await one.uploads.put_chunk(upload.id, 0, FakeBody(b"12345"), caller=ME)
    await change(one, max_size="4", types="image/*")
    assert (await one.uploads.finish(upload.id, caller=ME)).upload.status is SessionStatus.COMMITTED


async def test_an_append_that_another_took_over_reserves_nothing(one: Engine) -> None:
    upload = await one.begin_append()
    body = FakeBody(b"x" * 5, b"y" * 5, announced=False, held=True)
    running = beside(one.uploads.append(upload.id, 0, body, caller=ME))
    await until(body.reached.is_set)
    await one.take_over(upload.id)
    body.release()
    with pytest.raises(RequestError):
        await running
    assert held(one) == (0, (await one.state(upload.id)).offset)


async def test_a_tail_that_another_took_over_is_left_to_it(one: Engine) -> None:
    upload = await append(one, await one.begin_append(), b"x" * 5)
    one.disk.parts[upload.id].data.extend(b"y" * 5)  # a crash came before their row
    one.before_write(lambda: one.take_over(upload.id), nth=3)
    with pytest.raises(UploadBusy):
        await one.uploads.offset(upload.id, caller=ME)
    assert held(one) == (0, 5)


async def test_a_body_that_ends_before_the_known_size_does_not_end_the_file(one: Engine) -> None:
    upload = await one.begin(10, mode=Mode.APPEND)
    with pytest.raises(LengthInconsistent, match="cannot be 5 where 10"):
        await one.uploads.append(upload.id, 0, FakeBody(b"x" * 5), caller=ME, final=True)
    assert (await one.state(upload.id)).status is SessionStatus.OPEN


async def test_an_append_of_known_size_reserves_nothing_more(one: Engine) -> None:
    upload = await one.begin(10, mode=Mode.APPEND)
    assert held(one) == (0, 10)
    await one.uploads.append(upload.id, 0, FakeBody(b"x" * 5), caller=ME)
    assert held(one) == (0, 10)
    await one.uploads.abort(upload.id, caller=ME)
    assert held(one) == (0, 0)
