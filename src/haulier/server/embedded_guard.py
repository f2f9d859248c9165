"""Who calls, where another program serves us: that program says.

Rule 1: its word is taken as it gives it: what it raises as an answer is the answer.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from inspect import isawaitable, iscoroutinefunction
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from haulier.core.caller import USER, Caller
from haulier.core.errors import AccessDenied, RequestError, Unauthenticated
from haulier.server.access import CALLER, is_document, is_link, is_preflight, is_probe
from haulier.server.errors import RefusedByHost
from haulier.server.requests import request_info

Known = Caller | str | None
Authenticate = Callable[[Request], Known | Awaitable[Known]]
"""Says who sends a request: a `Caller`, or the name of a user; None: nobody that is served.

An `HTTPException` that it raises is the answer. Where it is not async it runs in a thread, as FastAPI runs dependencies.
"""
_REASON: Final = "the program that serves this knows nobody by what the request brings"


class EmbeddedGuard:
    """ASGI middleware: passes a request on in the name of whom the embedding program says."""

    def __init__(self, app: ASGIApp, *, authenticate: Authenticate) -> None:
        self._app = app
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or raise what refuses it."""
        public = any(judge(scope) for judge in (is_probe, is_document, is_link, is_preflight))
        if scope["type"] == "http" and not public:
            scope[CALLER] = await self._caller(scope)
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope) -> Caller:
        try:
            found = await self._ask(Request(scope))
        except HTTPException as answer:
            request_info(scope).problem_headers.update(answer.headers or {})
            raise _refusal(answer) from None
        if found is None:
            raise Unauthenticated(_REASON)
        return Caller(owner=f"{USER}{found}") if isinstance(found, str) else found

    async def _ask(self, request: Request) -> Known:
        if _is_async(self._authenticate):
            found = self._authenticate(request)
        else:
            found = await run_in_threadpool(self._authenticate, request)
        return await found if isawaitable(found) else found


def _is_async(call: Callable[..., object]) -> bool:
    return iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)


def _refusal(answer: HTTPException) -> RequestError:
    """Return in our words what the embedding program answers."""
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        return Unauthenticated(str(answer.detail))
    if answer.status_code == HTTPStatus.FORBIDDEN:
        return AccessDenied(str(answer.detail))
    return RefusedByHost(answer.status_code, str(answer.detail))
