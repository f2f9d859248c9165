"""tus on other servers and storages than ours: what is announced is what is possible, and nothing else is promised."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from itertools import pairwise

import httpx2
import pytest

from haulier.adapters.memory.sink import MemorySink
from haulier.core.caller import Role, Scope
from haulier.core.errors import InvalidRequest, StorageFull
from haulier.core.session import Concat
from haulier.server.tus.headers import MadeOf, imf_date, read_concat
from haulier.testing import ManualClock
from tests.support.service import ORIGIN, MemoryService

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}
SHA1 = f"sha1 {base64.b64encode(hashlib.sha1(b'hello').digest()).decode()}"


async def extensions(client: httpx2.AsyncClient) -> set[str]:
    return set((await client.options("/tus/")).headers["tus-extension"].split(","))


async def test_a_server_without_trailers_does_not_announce_them() -> None:
    async with MemoryService().client() as client:
        assert await extensions(client) == {
            "creation",
            "creation-with-upload",
            "creation-defer-length",
            "expiration",
            "checksum",
            "termination",
            "concatenation",
            "concatenation-unfinished",
        }


async def test_a_trailer_that_cannot_be_told_from_a_header_is_refused() -> None:
    async with MemoryService().client() as client:

        async def body() -> object:
            yield b"hello"

        fields = {**BYTES, "Upload-Length": "5", "Trailer": "Upload-Checksum"}
        answer = await client.post("/tus/", headers=fields, content=body())  # type: ignore[arg-type]
        assert answer.status_code == 400
        assert "cannot be a trailer here" in answer.text


async def test_a_storage_that_cannot_put_together_does_not_announce_it() -> None:
    class PlainSink(MemorySink):
        concatenate = None  # type: ignore[assignment]

    async with MemoryService(sink=PlainSink()).client() as client:
        assert not {"concatenation", "concatenation-unfinished"} & await extensions(client)
        answer = await client.post("/tus/", headers={**TUS, "Upload-Length": "5", "Upload-Concat": "partial"})
        assert answer.status_code == 400


async def test_a_checksum_is_verified_on_any_server() -> None:
    async with MemoryService().client() as client:
        fields = {**BYTES, "Upload-Length": "5", "Upload-Checksum": SHA1}
        assert (await client.post("/tus/", headers=fields, content=b"hello")).status_code == 201
        assert (await client.post("/tus/", headers=fields, content=b"other")).status_code == 460


async def test_the_lost_answer_to_a_creation_leaves_nothing_that_can_be_continued() -> None:
    service = MemoryService()
    async with service.client() as client:
        fields = {**BYTES, "Upload-Length": "5", "Upload-Checksum": SHA1}
        assert (await client.post("/tus/", headers=fields, content=b"other")).status_code == 460
        assert await service.uploads.probe() == []


async def test_a_detached_upload_has_no_record_to_be_terminated() -> None:
    async with MemoryService().client() as client:
        begun = (
            await client.post(
                "/api/uploads", json={"filename": "a", "size": 5, "mode": "append", "lanes": True}
            )
        ).json()
        target = f"/tus/{begun['id']}"
        answer = await client.patch(target, headers={**BYTES, "Upload-Offset": "0"}, content=b"hello")
        assert answer.status_code == 204
        assert (await client.delete(target, headers=TUS)).status_code == 409
        assert (await client.get(target)).status_code == 404
        assert (await client.head(target, headers=TUS)).headers["upload-offset"] == "5"


async def test_head_of_a_final_upload_that_is_still_being_built_has_no_offset() -> None:
    """ "The response to a HEAD request for a final upload SHOULD NOT contain the Upload-Offset header unless [...]"."""
    service = MemoryService()
    async with service.client() as client:
        fields = {**TUS, "Upload-Length": "5", "Upload-Concat": "partial"}
        partial = (await client.post("/tus/", headers=fields)).headers["location"]
        made_of = {**TUS, "Upload-Concat": f"final;{partial} {partial}"}
        final = (await client.post("/tus/", headers=made_of)).headers["location"]
        service.sink.fail_next("concatenate", StorageFull(5))
        last = await client.patch(partial, headers={**BYTES, "Upload-Offset": "0"}, content=b"hello")
        assert last.status_code == 204
        answer = await client.head(final, headers=TUS)
        assert (answer.status_code, answer.headers["upload-length"]) == (200, "10")
        assert not {"upload-offset", "upload-expires"} & set(answer.headers)
        assert (await client.delete(final, headers=TUS)).status_code == 204
        assert (await client.delete(partial, headers=TUS)).status_code == 204


class TestExpiration:
    """ "Expiry slides with activity; a PATCH in progress is never reaped." """

    async def test_every_patch_gives_an_upload_its_whole_time_again(self) -> None:
        service = MemoryService(clock=(clock := ManualClock()))
        async with service.client() as client:
            created = await client.post("/tus/", headers={**TUS, "Upload-Length": "9"})
            target, told = created.headers["location"], [expiry_of(created)]
            lifetime_s = told[0] - clock.now()
            for offset in ("0", "3"):
                clock.advance(lifetime_s - 10)
                answer = await client.patch(
                    target, headers={**BYTES, "Upload-Offset": offset}, content=b"abc"
                )
                assert await service.uploads.expire() == 0
                told.append(expiry_of(answer))
            assert [later - sooner for sooner, later in pairwise(told)] == [
                pytest.approx(lifetime_s - 10, abs=1.0)
            ] * 2
            clock.advance(lifetime_s + 1)
            assert await service.uploads.expire() == 1
            assert (await client.head(target, headers=TUS)).status_code == 410

    async def test_one_that_is_still_being_sent_is_not_taken_away(self) -> None:
        service = MemoryService(clock=(clock := ManualClock()))
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"hel"
            begun.set()
            await go_on.wait()
            yield b"lo"

        async with service.client() as client:
            created = await client.post("/tus/", headers={**TUS, "Upload-Length": "5"})
            target = created.headers["location"]
            fields = {**BYTES, "Upload-Offset": "0"}
            async with asyncio.TaskGroup() as group:
                running = group.create_task(client.patch(target, headers=fields, content=body()))
                await begun.wait()
                clock.advance(2 * (expiry_of(created) - clock.now()))
                assert await service.uploads.expire() == 0
                go_on.set()
            answer = await running
            assert (answer.status_code, answer.headers["upload-offset"]) == (204, "5")
            assert (await client.get(target)).content == b"hello"


def expiry_of(answer: httpx2.Response) -> float:
    return parsedate_to_datetime(answer.headers["upload-expires"]).timestamp()


class TestAccess:
    """What needs a right, and what belongs to somebody else."""

    async def test_a_complete_upload_is_deleted_by_who_may_delete_records_only(self) -> None:
        service = MemoryService(opened=False)
        await service.accounts.create_capsule("team", owner="user:olga")
        await service.accounts.grant("team", "user:alice", Role.WRITER)
        olga, alice = [await bearer(service, name) for name in ("olga", "alice")]
        async with service.client(require_tokens=True) as client:
            whole = {**BYTES, **alice, "Upload-Length": "5"}
            created = await client.post("/tus/?capsule=team", headers=whole, content=b"hello")
            target = created.headers["location"]
            await service.accounts.grant("team", "user:alice", Role.READER)
            refused = await client.delete(target, headers={**TUS, **alice})
            assert (refused.status_code, refused.json()["type"]) == (403, f"{ORIGIN}/errors/access-denied")
            assert (await client.get(target, headers=alice)).content == b"hello"
            assert (await client.delete(target, headers={**TUS, **olga})).status_code == 204
            assert (await client.head(target, headers={**TUS, **alice})).status_code == 410

    async def test_a_partial_of_somebody_else_is_as_unknown_as_none(self) -> None:
        service = MemoryService(opened=False)
        alice, bob = [await bearer(service, name) for name in ("alice", "bob")]
        async with service.client(require_tokens=True) as client:
            part = {**BYTES, **alice, "Upload-Length": "5", "Upload-Concat": "partial"}
            created = await client.post("/tus/", headers=part, content=b"hello")
            name = created.headers["location"].rpartition("/")[2]
            before = await service.uploads.probe()
            answers = [
                await client.post("/tus/", headers={**TUS, **bob, "Upload-Concat": f"final;/tus/{each}"})
                for each in (name, "nobody")
            ]
            assert [answer.status_code for answer in answers] == [404, 404]
            assert await service.uploads.probe() == before
            own = await client.post("/tus/", headers={**TUS, **alice, "Upload-Concat": f"final;/tus/{name}"})
            assert own.status_code == 201


async def bearer(service: MemoryService, name: str) -> dict[str, str]:
    made = await service.accounts.create_token(f"user:{name}", scope=Scope.OWNER)
    return {"Authorization": f"Bearer {made.secret.reveal()}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, MadeOf(Concat.NONE)),
        ("partial", MadeOf(Concat.PARTIAL)),
        ("final;/tus/a", MadeOf(Concat.FINAL, ("a",))),
        ("final; /tus/a  https://h:1/x/tus/b c", MadeOf(Concat.FINAL, ("a", "b", "c"))),
        ("final;/tus/%00", MadeOf(Concat.FINAL, ("\0",))),
        ("final;/a,b;c|d/tus/a https://h/x;y/tus/b", MadeOf(Concat.FINAL, ("a", "b"))),
    ],
)
def test_upload_concat_is_read(text: str | None, expected: MadeOf) -> None:
    assert read_concat(text) == expected


@pytest.mark.parametrize("separator", [",", ";", "|"])
@pytest.mark.parametrize(
    "listed",
    [
        "a{}b",
        "a{}http://h/tus/b",
        "/tus/a{}/tus/b",
        "http://h/a{}http://h/tus/b",
        "http://h/x{}/tus/b",
        "/tus/a?{}/tus/b",
    ],
)
def test_upload_concat_reads_no_list_as_one_of_its_addresses(listed: str, separator: str) -> None:
    with pytest.raises(InvalidRequest):
        read_concat(f"final;{listed.format(separator)}")


@pytest.mark.parametrize("address", ["/tus/a;", "/tus/a#,b", "/tus/a?x|", "http://h;/tus/a"])
def test_upload_concat_has_its_separators_nowhere_but_in_a_folder(address: str) -> None:
    with pytest.raises(InvalidRequest):
        read_concat(f"final;{address}")


def test_a_date_is_rounded_down() -> None:
    assert imf_date(784111777.9) == "Sun, 06 Nov 1994 08:49:37 GMT"
