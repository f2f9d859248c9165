"""One request, one file: what `curl -T` sends, what a retry of it gets, and what is given up."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from haulier.core.errors import StorageFull, StorageUnavailable
from haulier.engine.whole import MOST
from haulier.server.http.asgi import MALFORMED
from tests.support.engine import lose_an_answer
from tests.support.service import ORIGIN, MemoryService, with_server
from tests.support.tus import MEDIA_TYPE, TUS

HELLO = b"hello world"
LONG = bytes(MOST + 1)
HELLO_HEX = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"


def field(data: bytes, name: str = "sha-256") -> str:
    algorithm = {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5"}[name]
    return f"{name}=:{base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}:"


def problem(response: httpx2.Response, status: int, slug: str) -> Any:
    document = response.json()
    assert (response.status_code, document["type"]) == (status, f"http://127.0.0.1:8000/errors/{slug}"), (
        document
    )
    return document


async def stored(client: httpx2.AsyncClient) -> list[Any]:
    items: list[Any] = (await client.get("/api/records")).json()["items"]
    return items


async def test_a_file_becomes_a_record(client: httpx2.AsyncClient) -> None:
    response = await client.put("/api/files/greeting.txt", content=HELLO)
    record = response.json()
    assert response.status_code == 201
    assert record["filename"] == "greeting.txt"
    assert record["content_type"] == "text/plain"
    assert record["digest"] == {"sha-256": HELLO_HEX}
    assert (record["size"], record["status"], record["capsule"]) == (11, "completed", "default")
    upload = (await client.get(response.headers["location"])).json()
    assert (upload["status"], upload["record"]) == ("committed", record["id"])
    assert (await client.get(record["assets"][0]["url"])).content == HELLO


@pytest.mark.parametrize("query", ["path=%ff", "path=a/%c3%28", "capsule=%e9"])
async def test_a_query_that_is_no_utf_8_is_refused_and_never_made_another_one(
    client: httpx2.AsyncClient, query: str
) -> None:
    document = problem(await client.put(f"/api/files/a?{query}", content=HELLO), 422, "invalid-request")
    assert document["errors"] == [{"field": "query", "reason": "must be percent-encoded UTF-8"}]
    assert await stored(client) == []


async def test_a_body_of_unknown_length_is_whole_at_its_end(client: httpx2.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield HELLO[:4]
        yield HELLO[4:]

    response = await client.put("/api/files/a.bin", content=pieces())
    assert (response.status_code, response.json()["size"]) == (201, 11)
    assert response.json()["digest"] == {"sha-256": HELLO_HEX}


async def test_an_empty_file_is_a_file(client: httpx2.AsyncClient) -> None:
    record = (await client.put("/api/files/empty", content=b"")).json()
    assert (record["size"], record["status"]) == (0, "completed")
    assert (await client.get(record["assets"][0]["url"])).content == b""


async def test_capsule_path_type_and_digest_are_asked_for_beside_the_body(client: httpx2.AsyncClient) -> None:
    response = await client.put(
        "/api/files/a.bin?path=2026/rome&digest=md5",
        content=HELLO,
        headers={"Content-Type": "image/png"},
    )
    record = response.json()
    assert (record["path"], record["content_type"]) == ("2026/rome", "image/png")
    assert record["digest"] == {"md5": hashlib.md5(HELLO).hexdigest()}
    response = await client.put("/api/files/a.bin?digest=none", content=HELLO)
    assert response.json()["digest"] is None
    problem(await client.put("/api/files/a?capsule=attic", content=HELLO), 404, "capsule-not-found")
    problem(await client.put("/api/files/a?digest=sha-1", content=HELLO), 400, "digest-malformed")


async def test_a_name_is_percent_encoded_utf_8(client: httpx2.AsyncClient) -> None:
    response = await client.put("/api/files/%C3%BCber%20%25%20%E2%98%83.txt", content=HELLO)
    assert response.json()["filename"] == "über % ☃.txt"


@pytest.mark.parametrize(
    "name",
    [
        "%2E%2E%2Fetc", "a%2Fb", "a/b", "%2e%2e", "", "a%00b", "a%0D%0Ab", "a%0A", "a%5Cb", "%E2%80%AE", "%FF", "%ED%B2%80",
        "a" * 256, "a" * 60_000,
    ],
)  # fmt: skip
async def test_a_dangerous_name_is_refused_in_words(client: httpx2.AsyncClient, name: str) -> None:
    document = problem(await client.put(f"/api/files/{name}", content=HELLO), 422, "invalid-request")
    assert document["errors"][0]["field"] == "filename"
    assert await stored(client) == []


async def raw_put(service: MemoryService, path: str) -> int:
    """Send a path as it is; clients' libraries tidy paths up."""
    statuses: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": HELLO, "more_body": False}

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    scope = {
        "type": "http", "http_version": "1.1", "method": "PUT", "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"127.0.0.1:8000"), (b"content-length", b"11")],
    }  # fmt: skip
    await with_server(service.app(local_users=True))(scope, receive, send)
    return statuses[0]


