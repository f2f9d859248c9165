"""The service in somebody else's FastAPI application, under a prefix, with their own authentication and hooks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
import structlog
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.applications import Starlette
from starlette.routing import Mount

import haulier
from haulier.config import Settings
from haulier.core.errors import UploadRefused
from haulier.core.values import replace
from haulier.engine.hooks import Hooks
from haulier.server.embedded_guard import Authenticate

KEYS = {"key-of-ada": "ada", "key-of-bob": "bob"}


async def current_user(request: Request) -> str:
    """The host's own dependency."""
    name = KEYS.get(request.headers.get("x-api-key", ""))
    if name is None:
        raise HTTPException(401, "whose key is that?")
    return name


async def authenticate(request: Request) -> str | None:
    return KEYS.get(request.headers.get("x-api-key", ""))


async def no_programs(request: Any, caller: Any) -> Any:
    if request.filename.endswith(".exe"):
        raise UploadRefused("programs are not taken here")
    return replace(request, metadata={**request.metadata, "by": caller.owner})


def host(data_dir: Path, known: Authenticate = authenticate, **settings: Any) -> FastAPI:
    service = haulier.asgi_app(
        Settings(data_dir=data_dir, **settings), authenticate=known, hooks=Hooks(on_begin=no_programs)
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/me")
    async def me(user: Annotated[str, Depends(current_user)]) -> dict[str, str]:
        return {"user": user}

    app.mount("/files", service)
    return app


@asynccontextmanager
async def client(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://host.example") as asking,
    ):
        yield asking


ADA = {"X-API-Key": "key-of-ada"}
BOB = {"X-API-Key": "key-of-bob"}
TUS = {"Tus-Resumable": "1.0.0"}


async def test_it_serves_whom_the_host_knows_under_the_host_s_prefix(tmp_path: Path) -> None:
    async with client(host(tmp_path / "data")) as asking:
        assert (await asking.get("/me", headers=ADA)).json() == {"user": "ada"}
        refused = await asking.put("/files/api/files/a.txt", content=b"hello")
        assert (refused.status_code, refused.json()["type"]) == (
            401,
            "http://host.example/files/errors/unauthenticated",
        )
        done = await asking.put("/files/api/files/a.txt", content=b"hello", headers=ADA)
        assert (done.status_code, done.json()["metadata"]) == (201, {"by": "user:ada"})
        url = f"/files/api/records/{done.json()['id']}/assets/original"
        assert (await asking.get(url, headers=ADA)).content == b"hello"


async def test_addresses_have_the_prefix_and_uploads_are_their_owner_s(tmp_path: Path) -> None:
    async with client(host(tmp_path / "data")) as asking:
        created = await asking.post("/files/tus/", headers={**TUS, **ADA, "Upload-Length": "5"})
        location = created.headers["location"]
        assert location.startswith("http://host.example/files/tus/")
        patch = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        foreign = await asking.patch(location, content=b"hello", headers={**patch, **BOB})
        assert foreign.status_code == 404
        own = await asking.patch(location, content=b"hello", headers={**patch, **ADA})
        assert (own.status_code, own.headers["upload-offset"]) == (204, "5")


async def test_the_hooks_are_asked(tmp_path: Path) -> None:
    async with client(host(tmp_path / "data")) as asking:
        refused = await asking.put("/files/api/files/a.exe", content=b"MZ", headers=ADA)
        assert refused.json()["reason"] == "programs are not taken here"


async def test_the_host_s_own_dependency_may_say_who_calls(tmp_path: Path) -> None:
    async with client(host(tmp_path / "data", current_user)) as asking:
        refused = await asking.put("/files/api/files/a.txt", content=b"hello")
        assert (refused.status_code, refused.json()["type"], refused.json()["detail"]) == (
            401,
            "http://host.example/files/errors/unauthenticated",
            "whose key is that?",
        )
        done = await asking.put("/files/api/files/a.txt", content=b"hello", headers=ADA)
        assert (done.status_code, done.json()["metadata"]) == (201, {"by": "user:ada"})


async def test_a_dependency_that_is_not_async_may_too(tmp_path: Path) -> None:
    def known(request: Request) -> str | None:
        return KEYS.get(request.headers.get("x-api-key", ""))

    async with client(host(tmp_path / "data", known)) as asking:
        assert (await asking.put("/files/api/files/a.txt", content=b"hello")).status_code == 401
        done = await asking.put("/files/api/files/a.txt", content=b"hello", headers=ADA)
        assert (done.status_code, done.json()["metadata"]) == (201, {"by": "user:ada"})


@pytest.mark.parametrize(
    ("status", "slug"), [(401, "unauthenticated"), (403, "access-denied"), (429, "refused-by-host")]
)
async def test_what_the_host_raises_is_the_answer(tmp_path: Path, status: int, slug: str) -> None:
    async def refuse(_: Request) -> str:
        raise HTTPException(status, 'not "you"', headers={"WWW-Authenticate": "ApiKey", "Retry-After": "7"})

    async with client(host(tmp_path / "data", refuse)) as asking:
        answer = await asking.post("/files/tus/", headers={**TUS, "Upload-Length": "5"})
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (status, slug)
        assert 'not "you"' in answer.json()["detail"]
        assert (answer.headers["www-authenticate"], answer.headers["retry-after"]) == ("ApiKey", "7")
        assert answer.headers["tus-resumable"] == "1.0.0"


async def test_a_fault_of_the_host_s_goes_to_its_own_log_without_a_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(request: Request) -> str:
        raise KeyError("the host's own fault")

    structlog.reset_defaults()
    headers = {"X-API-Key": "a-secret-key", "X-Request-ID": "request-7"}
    async with client(host(tmp_path / "data", broken)) as asking:
        answer = await asking.get("/files/api/records", headers=headers)
    assert answer.json()["type"].endswith("/errors/internal-error")
    assert "the host's own fault" in caplog.text
    assert "request='request-7'" in caplog.text
    assert "a-secret-key" not in caplog.text
    assert "".join(capsys.readouterr()) == ""


async def test_a_starlette_application_mounts_it_as_well_however_deep(tmp_path: Path) -> None:
    service = haulier.asgi_app(Settings(data_dir=tmp_path / "data"), authenticate=authenticate)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with service.running():
            yield

    inner = Mount("/inner", app=service)
    async with client(Starlette(routes=[Mount("/outer", routes=[inner])], lifespan=lifespan)) as asking:
        created = await asking.post("/outer/inner/tus", headers={**TUS, **ADA, "Upload-Length": "0"})
        location = created.headers["location"]
        assert location.startswith("http://host.example/outer/inner/tus/")
        assert (await asking.head(location, headers={**TUS, **ADA})).headers["upload-offset"] == "0"
