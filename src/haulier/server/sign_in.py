"""Browser sign-in: a cookie instead of a token, for pictures, downloads and event streams, which can send none.

Rule 1: only a token signs in; a browser that is signed in cannot make more of itself.
Rule 2: what the cookie has is a secret of its own: it is good for nothing else, and ends by itself.
"""

import math
from http import HTTPStatus
from itertools import islice

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from haulier.core.errors import Unauthenticated
from haulier.server.access import caller_of
from haulier.server.answers import json_answer
from haulier.server.bearer import bearer_token
from haulier.server.browsers import (
    MAX_SHOWN,
    SIGN_IN,
    Browsers,
    cookies_named,
    keep_sign_in,
    sign_in_cookie,
)
from haulier.server.schemas import SessionOut
from haulier.server.services import Services


class SignInRoutes:
    """`/api/session`."""

    def __init__(self, services: Services, *, opened: bool) -> None:
        """`opened`: in open mode, where nobody is anybody."""
        self._accounts = services.accounts
        self._visitors = services.visitors
        self._browsers = Browsers(services.visitors)
        self._clock = services.clock
        self._opened = opened

    def install(self, app: FastAPI) -> None:
        """Add the routes."""
        path = "/api/session"
        app.add_api_route(path, self.get, methods=["GET"], response_model=SessionOut, operation_id="session")
        app.add_api_route(
            path,
            self.sign_in,
            methods=["POST"],
            status_code=201,
            response_model=SessionOut,
            operation_id="signIn",
        )
        app.add_api_route(path, self.sign_out, methods=["DELETE"], status_code=204, operation_id="signOut")

    async def get(self, request: Request) -> Response:
        """Tell who calls, and until when the browser is signed in."""
        return json_answer(SessionOut.of(caller_of(request), request.scope.get(SIGN_IN)))

    async def sign_in(self, request: Request) -> Response:
        """Exchange the token in `Authorization` for a cookie; what this browser's visitor made becomes the token's."""
        if self._opened:
            raise Unauthenticated("this service asks nobody who they are, so there is nothing to sign in to")
        made = await self._accounts.sign_in(bearer_token(request.scope))
        caller = made.sign_in.token.caller
        visitor = await self._browsers.known(request.scope)
        if visitor is not None:
            await self._visitors.adopt(visitor, caller)
        lasts_s = math.ceil(made.sign_in.expires_at - self._clock.now())
        keep_sign_in(request.scope, made.secret.reveal(), lasts_s=lasts_s)
        return json_answer(SessionOut.of(caller, made.sign_in), HTTPStatus.CREATED)

    async def sign_out(self, request: Request) -> Response:
        """End what the browser is signed in by. May be repeated."""
        shown = set(islice(cookies_named(request.scope, sign_in_cookie(request.scope)), MAX_SHOWN))
        for secret in shown:
            await self._accounts.sign_out(secret)
        keep_sign_in(request.scope, "", lasts_s=0)
        return Response(status_code=HTTPStatus.NO_CONTENT)
