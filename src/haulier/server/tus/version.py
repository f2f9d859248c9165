"""Every answer below `/tus` says which version of the protocol it speaks, refusals of all layers too."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from haulier.server.access import TUS
from haulier.server.addresses import route_path
from haulier.server.tus.headers import VERSION


class TusVersion:
    """ASGI middleware, outside of the problems.

    Source: "Tus-Resumable": it MUST be included in every request and response except for OPTIONS, where it does no harm.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the version to answers of this protocol."""
        if scope["type"] != "http" or not speaks_tus(scope):
            await self._app(scope, receive, send)
            return

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                version = (b"tus-resumable", VERSION.encode("ascii"))
                message["headers"] = [*message.get("headers", ()), version]
            await send(message)

        await self._app(scope, receive, add)


def speaks_tus(scope: Scope) -> bool:
    """Whether a request is one of this protocol."""
    path = route_path(scope)
    return path == TUS or path.startswith(f"{TUS}/")
