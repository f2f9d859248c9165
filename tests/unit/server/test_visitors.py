"""Browsers over HTTP: which cookie they keep, what they see by it, and what no other page gets of it."""

import re
from typing import Any

import httpx2
import pytest

from haulier.core.caller import Scope
from haulier.core.visitor import sign_visitor
from haulier.testing import ManualClock
from tests.support.service import ORIGIN, MemoryService, served

COOKIE = "haulier_visitor_8000"
DAY_S = 24 * 3600.0
NEW_VISITORS = 100
"""So many are made at once of whoever comes from one address."""


def cookie_of(response: httpx2.Response) -> str:
    """Return the only cookie that an answer sets, with its attributes."""
    (line,) = response.headers.get_list("set-cookie")
    return str(line)


def value_of(response: httpx2.Response) -> str:
    return cookie_of(response).partition(";")[0].removeprefix(f"{COOKIE}=")


async def put(client: httpx2.AsyncClient, name: str, **fields: str) -> Any:
    headers = {key.replace("_", "-"): value for key, value in fields.items()}
    response = await client.put(f"/api/files/{name}", content=b"hello", headers=headers)
    assert response.status_code == 201, response.text
    return response.json()


async def mine(client: httpx2.AsyncClient, **headers: str) -> list[str]:
    response = await client.get("/api/records", params={"mine": "true"}, headers=headers)
    assert response.status_code == 200, response.text
    return [item["filename"] for item in response.json()["items"]]


