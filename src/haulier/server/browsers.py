"""Who calls without a token: the visitor that a browser's cookie names, or a header with the same text.

Rule 1: nobody becomes a visitor by accident: only an upload to the ingestion endpoint and the page make one.
Rule 2: the name of the cookie has the port in it, because browsers send a host's cookies to all of its ports.
Rule 3: what a request with a cookie may do is judged by its page too (see `bearer.py`): browsers send cookies
        whoever asks.

Source: RFC 6265bis for cookies.
"""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Final

from starlette.types import Scope

from haulier.core.caller import Caller
from haulier.core.caller import Scope as TokenScope
from haulier.core.visitor import Visitor
from haulier.engine.visitors import VisitorService
from haulier.server.access import NOBODY
from haulier.server.addresses import fields_of, header, headers_named, route_path
from haulier.server.limits import Buckets, address_key, require_room
from haulier.server.requests import request_info

SESSION_HEADER: Final = "X-Session-ID"
"""Carries what the cookie has, both ways, for programs that keep no cookies."""
_SESSION_FIELD: Final = SESSION_HEADER.lower().encode("ascii")
_COOKIE_FIELD: Final = b"cookie"
MAX_SHOWN: Final = 4
"""Texts of one request that are looked at; a browser sends one, or two after its path has changed."""

NEW_VISITORS_S: Final = 1.0
"""Visitors a second that may be made of whoever comes from one address, where others than the machine's user come: a
row each, for a month. Whole offices stand behind one address."""
NEW_VISITORS_BURST: Final = 100.0
"""So many at once: an office that opens the page after a mail to all."""

SIGN_IN: Final = "haulier.sign_in"
"""In the scope of a request that a signed-in browser made: its `haulier.core.token.SignIn`."""

_INGESTION: Final = "/api/ingestion/"
_UPLOAD: Final = "/api/ingestion/upload"
_HISTORY: Final = "/api/ingestion/history"
_PAGE: Final = "/"
_MAKING: Final = {"GET": _PAGE, "POST": _UPLOAD}
"""What makes a visitor, by its method."""


class Browsers:
    """The visitors behind requests."""

    def __init__(self, visitors: VisitorService, *, new: Buckets | None = None) -> None:
        """`new` bounds how many visitors are made, by address."""
        self._visitors = visitors
        self._new = new

    async def known(self, scope: Scope) -> Visitor | None:
        """Return the visitor that a request names; its browser is told when that lasts longer than before."""
        fields = fields_of(scope)
        if _SESSION_FIELD not in fields and _COOKIE_FIELD not in fields:
            return None
        shown = [*fields.get(_SESSION_FIELD, ()), *cookies_named(scope, cookie_name(scope))]
        seen = await self._visitors.find(islice(shown, MAX_SHOWN))
        if seen is None:
            return None
        if seen.extended:
            self.keep(scope, seen.visitor)
        return seen.visitor

    async def welcomed(self, scope: Scope) -> Visitor | None:
        """As `known`; where a visitor is made of whoever comes, it is made."""
        visitor = await self.known(scope)
        return await self._made(scope) if visitor is None and makes_visitors(scope) else visitor

    async def _made(self, scope: Scope) -> Visitor | None:
        if not self._has_room(scope):
            return None
        visitor = await self._visitors.begin(header(scope, b"user-agent"))
        self.keep(scope, visitor)
        return visitor

    def _has_room(self, scope: Scope) -> bool:
        """Whether one more visitor may be made; an upload has to be somebody's, the page is shown to nobody too."""
        wait_s = 0.0 if self._new is None else self._new.take(address_key(scope))
        if wait_s and route_path(scope) != _PAGE:
            require_room(wait_s, "too many new visitors from this address")
        return not wait_s

    async def admitted(self, scope: Scope) -> Caller | None:
        """Return who calls a service with tokens without one; None: nobody who is let in."""
        visitor = await self.known(scope)
        if visitor is None and is_for_visitors(scope) and await self._visitors.admitted():
            visitor = await self._made(scope) if makes_visitors(scope) else None
            if visitor is None:
                return NOBODY
        return None if visitor is None else Caller(owner=visitor.owner, scope=TokenScope.WRITE)

    def keep(self, scope: Scope, visitor: Visitor) -> None:
        """Let the answer tell the browser to keep this visitor, for as long as it lasts."""
        text = self._visitors.signed(visitor)
        lasts_s = math.ceil(self._visitors.remaining_s(visitor))
        answer_with(scope, "Set-Cookie", cookie(scope, cookie_name(scope), text, lasts_s=lasts_s))
        answer_with(scope, SESSION_HEADER, text)

    @staticmethod
    def forget(scope: Scope) -> None:
        """Let the answer tell the browser to forget its visitor."""
        answer_with(scope, "Set-Cookie", cookie(scope, cookie_name(scope), "", lasts_s=0))


def makes_visitors(scope: Scope) -> bool:
    """Whether a request makes a visitor of whoever is none."""
    path = _MAKING.get(scope["method"])
    return path is not None and path == route_path(scope)


def goes_by_cookie(scope: Scope) -> bool:
    """Whether a cookie may say who asks, or be given to whoever that is; no foreign page can send the header."""
    if any(cookies_named(scope, sign_in_cookie(scope))):
        return True
    shown = any(cookies_named(scope, cookie_name(scope)))
    return (shown or is_for_visitors(scope)) and not headers_named(scope, _SESSION_FIELD)


def is_for_visitors(scope: Scope) -> bool:
    """Whether a request is answered to whoever may become a visitor."""
    return is_page(scope) or route_path(scope).startswith(_INGESTION)


def is_history(scope: Scope) -> bool:
    """Whether a request is about what its caller has uploaded; whoever is nobody has no history."""
    path = route_path(scope)
    return path == _HISTORY or path.startswith(f"{_HISTORY}/")


def is_page(scope: Scope) -> bool:
    """Whether a request is for the page, on which people may say who they are."""
    return route_path(scope) == _PAGE and scope["method"] in {"GET", "HEAD"}


def answer_with(scope: Scope, name: str, value: str) -> None:
    """Add a field to the answer, whatever that is."""
    request_info(scope).fields.append((name.lower().encode("ascii"), value.encode("latin-1")))


def cookie_name(scope: Scope) -> str:
    """Return the name of this service's visitor cookie."""
    return f"haulier_visitor_{_port(scope)}"


def sign_in_cookie(scope: Scope) -> str:
    """Return the name of the cookie that a signed-in browser of this service keeps."""
    return f"haulier_session_{_port(scope)}"


def keep_sign_in(scope: Scope, secret: str, *, lasts_s: int) -> None:
    """Let the answer tell the browser to keep this for so long; with 0 to keep nothing."""
    text = cookie(scope, sign_in_cookie(scope), secret, lasts_s=lasts_s, same_site="Strict")
    answer_with(scope, "Set-Cookie", text)


def _port(scope: Scope) -> int:
    return int((scope.get("server") or ("", None))[1] or 0)


def cookies_named(scope: Scope, name: str) -> Iterator[str]:
    """Yield the values of a cookie; a browser sends one for each path that it was set for."""
    for line in headers_named(scope, _COOKIE_FIELD):
        for pair in line.split(";"):
            key, _, value = pair.partition("=")
            if key.strip() == name:
                yield value.strip()


def cookie(scope: Scope, name: str, value: str, *, lasts_s: int, same_site: str = "Lax") -> str:
    """Return the field that sets a cookie which no script can read."""
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    return f"{name}={value}; Path=/; Max-Age={lasts_s}; HttpOnly; SameSite={same_site}{secure}"
