"""Open mode: no tokens, because nobody but this machine's user can reach the service.

Rule 1: every rule is judged before a body is read, on every route but /healthz and /readyz.
Rule 2: what is not clearly allowed is refused, and the refusal names the rule and the flag that allows it.
Rule 3: a connection's user is looked up once, and remembered with the connection, never with its address:
        ports are used again, by others.

Why so strict: without this a web page can post forms and plain bodies to 127.0.0.1, and a name that is
rebound to 127.0.0.1 reads everything.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from haulier.core.caller import LOCAL
from haulier.core.values import dataclass, replace
from haulier.core.visitor import Visitor
from haulier.server.access import CALLER, NOBODY, is_probe
from haulier.server.addresses import Fields, fields_of
from haulier.server.browsers import Browsers, is_history
from haulier.server.errors import NotLocal
from haulier.server.hosts import LOOPBACK_NAMES, HostRules
from haulier.server.http.asgi import CONNECTION_EXTENSION
from haulier.server.origins import foreign_origin
from haulier.server.peers import Address, socket_uid

_FORWARDED: Final = (b"forwarded", b"x-real-ip", b"via")
_OWN_NAME: Final = HostRules(
    names=LOOPBACK_NAMES,
    addresses=True,  # whoever says --host 127.0.0.2 is told to use that
    cure="use 127.0.0.1, [::1] or localhost with its port, or start it with --open",
)

PeerUid = Callable[[Address, Address], int | None]
"""Returns who owns the client's end of a connection (client, server); None when nobody can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModeRules:
    """What is allowed beyond this machine's own user on its own name."""

    origins: frozenset[str] = frozenset()
    """Foreign origins whose pages may call us."""
    local_users: bool = False
    """Whether other users of this machine may call us."""
    anybody: bool = False
    """`--open`: no rule about names and users."""

    def refuse_by_headers(self, scope: Scope) -> None:
        """Judge what a request says about itself.

        Raises:
            HostRefused · NotLocal
        """
        if not self.anybody:
            _OWN_NAME.require(scope)
        fields = fields_of(scope)
        _refuse_forwarded(fields)
        # Only browsers send these two.
        foreign = b"origin" in fields and self._foreign_origin(scope)
        for site in fields.get(b"sec-fetch-site", ()):
            _require_own_site(site, scope["method"], origin_allowed=foreign)

    def _foreign_origin(self, scope: Scope) -> bool:
        """Return whether a foreign, allowed page asks."""
        foreign = foreign_origin(scope)
        if foreign is None or foreign in self.origins:
            return foreign is not None
        raise NotLocal(
            "origin", "--cors-origin", f"a page of {foreign[:200]!r} asks, which is not this service's own"
        )


def _require_own_site(site: str, method: str, *, origin_allowed: bool) -> None:
    # `none`: typed into the address bar or opened from outside of a browser.
    typed = site == "none" and method in {"GET", "HEAD"}
    if site != "same-origin" and not typed and not origin_allowed:
        raise NotLocal("sec-fetch-site", "--cors-origin", f"a browser asks for another site ({site[:40]!r})")


def _refuse_forwarded(fields: Fields) -> None:
    for name in fields:
        if name in _FORWARDED or name.startswith(b"x-forwarded-"):
            raise NotLocal(
                "forwarded",
                "a service with tokens (haulier token create, then HAULIER_TRUSTED_PROXIES)",
                f"the request came through a proxy or tunnel ({name.decode('latin-1')[:40]})",
            )


class OpenModeGuard:
    """ASGI middleware: passes a request only when all rules of open mode let it."""

    def __init__(
        self, app: ASGIApp, *, rules: OpenModeRules, browsers: Browsers, peer_uid: PeerUid | None = None
    ) -> None:
        self._app = app
        self._browsers = browsers
        self._rules = rules
        self._peer_uid = peer_uid or (socket_uid if sys.platform == "linux" else None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or raise what refuses it."""
        if scope["type"] == "http" and not is_probe(scope):
            self._rules.refuse_by_headers(scope)
            if not self._rules.local_users and not self._rules.anybody:
                await self._require_own_user(scope)
            visitor = await self._browsers.welcomed(scope)
            # Whoever may call may do everything; a visitor says whose things it makes and finds.
            owner = _owner(scope, visitor)
            scope[CALLER] = LOCAL if owner == LOCAL.owner else replace(LOCAL, owner=owner)
        await self._app(scope, receive, send)

    async def _require_own_user(self, scope: Scope) -> None:
        if self._peer_uid is None:
            return
        connection: dict[str, Any] = scope.get("extensions", {}).get(CONNECTION_EXTENSION, {})
        if "uid" not in connection:
            # In a thread: the kernel writes the table of all connections of the machine for us.
            connection["uid"] = await asyncio.to_thread(self._peer_uid, *_ends(scope))
        uid: int | None = connection["uid"]
        if uid not in {0, os.geteuid()}:
            who = "a user who cannot be told" if uid is None else f"user {uid}"
            raise NotLocal("user", "--local-users", f"the other end of the connection belongs to {who}")


def _owner(scope: Scope, visitor: Visitor | None) -> str:
    """Return whose things a request makes and finds; a history is a visitor's, and that of none is empty."""
    if visitor is not None:
        return visitor.owner
    return NOBODY.owner if is_history(scope) else LOCAL.owner


def _ends(scope: Scope) -> tuple[Address, Address]:
    client, server = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
    return (client[0], client[1]), (server[0], server[1] or 0)
