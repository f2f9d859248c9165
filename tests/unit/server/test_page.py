"""What `/` answers where the page was built."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from haulier.server.page import BuiltPage
from tests.support.service import MemoryService

DOCUMENT = b'<!doctype html><script type="module" src="./page/index-a1.js"></script>'
SCRIPT = b"console.log('page')"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "page").mkdir()
    (tmp_path / "index.html").write_bytes(DOCUMENT)
    (tmp_path / "page" / "index-a1.js").write_bytes(SCRIPT)
    (tmp_path / "page" / "index-a1.js.map").write_bytes(b"{}")
    return tmp_path


@pytest.fixture
async def client(folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with MemoryService(page=BuiltPage.read(folder)).client() as client:
        yield client


def test_a_folder_without_a_build_is_no_page(tmp_path: Path) -> None:
    assert BuiltPage.read(tmp_path) is None


async def test_the_page_may_load_and_run_only_what_came_with_it(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.content == DOCUMENT
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


async def test_files_are_kept_by_browsers_and_packed_for_those_who_can_unpack(
    client: httpx2.AsyncClient,
) -> None:
    plain = await client.get("/page/index-a1.js", headers={"Accept-Encoding": "identity"})
    async with client.stream("GET", "/page/index-a1.js", headers={"Accept-Encoding": "gzip"}) as packed:
        raw = b"".join([piece async for piece in packed.aiter_raw()])
    assert plain.content == SCRIPT
    assert "content-encoding" not in plain.headers
    assert plain.headers["content-type"] == "text/javascript; charset=utf-8"
    assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(raw) == SCRIPT


@pytest.mark.parametrize(
    "name", ["nothing.js", "index.html", "index-a1.js.map", "..%2findex.html", "%2e%2e/index.html"]
)
async def test_nothing_else_of_the_folder_is_served(client: httpx2.AsyncClient, name: str) -> None:
    assert (await client.get(f"/page/{name}")).status_code == 404


async def test_the_pages_of_problems_have_their_style_with_and_without_the_page(
    client: httpx2.AsyncClient,
) -> None:
    async with MemoryService().client() as without:
        for one in (client, without):
            assert 'href="../page/small.css"' in (await one.get("/errors/upload-busy")).text
            assert (await one.get("/page/small.css")).headers["content-type"] == "text/css; charset=utf-8"
