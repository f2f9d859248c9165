"""Both ends of a connection: the receiver in front of our protocol, the exit behind it."""

import asyncio
import re
import socket
import sys
import weakref
from collections.abc import Callable
from http import HTTPStatus
from time import monotonic
from typing import Any, Final, Protocol

from haulier.core.hosts import is_loopback
from haulier.server.http.asgi import Headers

_INTERIM_PHRASES: Final = {104: "Upload Resumption Supported"}
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class Connection(Protocol):
    """What a `Receiver` reports to."""

    def bytes_received(self, view: memoryview) -> None:
        """Take what arrived; `view` is valid during this call only."""

    def eof_received(self) -> None:
        """The client sends no more."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""

    def pause_writing(self) -> None:
        """The client reads too slowly."""

    def resume_writing(self) -> None:
        """The client reads again."""


TURN_READS: Final = 2
"""Full buffers (1 MiB, about 1 ms) that one connection takes before all others have their turn. libuv would read 32."""


class Receiver(asyncio.BufferedProtocol):
    """Has the transport read into one buffer that all connections of an event loop share."""

    def __init__(self, connection: Connection, exit_: "Exit", buffer: memoryview) -> None:
        self._buffer = buffer
        self._connection = connection
        self._exit = exit_
        self._full_reads = 0

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Return where the next bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Have the bytes consumed before anything else can be read into the buffer."""
        # Only after a full read does the event loop read again at once.
        self._full_reads = self._full_reads + 1 if nbytes == len(self._buffer) else 0
        if self._full_reads == TURN_READS:
            self._full_reads = 0
            self._exit.let_others_run()
        self._connection.bytes_received(self._buffer[:nbytes])

    def eof_received(self) -> None:
        """The client sends no more; like uvicorn, take it as its leave."""
        self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._connection.resume_writing()


def _never() -> None:
    """Stand in the place of `on_close`; never called, since an exit that is lost is closing."""


TOGETHER: Final = 64 * 1024
"""Bytes that may wait for what is written next in the same turn of the event loop: a call of the kernel costs as much as
copying so many."""


class Exit(asyncio.Transport):
    """A transport that asks how to close: at once, or so that the last answer can still be read.

    A socket closed with unread bytes is reset, and a reset destroys what the client has not read yet.

    What is written in one turn of the event loop is sent together: an answer's head and its body are one packet, of which
    the client hears once.
    """

    def __init__(self, inner: asyncio.Transport, on_close: Callable[[], None]) -> None:
        super().__init__()
        self._inner = inner
        self._on_close = on_close
        self._leaving = False
        self._paused = False
        """Whether our side wants nothing to be read."""
        self._paused_at = 0.0
        self._held_s = 0.0
        self._others_run = False
        self._unsent: list[bytes] = []
        self._waiting = 0
        """Bytes in it."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known about the connection."""
        return self._inner.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, unless our end was sent already."""
        if self._leaving:
            return
        if not isinstance(data, bytes) or self._waiting + len(data) > TOGETHER:
            self._flush()
            self._inner.write(data)
            return
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(data)
        self._waiting += len(data)

    def _flush(self) -> None:
        """Send what waits; nothing when the connection has ended meanwhile."""
        unsent, self._unsent, self._waiting = self._unsent, [], 0
        if unsent and not self._inner.is_closing():
            self._inner.write(b"".join(unsent))

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._leaving or self._inner.is_closing()

    def close(self) -> None:
        """Close the way that `on_close` decides; may be repeated."""
        if not self.is_closing():
            self._on_close()

    def say_goodbye(self) -> None:
        """Send our end and go on reading."""
        self._flush()
        self._leaving = True
        if self._inner.can_write_eof():
            self._inner.write_eof()

    def close_now(self) -> None:
        """Close without waiting for the client; what is written is still sent."""
        self._flush()
        self._leaving = True
        self._inner.close()

    def lost(self) -> None:
        """Take note that the connection is gone, and forget who decides how to close: the two refer to each other."""
        self._leaving = True
        self._on_close = _never

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._unsent, self._waiting = [], 0
        self._leaving = True
        self._inner.abort()

    def pause_reading(self) -> None:
        """Stop reading."""
        if not self._paused:
            self._paused_at = monotonic()
        self._paused = True
        self._obey()

    def resume_reading(self) -> None:
        """Read again."""
        self._held_s = self.held_s()
        self._paused = False
        self._obey()

    def held_s(self) -> float:
        """Return for how long our side has wanted nothing to be read, in all."""
        running = monotonic() - self._paused_at if self._paused else 0.0
        return self._held_s + running

    def let_others_run(self) -> None:
        """Read nothing before the event loop has done what else is due."""
        self._others_run = True
        self._obey()
        asyncio.get_running_loop().call_soon(self._had_their_turn)

    def _had_their_turn(self) -> None:
        self._others_run = False
        self._obey()

    def _obey(self) -> None:
        if self._inner.is_closing():
            return
        if self._paused or self._others_run:
            self._inner.pause_reading()
        else:
            self._inner.resume_reading()


def final_response(status: int, headers: Headers, body: bytes) -> bytes:
    """Return a whole answer, after which the connection ends."""
    fields = _lines([*headers, (b"connection", b"close")])
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, HTTPStatus(status).phrase.encode(), fields, body)


def interim_response(status: int, headers: Headers) -> bytes:
    """Return an interim response.

    Source: RFC 9110 section 15.2; 101 is no interim one, and 100 sends itself.

    Raises:
        ValueError: not a status from 102 to 199, or a field that could end the head.
    """
    if not 102 <= status <= 199:
        raise ValueError(f"{status} is no interim status")
    phrase = _INTERIM_PHRASES.get(status, "")
    return b"HTTP/1.1 %d %s\r\n%s\r\n" % (status, phrase.encode(), _lines(headers))


def _lines(headers: Headers) -> bytes:
    lines = []
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"{name!r}: {value!r} is no field")
        lines.append(b"%s: %s\r\n" % (name, value))
    return b"".join(lines)


_NEAR_WINDOW: Final = 416 * 1024
"""Receive buffer, of which the kernel makes twice as much, for a client on this machine."""


def keep_in_cache(transport: asyncio.Transport) -> None:
    """Let a client on this machine be ahead by what a processor's cache holds, and no more.

    There is no round trip to hide. The kernel's own window grows to megabytes that have left the cache when they are
    read, which costs a tenth to a fifth of the whole transfer; a reverse proxy is mostly such a client.
    """
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple) and is_loopback(peer[0]):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NEAR_WINDOW)


_BUFFER_SIZE: Final = 512 * 1024
"""Half of what a core has for itself in its cache, so that what was received is written on while it is there. Half as
much costs a sixth more, in calls; as much as the cache gains nothing."""
_buffers: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview]] = (
    weakref.WeakKeyDictionary()
)


def receive_buffer(loop: asyncio.AbstractEventLoop) -> memoryview:
    """Return the buffer of this loop: it is consumed before control returns to the loop."""
    if sys.platform == "win32":  # the proactor fills buffers while other connections run
        return memoryview(bytearray(_BUFFER_SIZE))
    buffer = _buffers.get(loop)
    if buffer is None:
        buffer = _buffers[loop] = memoryview(bytearray(_BUFFER_SIZE))
    return buffer
