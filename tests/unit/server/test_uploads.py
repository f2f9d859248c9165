"""The native API: begin, state, chunks, appends, finish, abort."""

import base64
import hashlib
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from haulier.core.errors import StorageFull, StorageUnavailable
from haulier.engine.context import SessionLimits
from haulier.engine.planning import UploadLimits
from tests.support.service import MemoryService, served

MIB = 1024 * 1024
CHUNK = 256 * 1024
HELLO = b"hello world"
HELLO_HEX = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
DATA = bytes(range(256)) * 1024 * 2 + b"tail"
"""Three chunks of 256 KiB: two full, one of 4 bytes."""


def digest_field(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


async def begin(client: httpx2.AsyncClient, *, key: str | None = None, **wanted: Any) -> Any:
    body = {"filename": "a.bin", "size": len(DATA), "chunk_size": CHUNK, **wanted}
    headers = {} if key is None else {"Idempotency-Key": key}
    response = await client.post("/api/uploads", json=body, headers=headers)
    assert response.status_code in {200, 201}, response.text
    return response.json()


async def put(
    client: httpx2.AsyncClient, upload: Any, index: int, data: bytes, **more: Any
) -> httpx2.Response:
    return await client.put(f"{upload['links']['chunks']}/{index}", content=data, **more)


async def put_all(client: httpx2.AsyncClient, upload: Any, data: bytes = DATA) -> None:
    for index in range(upload["chunk_count"]):
        piece = data[index * CHUNK : (index + 1) * CHUNK]
        assert (await put(client, upload, index, piece)).status_code == 204


def problem(response: httpx2.Response, status: int, slug: str) -> Any:
    document = response.json()
    assert (response.status_code, document["type"]) == (status, f"http://127.0.0.1:8000/errors/{slug}"), (
        document
    )
    assert response.headers["content-type"] == "application/problem+json"
    return document


class TestBegin:
    async def test_a_begun_upload_says_all_that_its_client_needs(self, client: httpx2.AsyncClient) -> None:
        response = await client.post("/api/uploads", json={"filename": "a.bin", "size": 9 * MIB})
        document = response.json()
        own = f"http://127.0.0.1:8000/api/uploads/{document['id']}"
        assert response.status_code == 201
        assert response.headers["location"] == own
        assert document["links"] == {
            "self": own,
            "chunks": f"{own}/chunks",
            "finish": f"{own}/finish",
            "events": f"{own}/events",
        }
        assert {name: document[name] for name in ("status", "mode", "size", "chunk_size", "chunk_count")} == {
            "status": "open",
            "mode": "chunks",
            "size": 9 * MIB,
            "chunk_size": 8 * MIB,
            "chunk_count": 2,
        }
        assert document["expires_at"].endswith("Z")
        assert document["token"]
        assert document["record"]

    async def test_links_repeat_the_name_that_the_client_used(self, client: httpx2.AsyncClient) -> None:
        response = await client.post(
            "/api/uploads", json={"filename": "a", "size": 1}, headers={"Host": "localhost:8000"}
        )
        assert response.headers["location"].startswith("http://localhost:8000/api/uploads/")

    async def test_the_same_key_again_is_the_same_upload(self, client: httpx2.AsyncClient) -> None:
        body = {"filename": "a.bin", "size": 3}
        first = await client.post("/api/uploads", json=body, headers={"Idempotency-Key": "k"})
        again = await client.post("/api/uploads", json=body, headers={"Idempotency-Key": "k"})
        assert (first.status_code, again.status_code) == (201, 200)
        assert (first.json()["id"], first.json()["token"]) == (again.json()["id"], again.json()["token"])

    async def test_the_key_of_another_request_is_refused(self, client: httpx2.AsyncClient) -> None:
        await begin(client, key="k")
        response = await client.post(
            "/api/uploads", json={"filename": "b", "size": 3}, headers={"Idempotency-Key": "k"}
        )
        assert problem(response, 422, "idempotency-key-reused")["key"] == "k"

    @pytest.mark.parametrize(
        "content_type",
        [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp"],
    )
    async def test_json_is_read_under_its_own_type_only(
        self, client: httpx2.AsyncClient, content_type: str | None
    ) -> None:
        headers = {} if content_type is None else {"Content-Type": content_type}
        response = await client.post("/api/uploads", content=b'{"filename": "a", "size": 1}', headers=headers)
        assert problem(response, 415, "type-not-accepted")["expected"] == "application/json"

    async def test_a_charset_beside_the_type_is_fine(self, client: httpx2.AsyncClient) -> None:
        response = await client.post(
            "/api/uploads",
            content=b'{"filename": "a", "size": 1}',
            headers={"Content-Type": "Application/JSON; charset=utf-8"},
        )
        assert response.status_code == 201

    @pytest.mark.parametrize(
        ("wanted", "field"),
        [
            ({"size": 1}, "filename"),
            ({"filename": "a", "size": 1, "sise": 2}, "sise"),
            ({"filename": "a", "size": True}, "size"),
            ({"filename": "a", "size": 1.0}, "size"),
            ({"filename": "a", "size": "1"}, "size"),
            ({"filename": "a", "size": -1}, "size"),
            ({"filename": "a", "size": 2**63}, "size"),
            ({"filename": "a", "size": None}, "size"),
            ({"filename": "a"}, "size"),
            ({"filename": 7, "size": 1}, "filename"),
            ({"filename": "", "size": 1}, "filename"),
            ({"filename": "../a", "size": 1}, "filename"),
            ({"filename": "a\0b", "size": 1}, "filename"),
            ({"filename": "a\r\nb", "size": 1}, "filename"),
            ({"filename": "a\u202eb", "size": 1}, "filename"),
            ({"filename": "a" * 65_536, "size": 1}, "filename"),
            ({"filename": "a", "size": 1, "path": "/etc"}, "path"),
            ({"filename": "a", "size": 1, "path": 5}, "path"),
            ({"filename": "a", "size": 1, "path": "a/../b"}, "path"),
            ({"filename": "a", "size": 1, "path": "a" * 4097}, "path"),
            ({"filename": "a", "size": 1, "mode": "parallel"}, "mode"),
            ({"filename": "a", "size": 1, "chunk_size": 0}, "chunk_size"),
            ({"filename": "a", "size": 1, "chunk_size": "8"}, "chunk_size"),
            ({"filename": "a", "size": 1, "ttl_s": 0}, "ttl_s"),
            ({"filename": "a", "size": 1, "ttl_s": 1e12}, "ttl_s"),
            ({"filename": "a", "size": 1, "content_type": "text"}, "content_type"),
            ({"filename": "a", "size": 1, "content_type": "text/html\r\nX: y"}, "content_type"),
            ({"filename": "a", "size": 1, "metadata": {"a": 1}}, "metadata.a"),
            ({"filename": "a", "size": 1, "metadata": {"a": "x" * 20_000}}, "metadata"),
            ({"filename": "a", "size": 1, "metadata": [1]}, "metadata"),
            ({"filename": "a", "size": 1, "digest": {}}, "digest"),
            ({"filename": "a", "size": 1, "digest": {"md5": "0" * 32, "sha-256": "0" * 64}}, "digest"),
            ({"filename": "a", "size": 1, "asset": "thumb"}, "asset"),
            ({"filename": "a", "size": 1, "lanes": "yes"}, "lanes"),
            ([], "body"),
            ("a", "body"),
        ],
    )
    async def test_a_bad_field_is_named(self, client: httpx2.AsyncClient, wanted: object, field: str) -> None:
        document = problem(await client.post("/api/uploads", json=wanted), 422, "invalid-request")
        assert field in {error["field"] for error in document["errors"]}
        assert all(error["reason"] for error in document["errors"])

    @pytest.mark.parametrize("text", [b"", b"{", b"nonsense", b'{"filename": "a", "size": NaN}', b"\xff"])
    async def test_what_is_not_json_is_told(self, client: httpx2.AsyncClient, text: bytes) -> None:
        response = await client.post(
            "/api/uploads", content=text, headers={"Content-Type": "application/json"}
        )
        problem(response, 422, "invalid-request")

    async def test_several_faults_are_told_at_once(self, client: httpx2.AsyncClient) -> None:
        response = await client.post("/api/uploads", json={"filename": "a/b", "size": 1, "path": "/"})
        fields = [error["field"] for error in problem(response, 422, "invalid-request")["errors"]]
        assert {"filename", "path"} <= set(fields)

    @pytest.mark.parametrize(
        "wanted",
        [
            {"digest": {"sha-256": "zz"}},
            {"digest": {"sha-256": "00"}},
            {"digest": {"sha-1": "0" * 40}},
            {"digest": {"none": ""}},
            {"digest_name": "sha-1"},
        ],
    )
    async def test_a_digest_that_cannot_be_read_is_400(self, client: httpx2.AsyncClient, wanted: Any) -> None:
        response = await client.post("/api/uploads", json={"filename": "a", "size": 1, **wanted})
        problem(response, 400, "digest-malformed")

    async def test_an_unknown_capsule_is_404(self, client: httpx2.AsyncClient) -> None:
        response = await client.post("/api/uploads", json={"filename": "a", "size": 1, "capsule": "attic"})
        assert problem(response, 404, "capsule-not-found")["capsule"] == "attic"

    async def test_more_than_the_service_takes_is_413(self) -> None:
        async with MemoryService(limits=UploadLimits(sessions=SessionLimits(max_size=10))).client() as client:
            response = await client.post("/api/uploads", json={"filename": "a", "size": 11})
            assert problem(response, 413, "length-exceeded")["limit"] == 10

    async def test_a_json_body_has_a_limit(self, client: httpx2.AsyncClient) -> None:
        async def endless() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield b" " * 65_536

        for body in (endless(), b" " * (MIB + 1)):
            response = await client.post(
                "/api/uploads", content=body, headers={"Content-Type": "application/json"}
            )
            problem(response, 413, "length-exceeded")

    async def test_a_full_disk_is_507_before_a_byte_is_sent(
        self, client: httpx2.AsyncClient, service: MemoryService
    ) -> None:
        service.sink.fail_next("check", StorageFull(5, 3))
        response = await client.post("/api/uploads", json={"filename": "a", "size": 5})
        document = problem(response, 507, "storage-full")
        assert (document["needed"], document["available"]) == (5, 3)

    @pytest.mark.parametrize("key", ["", "k" * 256, "kö"])
    async def test_a_bad_key_is_named(self, client: httpx2.AsyncClient, key: str) -> None:
        response = await client.post(
            "/api/uploads",
            json={"filename": "a", "size": 5},
            headers=[(b"Idempotency-Key", key.encode())],
        )
        assert problem(response, 422, "invalid-request")["errors"][0]["field"] == "Idempotency-Key"


class TestChunks:
    async def test_chunks_come_in_any_order_and_become_a_record(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        for index in (2, 0, 1):
            response = await put(client, upload, index, DATA[index * CHUNK : (index + 1) * CHUNK])
            assert (response.status_code, response.content) == (204, b"")
        finished = await client.post(upload["links"]["finish"])
        record = finished.json()
        assert finished.status_code == 200
        assert record["id"] == upload["record"]
        assert record["status"] == "completed"
        assert record["digest"] == {"sha-256": hashlib.sha256(DATA).hexdigest()}
        assert (await client.get(record["assets"][0]["url"])).content == DATA

    async def test_the_state_lists_what_is_here_and_what_is_missing(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        await put(client, upload, 1, DATA[CHUNK : 2 * CHUNK])
        state = (await client.get(upload["links"]["self"])).json()
        assert state["status"] == "open"
        assert state["received"] == [[CHUNK, 2 * CHUNK]]
        assert state["received_bytes"] == CHUNK
        assert state["missing_chunks"] == [0, 2]
        assert state["verified_bytes"] == 0
        assert (state["result"], state["error"]) == (None, None)

    async def test_the_same_bytes_again_are_fine_and_others_a_conflict(
        self, client: httpx2.AsyncClient
    ) -> None:
        upload = await begin(client)
        tail = DATA[2 * CHUNK :]
        assert (await put(client, upload, 2, tail)).status_code == 204
        assert (await put(client, upload, 2, tail)).status_code == 204
        assert problem(await put(client, upload, 2, b"liat"), 409, "chunk-conflict")["index"] == 2

    async def test_a_chunk_has_exactly_its_length(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        short = problem(await put(client, upload, 0, b"x"), 400, "chunk-too-short")
        assert (short["expected"], short["received"]) == (CHUNK, 1)
        assert problem(await put(client, upload, 2, b"tails"), 413, "chunk-too-long")["expected"] == 4
        assert problem(await put(client, upload, 3, b"x"), 422, "chunk-out-of-range")["chunk_count"] == 3

    @pytest.mark.parametrize(
        "index", ["-1", "one", "1.0", "+1", "99999999999999999999", "1" * 5000, "%D9%A1"]
    )
    async def test_an_index_is_a_decimal_number(self, client: httpx2.AsyncClient, index: str) -> None:
        upload = await begin(client)
        response = await client.put(f"{upload['links']['chunks']}/{index}", content=b"x")
        assert problem(response, 422, "invalid-request")["errors"][0]["field"] == "index"

    async def test_a_digest_of_the_body_is_checked(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        tail = DATA[2 * CHUNK :]
        wrong = await put(client, upload, 2, tail, headers={"Content-Digest": digest_field(b"other")})
        assert problem(wrong, 422, "digest-mismatch")["algorithm"] == "sha-256"
        malformed = await put(client, upload, 2, tail, headers={"Content-Digest": "sha-256=abc"})
        problem(malformed, 400, "digest-malformed")
        right = await put(client, upload, 2, tail, headers={"Content-Digest": digest_field(tail)})
        assert right.status_code == 204

    async def test_an_unknown_digest_of_the_body_is_ignored(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        crc = base64.b64encode(zlib.crc32(b"x").to_bytes(4, "big")).decode()
        response = await put(
            client, upload, 2, DATA[2 * CHUNK :], headers={"Content-Digest": f"crc32=:{crc}:"}
        )
        assert response.status_code == 204

    @pytest.mark.parametrize(
        ("headers", "status", "slug"),
        [
            ({"Content-Range": "bytes 0-3/10"}, 422, "invalid-request"),
            ({"Content-Encoding": "gzip"}, 415, "type-not-accepted"),
        ],
    )
    async def test_a_part_or_an_encoded_body_is_never_stored_as_the_whole(
        self, client: httpx2.AsyncClient, headers: dict[str, str], status: int, slug: str
    ) -> None:
        upload = await begin(client)
        problem(await put(client, upload, 2, DATA[2 * CHUNK :], headers=headers), status, slug)
        problem(await client.put("/api/files/a.bin", content=b"x", headers=headers), status, slug)

    async def test_a_wrong_whole_is_reopened_and_can_be_replaced(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client, digest={"sha-256": hashlib.sha256(DATA).hexdigest()})
        await put_all(client, upload, DATA[:-4] + b"xxxx")
        document = problem(await client.post(upload["links"]["finish"]), 422, "digest-mismatch")
        assert document["expected"] == hashlib.sha256(DATA).hexdigest()
        state = (await client.get(upload["links"]["self"])).json()
        assert state["status"] == "open"
        assert state["error"]
        problem(await put(client, upload, 2, b"tail"), 409, "chunk-conflict")
        assert (await put(client, upload, 2, b"tail", params={"replace": "true"})).status_code == 204
        assert (await client.post(upload["links"]["finish"])).status_code == 200

    async def test_replace_is_true_or_false(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        response = await put(client, upload, 2, b"tail", params={"replace": "maybe"})
        assert problem(response, 422, "invalid-request")["errors"][0]["field"] == "replace"


class TestAppends:
    async def append(
        self, client: httpx2.AsyncClient, upload: Any, offset: object, data: bytes
    ) -> httpx2.Response:
        return await client.patch(
            upload["links"]["self"], content=data, headers={"Upload-Offset": str(offset)}
        )

    async def test_bytes_are_appended_at_the_end_only(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client, mode="append", size=len(HELLO))
        first = await self.append(client, upload, 0, HELLO[:5])
        assert (first.status_code, first.headers["upload-offset"]) == (204, "5")
        wrong = await self.append(client, upload, 4, b"x")
        document = problem(wrong, 409, "offset-mismatch")
        assert (document["expected"], document["provided"]) == (5, 4)
        assert wrong.headers["upload-offset"] == "5"
        last = await self.append(client, upload, 5, HELLO[5:])
        assert (last.status_code, last.headers["upload-offset"]) == (204, "11")
        record = (await client.post(upload["links"]["finish"])).json()
        assert record["digest"] == {"sha-256": HELLO_HEX}

    async def test_head_tells_the_offset_and_is_never_cached(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client, mode="append", size=None)
        await self.append(client, upload, 0, HELLO)
        response = await client.head(upload["links"]["self"])
        assert response.status_code == 200
        assert response.headers["upload-offset"] == "11"
        assert response.headers["cache-control"] == "no-store"
        assert "upload-length" not in response.headers
        await client.post(upload["links"]["finish"], json={"size": 11})
        response = await client.head(upload["links"]["self"])
        assert (response.headers["upload-offset"], response.headers["upload-length"]) == ("11", "11")

    async def test_a_size_that_nobody_told_is_asked_for(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client, mode="append", size=None)
        await self.append(client, upload, 0, HELLO)
        response = await client.post(upload["links"]["finish"])
        assert problem(response, 422, "invalid-request")["errors"][0]["field"] == "size"

    async def test_more_than_the_size_is_413(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client, mode="append", size=3)
        problem(await self.append(client, upload, 0, HELLO), 413, "length-exceeded")

    @pytest.mark.parametrize("offset", ["", "-1", "1.5", "x", "9223372036854775808", "0x10", "1" * 100])
    async def test_an_offset_is_a_decimal_number(self, client: httpx2.AsyncClient, offset: str) -> None:
        upload = await begin(client, mode="append", size=3)
        response = await self.append(client, upload, offset, b"x")
        assert problem(response, 422, "invalid-request")["errors"][0]["field"] == "Upload-Offset"

    async def test_an_append_needs_its_offset(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client, mode="append", size=3)
        response = await client.patch(upload["links"]["self"], content=b"x")
        assert problem(response, 422, "invalid-request")["errors"][0]["field"] == "Upload-Offset"

    async def test_an_upload_is_continued_by_its_own_mode_only(self, client: httpx2.AsyncClient) -> None:
        append = await begin(client, mode="append", size=len(DATA))
        problem(await put(client, append, 0, DATA[:CHUNK]), 422, "invalid-request")
        chunks = await begin(client)
        problem(await self.append(client, chunks, 0, b"x"), 422, "invalid-request")


class TestEnds:
    async def test_finish_says_what_is_missing(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        await put(client, upload, 1, DATA[CHUNK : 2 * CHUNK])
        document = problem(await client.post(upload["links"]["finish"]), 409, "chunks-missing")
        assert document["missing"] == [[0, CHUNK], [2 * CHUNK, len(DATA)]]

    async def test_a_repeated_finish_is_the_same_record(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        await put_all(client, upload)
        first = await client.post(upload["links"]["finish"])
        assert (await client.post(upload["links"]["finish"])).json() == first.json()
        state = (await client.get(upload["links"]["self"])).json()
        assert (state["status"], state["result"]) == ("committed", first.json())

    async def test_a_digest_given_at_the_end_counts(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        await put_all(client, upload)
        wrong = await client.post(upload["links"]["finish"], json={"digest": {"sha-256": "0" * 64}})
        problem(wrong, 422, "digest-mismatch")
        digest = {"sha-256": hashlib.sha256(DATA).hexdigest()}
        assert (await client.post(upload["links"]["finish"], json={"digest": digest})).status_code == 200

    async def test_a_digest_is_told_when_it_is_wanted(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        await put_all(client, upload)
        want = {"Want-Repr-Digest": "md5=3, sha-256=5"}
        assert (await client.post(upload["links"]["finish"], headers=want)).headers[
            "repr-digest"
        ] == digest_field(DATA)
        plain = await client.post(upload["links"]["finish"])
        assert "repr-digest" not in plain.headers
        bad = await client.post(upload["links"]["finish"], headers={"Want-Repr-Digest": "sha-256"})
        problem(bad, 400, "digest-malformed")

    async def test_finish_takes_json_only(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        response = await client.post(upload["links"]["finish"], content=b"{}")
        problem(response, 415, "type-not-accepted")
        response = await client.post(upload["links"]["finish"], json={"sice": 1})
        problem(response, 422, "invalid-request")

    async def test_an_aborted_upload_is_gone_and_its_state_is_not(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        assert (await client.delete(upload["links"]["self"])).status_code == 204
        assert (await client.delete(upload["links"]["self"])).status_code == 204
        document = problem(await put(client, upload, 0, DATA[:CHUNK]), 410, "upload-gone")
        assert document["upload_status"] == "aborted"
        state = await client.get(upload["links"]["self"])
        assert (state.status_code, state.json()["status"]) == (200, "aborted")
        problem(await client.post(upload["links"]["finish"]), 410, "upload-gone")

    async def test_a_committed_upload_cannot_be_aborted_or_changed(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        await put_all(client, upload)
        record = (await client.post(upload["links"]["finish"])).json()
        document = problem(await client.delete(upload["links"]["self"]), 409, "upload-complete")
        assert document["record"] == record["id"]
        problem(await put(client, upload, 0, DATA[:CHUNK]), 409, "upload-complete")

    async def test_an_unknown_upload_of_any_shape_is_404(self, client: httpx2.AsyncClient) -> None:
        for name in ("x", "%2e", "%C2%80", "%ff", "a" * 3000):
            path = f"/api/uploads/{name}"
            problem(await client.get(path), 404, "upload-not-found")
            problem(await client.get(f"{path}?wait=1"), 404, "upload-not-found")
            problem(await client.put(f"{path}/chunks/0", content=b"x"), 404, "upload-not-found")
            problem(await client.post(f"{path}/finish"), 404, "upload-not-found")
            problem(await client.delete(path), 404, "upload-not-found")
            problem(await client.get(f"{path}/events"), 404, "upload-not-found")
            assert (await client.head(path)).status_code == 404

    async def test_a_broken_database_is_503_and_says_nothing_of_itself(
        self, client: httpx2.AsyncClient, service: MemoryService
    ) -> None:
        service.database.fail_next(StorageUnavailable("/secret/haulier.db is locked"))
        response = await client.get("/api/uploads/x")
        problem(response, 503, "storage-unavailable")
        assert "secret" not in response.text
        assert int(response.headers["retry-after"]) > 0

    async def test_a_bug_is_500_with_an_instance_and_nothing_else(
        self, client: httpx2.AsyncClient, service: MemoryService
    ) -> None:
        service.database.fail_next(RuntimeError("secret"))
        response = await client.get("/api/uploads/x")
        document = problem(response, 500, "internal-error")
        assert document["instance"].startswith("urn:uuid:")
        assert "secret" not in response.text


class TestWaiting:
    async def test_the_result_is_waited_for(self, client: httpx2.AsyncClient) -> None:
        import anyio

        upload = await begin(client)
        await put_all(client, upload)
        states: list[Any] = []

        async def wait() -> None:
            states.append((await client.get(upload["links"]["self"], params={"wait": 30})).json())

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await client.post(upload["links"]["finish"])
        assert states[0]["status"] == "committed"
        assert states[0]["result"]["id"] == upload["record"]

    async def test_a_result_that_is_there_is_answered_at_once(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        await client.delete(upload["links"]["self"])
        state = (await client.get(upload["links"]["self"], params={"wait": 60})).json()
        assert state["status"] == "aborted"

    async def test_at_the_deadline_the_state_is_the_answer(self, client: httpx2.AsyncClient) -> None:
        upload = await begin(client)
        for wait in ("0.01", "0", "-5"):
            response = await client.get(upload["links"]["self"], params={"wait": wait})
            assert (response.status_code, response.json()["status"]) == (200, "open")

    @pytest.mark.parametrize("wait", ["nan", "inf", "soon", ""])
    async def test_a_wait_is_a_number(self, client: httpx2.AsyncClient, wait: str) -> None:
        upload = await begin(client)
        response = await client.get(upload["links"]["self"], params={"wait": wait})
        assert problem(response, 422, "invalid-request")["errors"][0]["field"] == "wait"


class TestRoutes:
    async def test_an_unknown_path_is_a_problem(self, client: httpx2.AsyncClient) -> None:
        problem(await client.get("/nowhere"), 404, "route-not-found")
        problem(await client.get("/api/uploads/"), 404, "route-not-found")
        problem(await client.get("/api/uploads/..%2f.."), 404, "route-not-found")

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", "/api/uploads", "POST"),
            ("POST", "/api/uploads/x", "DELETE, GET, HEAD, PATCH"),
            ("GET", "/api/uploads/x/chunks/0", "PUT"),
            ("GET", "/api/files/x", "PUT"),
            ("PUT", "/api/records/x/assets/original", "GET, HEAD"),
            ("BREW", "/api/records", "GET, POST"),
        ],
    )
    async def test_405_names_all_that_is_allowed(
        self, client: httpx2.AsyncClient, method: str, path: str, allowed: str
    ) -> None:
        response = await client.request(method, path)
        problem(response, 405, "method-not-allowed")
        assert response.headers["allow"] == allowed

    async def test_the_guard_stands_before_every_route(self, service: MemoryService) -> None:
        async with served(service.app()) as client:
            response = await client.get("/api/records", headers={"Host": "evil.example:8000"})
            problem(response, 421, "host-refused")
            response = await client.post(
                "/api/uploads", content=b"x", headers={"Origin": "http://evil.example"}
            )
            assert problem(response, 403, "not-local")["flag"] == "--cors-origin"