@pytest.mark.parametrize(
    "path",
    ["/api/files/../etc/passwd", "/api/files//etc/passwd", "/api/files/./a", "/api/files/" + "a" * 65_536],
)
async def test_a_path_that_nobody_tidied_up_is_refused_too(service: MemoryService, path: str) -> None:
    assert await raw_put(service, path) == 422


@pytest.mark.parametrize(("path", "method"), [("/api/files/a", "PUT"), ("/api/uploads", "POST")])
async def test_a_body_that_breaks_its_rules_is_told_so(
    service: MemoryService, path: str, method: str
) -> None:
    statuses: list[int] = []
    messages = iter(
        [
            {"type": "http.request", "body": b'{"size"', "more_body": True},
            {"type": "http.disconnect", MALFORMED: True},
        ]
    )

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))
        texts.append(message.get("body", b""))

    texts: list[bytes] = []
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1),
        "headers": [
            (b"host", b"127.0.0.1:8000"), (b"transfer-encoding", b"chunked"), (b"content-type", b"application/json"),
        ],
    }  # fmt: skip
    await with_server(service.app(local_users=True))(scope, receive, send)
    document = json.loads(b"".join(texts))
    assert (statuses[0], document["type"].rpartition("/")[2], document["received"]) == (
        400,
        "malformed-body",
        7,
    )


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
async def test_a_digest_that_came_with_the_file_is_checked(client: httpx2.AsyncClient, header: str) -> None:
    right = await client.put("/api/files/a", content=HELLO, headers={header: field(HELLO)})
    assert right.status_code == 201
    wrong = await client.put("/api/files/a", content=HELLO, headers={header: field(b"other")})
    assert problem(wrong, 422, "digest-mismatch")["actual"] == HELLO_HEX
    assert [each["status"] for each in await stored(client)] == ["failed", "completed"]


@pytest.mark.parametrize("query", ["", "?digest=none", "?digest=blake3", "?digest=md5"])
@pytest.mark.parametrize("body", [HELLO, b""])
async def test_every_digest_that_came_is_checked_whatever_the_record_gets(
    client: httpx2.AsyncClient, query: str, body: bytes
) -> None:
    names = ("sha-256", "sha-512", "md5")
    right = {"Repr-Digest": ", ".join(field(body, name) for name in names)}
    assert (await client.put(f"/api/files/a{query}", content=body, headers=right)).status_code == 201
    for name in names:
        wrong = {"Content-Digest": field(b"other", name)}
        response = await client.put(f"/api/files/a{query}", content=body, headers=right | wrong)
        problem(response, 422, "digest-mismatch")


async def test_two_words_for_one_digest_that_differ_cannot_both_be_right(client: httpx2.AsyncClient) -> None:
    headers = {"Content-Digest": field(HELLO), "Repr-Digest": field(b"other")}
    problem(await client.put("/api/files/a", content=HELLO, headers=headers), 422, "digest-mismatch")


async def test_a_digest_is_told_when_it_is_wanted(client: httpx2.AsyncClient) -> None:
    response = await client.put("/api/files/a", content=HELLO, headers={"Want-Repr-Digest": "sha-256=1"})
    assert response.headers["repr-digest"] == field(HELLO)


