"""Browser sign-in: a token shown once, and then a cookie that is never more than the token."""

import re
from typing import Any

import httpx2
import pytest

from haulier.core.caller import Scope
from haulier.core.secret import make_token
from haulier.core.token import SIGN_IN_S
from haulier.testing import ManualClock
from tests.support.service import ORIGIN, MemoryService

COOKIE = "haulier_session_8000"


class World:
    """A service with tokens, and Alice's."""

    def __init__(self) -> None:
        self.clock = ManualClock(1_700_000_000.0)
        self.service = MemoryService(opened=False, clock=self.clock)

    def client(self, **settings: Any) -> Any:
        return self.service.client(require_tokens=True, **settings)

    async def token(self, **fields: Any) -> dict[str, str]:
        given = {"scope": Scope.WRITE, **fields}
        made = await self.service.accounts.create_token("user:alice", **given)
        return {"Authorization": f"Bearer {made.secret.reveal()}"}


@pytest.fixture
def world() -> World:
    return World()


async def sign_in(client: httpx2.AsyncClient, token: dict[str, str]) -> httpx2.Response:
    response = await client.post("/api/session", headers=token)
    assert response.status_code == 201, response.text
    return response


async def test_a_token_is_exchanged_for_a_cookie_that_no_page_can_use(world: World) -> None:
    async with world.client() as client:
        token = await world.token()
        response = await sign_in(client, token)
        (cookie,) = response.headers.get_list("set-cookie")
        assert re.fullmatch(
            rf"{COOKIE}=hl_[\w-]{{49}}; Path=/; Max-Age=604800; HttpOnly; SameSite=Strict", cookie
        )
        assert token["Authorization"].removeprefix("Bearer ") not in cookie
        assert response.headers["cache-control"] == "no-store"
        assert response.json() == {
            "owner": "user:alice",
            "scope": "write",
            "capsule": None,
            "expires_at": "2023-11-21T22:13:20.000Z",
        }
        assert (await client.get("/api/session")).json() == response.json()


async def test_who_is_signed_in_does_what_the_token_may_and_no_more(world: World) -> None:
    async with world.client() as client:
        await sign_in(client, await world.token(scope=Scope.READ))
        assert (await client.get("/api/records")).status_code == 200
        assert (await client.put("/api/files/a", content=b"x")).status_code == 403
        await sign_in(client, await world.token())
        record = (await client.put("/api/files/a", content=b"x")).json()
        assert (await client.get(f"/api/records/{record['id']}/assets/original")).content == b"x"
        assert (await client.get("/api/operators/stats")).status_code == 403


async def test_a_browser_that_is_signed_in_cannot_sign_in_again_by_that(world: World) -> None:
    async with world.client() as client:
        secret = (await sign_in(client, await world.token())).cookies[COOKIE]
        assert (await client.post("/api/session")).status_code == 401
        as_token = {"Authorization": f"Bearer {secret}"}
        assert (await client.get("/api/records", headers=as_token)).status_code == 401


async def test_signing_out_ends_what_the_browser_had_everywhere(world: World) -> None:
    async with world.client() as client:
        secret = (await sign_in(client, await world.token())).cookies[COOKIE]
        out = await client.delete("/api/session")
        assert (out.status_code, out.headers["set-cookie"]) == (
            204,
            f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict",
        )
        stolen = await client.get("/api/records", headers={"Cookie": f"{COOKIE}={secret}"})
        assert stolen.status_code == 401
        assert "Max-Age=0" in stolen.headers["set-cookie"]


async def test_a_sign_in_ends_with_its_time(world: World) -> None:
    async with world.client() as client:
        await sign_in(client, await world.token())
        cookies = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
        world.clock.advance(SIGN_IN_S - 1)
        assert (await client.get("/api/records", headers=cookies)).status_code == 200
        world.clock.advance(1)
        assert (await client.get("/api/records", headers=cookies)).status_code == 401
        assert await world.service.accounts.purge_sign_ins(now=world.clock.now()) == 1
        assert await world.service.accounts.purge_sign_ins(now=world.clock.now()) == 0


async def test_a_sign_in_ends_with_its_token(world: World) -> None:
    async with world.client() as client:
        response = await sign_in(client, await world.token(expires_in_s=60.0))
        assert response.json()["expires_at"] == "2023-11-14T22:14:20.000Z"
        await sign_in(client, await world.token())
        for token in await world.service.accounts.list_tokens():
            await world.service.accounts.revoke_token(token.id)
        assert (await client.get("/api/records")).status_code == 401


@pytest.mark.parametrize("secret", ["", "nonsense", "hl_" + "a" * 49, "\x7f"])
async def test_a_cookie_of_nobody_is_nobody(world: World, secret: str) -> None:
    await world.token()
    async with world.client() as client:
        response = await client.get("/api/records", headers={"Cookie": f"{COOKIE}={secret}"})
        assert (response.status_code, response.json()["type"]) == (401, f"{ORIGIN}/errors/unauthenticated")
        assert "Max-Age=0" in response.headers["set-cookie"]


