"""Links over HTTP: one asset for whoever has one, until it is over, and nothing beside it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from haulier.core.caller import Scope
from haulier.testing import ManualClock
from tests.support.service import ORIGIN, MemoryService

HELLO = b"hello world"
DAY_S = 24 * 3600.0


class World:
    """A service with tokens, Alice's, and a record of hers."""

    def __init__(self, client: httpx2.AsyncClient, service: MemoryService, clock: ManualClock) -> None:
        self.client = client
        self.service = service
        self.clock = clock
        self.token: dict[str, str] = {}
        self.record = ""

    async def bring(self, name: str = "a b.txt", content_type: str = "text/plain") -> None:
        made = await self.service.accounts.create_token("user:alice", scope=Scope.WRITE)
        self.token = {"Authorization": f"Bearer {made.secret.reveal()}"}
        headers = {**self.token, "Content-Type": content_type}
        brought = await self.client.put(f"/api/files/{name}", content=HELLO, headers=headers)
        assert brought.status_code == 201, brought.text
        self.record = brought.json()["id"]

    async def ask(self, **wanted: Any) -> httpx2.Response:
        return await self.client.post(f"/api/records/{self.record}/links", json=wanted, headers=self.token)

    async def give(self, **wanted: Any) -> str:
        given = await self.ask(**wanted)
        assert given.status_code == 201, given.text
        return str(given.json()["url"])

    async def dead(self, url: str) -> None:
        for method in ("GET", "HEAD"):
            response = await self.client.request(method, url)
            assert response.status_code == 404
        assert (await self.client.get(url)).json()["type"] == f"{ORIGIN}/errors/link-not-found"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = ManualClock(1_700_000_000.5)
    service = MemoryService(opened=False, clock=clock)
    async with service.client(require_tokens=True) as client:
        world = World(client, service, clock)
        await world.bring()
        yield world


async def test_a_link_opens_the_bytes_for_whoever_has_it(world: World) -> None:
    given = await world.ask()
    document = given.json()
    assert document.pop("url").startswith(f"{ORIGIN}/links/{world.record}.original.1700086400.attachment.")
    assert document == {
        "record": world.record,
        "kind": "original",
        "disposition": "attachment",
        "expires_at": "2023-11-15T22:13:20.000Z",
    }
    url = given.json()["url"]
    response = await world.client.get(url)
    assert (response.status_code, response.content) == (200, HELLO)
    assert response.headers["content-disposition"] == (
        "attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt"
    )
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]
    head = await world.client.head(url)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "11", b"")


async def test_a_body_may_be_left_out(world: World) -> None:
    given = await world.client.post(f"/api/records/{world.record}/links", headers=world.token)
    assert given.status_code == 201


async def test_ranges_and_conditions_hold_as_for_a_download(world: World) -> None:
    url = await world.give()
    part = await world.client.get(url, headers={"Range": "bytes=6-"})
    assert (part.status_code, part.content) == (206, b"world")
    known = await world.client.get(url, headers={"If-None-Match": part.headers["etag"]})
    assert known.status_code == 304


async def test_a_browser_shows_what_is_harmless_when_the_link_says_so(world: World) -> None:
    response = await world.client.get(await world.give(disposition="inline"))
    assert response.headers["content-disposition"].startswith("inline;")
    await world.bring("a.html", "text/html")
    response = await world.client.get(await world.give(disposition="inline"))
    assert response.headers["content-disposition"].startswith("attachment;")


async def test_a_link_is_over_when_it_says(world: World) -> None:
    url = await world.give(expires_in=60)
    world.clock.advance(59)
    assert (await world.client.get(url)).status_code == 200
    world.clock.advance(1)
    await world.dead(url)


async def test_a_link_is_dead_while_its_record_is_deleted_and_for_good_without_its_bytes(
    world: World,
) -> None:
    url = await world.give()
    record = f"/api/records/{world.record}"
    await world.client.delete(record, headers=world.token)
    await world.dead(url)
    await world.client.post(f"{record}/restore", headers=world.token)
    assert (await world.client.get(url)).status_code == 200
    await world.client.delete(record, params={"now": "true"}, headers=world.token)
    await world.dead(url)


async def test_a_link_is_dead_when_the_key_is_another(world: World) -> None:
    url = await world.give()
    world.service.links._secret = b"rotated"
    await world.dead(url)


@pytest.mark.parametrize("end", ["", "x", "..%2fapi%2frecords", "a/b/c", "%2e%2e%2f", "\u20ac"])
async def test_what_is_no_link_opens_nothing(world: World, end: str) -> None:
    await world.dead(f"/links/{end or '%20'}")


async def test_a_link_of_one_record_opens_no_other(world: World) -> None:
    url, first = await world.give(), world.record
    await world.bring("b.txt")
    await world.dead(url.replace(first, world.record))


@pytest.mark.parametrize("wanted", [{"expires_in": 0}, {"expires_in": 30 * DAY_S + 1}, {"expires_in": "1"}])
async def test_a_link_lasts_for_a_second_to_a_month(world: World, wanted: dict[str, Any]) -> None:
    refused = await world.ask(**wanted)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "expires_in")
    await world.give(expires_in=30 * DAY_S)
    await world.give(expires_in=1)


@pytest.mark.parametrize("wanted", [{"kind": "all"}, {"disposition": "shown"}, {"owner": "me"}])
async def test_what_a_link_cannot_be_is_refused(world: World, wanted: dict[str, Any]) -> None:
    refused = await world.ask(**wanted)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, next(iter(wanted)))


async def test_a_link_to_an_asset_that_is_not_there_is_not_given(world: World) -> None:
    refused = await world.ask(kind="thumbnail")
    assert (refused.status_code, refused.json()["type"]) == (404, f"{ORIGIN}/errors/asset-not-found")


async def test_who_may_not_read_a_record_gives_no_link_to_it(world: World) -> None:
    made = await world.service.accounts.create_token("user:bob", scope=Scope.OWNER)
    world.token = {"Authorization": f"Bearer {made.secret.reveal()}"}
    refused = await world.ask()
    assert (refused.status_code, refused.json()["type"]) == (404, f"{ORIGIN}/errors/record-not-found")


async def test_the_log_does_not_have_what_a_link_is_good_by(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    url = await world.give()
    await world.client.get(url)
    await world.client.get(f"{url}/more")
    written = capsys.readouterr()
    assert '"path": "/links/***"' in written.out + written.err
    assert url.rpartition(".")[2] not in written.out + written.err


async def test_only_reading_needs_no_token(world: World) -> None:
    url = await world.give()
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        assert (await world.client.request(method, url)).status_code == 401