async def test_the_key_of_a_committed_file_answers_its_record(client: httpx2.AsyncClient) -> None:
    first = await client.put("/api/files/a", content=HELLO, headers={"Idempotency-Key": "k"})
    again = await client.put("/api/files/a", content=HELLO, headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    assert len(await stored(client)) == 1
    other = await client.put("/api/files/b", content=HELLO, headers={"Idempotency-Key": "k"})
    problem(other, 422, "idempotency-key-reused")


async def test_a_repetition_of_an_empty_file_is_the_same_record(client: httpx2.AsyncClient) -> None:
    first = await client.put("/api/files/a", content=b"", headers={"Idempotency-Key": "k"})
    again = await client.put("/api/files/a", content=b"", headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()


class Cut:
    """A PUT whose connection ends after some bytes, on the application itself."""

    def __init__(self, *, sent: bytes, length: int, key: str | None, interop: str | None = None) -> None:
        self.interims: list[tuple[int, dict[bytes, bytes]]] = []
        self.statuses: list[int] = []
        self._messages: list[Any] = [
            {"type": "http.request", "body": sent, "more_body": True},
            {"type": "http.disconnect"},
        ]
        self._headers = [(b"host", b"127.0.0.1:8000"), (b"content-length", str(length).encode())]
        if key is not None:
            self._headers.append((b"idempotency-key", key.encode()))
        if interop is not None:
            self._headers.append((b"upload-draft-interop-version", interop.encode()))

    async def run(self, app: Any) -> None:
        async def receive() -> Any:
            return self._messages.pop(0) if len(self._messages) > 1 else self._messages[0]

        async def send(message: Any) -> None:
            self.statuses.append(message.get("status", 0))

        scope = {
            "type": "http", "http_version": "1.1", "method": "PUT", "scheme": "http", "path": "/api/files/a",
            "raw_path": b"/api/files/a", "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1),
            "headers": self._headers, "extensions": {"haulier.interim": self._interim},
        }  # fmt: skip
        await with_server(app)(scope, receive, send)

    def _interim(self, status: int, headers: Any) -> None:
        self.interims.append((status, dict(headers)))


async def test_the_key_of_a_cut_file_answers_where_it_goes_on(
    client: httpx2.AsyncClient, service: MemoryService
) -> None:
    await Cut(sent=HELLO[:5], length=11, key="k").run(service.app(local_users=True))
    again = await client.put("/api/files/a", content=HELLO, headers={"Idempotency-Key": "k"})
    document = problem(again, 409, "offset-mismatch")
    assert (document["expected"], document["provided"]) == (5, 0)
    assert again.headers["upload-offset"] == "5"
    rest = await client.patch(again.headers["location"], content=HELLO[5:], headers={"Upload-Offset": "5"})
    assert rest.status_code == 204
    done = await client.put("/api/files/a", content=HELLO, headers={"Idempotency-Key": "k"})
    assert (done.status_code, done.json()["digest"]) == (200, {"sha-256": HELLO_HEX})


async def test_the_key_of_a_file_cut_before_its_first_byte_takes_it_all(
    client: httpx2.AsyncClient, service: MemoryService
) -> None:
    await Cut(sent=b"", length=11, key="k").run(service.app(local_users=True))
    again = await client.put("/api/files/a", content=HELLO, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["digest"]) == (201, {"sha-256": HELLO_HEX})
    assert len(await stored(client)) == 1


async def test_a_cut_file_that_nobody_can_continue_is_given_up(
    client: httpx2.AsyncClient, service: MemoryService
) -> None:
    await Cut(sent=HELLO[:5], length=11, key=None).run(service.app(local_users=True))
    assert [each["status"] for each in await stored(client)] == ["cancelled"]
    assert service.sink.disk.parts == {}


async def test_a_client_that_reads_104_is_told_the_address_and_goes_on(
    client: httpx2.AsyncClient, service: MemoryService
) -> None:
    cut = Cut(sent=HELLO[:5], length=11, key=None, interop="8")
    await cut.run(service.app(local_users=True))
    ((status, headers),) = cut.interims
    assert (status, headers[b"upload-draft-interop-version"]) == (104, b"8")
    address = headers[b"location"].decode()
    assert (await client.head(address)).headers["upload-offset"] == "5"
    await client.patch(address, content=HELLO[5:], headers={"Upload-Offset": "5"})
    assert [each["status"] for each in await stored(client)] == ["completed"]


@pytest.mark.parametrize("version", [None, "2", "9", "08", "x"])
async def test_nobody_else_is_sent_a_104(service: MemoryService, version: str | None) -> None:
    cut = Cut(sent=b"", length=11, key="k", interop=version)
    await cut.run(service.app(local_users=True))
    assert cut.interims == []


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("PUT", "/api/files/a", {}),
        ("POST", "/tus/", {**TUS, **MEDIA_TYPE, "Upload-Length": "11"}),
        ("POST", "/resumable/", {"Upload-Complete": "?1"}),
    ],
)
async def test_what_cannot_be_freed_at_once_is_told_and_left_to_the_janitor(
    service: MemoryService,
    client: httpx2.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    target: str,
    headers: dict[str, str],
) -> None:
    asked: list[str] = []

    async def broken(upload_id: str, **_: Any) -> None:
        asked.append(upload_id)
        raise StorageUnavailable("for a moment")

    monkeypatch.setattr(service.uploads, "give_up", broken)
    wrong = {
        "Upload-Checksum": "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "Content-Digest": field(b"a") + ", " + field(b"a", "md5"),
    }
    with capture_logs() as logs:
        response = await client.request(method, target, content=HELLO, headers={**headers, **wrong})
    assert response.json()["type"] == f"{ORIGIN}/errors/digest-mismatch"
    assert len(asked) == 1
    assert [entry["event"] for entry in logs].count("upload.abandoned") == 1


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("PUT", "/api/files/a", {}),
        ("POST", "/tus/", {**TUS, **MEDIA_TYPE, "Upload-Length": str(len(LONG))}),
        ("POST", "/resumable/", {"Upload-Complete": "?1"}),
    ],
)
async def test_a_file_that_is_stored_is_told_as_stored_though_the_answer_to_its_commit_was_lost(
    service: MemoryService,
    client: httpx2.AsyncClient,
    method: str,
    target: str,
    headers: dict[str, str],
) -> None:
    lose_an_answer(service.database)
    response = await client.request(method, target, content=LONG, headers=headers)
    assert response.status_code in {200, 201}
    assert [each["status"] for each in await stored(client)] == ["completed"]


