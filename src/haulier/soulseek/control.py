"""The control API of a running node: JSON over HTTP on loopback, for commands and programs of its owner.

Rule 1: every request shows the token, which stands in a file that only the owner can read. The address is not
        enough: any program of any user, and any page in a browser, can reach loopback.
Rule 2: nothing here decides; it finds the transfer and tells the node.
Rule 3: what is wanted of a transfer is kept before it is answered; a crash afterwards does not undo it.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from haulier.core.errors import HaulierError, InvalidRequest, PeerError, StorageError
from haulier.core.news import News
from haulier.core.transfer import Direction, Phase, TransferId
from haulier.ports import PeerTransfer
from haulier.soulseek.control_gate import LastAnswers, TokenGate, problem
from haulier.soulseek.download import LARGEST_FILE, Download
from haulier.soulseek.metrics import exposition
from haulier.soulseek.node import Node, default_target
from haulier.soulseek.upload import Upload
from haulier.soulseek.views import (
    download_document,
    folder_document,
    found_documents,
    kept_document,
    upload_document,
)

LISTED: Final = 1_000
"""Transfers of each kind in one list: uploads and downloads that live, then the latest that have ended."""
WAIT_S: Final = 60.0
"""For which a request may wait for an end; whoever wants to wait longer asks again."""
SEARCH_S: Final = 300.0
ACTIONS: Final = ("cancel", "pause", "resume", "retry", "bump")
FOLLOWERS: Final = 64
"""Who follows the transfers at a time; a service has one a worker."""
BEAT_S: Final = 15.0
"""How often a follower is told that nothing has happened. Precedent: the service's own streams."""
_BODY: Final = 64 * 1024

Handler = Callable[[Node, Request], Awaitable[Response]]


class BadRequest(HaulierError):
    """What is asked for makes no sense; `cure` says what would."""

    cure: str

    def __str__(self) -> str:
        return self.cure


def control_app(node: Node, token: str, stopping: asyncio.Event) -> ASGIApp:
    """Return the application; what it is answering when `stopping` is set ends soon."""

    def route(path: str, handler: Handler, method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return await handler(node, request)
            except (BadRequest, InvalidRequest) as error:
                return problem(422, "invalid-request", str(error))
            except _NotFound as error:
                return problem(404, "transfer-not-found", str(error))
            except PeerError as error:
                return problem(502, "peer-failed", str(error))
            except StorageError as error:
                return problem(503, "storage-unavailable", str(error))
            except _TooManyFollowers as error:
                return problem(503, "queue-full", str(error))

        return Route(path, endpoint, methods=[method])

    routes = [
        route("/status", _status),
        route("/transfers", _transfers),
        route("/transfers/{id}", _transfer),
        route("/transfers/{id}/{action}", _act, "POST"),
        route("/uploads", _uploads),
        route("/downloads", _downloads),
        route("/downloads", _fetch, "POST"),
        route("/search", _search),
        route("/browse", _browse),
        route("/events", _events),
        route("/rescan", _rescan, "POST"),
        route("/metrics", _metrics),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _no_route})
    return TokenGate(LastAnswers(app, stopping), token)


