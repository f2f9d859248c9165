"""tus on other servers and storages than ours: what is announced is what is possible, and nothing else is promised."""

import base64
import hashlib

import httpx2
import pytest

from haulier.adapters.memory import MemorySink
from haulier.core.session import Concat
from haulier.server.tus.headers import MadeOf, imf_date, read_concat
from tests.support.service import MemoryService

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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, MadeOf(Concat.NONE)),
        ("partial", MadeOf(Concat.PARTIAL)),
        ("final;/tus/a", MadeOf(Concat.FINAL, ("a",))),
        ("final; /tus/a  https://h:1/x/tus/b c", MadeOf(Concat.FINAL, ("a", "b", "c"))),
        ("final;/tus/%00", MadeOf(Concat.FINAL, ("\0",))),
    ],
)
def test_upload_concat_is_read(text: str | None, expected: MadeOf) -> None:
    assert read_concat(text) == expected


def test_a_date_is_rounded_down() -> None:
    assert imf_date(784111777.9) == "Sun, 06 Nov 1994 08:49:37 GMT"
