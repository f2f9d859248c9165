"""Group 8 of the requirements of the form endpoint, visitors; the criterion's number is in each test's name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx2
import pytest

from haulier.adapters.disk.directories import prepare_tree
from haulier.adapters.worker_locks import new_worker
from haulier.bootstrap import Identity, Service
from haulier.config import Settings
from haulier.core.caller import Scope
from haulier.core.visitor import Visitor
from haulier.server.app import create_app
from tests.support.postgres import fresh_database
from tests.support.service import served

COOKIE = "haulier_visitor_8000"
DAY_S = 24 * 3600.0


class Running:
    """A service as it is built for production, called in this process."""

    def __init__(self, app: Any, parts: Service) -> None:
        self._app = app
        self.parts = parts

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[httpx2.AsyncClient]:
        """A browser with cookies of its own."""
        async with served(self._app) as client:
            yield client

    async def row(self, client: httpx2.AsyncClient) -> Visitor | None:
        """Return what is stored of a browser's visitor."""
        visitor_id = client.cookies[COOKIE].partition(".")[0]
        return await self.parts._database.read(lambda tx: tx.visitors.load(visitor_id))


@asynccontextmanager
async def running(kind: str, folder: Path, **settings: Any) -> AsyncIterator[Running]:
    with fresh_database() if kind == "postgresql" else nullcontext() as url:
        chosen = Settings(
            data_dir=folder / "data", database_url=url, local_users=True, image_processes=0, **settings
        )
        parts = Service(chosen, prepare_tree(chosen.root, min_free=0), Identity(worker=new_worker()))
        async with parts.lifespan():
            yield Running(create_app(parts.services, chosen), parts)


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def put(client: httpx2.AsyncClient, name: str) -> None:
    assert (await client.put(f"/api/files/{name}", content=b"x")).status_code == 201


async def own(client: httpx2.AsyncClient) -> list[str]:
    listed = await client.get("/api/records", params={"mine": "true"})
    return [item["filename"] for item in listed.json()["items"]]


async def test_8_1_a_visitor_is_made_at_the_first_upload_and_used_again(kind: str, tmp_path: Path) -> None:
    async with running(kind, tmp_path) as service, service.browser() as browser:
        first = await browser.post("/api/ingestion/upload")
        again = await browser.post("/api/ingestion/upload")
        assert first.headers["x-session-id"] == browser.cookies[COOKIE]
        assert "set-cookie" not in again.headers


async def test_8_2_a_visitor_is_stored_with_its_end(kind: str, tmp_path: Path) -> None:
    async with running(kind, tmp_path) as service, service.browser() as browser:
        await browser.get("/")
        visitor = await service.row(browser)
        assert visitor is not None
        assert visitor.expires_at == visitor.created_at + 30 * DAY_S


async def test_8_3_a_visitor_finds_its_history_again_after_a_restart(tmp_path: Path) -> None:
    async with running("sqlite", tmp_path) as service, service.browser() as browser:
        await browser.get("/")
        await put(browser, "a")
        cookie = {COOKIE: browser.cookies[COOKIE]}
    async with running("sqlite", tmp_path) as service, service.browser() as browser:
        browser.cookies.update(cookie)
        assert await own(browser) == ["a"]


@pytest.mark.parametrize(("given", "expected_s"), [({}, 30 * DAY_S), ({"visitor_ttl_s": 3600.0}, 3600.0)])
async def test_8_4_how_long_a_visitor_lasts_can_be_set(
    given: dict[str, float], expected_s: float, kind: str, tmp_path: Path
) -> None:
    async with running(kind, tmp_path, **given) as service, service.browser() as browser:
        made = await browser.get("/")
        assert f"Max-Age={int(expected_s)};" in made.headers["set-cookie"]
        visitor = await service.row(browser)
        assert visitor is not None
        assert visitor.expires_at - visitor.created_at == expected_s


async def test_8_5_an_end_cleans_up_and_keeps_the_records(kind: str, tmp_path: Path) -> None:
    async with (
        running(kind, tmp_path, session_ttl_s=365 * DAY_S) as service,
        service.browser() as browser,
        service.browser() as local,
    ):
        await browser.get("/")
        await put(browser, "a")
        begun = (await browser.post("/api/uploads", json={"filename": "b", "size": 5})).json()
        visitor = await service.row(browser)
        assert visitor is not None
        # As the janitor does when that time has come.
        assert await service.parts.services.visitors.purge(now=visitor.expires_at) == 1
        assert await service.parts.services.uploads.expire(now=visitor.expires_at) == 1
        assert (await local.get(f"/api/uploads/{begun['id']}")).json()["status"] == "expired"
        assert await service.row(browser) is None
        listed = (await local.get("/api/records", params={"status": "completed"})).json()
        assert [item["filename"] for item in listed["items"]] == ["a"]
        assert await own(browser) == []


async def test_8_6_several_browsers_of_one_principal_have_one_history(kind: str, tmp_path: Path) -> None:
    async with running(kind, tmp_path, require_tokens=True) as service:
        accounts = service.parts.services.accounts
        await accounts.set_capsule("default", {"admits_visitors": "true"})
        made = await accounts.create_token("user:alice", scope=Scope.WRITE)
        token = {"Authorization": f"Bearer {made.secret.reveal()}"}
        async with service.browser() as one, service.browser() as two, service.browser() as stranger:
            for browser, name in ((one, "one"), (two, "two"), (stranger, "other")):
                await browser.get("/")
                await put(browser, name)
            for browser in (one, two):
                assert (await browser.post("/api/session", headers=token)).status_code == 201
            assert await own(one) == await own(two) == ["two", "one"]
            assert await own(stranger) == ["other"]
