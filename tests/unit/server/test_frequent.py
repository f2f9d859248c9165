"""Routes by which most requests come: what is for them never meets the framework, what is not always does."""

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from haulier.server.frequent import FrequentRoute, FrequentRoutes


async def endpoint(request: Request) -> Response:
    """Say what was understood."""
    return PlainTextResponse(f"{request.method} {request.path_params['name']} {request.scope['route'].path}")


async def framework(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer for all other routes."""
    await PlainTextResponse("the framework")(scope, receive, send)


def app(root_path: str = "") -> httpx2.AsyncClient:
    """Call an application with one frequent route."""
    routes = [Route("/files/{name}", framework), FrequentRoute("/files/{name}", endpoint, methods=["PUT"])]
    transport = httpx2.ASGITransport(FrequentRoutes(framework, routes), root_path=root_path)
    return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1")


async def test_what_is_for_a_frequent_route_is_answered_by_it() -> None:
    async with app() as client:
        assert (await client.put("/files/a")).text == "PUT a /files/{name}"


@pytest.mark.parametrize(("method", "path"), [("GET", "/files/a"), ("PUT", "/files/a/b"), ("PUT", "/")])
async def test_everything_else_is_left_to_the_framework(method: str, path: str) -> None:
    async with app() as client:
        assert (await client.request(method, path)).text == "the framework"


async def test_what_stands_before_our_paths_is_no_part_of_them() -> None:
    async with app("/mounted") as client:
        assert (await client.put("/mounted/files/a")).text == "PUT a /files/{name}"


async def test_what_is_no_request_is_passed_on() -> None:
    seen = list[str]()

    async def note(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError(message)

    await FrequentRoutes(note, [])({"type": "lifespan"}, receive, send)
    assert seen == ["lifespan"]


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("PUT", "/api/files/a", {}),
        ("POST", "/tus", {"Upload-Length": "1"}),
        ("POST", "/tus/", {"Upload-Length": "1"}),
    ],
)
async def test_a_file_in_one_request_comes_by_a_frequent_route(
    client: httpx2.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    headers: dict[str, str],
) -> None:
    async def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("fastapi.routing.APIRouter.app", never)
    answer = await client.request(method, path, headers={"Tus-Resumable": "1.0.0", **headers}, content=b"")
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("mode", "method", "rest", "headers"),
    [("chunks", "PUT", "/chunks/0", {}), ("append", "PATCH", "", {"Upload-Offset": "0"})],
)
async def test_the_bytes_of_an_upload_come_by_one_too(
    client: httpx2.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    method: str,
    rest: str,
    headers: dict[str, str],
) -> None:
    asked = {"filename": "a", "size": 1, "mode": mode}
    upload = (await client.post("/api/uploads", json=asked)).json()["id"]

    async def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("fastapi.routing.APIRouter.app", never)
    answer = await client.request(method, f"/api/uploads/{upload}{rest}", headers=headers, content=b"x")
    assert answer.status_code in {200, 204}, answer.text
