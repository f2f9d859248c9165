"""Connections to servers: made, handed out one request at a time, kept for the next one, thrown away when in doubt.

Rule 1: a connection that was not left clean is closed; one that has something to say before it is asked is, too.
Rule 2: a kept connection is younger than the time after which servers close theirs: a request that meets its
        end would look like a failure.
Rule 3: who ends a kept connection under a request is asked on new ones only for a while. It may do so each time, at the second request
        of each attempt, and nobody would ever get further than that.
"""

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from haulier.core.errors import InvalidRequest, PeerUnreachable
from haulier.core.hosts import is_loopback
from haulier.core.values import dataclass, replace

IDLE_S: Final = 4.0
"""How long an unused connection is kept. uvicorn, the most impatient server that we know, closes after 5 s."""
ALONE_S: Final = 600.0
"""How long rule 3 holds: twice the longest pause between two attempts."""
CONNECT_S: Final = 10.0
"""How long an address may take to accept, and to agree on keys. Control calls wait as long."""
NEXT_ADDRESS_S: Final = 0.25
"""How long one address of a host may be silent before the next one is tried beside it. Source: RFC 8305 section 5."""
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MAX_PROXY_ANSWER: Final = 16 * 1024
"""Bytes of a proxy's answer to CONNECT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where requests go; what is kept between them is kept for it."""

    scheme: str
    host: str
    port: int
    proxy: str | None = None
    """The address of what stands between."""

    @classmethod
    def of(cls, url: SplitResult, *, proxied: bool = True) -> "Origin":
        """Read it from an address, and the proxy from the machine's settings unless it is one itself.

        Raises:
            InvalidRequest: it is not an http or https address; or the proxy is none that we can use.
        """
        try:
            port = url.port
        except ValueError as error:
            raise InvalidRequest.of("url", str(error)) from None
        if url.scheme not in DEFAULT_PORTS or not url.hostname:
            raise InvalidRequest.of("url", f"{url.scheme}://{url.netloc} must be an http or https address")
        made = cls(scheme=url.scheme, host=url.hostname, port=port or DEFAULT_PORTS[url.scheme])
        return replace(made, proxy=_proxy_for(made)) if proxied else made

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """As it stands in `Host`."""
        whole = self.place
        return whole.rpartition(":")[0] if self.port == DEFAULT_PORTS[self.scheme] else whole

    @property
    def place(self) -> str:
        """Host and port, always both."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _proxy_for(origin: Origin) -> str | None:
    # A proxy between this machine and itself is never meant.
    if is_loopback(origin.host):
        return None
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - all of http.client and email comes with it

    # By the host, and by host and port: NO_PROXY may name either.
    if proxy_bypass(origin.host) or proxy_bypass(origin.place):
        return None
    proxies = getproxies()
    named = proxies.get(origin.scheme) or proxies.get("all")
    return _checked_proxy(named, origin) if named else None


def _checked_proxy(named: str, origin: Origin) -> str:
    """Return the whole address of a proxy; one without a scheme is http, as curl takes it."""
    whole = named if "://" in named else f"http://{named}"
    try:
        address = urlsplit(whole)
        usable = address.scheme == "http" and bool(address.hostname) and (address.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        # Not the whole address: it may have a password.
        kind = whole.partition("://")[0]
        raise InvalidRequest.of(
            "proxy",
            f"the environment names a proxy of the kind {kind}:// for {origin}; only http://HOST:PORT can be used: "
            "set HTTP_PROXY and HTTPS_PROXY to such a one, or name the host in NO_PROXY",
        )
    return whole


class Connections:
    """What is kept between requests. It belongs to one event loop."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._kept: dict[Origin, list[tuple[float, socket.socket]]] = {}
        """The youngest last."""
        self._again: set[socket.socket] = set()
        """Those that carry a request which is not their first."""
        self._alone: dict[Origin, float] = {}
        """Whose connections are not kept, and until when."""
        self._expiry: asyncio.TimerHandle | None = None
        """Closes what is not taken in time; there while something is kept, or a moment longer."""

    async def take(self, origin: Origin) -> socket.socket:
        """Return a non-blocking connection for one request.

        Raises:
            PeerUnreachable: none can be made, so nothing is sent.
        """
        return self._take_kept(origin) or await self._connect(origin)

    def give_back(self, origin: Origin, connection: socket.socket) -> None:
        """Keep a connection that was left clean, for a while."""
        self._again.discard(connection)
        if _now() < self._alone.get(origin, 0.0):
            connection.close()
            return
        self._alone.pop(origin, None)
        self._kept.setdefault(origin, []).append((_now(), connection))
        if self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(IDLE_S, self._expire)

    def drop(self, origin: Origin, connection: socket.socket, *, broken: bool = False) -> None:
        """Close a connection; `broken`: the other side ended it under a request (rule 3)."""
        if broken and connection in self._again:
            self._alone[origin] = _now() + ALONE_S
        self._again.discard(connection)
        connection.close()

    def close(self) -> None:
        """Close all that are kept."""
        for kept in self._kept.values():
            for _, connection in kept:
                connection.close()
        self._kept.clear()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _expire(self) -> None:
        """Close those that are too old, and come back when the next one is."""
        now = _now()
        for origin, kept in list(self._kept.items()):
            while kept and now - kept[0][0] >= IDLE_S:
                kept.pop(0)[1].close()
            if not kept:
                del self._kept[origin]
        oldest = min((kept[0][0] for kept in self._kept.values()), default=None)
        self._expiry = (
            None
            if oldest is None
            else asyncio.get_running_loop().call_later(oldest + IDLE_S - now, self._expire)
        )

    def _take_kept(self, origin: Origin) -> socket.socket | None:
        kept = self._kept.get(origin, [])
        while kept:
            since, connection = kept.pop()
            if _now() - since < IDLE_S and _is_quiet(connection):
                self._again.add(connection)
                return connection
            connection.close()
        return None

    async def _connect(self, origin: Origin) -> socket.socket:
        try:
            async with asyncio.timeout(CONNECT_S):
                return await self._make(origin)
        except TimeoutError as error:
            raise PeerUnreachable(
                str(origin), "it does not accept connections", too_slow=True, sent=False
            ) from error
        except OSError as error:
            raise PeerUnreachable(str(origin), str(error), sent=False) from error

    async def _make(self, origin: Origin) -> socket.socket:
        via = origin if origin.proxy is None else Origin.of(urlsplit(origin.proxy), proxied=False)
        connection = await _open(via.host, via.port)
        try:
            if origin.proxy is None:
                return await self._encrypted(origin, connection)
            if origin.scheme == "http":
                return connection
            await _open_tunnel(origin, connection)
            return await self._encrypted(origin, connection)
        except BaseException:
            connection.close()
            raise

    async def _encrypted(self, origin: Origin, connection: socket.socket) -> socket.socket:
        if origin.scheme == "http":
            return connection
        self._tls = self._tls or ssl.create_default_context()
        secure = self._tls.wrap_socket(connection, server_hostname=origin.host, do_handshake_on_connect=False)
        try:
            await _shake_hands(secure)
        except BaseException:
            secure.close()
            raise
        return secure


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_quiet(connection: socket.socket) -> bool:
    """Whether the other side has neither left nor said something that nobody asked for."""
    try:
        connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False
    return False


_Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""An address as `getaddrinfo` tells it."""


async def _open(host: str, port: int) -> socket.socket:
    """Connect to whichever of the host's addresses accepts first; a silent one holds the next one up for a moment only.

    Source: RFC 8305.
    """
    loop = asyncio.get_running_loop()
    waiting = iter(_interleaved(await _look_up(host, port)))
    error: BaseException = OSError("it has no address")
    trying: set[asyncio.Task[socket.socket]] = set()
    first: socket.socket | None = None
    try:
        while first is None:
            following = next(waiting, None)
            if following is not None:
                trying.add(loop.create_task(_dial(following)))
            elif not trying:
                raise error
            done, _ = await asyncio.wait(
                trying,
                timeout=None if following is None else NEXT_ADDRESS_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                refused = task.exception()
                if refused is not None:
                    trying.discard(task)
                    error = refused
                elif first is None:
                    trying.discard(task)
                    first = task.result()
    finally:
        try:
            await _give_up(trying)
        except BaseException:  # cancelled while the others end: then nobody takes this one
            if first is not None:
                first.close()
            raise
    return first


async def _look_up(host: str, port: int) -> Sequence[_Found]:
    """Return the addresses of a host; where it is one itself, nobody is asked."""
    # As bytes: for text, Python loads its tables of international names, even if it is a number.
    name = host.encode("ascii") if host.isascii() else host
    with suppress(socket.gaierror):
        return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)


def _interleaved(found: Sequence[_Found]) -> list[_Found]:
    """Return the addresses in their order, but both families in turn: one that does not work here costs one try."""
    first = [each for each in found if each[0] == found[0][0]]
    others = [each for each in found if each[0] != found[0][0]]
    return [each for pair in zip_longest(first, others) for each in pair if each is not None]


async def _dial(found: _Found) -> socket.socket:
    family, kind, protocol, _, address = found
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection


async def _give_up(trying: "set[asyncio.Task[socket.socket]]") -> None:
    for task in trying:
        # By whoever ends last: a second cancel must not leave one open that was made in the last moment.
        task.add_done_callback(_close_made)
        task.cancel()
    if trying:
        await asyncio.wait(trying)


def _close_made(task: "asyncio.Task[socket.socket]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _shake_hands(secure: ssl.SSLSocket) -> None:
    while True:
        try:
            secure.do_handshake()
        except ssl.SSLWantReadError:
            await _ready(secure, write=False)
        except ssl.SSLWantWriteError:
            await _ready(secure, write=True)
        else:
            return


async def _ready(connection: socket.socket, *, write: bool) -> None:
    """Wait until the connection can be read from, or written to."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    add(connection, _once(ready))
    try:
        await ready
    finally:
        remove(connection)


