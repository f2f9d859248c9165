"""Pages of origins that were named can use every protocol; pages of others are told nothing.

Source: the WHATWG Fetch standard, section "CORS protocol".
"""

import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.support.service import MemoryService

PAGE = "https://app.example"
FOREIGN = "https://evil.example"
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {"Content-Type": "application/offset+octet-stream"}
DRAFT = {"Upload-Draft-Interop-Version": "8", "Upload-Complete": "?1"}
DIGEST = f"sha-256=:{base64.b64encode(hashlib.sha256(b'hello').digest()).decode()}:"

SAFELISTED = {
    "cache-control", "content-language", "content-length", "content-type", "expires", "last-modified", "pragma",
}  # fmt: skip
"""Pages may read these anyway. Source: section "CORS-safelisted response-header name"."""
NOT_FOR_PAGES = {
    "access-control-allow-origin", "access-control-expose-headers", "vary",
    "content-security-policy", "cross-origin-resource-policy", "referrer-policy", "x-content-type-options", "x-frame-options", "x-accel-buffering",
    "accept", "allow", "set-cookie", "date", "server",
}  # fmt: skip
"""For browsers, proxies and servers; no page needs one."""
EXPOSED = {
    # of uploads in general
    "location", "upload-offset", "upload-length", "haulier-record", "retry-after", "repr-digest", "www-authenticate",
    "x-request-id", "x-session-id",
    # of downloads
    "etag", "content-range", "accept-ranges", "content-disposition",
    # of tus
    "tus-resumable", "tus-version", "tus-extension", "tus-max-size", "tus-checksum-algorithm",
    "upload-metadata", "upload-defer-length", "upload-concat", "upload-expires",
    # of the IETF's drafts
    "upload-complete", "upload-incomplete", "upload-limit", "upload-draft-interop-version", "accept-patch",
}  # fmt: skip


@pytest.fixture
async def page(service: MemoryService) -> AsyncIterator[httpx2.AsyncClient]:
    """What an allowed page asks."""
    async with service.client(cors_origin=[PAGE]) as client:
        client.headers["Origin"] = PAGE
        yield client


def exposed(answer: httpx2.Response) -> set[str]:
    return {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}


async def every_answer(client: httpx2.AsyncClient) -> AsyncIterator[httpx2.Response]:
    """Walk through all protocols; yield what is answered, refusals among them."""
    metadata = {"Upload-Metadata": "filename YS50eHQ="}
    yield await client.options("/tus/")
    yield await client.post("/tus/", headers={"Upload-Length": "1"})  # 412
    deferred = await client.post("/tus/", headers={**TUS, **metadata, "Upload-Defer-Length": "1"})
    yield deferred
    yield await client.head(deferred.headers["location"], headers=TUS)
    partial = await client.post(
        "/tus/", content=b"hello", headers={**TUS, **BYTES, "Upload-Length": "5", "Upload-Concat": "partial"}
    )
    yield partial
    yield await client.head(partial.headers["location"], headers=TUS)
    created = await client.post("/tus/", headers={**TUS, **metadata, "Upload-Length": "5"})
    at = created.headers["location"]
    yield await client.patch(at, content=b"x", headers={**TUS, **BYTES, "Upload-Offset": "3"})  # 409
    yield await client.patch(at, content=b"hello", headers={**TUS, **BYTES, "Upload-Offset": "0"})
    yield await client.get(at)
    yield await client.options("/resumable/")
    drafted = await client.post(
        "/resumable/", content=b"hello", headers={**DRAFT, "Want-Repr-Digest": "sha-256=1"}
    )
    yield drafted
    yield await client.head(drafted.headers["location"], headers=DRAFT)
    yield await client.post(
        "/resumable/", headers={"Upload-Draft-Interop-Version": "3", "Upload-Incomplete": "?1"}
    )
    yield await client.patch(
        drafted.headers["location"], content=b"x", headers={**DRAFT, "Upload-Offset": "0"}
    )
    stored = await client.put("/api/files/a.txt", content=b"hello")
    yield stored
    asset = stored.json()["assets"][0]["url"]
    yield await client.get(asset, headers={"Range": "bytes=1-2", "Want-Repr-Digest": "sha-256=1"})
    yield await client.post("/api/uploads", json={"filename": "a", "size": 5})
    yield await client.get("/api/uploads/nobody")