async def test_a_cut_body_is_logged_and_answered_where_somebody_listens(service: MemoryService) -> None:
    cut = Cut(sent=b"", length=11, key="k")
    await cut.run(service.app(local_users=True))
    assert cut.statuses[0] == 408


async def test_a_full_disk_in_the_middle_is_507_and_leaves_nothing(
    client: httpx2.AsyncClient, service: MemoryService
) -> None:
    service.sink.fail_next("write", StorageFull(11, 0))
    problem(await client.put("/api/files/a", content=LONG), 507, "storage-full")
    assert [each["status"] for each in await stored(client)] == ["cancelled"]
    assert service.sink.disk.parts == {}


async def test_a_full_disk_for_a_short_file_is_507_and_leaves_nothing(
    client: httpx2.AsyncClient, service: MemoryService
) -> None:
    service.sink.fail_next("store", StorageFull(11, 0))
    problem(await client.put("/api/files/a", content=HELLO), 507, "storage-full")
    assert await stored(client) == []
    assert service.sink.disk.parts == service.sink.disk.blobs == {}


async def test_a_file_that_cannot_even_be_given_up_keeps_its_own_error(
    client: httpx2.AsyncClient, service: MemoryService
) -> None:
    async def lose(*_: object, **__: object) -> None:
        raise StorageUnavailable("gone")

    service.sink.fail_next("write", StorageFull(11, 0))
    service.uploads.give_up = lose  # type: ignore[method-assign]
    problem(await client.put("/api/files/a", content=LONG), 507, "storage-full")


@pytest.mark.parametrize("content_type", ["text", "text/html; a=\x01"])
async def test_a_bad_type_is_named(client: httpx2.AsyncClient, content_type: str) -> None:
    response = await client.put("/api/files/a", content=HELLO, headers={"Content-Type": content_type})
    assert problem(response, 422, "invalid-request")["errors"][0]["field"] == "content_type"
