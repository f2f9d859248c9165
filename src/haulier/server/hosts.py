"""Which names this service answers to.

Rule 1: a name that is not ours is refused before anything else is judged: a page whose own name was rebound to our
        address looks like our own page to its browser (DNS rebinding).
Rule 2: an address is ours when the connection came to it: nobody can rebind an address.
"""

from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from starlette.types import Scope

from haulier.config import Settings
from haulier.core.hosts import is_address, is_loopback
from haulier.core.values import dataclass
from haulier.server.addresses import fields_of, server_name
from haulier.server.errors import HostRefused

LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "[::1]", "localhost"})
USUAL_PORTS: Final = {"http": 80, "https": 443}

Given = tuple[str, int | None]
"""A name, and the one port that it is good with; None: whatever port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRules:
    """The names of one service."""

    names: frozenset[str] = frozenset()
    """Good with the port of the connection."""
    given: frozenset[Given] = frozenset()
    """What the operator said."""
    addresses: bool = False
    """Whether the address that the connection came to is a name, and where that is a loopback one, `LOOPBACK_NAMES`."""
    cure: str
    """What to do about a refusal."""

    def require(self, scope: Scope) -> None:
        """Pass a request that was made to one of our names.

        Raises:
            HostRefused: any other name, none, or several.
        """
        hosts = fields_of(scope).get(b"host", ())
        name, port = split_host(hosts[0]) if len(hosts) == 1 else ("", -1)
        if not self._is_own(scope, name, port) and not self._is_given(name, port):
            raise HostRefused(", ".join(hosts)[:200], self.cure)

    def _is_given(self, name: str, port: int | None) -> bool:
        return port != -1 and ((name, None) in self.given or (name, port) in self.given)

    def _is_own(self, scope: Scope, name: str, port: int | None) -> bool:
        server = scope.get("server")
        if server is None or server[1] != (
            USUAL_PORTS.get(scope.get("scheme", "http")) if port is None else port
        ):
            return False
        if name in self.names:
            return True
        return self.addresses and (
            name == server_name(scope) or (is_loopback(server[0]) and name in LOOPBACK_NAMES)
        )


def host_rules(settings: Settings) -> HostRules:
    """Return the names of a service that requires tokens."""
    given = {split_host(name) for name in settings.allowed_host}
    if settings.public_url is not None:
        # Whatever the port: it may be the proxy's or ours, and a name that is rebound comes with ours anyway.
        given.add((split_host(urlsplit(settings.public_url).netloc)[0], None))
    return HostRules(
        names=frozenset() if is_address(settings.host) else frozenset({settings.host.lower()}),
        given=frozenset(given),
        addresses=True,
        cure="use the address that it was given; more names can be given with HAULIER_ALLOWED_HOST",
    )


@lru_cache(maxsize=16)
def split_host(host: str) -> tuple[str, int | None]:
    """Return name and port of a `Host`, lower case; None without a port, -1 where it cannot be read.

    Nearly all requests name the same few, so what was read last is kept.
    """
    name, colon, port = host.lower().rpartition(":")
    if not colon or host.endswith("]"):
        return host.lower(), None
    return name, int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else -1