def _no_route(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's shape
    """There is nothing at that path, or not for that method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    slugs = {404: "route-not-found", 405: "method-not-allowed"}
    return problem(
        status, slugs.get(status, "internal-error"), "docs/reference/soulseek-control.md lists the requests"
    )


class _NotFound(HaulierError):
    def __str__(self) -> str:
        return "there is no such transfer, or it has ended"


class _TooManyFollowers(HaulierError):
    def __str__(self) -> str:
        return f"{FOLLOWERS} follow the transfers already; end one of them"


async def _status(node: Node, request: Request) -> Response:  # noqa: ARG001 - one shape for all
    uploads, downloads = node.uploads.slots, node.downloads.slots
    return JSONResponse(
        {
            "user": node.settings.identity.user,
            "server": f"{node.settings.identity.host}:{node.settings.identity.port}",
            "online": node.link.up.is_set(),
            "address": f"{node.address[0]}:{node.address[1]}",
            "folders": node.shares.folders,
            "files": node.shares.files,
            "connections": node.peers.count,
            "uploads": {"running": uploads.held, "waiting": node.uploads.waiting},
            "downloads": {"running": downloads.held, "live": len(node.downloads.live)},
        }
    )


def _live(node: Node, direction: Direction | None) -> tuple[list[dict[str, Any]], int]:
    """Return those that live, as many as are listed and what runs first; and how many more there are."""
    uploads = [] if direction is Direction.DOWNLOAD else node.uploads.live
    downloads = [] if direction is Direction.UPLOAD else node.downloads.live
    uploads.sort(key=lambda it: it.transfer.phase is Phase.QUEUED)
    documents = [upload_document(it, node.uploads.place(it)) for it in uploads[:LISTED]]
    documents += [download_document(it) for it in downloads[:LISTED]]
    return documents, len(uploads) + len(downloads) - len(documents)


async def _listed(node: Node, direction: Direction | None) -> Response:
    live, left_out = _live(node, direction)
    ended = [
        kept_document(kept)
        for kept in await node.ledger.latest(LISTED)
        if kept.transfer.outcome is not None and direction in {None, kept.transfer.direction}
    ]
    items = [*live, *ended]
    return JSONResponse({"items": items, "next": None, "total": len(items) + left_out, "left_out": left_out})


async def _transfers(node: Node, request: Request) -> Response:  # noqa: ARG001 - one shape for all
    return await _listed(node, None)


async def _uploads(node: Node, request: Request) -> Response:  # noqa: ARG001 - one shape for all
    return await _listed(node, Direction.UPLOAD)


async def _downloads(node: Node, request: Request) -> Response:  # noqa: ARG001 - one shape for all
    return await _listed(node, Direction.DOWNLOAD)


async def _transfer(node: Node, request: Request) -> Response:
    """One transfer; with `wait`, as soon as it has ended or the time is over."""
    id_ = TransferId(request.path_params["id"])
    live = node.downloads.find(id_) or node.uploads.find(id_)
    if live is not None:
        await _wait(live.ended, request.query_params.get("wait"))
    upload = node.uploads.find(id_)
    if upload is not None:
        return JSONResponse(upload_document(upload, node.uploads.place(upload)))
    download = node.downloads.find(id_)
    if download is not None:
        return JSONResponse(download_document(download))
    return JSONResponse(kept_document(await _kept(node, id_)))


async def _kept(node: Node, id_: TransferId) -> PeerTransfer:
    kept = await node.ledger.find(id_)
    if kept is None:
        raise _NotFound
    return kept


async def _wait(ended: asyncio.Event, given: str | None) -> None:
    if given is not None:
        try:
            async with asyncio.timeout(_seconds("wait", given, WAIT_S)):
                await ended.wait()
        except TimeoutError:
            return


def _seconds(name: str, given: str, most: float) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= most:
        raise BadRequest(f"{name}: give seconds from 0 to {most:g}")
    return seconds


async def _act(node: Node, request: Request) -> Response:
    """Do what is wanted of a transfer, and see it kept."""
    answer = await _obey(node, request)
    await node.ledger.flush()
    return answer


async def _obey(node: Node, request: Request) -> Response:
    """Cancel, pause, resume, retry or bump a transfer; what has ended stays as it is."""
    id_, action = TransferId(request.path_params["id"]), request.path_params["action"]
    upload, download = node.uploads.find(id_), node.downloads.find(id_)
    if upload is not None:
        return await _act_on_upload(node, upload, action)
    if download is not None:
        return await _act_on_download(node, download, action)
    kept = await _kept(node, id_)
    if action not in ACTIONS:
        raise BadRequest(f"the action: one of {', '.join(ACTIONS)}")
    if action == "cancel" and kept.transfer.direction is Direction.DOWNLOAD:
        await node.downloads.discard(kept)
    if action == "retry" and kept.transfer.direction is Direction.DOWNLOAD:
        again = await node.downloads.fetch(kept.transfer.line, kept.file, Path(kept.target), retry_of=id_)
        return JSONResponse(download_document(again))
    return JSONResponse(kept_document(kept))


async def _act_on_upload(node: Node, upload: Upload, action: str) -> Response:
    match action:
        case "cancel":
            await node.uploads.cancel(upload)
        case "bump":
            node.uploads.bump(upload)
        case _:
            raise BadRequest("an upload can be cancelled or bumped; when it begins is its peer's choice")
    return JSONResponse(upload_document(upload, node.uploads.place(upload)))


async def _act_on_download(node: Node, download: Download, action: str) -> Response:
    match action:
        case "cancel":
            await node.downloads.cancel(download)
        case "pause":
            await node.downloads.pause(download)
        case "resume" | "retry":
            node.downloads.resume(download)
        case _:
            raise BadRequest("a download can be cancelled, paused, resumed or retried")
    return JSONResponse(download_document(download))


async def _fetch(node: Node, request: Request) -> Response:
    """Begin a download: `{"user", "file", "target"?, "size"?}`."""
    wanted = await _body(request)
    user, file = wanted.get("user"), wanted.get("file")
    if not isinstance(user, str) or not isinstance(file, str) or not user or not file:
        raise BadRequest("user, file: give the user's name and the file's virtual path")
    target = _target(wanted.get("target") or str(default_target(file, Path.cwd())))
    download = await node.downloads.fetch(user, file, target, _size(wanted.get("size")))
    return JSONResponse(download_document(download), 201)


def _target(given: object) -> Path:
    if not isinstance(given, str) or "\0" in given or not Path(given).is_absolute():
        raise BadRequest("target: give an absolute path")
    try:
        os.fsencode(given)
    except UnicodeEncodeError as error:
        raise BadRequest("target: it holds half a surrogate pair; no file has such a name") from error
    return Path(given)


def _size(given: object) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= LARGEST_FILE:
        raise BadRequest("size: give the bytes that the file has, or leave it out")
    return given or None


async def _body(request: Request) -> dict[str, Any]:
    raw = b""
    async for piece in request.stream():
        raw += piece
        if len(raw) > _BODY:
            raise BadRequest(f"the body: at most {_BODY} bytes")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body: give a JSON object") from error
    if not isinstance(document, dict):
        raise BadRequest("the body: give a JSON object")
    return document


async def _search(node: Node, request: Request) -> Response:
    """Search; a line of JSON a file, as answers come, until `wait` is over."""
    query = request.query_params.get("words", "")
    if not query.strip():
        raise BadRequest("words: say what to search for")
    wait_s = _seconds("wait", request.query_params.get("wait", "10"), SEARCH_S)
    user = request.query_params.get("user")

    answers = node.inquiries.search(query, wait_s=wait_s, user=user)

    async def lines() -> AsyncIterator[bytes]:
        async for found in answers:
            for document in found_documents(found):
                yield json.dumps(document).encode() + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def _browse(node: Node, request: Request) -> Response:
    """All that a user shares, a line of JSON a folder."""
    user = request.query_params.get("user", "")
    if not user:
        raise BadRequest("user: say whose files to list")
    folders = await node.inquiries.browse(user)

    async def lines() -> AsyncIterator[bytes]:
        try:
            async for folder, private in folders:
                yield json.dumps(folder_document(folder, private=private)).encode() + b"\n"
        except PeerError as error:
            yield json.dumps({"error": str(error)}).encode() + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def _events(node: Node, request: Request) -> Response:  # noqa: ARG001 - one shape for all
    """What happens to transfers from now on, a line of JSON each; who is slow hears of each how it is then."""
    if len(node.ledger.followers) >= FOLLOWERS:
        raise _TooManyFollowers

    async def lines() -> AsyncIterator[bytes]:
        with node.ledger.followers.following() as follower:
            yield _event("ready")
            while not follower.over:
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        await follower.wait()
                missed, news = follower.hear()
                if missed:
                    yield _event("reset")
                for each in news:
                    yield _told(node, each)
                if not (missed or news):
                    yield _event("beat")

    return StreamingResponse(lines(), media_type="application/x-ndjson")


def _told(node: Node, news: News[PeerTransfer]) -> bytes:
    kept = news.value
    upload, download = node.uploads.find(kept.transfer.id), node.downloads.find(kept.transfer.id)
    place = node.uploads.place(upload) if upload else download.place if download else None
    return _event("changed" if news.changed else "progress", kept_document(kept, place=place))


def _event(name: str, transfer: dict[str, Any] | None = None) -> bytes:
    return json.dumps({"event": name, "transfer": transfer}).encode() + b"\n"


async def _rescan(node: Node, request: Request) -> Response:  # noqa: ARG001 - one shape for all
    await node.rescan()
    return JSONResponse({"folders": node.shares.folders, "files": node.shares.files})


async def _metrics(node: Node, request: Request) -> Response:  # noqa: ARG001 - one shape for all
    return PlainTextResponse(exposition(node), media_type="text/plain; version=0.0.4")
