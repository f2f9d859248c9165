"""What cannot be meant is refused by the client, in words that name it, before anything is sent."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from haulier.client import Client
from haulier.core.errors import InvalidRequest

NO_TEXTS = [7, b"x", [], object(), "\ud800", "\0"]
NO_PATHS = [7, b"x", [], object(), "\0"]
NO_NUMBERS = ["x", True, float("nan"), [], object()]


def nobody(request: httpx2.Request) -> httpx2.Response:
    raise AssertionError(f"{request.url} was asked")


@pytest.fixture
def client() -> Client:
    return Client(transport=httpx2.MockTransport(nobody))


async def refused(work: Awaitable[Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await work
    assert [problem.field for problem in caught.value.errors] == [field]


@pytest.mark.parametrize("given", NO_TEXTS)
async def test_what_is_no_text_is_named(client: Client, tmp_path: Path, given: Any) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for field in ("filename", "path", "digest", "key", "content_type", "derivatives"):
        await refused(client.upload(file, **{field: given}), field)
    await refused(client.upload(file, metadata={"name": given}), "metadata")
    await refused(client.upload(file, metadata="x"), "metadata")  # type: ignore[arg-type]
    for field in ("prefix", "status", "since"):
        await refused(anext(client.list(**{field: given})), field)
    await refused(client.lanes(file, key=given).__aenter__(), "key")
    await refused(client.download("r", file, kind=given), "kind")
    await refused(client.link("r", disposition=given), "disposition")


@pytest.mark.parametrize("given", NO_PATHS)
async def test_what_is_no_path_is_named(client: Client, given: Any) -> None:
    await refused(client.upload(given), "source")
    await refused(client.lanes(given).__aenter__(), "source")
    await refused(client.download("r", given), "target")


async def test_lanes_take_no_stream(client: Client) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"x"

    await refused(client.lanes(stream()).__aenter__(), "source")  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [*NO_TEXTS, None])
async def test_what_is_no_id_is_named(client: Client, tmp_path: Path, given: Any) -> None:
    calls: dict[str, list[Callable[[Any], Awaitable[Any]]]] = {
        "record_id": [
            client.record,
            client.delete,
            client.link,
            lambda it: client.download(it, tmp_path / "f"),
        ],
        "upload_id": [client.state, client.wait, client.abort, lambda it: anext(client.events(it))],
    }
    for field, each in calls.items():
        for call in each:
            await refused(call(given), field)


@pytest.mark.parametrize("given", NO_NUMBERS)
async def test_what_is_no_number_is_named(client: Client, given: Any) -> None:
    await refused(client.wait("u", timeout_s=given), "timeout_s")
    await refused(client.wait("u", timeout_s=10**400), "timeout_s")
    await refused(client.link("r", expires_in_s=given), "expires_in_s")
    with pytest.raises(InvalidRequest, match="parallel: must be a number of bodies, 1 or more"):
        Client(parallel=given)


def test_a_client_says_what_its_parts_must_be() -> None:
    for parallel in (0, -1, 1.5):
        with pytest.raises(InvalidRequest, match="parallel"):
            Client(parallel=parallel)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="url: must be text, not None"):
        Client(None)  # type: ignore[arg-type]
    for url in ("http://me:\ud800secret@there/", "http://there/\0"):
        with pytest.raises(InvalidRequest, match=r"^url: it is not UTF-8"):
            Client(url)
    with pytest.raises(InvalidRequest, match=r"capsule: '\\ud800' is not UTF-8"):
        Client(capsule="\ud800")
    with pytest.raises(InvalidRequest, match=r"^token: it is not UTF-8"):
        Client(token="\ud800")
    with pytest.raises(InvalidRequest, match=r"^token: must be text$"):
        Client(token=b"secret")  # type: ignore[arg-type]
