"""What S3 may answer and the services of our tests never do: errors in a success, many pages, keys that may little."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import pytest

from haulier.core.errors import PeerBlocked, PeerBusy, PeerRefused, PeerUnreachable, PeerUnreadable
from haulier.core.outgoing import IfExists, Outgoing
from haulier.core.transfer import Obstacle
from haulier.remotes.s3 import S3Remote
from haulier.remotes.s3_session import MAX_LISTING
from haulier.testing.remote_contract import Sources, delivery_of
from tests.interop.remotes.test_s3 import (
    BUCKET,
    MIB,
    Endpoint,
    make_bucket,
    moto_endpoint,
    read_back,
    remote_at,
)
from tests.interop.remotes.test_strange_answers import Host, endless, host, said

__all__ = ["moto_endpoint"]

SIZE: Final = 3 * 8 * MIB
BEGUN: Final = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"


def failed(code: str) -> str:
    return f"<Error><Code>{code}</Code><Message>in words</Message></Error>"


def listed(parts: list[int], *, after: int | None) -> str:
    """A page of parts, and the number after which the next one begins."""
    told = "".join(
        f"<Part><PartNumber>{n}</PartNumber><Size>{8 * MIB}</Size><ETag>e{n}</ETag></Part>" for n in parts
    )
    more = "" if after is None else f"<NextPartNumberMarker>{after}</NextPartNumberMarker>"
    cut = str(after is not None).lower()
    return f"<ListPartsResult><IsTruncated>{cut}</IsTruncated>{more}{told}</ListPartsResult>"


class Service:
    """Answers as S3 does; a test says what is different."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {
            "uploads": said("200 OK", "<ListMultipartUploadsResult/>"),
            "begin": said("200 OK", BEGUN),
            "part": said("200 OK", ETag='"e"'),
            "parts": said("200 OK", listed([1, 2, 3], after=None)),
            "complete": said("200 OK", "<CompleteMultipartUploadResult/>"),
            "head": said("404 Not Found"),
        }
        self.host: Host

    def answer(self, method: str, _port: int) -> bytes:
        target = self.host.heads[-1].split(" ", 2)[1]
        if method == "HEAD":
            return self.answers["head"]
        if "uploadId=" in target:
            what = {"PUT": "part", "GET": "parts", "POST": "complete"}[method]
            if "part-number-marker=2" in target:
                return said("200 OK", listed([3], after=None))
            return self.answers[what]
        return self.answers["begin" if method == "POST" else "uploads"]


@asynccontextmanager
async def service() -> AsyncIterator[tuple[Service, S3Remote]]:
    made = Service()
    async with host(made.answer) as made.host:
        remote = remote_at(made.host.url)
        yield made, remote
        await remote.close()


@pytest.mark.parametrize(
    ("code", "error"), [("InternalError", PeerBusy), ("SlowDown", PeerBusy), ("AccessDenied", PeerBlocked)]
)
async def test_an_error_inside_a_200_to_the_completion_is_an_error(
    code: str, error: type[Exception], sources: Sources
) -> None:
    async with service() as (s3, remote):
        delivery = delivery_of(remote, sources, bytes(SIZE))
        session = await remote.create(delivery.outgoing)
        s3.answers["complete"] = said("200 OK", failed(code))
        with pytest.raises(error, match="in words"):
            await remote.commit(delivery.outgoing, session, None)


async def test_an_object_of_a_remote_that_was_set_up_anew_since_waits_for_that(sources: Sources) -> None:
    """At its new place there is no such object, or another one of that name."""
    async with service() as (s3, remote):
        delivery = delivery_of(remote, sources, bytes(SIZE))
        session = await remote.create(delivery.outgoing)
        stored = await remote.commit(delivery.outgoing, session, None)
        elsewhere = remote_at(s3.host.url, prefix="another/")
        with pytest.raises(PeerBlocked, match="was stored; it was begun elsewhere") as told:
            await elsewhere.verify(delivery.outgoing, session, stored)
        assert told.value.obstacle is Obstacle.CONFLICT
        await elsewhere.close()


async def test_parts_are_listed_page_after_page(sources: Sources) -> None:
    async with service() as (s3, remote):
        delivery = delivery_of(remote, sources, bytes(SIZE))
        session = await remote.create(delivery.outgoing)
        s3.answers["parts"] = said("200 OK", listed([1, 2], after=2))
        held = await remote.offset(delivery.outgoing, session)
        assert held.ranges.pairs == ((0, SIZE),)


async def test_a_page_of_parts_that_leads_back_can_pass(sources: Sources) -> None:
    """A service that does not know the number that a page is to begin after gives the first one again and again."""
    async with service() as (s3, remote):
        delivery = delivery_of(remote, sources, bytes(SIZE))
        session = await remote.create(delivery.outgoing)
        s3.answers["parts"] = said("200 OK", listed([1], after=1))
        with pytest.raises(PeerUnreadable, match="leads back"):
            await remote.offset(delivery.outgoing, session)


async def test_parts_that_are_not_of_this_file_are_left_out(
    moto_endpoint: Endpoint, sources: Sources
) -> None:
    await make_bucket(moto_endpoint)
    remote = remote_at(moto_endpoint.url)
    data = Random(47).randbytes(SIZE)
    delivery = delivery_of(remote, sources, data)
    session = await remote.create(delivery.outgoing)
    upload = json.loads(session.state.reveal())["upload"]
    async with moto_endpoint.client() as client:
        await client.upload_part(
            Bucket=BUCKET, Key=delivery.outgoing.name, UploadId=upload, PartNumber=9, Body=bytes(8 * MIB)
        )
    stored = await delivery.finish(session)
    assert await read_back(moto_endpoint, stored) == data
    await remote.close()


