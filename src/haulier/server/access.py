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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from haulier.core.caller import LOCAL, Caller
from haulier.server.addresses import headers_named
from haulier.server.errors import HostRefused, NotLocal
from haulier.server.http.asgi import CONNECTION_EXTENSION

CALLER: Final = "haulier.caller"
"""In the scope of a request that was let in: its `Caller`."""
EXEMPT: Final = frozenset({"/healthz", "/readyz"})

_NAMES: Final = frozenset({"127.0.0.1", "[::1]", "localhost"})
_PORTS: Final = {"http": 80, "https": 443}
_FORWARDED: Final = (b"forwarded", b"x-real-ip", b"via")

Address = tuple[str, int]
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
            _require_own_name(scope)
        _refuse_forwarded(scope)
        foreign = self._foreign_origin(scope)
        self._require_own_site(scope, origin_allowed=foreign)

    def _foreign_origin(self, scope: Scope) -> bool:
        """Return whether a foreign, allowed page asks."""
        given = headers_named(scope, b"origin")
        hosts = headers_named(scope, b"host")
        own = f"{scope.get('scheme', 'http')}://{hosts[0].lower()}" if hosts else None
        if not given or given == [own]:
            return False
        if len(given) == 1 and given[0] in self.origins:
            return True
        raise NotLocal(
            "origin", "--cors-origin", f"a page of {given[0][:200]!r} asks, which is not this service's own"
        )

    @staticmethod
    def _require_own_site(scope: Scope, *, origin_allowed: bool) -> None:
        for site in headers_named(scope, b"sec-fetch-site"):
            # `none`: typed into the address bar or opened from outside of a browser.
            typed = site == "none" and scope["method"] in {"GET", "HEAD"}
            if site != "same-origin" and not typed and not origin_allowed:
                raise NotLocal(
                    "sec-fetch-site", "--cors-origin", f"a browser asks for another site ({site[:40]!r})"
                )


def _require_own_name(scope: Scope) -> None:
    hosts = headers_named(scope, b"host")
    name, port = _split_host(hosts[0]) if len(hosts) == 1 else ("", None)
    server = scope.get("server")
    usual = _PORTS.get(scope.get("scheme", "http"))
    if name not in _NAMES or server is None or server[1] != (usual if port is None else port):
        raise HostRefused(", ".join(hosts)[:200])


def _split_host(host: str) -> tuple[str, int | None]:
    name, colon, port = host.lower().rpartition(":")
    if not colon or host.endswith("]"):
        return host.lower(), None
    return name, int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else -1


def _refuse_forwarded(scope: Scope) -> None:
    for name, _ in scope["headers"]:
        if name in _FORWARDED or name.startswith(b"x-forwarded-"):
            raise NotLocal(
                "forwarded",
                "a service with tokens (there are none yet)",
                f"the request came through a proxy or tunnel ({name.decode('latin-1')[:40]})",
            )


def caller_of(request: Request) -> Caller:
    """Return who makes a request, as the guard in front of the routes judged."""
    caller: Caller = request.scope[CALLER]
    return caller


class OpenModeGuard:
    """ASGI middleware: passes a request only when all rules of open mode let it."""

    def __init__(self, app: ASGIApp, *, rules: OpenModeRules, peer_uid: PeerUid | None = None) -> None:
        self._app = app
        self._rules = rules
        self._peer_uid = peer_uid or (socket_uid if sys.platform == "linux" else None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or raise what refuses it."""
        if scope["type"] == "http" and scope["path"] not in EXEMPT:
            self._rules.refuse_by_headers(scope)
            if not self._rules.local_users and not self._rules.anybody:
                await self._require_own_user(scope)
            scope[CALLER] = LOCAL
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


def _ends(scope: Scope) -> tuple[Address, Address]:
    client, server = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
    return (client[0], client[1]), (server[0], server[1] or 0)


def socket_uid(client: Address, server: Address) -> int | None:
    """Return the user who owns the client's end of a loopback connection, None when nobody can tell.

    A closed end belongs to nobody any more: the kernel lists it under user 0, so only ends that
    still have an inode count.

    Source: Linux, Documentation/networking/proc_net_tcp.rst.
    """
    try:
        near, far = ip_address(client[0]), ip_address(server[0])
    except ValueError:
        return None
    near4, far4 = _v4(near), _v4(far)
    if near4 is not None and far4 is not None:
        uid = _find(_rows("/proc/net/tcp"), _hex(near4, client[1]), _hex(far4, server[1]))
        if uid is not None:
            return uid
    return _find(_rows("/proc/net/tcp6"), _hex(_v6(near), client[1]), _hex(_v6(far), server[1]))


def _rows(table: str) -> Iterable[str]:
    try:
        return Path(table).read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return ()  # a kernel without IPv6 has no second table; nothing found means nobody can tell


def _find(rows: Iterable[str], local: str, remote: str) -> int | None:
    for row in rows:
        if local in row:
            columns = row.split()
            if columns[1] == local and columns[2] == remote and columns[9] != "0":
                return int(columns[7])
    return None


def _v4(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    return address if isinstance(address, IPv4Address) else address.ipv4_mapped


def _v6(address: IPv4Address | IPv6Address) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(f"::ffff:{address}")


def _hex(address: IPv4Address | IPv6Address, port: int) -> str:
    """Return an end as the tables write it: 32-bit words in the machine's byte order, then the port."""
    packed = address.packed
    words = (packed[start : start + 4] for start in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{port:04X}"
