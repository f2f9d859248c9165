"""How much one caller and one address may ask at a time.

Rule 1: what is kept about callers is bounded, however many there are: the longest silent one is forgotten first.
Rule 2: an IPv6 client owns a whole network, so it counts by its /64.
Rule 3: limits hold in this process; several workers allow several times as much. What lives longer than a request is
        counted in the database, for all of them.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from ipaddress import IPv6Address, ip_address
from typing import Final

from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from haulier.core.caller import Caller
from haulier.core.values import dataclass, replace
from haulier.machine import Clock
from haulier.server.access import CALLER, NOBODY
from haulier.server.addresses import route_path
from haulier.server.errors import RateLimited

MAX_KEPT: Final = 10_000
"""Callers, or addresses, whose use is remembered: about 2 MiB."""
BURST_S: Final = 2.0
"""So many seconds' worth of requests may come at once."""
BUSY_RETRY_S: Final = 1.0
"""When to try again where only an end of others makes room: nobody knows when that is."""

_MAY_WAIT: Final = re.compile(r"/api/(?:events|uploads/[^/]+(?:/events)?|transfers/[^/]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """Settings; 0 is no limit."""

    per_owner_s: float = 0.0
    """Requests a second."""
    per_address_s: float = 0.0
    bodies_per_owner: int = 0
    """Requests with a body at the same time."""
    bodies_per_address: int = 0
    waits_per_owner: int = 0
    """Event streams, and requests that wait for an end, at the same time: each keeps a connection, perhaps for an hour."""
    waits_per_address: int = 0


class Buckets:
    """Token buckets by key: each refills with `rate` a second up to `burst`. A rate of 0 is no limit."""

    def __init__(self, clock: Clock, *, rate: float, burst: float) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = max(burst, 1.0)
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Level at a time of the monotonic clock, the longest unused first."""

    def __len__(self) -> int:
        return len(self._levels)

    def wait(self, key: str) -> float:
        """Return how many seconds it takes until there is one to be taken; 0 when there is."""
        if not self._rate:
            return 0.0
        return max(1.0 - self._level(key), 0.0) / self._rate

    def take(self, key: str) -> float:
        """Take one where there is one, and return what `wait` said before."""
        wait = self.wait(key)
        if not wait:
            self.charge(key)
        return wait

    def charge(self, key: str) -> None:
        """Take one whether or not there is one: a debt, of no more than a burst, is waited for later."""
        if not self._rate:
            return
        self._levels[key] = (max(self._level(key) - 1.0, -self._burst), self._clock.monotonic())
        self._levels.move_to_end(key)
        if len(self._levels) > MAX_KEPT:
            self._levels.popitem(last=False)

    def _level(self, key: str) -> float:
        level, at = self._levels.get(key, (self._burst, 0.0))
        return min(level + (self._clock.monotonic() - at) * self._rate, self._burst)


class Running:
    """Counts what runs at the same time, by key; `limit` 0 is no limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: dict[str, int] = {}

    @contextmanager
    def one(self, key: str, what: str) -> Iterator[None]:
        """Hold one of the places of `key`.

        Raises:
            RateLimited: all are taken.
        """
        count = self._counts.get(key, 0)
        if self._limit and count >= self._limit:
            raise RateLimited(what, BUSY_RETRY_S)
        self._counts[key] = count + 1
        try:
            yield
        finally:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]


def require_room(wait_s: float, what: str) -> None:
    """Raise RateLimited when there is something to wait for."""
    if wait_s:
        raise RateLimited(what, round(wait_s, 3))


def address_key(scope: Scope) -> str:
    """Return what a request's address counts as."""
    text: str = (scope.get("client") or ("", 0))[0]
    try:
        address = ip_address(text)
    except ValueError:
        return text
    if isinstance(address, IPv6Address):
        # Sockets for both kinds write an IPv4 address in another way than others, and than proxies.
        return address.packed[:8].hex() if address.ipv4_mapped is None else str(address.ipv4_mapped)
    return text


def has_body(scope: Scope) -> bool:
    """Whether a request announces bytes to be received."""
    fields = {
        name: value for name, value in scope["headers"] if name in {b"content-length", b"transfer-encoding"}
    }
    return b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0"


def waits(scope: Scope) -> bool:
    """Whether a request is answered for as long as its caller likes."""
    path = route_path(scope)
    if _MAY_WAIT.fullmatch(path) is None or scope["method"] != "GET":
        return False
    return path.endswith("/events") or "wait" in QueryParams(scope.get("query_string", b""))


class Places:
    """What each key may have under way at the same time."""

    def __init__(self, *, bodies: int, waits: int) -> None:
        self._bodies = Running(bodies)
        self._waits = Running(waits)

    def take(self, scope: Scope, key: str, whose: str) -> AbstractContextManager[None]:
        """Return what holds the place that a request needs, if it needs one; entering raises RateLimited."""
        if waits(scope):
            return self._waits.one(key, f"too many event streams and waits at once {whose}")
        if has_body(scope):
            return self._bodies.one(key, f"too many bodies at once {whose}")
        return nullcontext()


class _Limits:
    """ASGI middleware: what whoever a request counts as may ask, in rate and at the same time."""

    def __init__(self, app: ASGIApp, *, clock: Clock, rate: float, bodies: int, waits: int) -> None:
        self._app = app
        self._requests = Buckets(clock, rate=rate, burst=rate * BURST_S)
        self._places = Places(bodies=bodies, waits=waits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or raise RateLimited."""
        counted = self._counted(scope) if scope["type"] == "http" else None
        if counted is None:
            await self._app(scope, receive, send)
            return
        key, whose = counted
        require_room(self._requests.take(key), f"too many requests {whose}")
        with self._places.take(scope, key, whose):
            await self._app(scope, receive, send)

    @staticmethod
    def _counted(scope: Scope) -> tuple[str, str] | None:
        """Return as whom the request counts, and the words for it; None: it does not count."""
        raise NotImplementedError


class AddressLimits(_Limits):
    """Before the guard: what an address may ask, whoever it is."""

    def __init__(self, app: ASGIApp, *, limits: RequestLimits, clock: Clock) -> None:
        super().__init__(
            app,
            clock=clock,
            rate=limits.per_address_s,
            bodies=limits.bodies_per_address,
            waits=limits.waits_per_address,
        )

    @staticmethod
    def _counted(scope: Scope) -> tuple[str, str]:
        return address_key(scope), "from this address"


class OwnerLimits(_Limits):
    """Behind the guard: what an owner may ask, from wherever."""

    def __init__(self, app: ASGIApp, *, limits: RequestLimits, clock: Clock) -> None:
        super().__init__(
            app,
            clock=clock,
            rate=limits.per_owner_s,
            bodies=limits.bodies_per_owner,
            waits=limits.waits_per_owner,
        )

    @staticmethod
    def _counted(scope: Scope) -> tuple[str, str] | None:
        caller: Caller | None = scope.get(CALLER)
        if caller is None or caller == NOBODY:  # a probe, a document, a preflight, or of nobody
            return None
        return caller.owner, f"of {caller.owner}"


class CountedAddresses:
    """Behind the guard: lets what a caller begins count for the address too. Where none is known, none counts."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with the address noted beside who calls."""
        caller: Caller | None = scope.get(CALLER)
        if caller is not None:
            scope[CALLER] = replace(caller, address=address_key(scope) or None)
        await self._app(scope, receive, send)