class TestOpenMode:
    async def test_the_page_makes_a_visitor_and_nothing_else_does(self, client: httpx2.AsyncClient) -> None:
        for path in ("/api/records", "/healthz", "/errors/upload-busy", "/api/ingestion/session"):
            assert "set-cookie" not in (await client.get(path)).headers, path
        assert "set-cookie" not in (await client.head("/")).headers
        response = await client.get("/")
        assert re.fullmatch(
            rf"{COOKIE}=[0-9a-f-]{{36}}\.[0-9a-f]{{64}}; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax",
            cookie_of(response),
        )
        assert response.headers["x-session-id"] == value_of(response)
        assert response.headers["cache-control"] == "no-store"

    async def test_a_visitor_is_used_again_and_not_told_twice(self, client: httpx2.AsyncClient) -> None:
        first = await client.get("/")
        again = await client.get("/")
        assert "set-cookie" not in again.headers
        known = (await client.get("/api/ingestion/session")).json()
        assert known["id"] == value_of(first).partition(".")[0]

    async def test_an_upload_to_the_ingestion_endpoint_makes_a_visitor_before_its_body_is_read(
        self, client: httpx2.AsyncClient
    ) -> None:
        assert value_of(await client.post("/api/ingestion/upload"))

    async def test_what_a_visitor_brings_is_its_own_on_every_face(self, service: MemoryService) -> None:
        async with service.client() as one, served(service.app(local_users=True)) as two:
            await one.get("/")
            await two.get("/")
            await put(one, "one")
            await put(two, "two")
            begun = await one.post("/api/uploads", json={"filename": "chunked", "size": 0})
            await one.post(f"/api/uploads/{begun.json()['id']}/finish", json={})
            assert await mine(one) == ["chunked", "one"]
            assert await mine(two) == ["two"]
            two.cookies.clear()
            await put(two, "local")
            assert await mine(two) == ["local"]

    async def test_everybody_on_the_machine_sees_all_records(self, service: MemoryService) -> None:
        async with service.client() as one, served(service.app(local_users=True)) as two:
            await one.get("/")
            await two.get("/")
            record = await put(one, "one")
            assert (await two.get(f"/api/records/{record['id']}")).status_code == 200
            assert (await two.delete(f"/api/records/{record['id']}")).status_code == 204
            assert (await two.get("/api/operators/stats")).status_code == 200

    async def test_the_history_of_nobody_is_empty_and_makes_no_visitor(
        self, client: httpx2.AsyncClient
    ) -> None:
        record = await put(client, "of-the-machines-user.txt")
        history = "/api/ingestion/history"
        listed = await client.get(history)
        assert listed.status_code == 200
        assert listed.json() == {"items": [], "next": None, "total": None, "left_out": 0}
        assert (await client.get(f"{history}/summary")).json()["count"] == 0
        assert (await client.get(f"{history}/export")).json() == []
        for method in ("GET", "DELETE"):
            answer = await client.request(method, f"{history}/{record['id']}")
            assert answer.status_code == 404, method
            assert "set-cookie" not in answer.headers
        assert "set-cookie" not in listed.headers
        assert await mine(client) == ["of-the-machines-user.txt"]

    async def test_the_header_names_the_same_visitor_as_the_cookie(self, service: MemoryService) -> None:
        async with service.client() as browser, served(service.app(local_users=True)) as program:
            signed = value_of(await browser.get("/"))
            await put(browser, "a")
            assert await mine(program, **{"X-Session-ID": signed}) == ["a"]
            assert await mine(program) == []

    @pytest.mark.parametrize("key", [b"", b"other"])
    async def test_a_forged_visitor_is_nobody_and_gets_a_new_one(
        self, service: MemoryService, key: bytes
    ) -> None:
        async with service.client() as browser, served(service.app(local_users=True)) as forger:
            visitor_id = value_of(await browser.get("/")).partition(".")[0]
            await put(browser, "a")
            forged = {"Cookie": f"{COOKIE}={sign_visitor(visitor_id, key)}"}
            assert await mine(forger, **forged) == []
            new = value_of(await forger.get("/", headers=forged))
            assert new.partition(".")[0] != visitor_id

    async def test_a_service_on_another_port_reads_its_own_cookie(self, service: MemoryService) -> None:
        async with service.client() as browser, served(service.app(local_users=True)) as other:
            signed = value_of(await browser.get("/"))
            await put(browser, "a")
            assert await mine(other, Cookie=f"haulier_visitor_9000={signed}") == []
            assert await mine(other, Cookie=f"a=b; haulier_visitor_9000=x; {COOKIE}={signed}") == ["a"]

    async def test_an_ended_visitor_gets_a_new_one_and_never_the_old_ones_things(self) -> None:
        clock = ManualClock()
        service = MemoryService(clock=clock)
        async with service.client() as client:
            first = value_of(await client.get("/"))
            await put(client, "a")
            clock.advance(30 * DAY_S)
            assert await mine(client, Cookie=f"{COOKIE}={first}") == []
            assert value_of(await client.get("/", headers={"Cookie": f"{COOKIE}={first}"})) != first
            assert [it["filename"] for it in (await client.get("/api/records")).json()["items"]] == ["a"]

    async def test_a_visitor_that_is_seen_is_kept_for_longer(self) -> None:
        clock = ManualClock()
        service = MemoryService(clock=clock, visitor_ttl_s=10 * DAY_S)
        async with service.client() as client:
            first = await client.get("/")
            clock.advance(9 * DAY_S)
            later = await client.get("/api/records")
            assert value_of(later) == value_of(first)
            assert "Max-Age=864000;" in cookie_of(later)
            clock.advance(9 * DAY_S)
            assert (await client.get("/api/ingestion/session")).status_code == 200

    async def test_behind_tls_the_cookie_is_for_tls_only(self, service: MemoryService) -> None:
        app = service.app(local_users=True)

        async def tls(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "scheme": "https"}, receive, send)

        async with served(tls) as client:
            assert cookie_of(await client.get("/")).endswith("; HttpOnly; SameSite=Lax; Secure")

    async def test_an_upload_of_a_visitor_is_bound_by_the_limit_of_the_machine(
        self, service: MemoryService
    ) -> None:
        async with service.client() as client:
            await client.get("/")
            for _ in range(service.limits.max_live_of_user + 1):
                begun = await client.post("/api/uploads", json={"filename": "a", "size": 1})
                assert begun.status_code == 201


