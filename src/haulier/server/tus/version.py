"""Every answer below `/tus` says which version of the protocol it speaks, refusals of all layers too."""

from collections.abc import Awaitable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from haulier.server.access import TUS
from haulier.server.addresses import route_path
from haulier.server.requests import request_info
from haulier.server.tus.headers import VERSION

_FIELD: Final = (b"tus-resumable", VERSION.encode("ascii"))


class TusVersion:
    """ASGI middleware, outside of the problems.

    Source: "Tus-Resumable": it MUST be included in every request and response except for OPTIONS, where it does no harm.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Add the version to answers of this protocol."""
        if scope["type"] == "http" and speaks_tus(scope):
            request_info(scope).headers.append(_FIELD)
        return self._app(scope, receive, send)


def speaks_tus(scope: Scope) -> bool:
    """Whether a request is one of this protocol."""
    path = route_path(scope)
    return path == TUS or path.startswith(f"{TUS}/")