def _once(ready: "asyncio.Future[None]") -> Callable[[], None]:
    """Return what sets the result, the first time."""

    def call() -> None:
        if not ready.done():
            ready.set_result(None)

    return call


async def _open_tunnel(origin: Origin, connection: socket.socket) -> None:
    """Ask a proxy for a way to the origin that it does not look into.

    Source: RFC 9110 section 9.3.6.
    """
    loop = asyncio.get_running_loop()
    target = origin.place
    fields = "".join(f"{name}: {value}\r\n" for name, value in proxy_credentials(origin))
    request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n"
    await loop.sock_sendall(connection, request.encode("ascii"))
    answer = b""
    while b"\r\n\r\n" not in answer:
        # Byte for byte would be right at any length; what comes behind the head is the origin's, which waits for us.
        piece = await loop.sock_recv(connection, MAX_PROXY_ANSWER - len(answer))
        if not piece:
            raise ConnectionAbortedError("the proxy closed the connection")
        answer += piece
    if answer.split(b" ", 2)[1:2] != [b"200"]:
        raise ConnectionRefusedError(f"the proxy says {answer.splitlines()[0]!r}")


def proxy_credentials(origin: Origin) -> list[tuple[str, str]]:
    """Return what a proxy wants to see, if its address has a name and password."""
    address = urlsplit(origin.proxy or "")
    if address.username is None:
        return []
    pair = f"{unquote(address.username)}:{unquote(address.password or '')}"
    return [("Proxy-Authorization", f"Basic {base64.b64encode(pair.encode()).decode('ascii')}")]
