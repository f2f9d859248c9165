"""CORS for exactly the origins that the operator named; closed otherwise.

Rule 1: whether a request may pass is the guard's to say; this only tells browsers about it.
Rule 2: an origin that was named may send whatever fields it likes: what they mean, and whether, is judged where they are read.

Source: the WHATWG Fetch standard, section "CORS protocol".
"""

import re
from collections.abc import Awaitable, Collection, Iterable
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from haulier.server.addresses import headers_named
from haulier.server.requests import request_info

METHODS: Final = "GET, HEAD, PUT, PATCH, POST, DELETE, OPTIONS"
_TUS: Final = "Tus-Resumable, Upload-Metadata, Upload-Defer-Length, Upload-Concat, Upload-Checksum, X-HTTP-Method-Override"
_DRAFTS: Final = "Upload-Complete, Upload-Incomplete, Upload-Draft-Interop-Version, Content-Disposition"
REQUEST_HEADERS: Final = (
    "Authorization, Content-Type, Content-Digest, Repr-Digest, Want-Repr-Digest, Idempotency-Key, Upload-Offset, "
    f"Upload-Length, Range, If-Match, If-None-Match, If-Range, X-Request-ID, X-Session-ID, {_TUS}, {_DRAFTS}"
)
EXPOSED: Final = (
    "Location, Upload-Offset, Upload-Length, Repr-Digest, ETag, Content-Range, Accept-Ranges, "
    "Content-Disposition, Retry-After, WWW-Authenticate, X-Request-ID, X-Session-ID, Haulier-Record, "
    "Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm, "
    "Upload-Metadata, Upload-Defer-Length, Upload-Concat, Upload-Expires, "
    "Upload-Complete, Upload-Incomplete, Upload-Limit, Upload-Draft-Interop-Version, Accept-Patch"
)
_OURS: Final = frozenset(REQUEST_HEADERS.lower().split(", "))
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
MAX_AGE_S: Final = 600
"""How long browsers keep a preflight's answer; Chromium's cap is 7200."""


class CorsHeaders:
    """ASGI middleware, outside of the problems, so that pages may read those too."""

    def __init__(self, app: ASGIApp, *, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Add what an allowed page needs to read the answer."""
        if scope["type"] == "http" and self._origins:
            self._note(scope)
        return self._app(scope, receive, send)

    def _note(self, scope: Scope) -> None:
        added = request_info(scope).headers
        added.append((b"vary", b"Origin"))
        given = headers_named(scope, b"origin")
        if len(given) == 1 and given[0] in self._origins:
            added.append((b"access-control-allow-origin", given[0].encode("ascii")))
            added.append((b"access-control-expose-headers", EXPOSED.encode("ascii")))


class Preflights:
    """ASGI middleware, inside of the guard: answers what browsers ask before they ask."""

    def __init__(self, app: ASGIApp, *, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer a preflight of an allowed origin; pass everything else on."""
        asked = scope["type"] == "http" and scope["method"] == "OPTIONS"
        if not asked or not headers_named(scope, b"access-control-request-method"):
            return self._app(scope, receive, send)
        allowed = self._origins.intersection(headers_named(scope, b"origin"))
        headers = {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": ", ".join([REQUEST_HEADERS, *_others(scope)]),
            "Access-Control-Max-Age": str(MAX_AGE_S),
        }
        return Response(status_code=204, headers=headers if allowed else {})(scope, receive, send)


def _others(scope: Scope) -> Iterable[str]:
    """Yield what a page wants to send beside our own fields: proxies and embedding programs have theirs (Rule 2)."""
    for field in headers_named(scope, b"access-control-request-headers"):
        for name in map(str.strip, field.split(",")):
            if _NAME.fullmatch(name) and name.lower() not in _OURS:
                yield name