async def test_a_page_can_read_all_that_is_meant_for_it(page: httpx2.AsyncClient) -> None:
    seen: set[str] = set()
    async for answer in every_answer(page):
        assert answer.headers["access-control-allow-origin"] == PAGE, answer
        assert exposed(answer) == EXPOSED
        assert answer.headers["vary"] == "Origin"
        seen |= set(answer.headers)
    assert seen - EXPOSED - SAFELISTED <= NOT_FOR_PAGES
    # So that the walk is known to pass by what it is about.
    assert {"tus-version", "upload-defer-length", "upload-concat", "upload-expires", "upload-limit"} <= seen
    assert {"upload-incomplete", "accept-patch", "repr-digest", "content-range", "haulier-record"} <= seen


async def test_another_page_can_read_nothing(service: MemoryService) -> None:
    token = await service.accounts.create_token("user:a", scope="write")  # type: ignore[arg-type]  # a name of one
    bearer = {"Authorization": f"Bearer {token.secret.reveal()}"}
    async with service.client(require_tokens=True, cors_origin=[PAGE]) as client:
        for headers in (
            {"Origin": FOREIGN},
            {"Origin": FOREIGN, **bearer},
            {"Origin": "null", **bearer},
            bearer,
        ):
            for path in ("/tus/", "/resumable/", "/api/records"):
                answer = await client.options(path, headers=headers)
                assert "access-control-allow-origin" not in answer.headers
                assert "access-control-expose-headers" not in answer.headers
                assert answer.headers["vary"] == "Origin"


TUS_JS = (
    "tus-resumable, upload-length, upload-defer-length, upload-metadata, upload-offset, upload-concat, "
    "upload-checksum, content-type, authorization, x-request-id, x-http-method-override"
)
"""What tus-js-client may send, by its documentation, with a checksum and a token beside it."""
RESUMABLE = (
    "upload-draft-interop-version, upload-complete, upload-incomplete, upload-offset, upload-length, upload-metadata, "
    "content-type, content-disposition, content-digest, repr-digest, want-repr-digest, idempotency-key, authorization"
)
PREFLIGHTS = [
    ("POST", "/tus/", TUS_JS),
    ("PATCH", "/tus/x", TUS_JS),
    ("HEAD", "/tus/x", TUS_JS),
    ("DELETE", "/tus/x", TUS_JS),
    ("POST", "/resumable/", RESUMABLE),
    ("PUT", "/resumable/a.txt", RESUMABLE),
    ("PATCH", "/resumable/x", RESUMABLE),
    ("HEAD", "/resumable/x", RESUMABLE),
    ("DELETE", "/resumable/x", RESUMABLE),
]


def preflight(origin: str, method: str, fields: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": fields,
    }


def listed(answer: httpx2.Response, name: str) -> set[str]:
    return {each.strip().lower() for each in answer.headers[name].split(",")}


@pytest.mark.parametrize("tokens", [False, True], ids=["open", "tokens"])
@pytest.mark.parametrize(("method", "path", "fields"), PREFLIGHTS)
async def test_an_allowed_page_may_do_all_of_a_protocol(
    service: MemoryService, tokens: bool, method: str, path: str, fields: str
) -> None:
    settings: dict[str, Any] = {"require_tokens": True} if tokens else {}
    async with service.client(cors_origin=[PAGE], **settings) as client:
        answer = await client.options(path, headers=preflight(PAGE, method, "X-Tenant"))
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert method.lower() in listed(answer, "access-control-allow-methods")
    assert {*fields.split(", "), "x-tenant"} <= listed(answer, "access-control-allow-headers")
    assert int(answer.headers["access-control-max-age"]) > 0


@pytest.mark.parametrize("tokens", [False, True], ids=["open", "tokens"])
@pytest.mark.parametrize("origin", [FOREIGN, "null", f"{PAGE}.evil.example", "http://app.example"])
async def test_another_page_is_allowed_nothing(service: MemoryService, tokens: bool, origin: str) -> None:
    settings: dict[str, Any] = {"require_tokens": True} if tokens else {}
    async with service.client(cors_origin=[PAGE], **settings) as client:
        for method, path, fields in PREFLIGHTS:
            answer = await client.options(path, headers=preflight(origin, method, fields))
            assert answer.status_code == (204 if tokens else 403)
            assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_an_allowed_page_may_send_fields_of_its_own_and_nothing_is_repeated_that_is_no_name(
    service: MemoryService,
) -> None:
    """Proxies and embedding programs have fields that we know nothing of: keys, tenants, traces."""
    asked = 'x-api-key, X-Requested-With,tus-resumable, no name, ,"quoted"'
    async with service.client(cors_origin=[PAGE]) as client:
        answer = await client.options("/tus/", headers=preflight(PAGE, "POST", asked))
    allowed = answer.headers["access-control-allow-headers"]
    assert allowed.endswith("Content-Disposition, x-api-key, X-Requested-With")