async def test_guessing_cookies_is_slowed_down_as_guessing_tokens_is(world: World) -> None:
    async with world.client(rate_of_failures=2) as client:
        statuses = [
            (await client.get("/api/records", headers={"Cookie": f"{COOKIE}=hl_{n}"})).status_code
            for n in range(4)
        ]
    assert statuses == [401, 401, 429, 429]


async def test_who_is_signed_in_is_not_stopped_by_others_who_guess_behind_the_same_address(
    world: World,
) -> None:
    async with world.client(rate_of_failures=2) as client:
        await sign_in(client, await world.token())
        assert (await client.get("/api/records")).status_code == 200
        for _ in range(2):
            guess = {"Authorization": f"Bearer {make_token(b'g' * 32).reveal()}"}
            assert (await client.get("/api/records", headers=guess)).status_code == 401
        guess = {"Cookie": f"{COOKIE}={make_token(b'h' * 32).reveal()}"}
        client.cookies, kept = httpx2.Cookies(), client.cookies
        assert (await client.get("/api/records", headers=guess)).status_code == 429
        client.cookies = kept
        assert (await client.get("/api/records")).status_code == 200


async def test_a_sign_in_that_has_ended_is_no_guess(world: World) -> None:
    async with world.client(rate_of_failures=2) as client:
        await sign_in(client, await world.token())
        cookies = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
        client.cookies.clear()
        world.clock.advance(SIGN_IN_S)
        for _ in range(5):
            assert (await client.get("/api/records", headers=cookies)).status_code == 401


async def test_a_sign_in_that_was_good_is_no_guess_when_it_was_ended_elsewhere(world: World) -> None:
    async with world.client(rate_of_failures=1) as client:
        await sign_in(client, await world.token())
        cookies = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
        assert (await client.get("/api/records", headers=cookies)).status_code == 200
        await client.delete("/api/session")
        assert (await client.get("/api/records", headers=cookies)).status_code == 401
        guess = {"Authorization": f"Bearer {make_token(b'g' * 32).reveal()}"}
        assert (await client.get("/api/records", headers=guess)).status_code == 401


async def test_signing_out_of_many_cookies_writes_for_no_more_than_a_browser_has(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = []
    write = world.service.database.write

    async def counted(work: Any, **settings: Any) -> Any:
        writes.append(work)
        return await write(work, **settings)

    async with world.client() as client:
        token = await world.token()
        await client.get("/api/session", headers=token)
        monkeypatch.setattr(world.service.database, "write", counted)
        for shown, expected in (
            (["nonsense"] * 3, 0),
            ([make_token(bytes([n]) * 32).reveal() for n in range(20)], 4),
        ):
            cookies = "; ".join(f"{COOKIE}={each}" for each in shown)
            assert (
                await client.delete("/api/session", headers={**token, "Cookie": cookies})
            ).status_code == 204
            assert len(writes) == expected


@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"}])
async def test_only_a_good_token_signs_in(world: World, given: dict[str, str]) -> None:
    await world.service.accounts.set_capsule("default", {"admits_visitors": "true"})
    async with world.client() as client:
        await client.get("/")
        response = await client.post("/api/session", headers=given)
        assert (response.status_code, "set-cookie" in response.headers) == (401, False)


async def test_a_revoked_token_signs_nobody_in(world: World) -> None:
    token = await world.token()
    for each in await world.service.accounts.list_tokens():
        await world.service.accounts.revoke_token(each.id)
    async with world.client() as client:
        assert (await client.post("/api/session", headers=token)).status_code == 401


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_a_foreign_page_cannot_act_for_who_is_signed_in(world: World, method: str) -> None:
    async with world.client(cors_origin=["https://app.example"]) as client:
        await sign_in(client, await world.token())
        path = {"PUT": "/api/files/a"}.get(method, "/api/session")
        evil = {"Origin": "https://evil.example", "X-Session-ID": "nonsense"}
        refused = await client.request(method, path, headers=evil)
        assert (refused.status_code, refused.json()["type"]) == (403, f"{ORIGIN}/errors/origin-refused")
        for origin in (ORIGIN, "https://app.example"):
            assert (await client.request(method, path, headers={"Origin": origin})).status_code < 300
            await sign_in(client, await world.token())


async def test_a_principal_that_signs_in_adopts_that_browsers_records(world: World) -> None:
    await world.service.accounts.set_capsule("default", {"admits_visitors": "true"})
    async with world.client() as one, world.client() as two:
        for browser in (one, two):
            await browser.get("/")
            name = "one" if browser is one else "two"
            assert (await browser.put(f"/api/files/{name}", content=b"x")).status_code == 201
            await sign_in(browser, await world.token())
        for browser in (one, two):
            listed = await browser.get("/api/records", params={"mine": "true"})
            assert {item["filename"] for item in listed.json()["items"]} == {"one", "two"}
        assert (await one.get("/api/ingestion/session")).json()["principal"] == "user:alice"
        await one.delete("/api/session")
        listed = await one.get("/api/records", params={"mine": "true"})
        assert listed.json()["items"] == []


async def test_in_open_mode_there_is_nothing_to_sign_in_to(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/api/session")).status_code == 401
    assert (await client.get("/api/session")).json() == {
        "owner": "local",
        "scope": "operator",
        "capsule": None,
        "expires_at": None,
    }
    assert (await client.delete("/api/session")).status_code == 204
