"""The last parts of addresses, where anything at all may be named."""

import re
from collections.abc import Awaitable, Sequence
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from haulier.server.addresses import route_path
from haulier.server.errors import RouteNotFound


def add_tail_route(
    app: FastAPI, path: str, endpoint: Any, *, methods: Sequence[str], kind: type[Route] = Route
) -> None:
    """Add a route, of that kind, that ends with a parameter of the kind `path`, line ends in it included.

    Frameworks leave a line end off at the end, so that two addresses would mean the same, and know nothing of others.
    """
    route = kind(path, endpoint, methods=list(methods), include_in_schema=False)
    route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)
    app.router.routes.append(route)


class NulRefusal:
    """ASGI middleware: what has a NUL in its address is nothing of ours, and PostgreSQL cannot even look for it.

    The names that come with a PUT are judged where they are read, so that they are refused in words.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and "\0" in scope["path"] and not _names_a_file(scope):
            raise RouteNotFound(scope["path"])
        return self._app(scope, receive, send)


def _names_a_file(scope: Scope) -> bool:
    return scope["method"] == "PUT" and not route_path(scope).startswith("/api/uploads/")