class TestSession:
    async def test_nobody_is_told_so_and_stays_nobody(self, client: httpx2.AsyncClient) -> None:
        for method, path in (("GET", ""), ("POST", "/extend")):
            response = await client.request(method, f"/api/ingestion/session{path}")
            assert (response.status_code, response.json()["type"]) == (
                404,
                f"{ORIGIN}/errors/visitor-not-found",
            )
            assert "set-cookie" not in response.headers

    async def test_a_visitor_sees_what_is_kept_of_it(self) -> None:
        service = MemoryService(clock=ManualClock(1_700_000_000.0))
        async with service.client() as client:
            signed = value_of(await client.get("/", headers={"User-Agent": "Firefox"}))
            assert (await client.get("/api/ingestion/session")).json() == {
                "id": signed.partition(".")[0],
                "created_at": "2023-11-14T22:13:20.000Z",
                "last_seen_at": "2023-11-14T22:13:20.000Z",
                "expires_at": "2023-12-14T22:13:20.000Z",
                "principal": None,
                "metadata": {"user_agent": "Firefox"},
            }

    async def test_extending_moves_the_end_and_the_cookies(self) -> None:
        clock = ManualClock(1_700_000_000.0)
        service = MemoryService(clock=clock)
        async with service.client() as client:
            first = value_of(await client.get("/"))
            clock.advance(1)
            extended = await client.post("/api/ingestion/session/extend")
            assert extended.json()["expires_at"] == "2023-12-14T22:13:21.000Z"
            assert value_of(extended) == first

    async def test_clearing_ends_the_visitor_and_leaves_its_records(self, client: httpx2.AsyncClient) -> None:
        first = value_of(await client.get("/"))
        await put(client, "a")
        cleared = await client.delete("/api/ingestion/session")
        assert cleared.status_code == 204
        assert cookie_of(cleared) == f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
        assert COOKIE not in client.cookies
        again = await client.delete("/api/ingestion/session", headers={"Cookie": f"{COOKIE}={first}"})
        assert again.status_code == 204
        assert await mine(client, Cookie=f"{COOKIE}={first}") == []
        assert len((await client.get("/api/records")).json()["items"]) == 1


