"""Routes by which most requests come: found first, and answered without the framework's layers around an endpoint.

Those look for dependencies, for handlers of exceptions and for what is to be closed behind the answer; endpoints of these
routes have none of it, and `ProblemAnswers` answers whatever they raise. On the way of a short file that is a tenth of its
time, on that of a chunk of 512 KiB a twentieth.
"""

from collections.abc import Iterable

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from haulier.server.addresses import route_path


class FrequentRoute(Route):
    """A route whose endpoint takes a request and returns its response, and needs nothing else.

    Parameters of its path stay text.
    """

    def takes(self, scope: Scope, path: str) -> bool:
        """Whether a request of one of its methods is for it, by its path; its scope says so from then on."""
        match = self.path_regex.match(path)
        if match is None:
            return False
        scope.update(route=self, endpoint=self.endpoint, path_params=match.groupdict())
        return True


class FrequentRoutes:
    """ASGI middleware, the innermost: answers what is for one of its routes."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        """Take out of `routes` those that come often; `app` has all of them."""
        self._app = app
        self._routes: dict[str, list[FrequentRoute]] = {}
        """By method."""
        for route in routes:
            if isinstance(route, FrequentRoute):
                for method in route.methods or ():
                    self._routes.setdefault(method, []).append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] == "http":
            path = route_path(scope)
            for route in self._routes.get(scope["method"], ()):
                if route.takes(scope, path):
                    response = await route.endpoint(Request(scope, receive, send))
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)
