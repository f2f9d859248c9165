"""A browser's own visitor over HTTP: what is known of it, longer, and no more."""

from http import HTTPStatus

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from haulier.core.errors import VisitorNotFound
from haulier.core.visitor import Visitor
from haulier.server.answers import json_answer
from haulier.server.browsers import Browsers
from haulier.server.schemas import VisitorOut
from haulier.server.services import Services


class VisitorRoutes:
    """`/api/ingestion/session`; whoever calls with a token may ask for the browser's visitor too."""

    def __init__(self, services: Services) -> None:
        self._visitors = services.visitors
        self._browsers = Browsers(services.visitors)

    def install(self, app: FastAPI) -> None:
        """Add the routes."""
        one = "/api/ingestion/session"
        app.add_api_route(one, self.get, methods=["GET"], response_model=VisitorOut, operation_id="visitor")
        app.add_api_route(one, self.clear, methods=["DELETE"], status_code=204, operation_id="clearVisitor")
        app.add_api_route(
            f"{one}/extend",
            self.extend,
            methods=["POST"],
            response_model=VisitorOut,
            operation_id="extendVisitor",
        )

    async def get(self, request: Request) -> Response:
        """Tell what is kept of this browser's visitor, and until when."""
        return json_answer(VisitorOut.of(await self._visitor(request)))

    async def extend(self, request: Request) -> Response:
        """Let this browser's visitor last for its whole time from now on."""
        visitor = await self._visitors.extend(await self._visitor(request))
        self._browsers.keep(request.scope, visitor)
        return json_answer(VisitorOut.of(visitor))

    async def clear(self, request: Request) -> Response:
        """End this browser's visitor, with what it has under way; its records stay. May be repeated."""
        visitor = await self._browsers.known(request.scope)
        if visitor is not None:
            await self._visitors.clear(visitor)
        self._browsers.forget(request.scope)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _visitor(self, request: Request) -> Visitor:
        visitor = await self._browsers.known(request.scope)
        if visitor is None:
            raise VisitorNotFound
        return visitor