class TestWithTokens:
    """A service whose capsule `default` admits visitors."""

    @pytest.fixture
    async def service(self) -> MemoryService:
        service = MemoryService(opened=False, clock=ManualClock())
        await service.accounts.set_capsule("default", {"admits_visitors": "true"})
        return service

    async def test_where_no_capsule_admits_visitors_nobody_becomes_one(self) -> None:
        async with MemoryService(opened=False).client(require_tokens=True) as client:
            for method, path, status in (
                ("GET", "/", 200),  # people say there who they are
                ("POST", "/api/ingestion/upload", 401),
                ("GET", "/api/records", 401),
            ):
                response = await client.request(method, path)
                assert (response.status_code, "set-cookie" in response.headers) == (status, False)

    async def test_where_one_does_the_page_makes_a_visitor(self, service: MemoryService) -> None:
        async with service.client(require_tokens=True) as client:
            assert (await client.get("/api/records")).status_code == 401
            response = await client.get("/")
            assert (response.status_code, bool(value_of(response))) == (200, True)
            await put(client, "a")
            assert await mine(client) == ["a"]

    async def test_visitors_see_and_touch_their_own_only(self, service: MemoryService) -> None:
        app = service.app(require_tokens=True)
        async with service.client(require_tokens=True) as one, served(app) as two:
            await one.get("/")
            await two.get("/")
            record = await put(one, "one")
            begun = (await one.post("/api/uploads", json={"filename": "b", "size": 1})).json()
            assert await mine(two) == []
            assert (await two.get("/api/records")).json()["items"] == []
            for method, path in (
                ("GET", f"/api/records/{record['id']}"),
                ("DELETE", f"/api/records/{record['id']}"),
                ("GET", f"/api/records/{record['id']}/assets/original"),
                ("GET", f"/api/uploads/{begun['id']}"),
                ("DELETE", f"/api/uploads/{begun['id']}"),
            ):
                assert (await two.request(method, path)).status_code == 404, path
            assert (await two.get("/api/operators/stats")).status_code == 403
            assert (await one.delete(f"/api/records/{record['id']}")).status_code == 204
            assert (await one.post(f"/api/records/{record['id']}/restore")).status_code == 200

    async def test_a_capsule_that_admits_none_is_not_there_for_a_visitor(
        self, service: MemoryService
    ) -> None:
        await service.accounts.create_capsule("attic", owner="user:a")
        async with service.client(require_tokens=True) as client:
            await client.get("/")
            response = await client.put("/api/files/a", params={"capsule": "attic"}, content=b"x")
            assert response.status_code == 404

    async def test_what_the_open_mode_let_a_visitor_do_ends_with_it(self, service: MemoryService) -> None:
        await service.accounts.set_capsule("default", {"admits_visitors": "false"})
        async with MemoryService(database=service.database, clock=service.clock).client() as client:
            cookie = {"Cookie": f"{COOKIE}={value_of(await client.get('/'))}"}
            record = await put(client, "a")
        async with service.client(require_tokens=True) as client:
            assert (await client.get(f"/api/records/{record['id']}", headers=cookie)).status_code == 404
            assert (await client.get("/api/operators/stats", headers=cookie)).status_code == 403

    async def test_a_bad_token_is_refused_whatever_cookie_comes_with_it(self, service: MemoryService) -> None:
        async with service.client(require_tokens=True) as client:
            await client.get("/")
            response = await client.get("/api/records", headers={"Authorization": "Bearer nonsense"})
            assert response.status_code == 401

    async def test_a_token_counts_before_a_cookie(self, service: MemoryService) -> None:
        made = await service.accounts.create_token("user:alice", scope=Scope.WRITE)
        token = {"Authorization": f"Bearer {made.secret.reveal()}"}
        async with service.client(require_tokens=True) as client:
            await client.get("/")
            await put(client, "alices", **token)
            assert await mine(client) == []
            assert await mine(client, **token) == ["alices"]
            assert (await client.get("/api/ingestion/session", headers=token)).status_code == 200

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "null", f"{ORIGIN}0", "http://localhost:8000"]
    )
    async def test_a_foreign_page_gets_nothing_of_a_cookie(self, service: MemoryService, origin: str) -> None:
        async with service.client(require_tokens=True) as client:
            signed = value_of(await client.get("/"))
            for method, path in (("GET", "/api/records"), ("PUT", "/api/files/a"), ("GET", "/")):
                response = await client.request(method, path, headers={"Origin": origin})
                assert (response.status_code, response.json()["type"]) == (
                    403,
                    f"{ORIGIN}/errors/origin-refused",
                )
                assert response.json()["origin"] == origin
            client.cookies.clear()
            by_header = await client.get("/api/records", headers={"Origin": origin, "X-Session-ID": signed})
            assert by_header.status_code == 200

    @pytest.mark.parametrize("cookies", ["", f"{COOKIE}=nonsense", "haulier_session_8000=nonsense"])
    async def test_a_foreign_pages_form_leaves_no_visitor_and_touches_no_cookie(
        self, service: MemoryService, cookies: str
    ) -> None:
        headers = {"Origin": "https://evil.example", **({"Cookie": cookies} if cookies else {})}
        async with service.client(require_tokens=True) as client:
            refused = await client.post(
                "/api/ingestion/upload", files={"f": ("a.json", b"{}")}, headers=headers
            )
            assert (refused.status_code, refused.json()["type"]) == (403, f"{ORIGIN}/errors/origin-refused")
            assert "set-cookie" not in refused.headers
            assert "x-session-id" not in refused.headers
        assert service.database._rows.visitors == {}

    async def test_our_own_page_and_one_that_was_given_may_use_a_cookie(self, service: MemoryService) -> None:
        given = "https://app.example"
        async with service.client(require_tokens=True, cors_origin=[given]) as client:
            await client.get("/")
            for origin in (ORIGIN, given):
                assert (await client.get("/api/records", headers={"Origin": origin})).status_code == 200

    async def test_the_page_of_the_public_address_is_our_own(self, service: MemoryService) -> None:
        public = "https://files.example"
        async with service.client(public_url=public) as client:
            await client.get("/")
            assert (await client.get("/api/records", headers={"Origin": public})).status_code == 200

    async def test_nobody_reads_the_ingestions_lists_without_becoming_anybody(
        self, service: MemoryService
    ) -> None:
        async with service.client(require_tokens=True) as client:
            response = await client.get("/api/ingestion/session")
            assert (response.status_code, response.json()["type"]) == (
                404,
                f"{ORIGIN}/errors/visitor-not-found",
            )
            assert "set-cookie" not in response.headers
            assert (await client.head("/")).status_code == 200

    async def test_one_address_does_not_fill_the_table_with_visitors(self, service: MemoryService) -> None:
        async with service.client(require_tokens=True) as client:
            made = 0
            for _ in range(NEW_VISITORS + 5):
                client.cookies.clear()
                response = await client.get("/")
                assert response.status_code == 200
                made += "set-cookie" in response.headers
            client.cookies.clear()
            refused = await client.post("/api/ingestion/upload")
            assert (refused.status_code, refused.json()["type"]) == (429, f"{ORIGIN}/errors/rate-limited")
            assert made == NEW_VISITORS

    async def test_who_is_somebody_already_is_not_counted(self, service: MemoryService) -> None:
        async with service.client(require_tokens=True) as client:
            for _ in range(NEW_VISITORS + 5):
                assert (await client.get("/")).status_code == 200
            client.cookies.clear()
            assert "set-cookie" in (await client.get("/")).headers
