"""What is known about a request beside its own words: its id, its outcome, how long it took.

Rule 1: one line a request, and never a query string, a token or a body in it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from haulier.core.values import dataclass
from haulier.logs import add_context, get_logger, set_context
from haulier.machine import Clock
from haulier.server.access import LINKS
from haulier.server.addresses import headers_named, route_path
from haulier.server.metrics import Metrics

log = get_logger()

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
"""What a caller's X-Request-ID may look like to be taken over; anything else could forge log lines."""
_KEY: Final = "haulier.request"


@dataclass(slots=True)
class RequestInfo:
    """Notes about one request, kept in its scope and shared by all layers that it passes."""

    id: str
    status: int = 0
    """Of the answer, from its first message on."""
    problem: str | None = None
    """The slug of the problem that it was answered with."""
    instance: str | None = None
    error: str | None = None
    """What was refused and why, for the log."""
    dialect: str | None = None
    """The protocol by whose rules problems are told, where it has its own."""
    problem_headers: dict[str, str] = field(default_factory=dict)
    """Headers that a problem carries beside its own, for instance where an upload goes on."""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Headers that the answer carries, whatever it is."""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Such headers that are for this caller; nobody keeps an answer with them for others."""


def request_info(scope: Scope) -> RequestInfo:
    """Return the notes about this request."""
    info: RequestInfo | None = scope.get(_KEY)
    if info is None:
        info = scope[_KEY] = RequestInfo(id="")
    return info


def note_upload(upload_id: str) -> None:
    """Name the upload in every log line of this request from here on."""
    add_context(upload=upload_id)


class RequestLog:
    """ASGI middleware, outermost: gives the request its id, its answer what layers noted, counts it and logs it.

    It alone looks at the messages of an answer: a look of each layer would be a step more for each message of each.
    """

    def __init__(self, app: ASGIApp, *, clock: Clock, metrics: Metrics, new_id: Callable[[], str]) -> None:
        self._app = app
        self._clock = clock
        self._metrics = metrics
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; measure from here to its end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = headers_named(scope, b"x-request-id")
        info = RequestInfo(id=given[0] if given and _REQUEST_ID.fullmatch(given[0]) else self._new_id())
        scope[_KEY] = info

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                info.status = int(message["status"])
                message["headers"] = _with_notes(message.get("headers", ()), info)
            await send(message)

        started = self._clock.monotonic()
        set_context(request=info.id)
        try:
            await self._app(scope, receive, note)
        finally:
            self._over(scope, info, self._clock.monotonic() - started)

    def _over(self, scope: Scope, info: RequestInfo, duration_s: float) -> None:
        method, status = scope["method"], info.status
        self._metrics.answered(_template(scope), method, status, duration_s, problem=info.problem)
        log.info(
            "request",
            method=method,
            path=_shown(scope),
            status=status or None,
            duration_ms=round(duration_s * 1000, 1),
            **({} if info.problem is None else _refusal(info)),
        )


def _refusal(info: RequestInfo) -> dict[str, str]:
    told = {"problem": info.problem, "instance": info.instance, "error": info.error}
    return {name: value for name, value in told.items() if value is not None}


def _with_notes(headers: Iterable[tuple[bytes, bytes]], info: RequestInfo) -> list[tuple[bytes, bytes]]:
    found = [*headers, *info.headers, (b"x-request-id", info.id.encode("ascii")), *info.fields]
    if info.fields and all(name != b"cache-control" for name, _ in found):
        found.append((b"cache-control", b"no-store"))
    return found


def _shown(scope: Scope) -> str:
    """Return the path as it may be logged: whoever has a link may follow it."""
    path: str = scope["path"]
    before, link, _ = path.partition(LINKS)
    return f"{before}{LINKS}***" if link and route_path(scope).startswith(LINKS) else path


def _template(scope: Scope) -> str:
    """Return the path of the route that answered; FastAPI names its own routes only."""
    route = scope.get("route")
    if route is None and "endpoint" in scope:
        routes = scope["app"].routes
        route = next((each for each in routes if each.endpoint == scope["endpoint"]), None)
    return getattr(route, "path", "none")
