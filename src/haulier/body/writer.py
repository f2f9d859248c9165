"""Requests with bodies, long ones above all: their connections, their threads, their cancels."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final
from urllib.parse import SplitResult, urlsplit

from haulier.body.answers import Answer
from haulier.body.connections import Connections, Origin, proxy_credentials
from haulier.body.exchange import MAX_ANSWER, Exchange
from haulier.core.errors import PeerUnreachable
from haulier.engine.tasks import in_thread
from haulier.sending_ports import Cargo

SILENCE_S: Final = 90.0
"""How long the other side may neither take nor give a byte. Haulier's service gives up on a silent body after
60 s and answers a finish after 25 s; whoever is silent for longer is gone."""
END: Final = 16 * 1024
"""Bytes that wait until `Cargo.before_end` has returned: so few that whatever stops the request before them costs nothing."""


class BodyWriter:
    """Sends bodies over HTTP/1.1. It belongs to one event loop; `close` it after use.

    Args:
        connections: requests at once; more wait.
        tls: what certificates are trusted; the machine's, when not given.
        silence_s: see `SILENCE_S`.
        most: bytes of an answer that are read.
    """

    def __init__(
        self,
        *,
        connections: int,
        tls: ssl.SSLContext | None = None,
        silence_s: float = SILENCE_S,
        most: int = MAX_ANSWER,
    ) -> None:
        self._connections = Connections(tls)
        self._gate = asyncio.Semaphore(connections)
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="body")
        self._silence_s = silence_s
        self._most = most

    async def send(self, method: str, url: str, *, headers: Mapping[str, str], cargo: Cargo) -> Answer:
        """Send one request and return its whole answer, whatever it says. Redirects are not followed.

        When this is cancelled, the connection is closed; nothing is sent after that.

        Raises:
            PeerUnreachable: no answer, or half of one; whether the body arrived is unknown.
            SourceChanged: the source is shorter than the cargo.
            OSError: the source cannot be read.
            InvalidRequest: HTTP cannot carry the address or a header.
        """
        address = urlsplit(url)
        origin = Origin.of(address)
        async with self._gate:
            connection = await self._connections.take(origin)
            try:
                answer = await self._exchange(
                    connection, origin, _head(method, address, origin, headers), cargo
                )
            except BaseException as error:
                broken = isinstance(error, PeerUnreachable) and not error.too_slow
                self._connections.drop(origin, connection, broken=broken)
                raise
            if answer.keeps_alive:
                self._connections.give_back(origin, connection)
            else:
                self._connections.drop(origin, connection)
        return answer

    async def close(self) -> None:
        """Close what is kept; to be called once, when nothing is being sent."""
        self._connections.close()
        self._threads.shutdown(wait=False)

    async def _exchange(
        self,
        connection: socket.socket,
        origin: Origin,
        head: tuple[str, str, list[tuple[str, str]]],
        cargo: Cargo,
    ) -> Answer:
        exchange = Exchange(
            connection,
            head,
            cargo,
            # Not the whole address: it may be a secret that needs no other credential.
            url=str(origin),
            silence_s=self._silence_s,
            told=_on_loop(cargo.moved),
            most=self._most,
        )
        over, before_end = False, cargo.before_end
        while not over:
            if before_end is not None and 0 < exchange.unsent <= END:
                await before_end()
                before_end = None
            kept = 0 if before_end is None else END
            over = await in_thread(
                exchange.advance,
                await _allowance(exchange, cargo, kept),
                kept,
                pool=self._threads,
                interrupt=lambda: _interrupt(connection),
            )
        return exchange.answer()


async def _allowance(exchange: Exchange, cargo: Cargo, kept: int) -> int | None:
    """Return how many bytes may go next, when the last `kept` stay behind; None while nothing bounds them."""
    left = exchange.unsent - kept
    piece = None if cargo.throttle is None else cargo.throttle.piece
    if cargo.throttle is None or piece is None or left <= 0:
        return None
    allowed = min(piece, left)
    await cargo.throttle.take(allowed)
    return allowed


def _head(
    method: str, address: SplitResult, origin: Origin, headers: Mapping[str, str]
) -> tuple[str, str, list[tuple[str, str]]]:
    """Return method, target and fields."""
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    fields = [("Host", origin.authority), *headers.items()]
    if origin.proxy is not None and origin.scheme == "http":
        # RFC 9112 section 3.2.2: a proxy is told the whole address.
        return method, f"{origin}{target}", [*fields, *proxy_credentials(origin)]
    return method, target, fields


def _on_loop(moved: Callable[[int], None]) -> Callable[[int], None]:
    """Return what lets a thread tell progress to the loop, which may be over by then."""
    loop = asyncio.get_running_loop()

    def tell(count: int) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(moved, count)

    return tell


def _interrupt(connection: socket.socket) -> None:
    """Wake the thread that uses the connection: for it, the other side is gone."""
    with suppress(OSError):
        # Not SSLSocket's own: that one takes the encryption away under the thread.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
