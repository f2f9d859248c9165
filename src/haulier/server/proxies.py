"""Who asks, by which scheme and under which name, where a proxy of the operator's stands in between.

Rule 1: a header is believed only when the connection itself comes from a trusted proxy; otherwise it is not even read.
Rule 2: of a chain of addresses, as many are skipped from our end as are trusted proxies; the next one is the client.
        What stands before it was written by that client, and may be a lie.
Rule 3: a proxy writes one kind of header and lets its clients' others through. When both kinds are there and do not
        name the same client, neither is believed.
Rule 4: what cannot be read is not believed.

Source: RFC 7239 for `Forwarded`; `X-Forwarded-*` have no standard but what nginx, HAProxy and Traefik agree on.
"""

import re
from collections.abc import Awaitable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from haulier.core.values import dataclass
from haulier.server.addresses import PREFIX, PUBLIC_URL, header, headers_named

MAX_HOPS: Final = 32
"""Longest chain that is read; real ones have two or three."""

_SCHEMES: Final = frozenset({"http", "https"})
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)+", re.ASCII)
_PAIR: Final = re.compile(r'\s*([A-Za-z]+)=(?:"([^"\\]*)"|([^\s",;=]+))\s*', re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """What one proxy says about who called it. `client` is an address without a port."""

    client: str
    scheme: str | None = None
    host: str | None = None


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The operator's own proxies."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def of(cls, texts: Iterable[str]) -> "TrustedProxies":
        """Read addresses and networks. Raises ValueError."""
        return cls(tuple(ip_network(text) for text in texts))

    def trusts(self, address: str) -> bool:
        """Whether an address is one of theirs."""
        if not self.networks:
            return False
        found = _address(address)
        return found is not None and any(found in network for network in self.networks)

    def resolve(self, scope: Scope) -> Hop | None:
        """Return what the trusted proxies say about a request; None when there is nothing to be believed."""
        plain, standard = _x_forwarded(scope), _forwarded(scope)
        if plain is None or standard is None:  # cannot be read
            return None
        found = [self._client(hops) for hops in (plain, standard) if hops]
        if len({hop.client for hop in found}) != 1:
            return None
        return found[0]

    def _client(self, hops: list[Hop]) -> Hop:
        for hop in reversed(hops):
            if not self.trusts(hop.client):
                return hop
        return hops[0]


def _x_forwarded(scope: Scope) -> list[Hop] | None:
    """Read `X-Forwarded-For`, `-Proto` and `-Host`; None when they cannot be read, nothing when they are not there."""
    clients = [_node(text) for text in _items(scope, b"x-forwarded-for")]
    schemes, hosts = _items(scope, b"x-forwarded-proto"), _items(scope, b"x-forwarded-host")
    readable = [client for client in clients if client is not None]
    if len(readable) != len(clients) or len(clients) > MAX_HOPS:
        return None
    # Of several, the last one is the nearest proxy's own; the others came through it.
    scheme = schemes[-1].lower() if schemes else None
    host = hosts[-1] if hosts else None
    return [Hop(client=client, scheme=_scheme(scheme), host=host) for client in readable]


def _forwarded(scope: Scope) -> list[Hop] | None:
    """Read `Forwarded`; None when it cannot be read, nothing when it is not there."""
    hops: list[Hop] = []
    for element in _items(scope, b"forwarded"):
        pairs = [_PAIR.fullmatch(pair) for pair in element.split(";")]
        said = {
            pair[1].lower(): pair[2] if pair[2] is not None else pair[3] for pair in pairs if pair is not None
        }
        client = _node(said.get("for", ""))
        if client is None or len(said) != len(pairs) or len(hops) == MAX_HOPS:
            return None
        hops.append(Hop(client=client, scheme=_scheme(said.get("proto", "").lower()), host=said.get("host")))
    return hops


def _items(scope: Scope, name: bytes) -> list[str]:
    text = header(scope, name)
    return [] if text is None else [item.strip() for item in text.split(",")]


def _scheme(text: str | None) -> str | None:
    return text if text in _SCHEMES else None


def _node(text: str) -> str | None:
    """Return the address in `192.0.2.1`, `192.0.2.1:8000`, `2001:db8::1` or `[2001:db8::1]:8000`."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    found = _address(text)
    return None if found is None else str(found)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return found if mapped is None else mapped


class PublicAddress:
    """ASGI middleware: lets the rest of the service see the client, scheme, name and path that were really asked for."""

    def __init__(self, app: ASGIApp, *, public_url: str | None, proxies: TrustedProxies) -> None:
        self._app = app
        self._public_url = public_url
        self._path = "" if public_url is None else urlsplit(public_url).path
        self._proxies = proxies

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on as its client made it."""
        if scope["type"] == "http":
            client = scope.get("client")
            if client is not None and self._proxies.trusts(client[0]):
                self._believe(scope)
            if self._public_url is not None:
                scope[PUBLIC_URL] = self._public_url
                # A proxy may take our path away before it calls us, or leave it.
                if self._path and scope["path"].startswith(f"{self._path}/"):
                    scope["root_path"] = self._path
        return self._app(scope, receive, send)

    def _believe(self, scope: Scope) -> None:
        hop = self._proxies.resolve(scope)
        if hop is None:
            return
        scope["client"] = (hop.client, 0)
        if hop.scheme is not None:
            scope["scheme"] = hop.scheme
        if hop.host is not None:
            others = [field for field in scope["headers"] if field[0] != b"host"]
            scope["headers"] = [(b"host", hop.host.encode("latin-1")), *others]
        prefixes = headers_named(scope, b"x-forwarded-prefix")
        if len(prefixes) == 1 and _PREFIX.fullmatch(prefixes[0].rstrip("/")):
            scope[PREFIX] = prefixes[0].rstrip("/")
