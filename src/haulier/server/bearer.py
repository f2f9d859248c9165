"""Token mode: who calls is known by a bearer token, or is a visitor where those are admitted.

Rule 1: a request is judged before its body is read: the name in `Host`, how often its address asks, its token.
Rule 2: without a valid token everything answers 401, whether it exists or not; only probes, documents, preflights
        and links need none, and the page, on which people say who they are.
Rule 3: an upload's own token is tried on that upload's addresses only, so it can never be good for anything else.
Rule 4: who sends a token is whose the token is, or nobody: a bad one never turns its bearer into a visitor.
Rule 5: guessing is slowed down without a look at the database; who has shown a good token before is not punished for
        others behind the same address.

Rule 6: where a cookie says who calls, or would be given, the page that asks is judged too, and before anything else:
        a refusal sets no cookie and leaves no row.

Source: RFC 6750 section 2.1.
"""

import re
from collections import OrderedDict
from collections.abc import Collection
from typing import Final, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from haulier.core.caller import Caller
from haulier.core.errors import Unauthenticated
from haulier.core.secret import hash_token, is_token
from haulier.core.session import SessionId
from haulier.core.token import SignIn
from haulier.server.access import CALLER, NOBODY, is_document, is_link, is_preflight, is_probe
from haulier.server.addresses import headers_named, route_path
from haulier.server.browsers import (
    SIGN_IN,
    Browsers,
    cookies_named,
    goes_by_cookie,
    is_page,
    keep_sign_in,
    sign_in_cookie,
)
from haulier.server.errors import OriginRefused
from haulier.server.hosts import HostRules
from haulier.server.limits import Buckets, address_key, require_room
from haulier.server.origins import foreign_origin

MAX_TOKEN: Final = 512
"""Longest token that is looked at; ours have less than a hundred characters."""
REMEMBERED: Final = 10_000
"""Good tokens that are remembered, by their hash, for rule 5 only."""

_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.ASCII | re.IGNORECASE)
_UPLOAD: Final = re.compile(r"/(?:api/uploads|tus|resumable)/([^/]+)(?:/.*)?", re.DOTALL)


class KnowsTokens(Protocol):
    """Who is known by which secret: `haulier.engine.accounts.Accounts`."""

    async def find(self, secret: str) -> Caller:
        """Return whose token it is.

        Raises:
            Unauthenticated: nobody's, or it counts no more; the reason says which.
        """
        ...

    async def find_sign_in(self, secret: str) -> SignIn:
        """Return by what the browser is signed in that keeps this secret.

        Raises:
            Unauthenticated: it is not, or not any more.
        """
        ...


class KnowsUploadTokens(Protocol):
    """Whose an upload's own token is: `haulier.engine.uploads.UploadService`."""

    async def caller_of_token(self, upload_id: SessionId, token: str) -> Caller:
        """Return the owner of the upload, for that upload only.

        Raises:
            Unauthenticated: there is no such upload, or the token is not its own.
        """
        ...


def bearer_token(scope: Scope) -> str:
    """Return the token of a request.

    Raises:
        Unauthenticated: none, several, too long, or of another scheme.
    """
    given = headers_named(scope, b"authorization")
    if not given:
        raise Unauthenticated("no token was given; send Authorization: Bearer TOKEN")
    if len(given) > 1:
        raise Unauthenticated("there are several Authorization headers; send one", given=True)
    match = _BEARER.fullmatch(given[0]) if len(given[0]) <= MAX_TOKEN else None
    if match is None:
        raise Unauthenticated("Authorization cannot be read; it must be Bearer and a token", given=True)
    return match[1]


class Callers:
    """Finds the caller of a request by its token."""

    def __init__(self, accounts: KnowsTokens, uploads: KnowsUploadTokens, failures: Buckets) -> None:
        self._accounts = accounts
        self._uploads = uploads
        self._failures = failures
        self._good: OrderedDict[bytes, None] = OrderedDict()

    async def identify(self, scope: Scope) -> Caller:
        """Return who asks.

        Raises:
            Unauthenticated: nobody who is known.
            RateLimited: too many wrong tokens came from this address.
        """
        token = bearer_token(scope)
        address = address_key(scope)
        mark = hash_token(token)
        if mark not in self._good:
            require_room(self._failures.wait(address), "too many wrong tokens from this address")
        try:
            caller = await self._find(scope, token)
        except Unauthenticated:
            self._failures.charge(address)
            self._good.pop(mark, None)
            raise
        self._remember(mark)
        return caller

    async def signed_in(self, scope: Scope) -> Caller | None:
        """Return who is signed in from the browser that asks; a bad cookie is nobody, and is to be forgotten.

        Raises:
            RateLimited: too many wrong ones came from this address.
        """
        secret = next(cookies_named(scope, sign_in_cookie(scope)), None)
        if secret is None:
            return None
        address, mark = address_key(scope), hash_token(secret)
        if mark not in self._good:
            require_room(self._failures.wait(address), "too many wrong tokens from this address")
        try:
            scope[SIGN_IN] = await self._accounts.find_sign_in(secret)
        except Unauthenticated as error:
            # Browsers show what has ended by itself, or elsewhere, once more: that is no guess.
            if not (error.ended or mark in self._good):
                self._failures.charge(address)
            self._good.pop(mark, None)
            keep_sign_in(scope, "", lasts_s=0)
            return None
        self._remember(mark)
        return scope[SIGN_IN].token.caller  # type: ignore[no-any-return]  # a scope holds anything

    async def _find(self, scope: Scope, token: str) -> Caller:
        upload = _UPLOAD.fullmatch(route_path(scope))
        if upload is not None and not is_token(token):
            return await self._uploads.caller_of_token(SessionId(upload[1]), token)
        return await self._accounts.find(token)

    def _remember(self, mark: bytes) -> None:
        self._good[mark] = None
        self._good.move_to_end(mark)
        if len(self._good) > REMEMBERED:
            self._good.popitem(last=False)


class TokenGuard:
    """ASGI middleware: passes a request only from a caller who is known."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: HostRules,
        callers: Callers,
        browsers: Browsers,
        origins: Collection[str] = (),
    ) -> None:
        """`origins`: those whose pages may ask in the name of whom a cookie names."""
        self._app = app
        self._hosts = hosts
        self._callers = callers
        self._browsers = browsers
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or raise what refuses it."""
        if scope["type"] == "http" and not is_probe(scope):
            self._hosts.require(scope)
            if not (is_document(scope) or is_link(scope) or is_preflight(scope)):
                scope[CALLER] = await self._caller(scope)
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope) -> Caller:
        if headers_named(scope, b"authorization"):
            return await self._callers.identify(scope)
        if goes_by_cookie(scope):
            self._require_origin(scope)
        caller = await self._callers.signed_in(scope) or await self._browsers.admitted(scope)
        if caller is None and is_page(scope):
            return NOBODY
        if caller is None:
            return await self._callers.identify(scope)
        return caller

    def _require_origin(self, scope: Scope) -> None:
        foreign = foreign_origin(scope)
        if foreign is not None and foreign not in self._origins:
            raise OriginRefused(foreign[:200])
