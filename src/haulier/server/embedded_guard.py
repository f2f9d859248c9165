"""Who calls, where another program serves us: that program says."""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from haulier.core.caller import USER, Caller
from haulier.core.errors import Unauthenticated
from haulier.server.access import CALLER, is_document, is_link, is_preflight, is_probe

Authenticate = Callable[[Request], Awaitable["Caller | str | None"]]
"""Says who sends a request: a `Caller`, or the name of a user; None: nobody that is served. What it raises is the answer."""
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
            found = await self._authenticate(Request(scope))
            if found is None:
                raise Unauthenticated(_REASON)
            scope[CALLER] = Caller(owner=f"{USER}{found}") if isinstance(found, str) else found
        await self._app(scope, receive, send)