@pytest.mark.parametrize(
    "uploads",
    [
        "<ListMultipartUploadsResult><MaxUploads>x</MaxUploads></ListMultipartUploadsResult>",
        "<ListMultipartUploadsResult><Upload><Initiated>soon</Initiated></Upload></ListMultipartUploadsResult>",
    ],
    ids=["a number", "a time"],
)
async def test_what_is_no_number_or_time_can_pass(uploads: str) -> None:
    async with service() as (s3, remote):
        s3.answers["uploads"] = said("200 OK", uploads)
        with pytest.raises(PeerUnreadable):
            await remote.create(_large())


async def test_a_part_that_is_listed_without_its_size_can_pass(sources: Sources) -> None:
    async with service() as (s3, remote):
        delivery = delivery_of(remote, sources, bytes(SIZE))
        session = await remote.create(delivery.outgoing)
        s3.answers["parts"] = said(
            "200 OK", "<ListPartsResult><Part><PartNumber>1</PartNumber></Part></ListPartsResult>"
        )
        with pytest.raises(PeerUnreadable, match="no Size"):
            await remote.offset(delivery.outgoing, session)


@pytest.mark.parametrize(
    ("status", "code", "obstacle"),
    [("400 Bad Request", "ExpiredToken", Obstacle.AUTH), ("507 Full", "QuotaExceeded", Obstacle.QUOTA)],
)
async def test_keys_that_expire_and_room_that_ends_in_the_middle_block(
    status: str, code: str, obstacle: Obstacle, sources: Sources
) -> None:
    async with service() as (s3, remote):
        delivery = delivery_of(remote, sources, bytes(SIZE))
        session = await remote.create(delivery.outgoing)
        await delivery.send(session, 0, 8 * MIB)
        s3.answers["part"] = said(status, failed(code))
        with pytest.raises(PeerBlocked) as told:
            await delivery.send(session, 8 * MIB, 16 * MIB)
        assert told.value.obstacle is obstacle


@pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden"])
async def test_keys_that_are_refused_without_a_word_block_what_has_arrived(
    status: str, sources: Sources
) -> None:
    """The answer to HEAD has no body; ending as rejected would say that the object is not there."""
    async with service() as (s3, remote):
        delivery = delivery_of(remote, sources, bytes(SIZE))
        session = await remote.create(delivery.outgoing)
        stored = await remote.commit(delivery.outgoing, session, None)
        s3.answers["head"] = said(status)
        for ask in (remote.verify(delivery.outgoing, session, stored), remote.probe()):
            with pytest.raises(PeerBlocked, match="the keys are refused") as told:
                await ask
            assert told.value.obstacle is Obstacle.AUTH


async def test_a_bucket_that_is_not_there_is_named(sources: Sources) -> None:
    async with service() as (_, remote):
        with pytest.raises(PeerRefused, match="there is no bucket 'shelf'"):
            await remote.probe()


async def test_keys_that_may_not_list_uploads_may_send_all_the_same(sources: Sources) -> None:
    async with service() as (s3, remote):
        s3.answers["uploads"] = said("403 Forbidden", failed("AccessDenied"))
        delivery = delivery_of(remote, sources, bytes(SIZE))
        stored = await remote.commit(delivery.outgoing, await remote.create(delivery.outgoing), None)
        assert stored.size == SIZE


def _large() -> Outgoing:
    return Outgoing(id="t", name="large.bin", size=SIZE, modified_at=0.0, intended_at=0.0)


async def _leave(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_an_endless_answer_to_a_short_request_ends() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
    async with host(lambda *_: head, after=endless) as mad:
        remote = remote_at(mad.url)
        with pytest.raises(PeerUnreachable, match=f"longer than {MAX_LISTING} bytes"):
            await remote.create(_large())
        await remote.close()


async def test_an_answer_that_is_cut_can_pass() -> None:
    async with host(lambda *_: b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<List", after=_leave) as cut:
        remote = remote_at(cut.url)
        with pytest.raises(PeerUnreachable):
            await remote.create(_large())
        await remote.close()


@pytest.mark.parametrize("size", [10, 2 * 8 * MIB])
async def test_of_two_that_must_not_replace_the_slower_one_is_refused(
    moto_endpoint: Endpoint, sources: Sources, size: int
) -> None:
    """Both have looked, and found nothing: what decides is `If-None-Match`."""
    await make_bucket(moto_endpoint)
    remote = remote_at(moto_endpoint.url)
    name, data = f"race-{size}.bin", Random(46).randbytes(size)
    first = delivery_of(remote, sources, data, name=name, transfer="1", if_exists=IfExists.FAIL)
    second = delivery_of(remote, sources, bytes(size), name=name, transfer="2", if_exists=IfExists.FAIL)
    sessions = [await remote.create(each.outgoing) for each in (first, second)]
    stored = await first.finish(sessions[0])
    with pytest.raises(PeerRefused) as told:
        await second.finish(sessions[1])
    assert told.value.slug == "target-exists"
    assert await read_back(moto_endpoint, stored) == data
    await remote.close()
