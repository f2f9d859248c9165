"""A TCP connection that carries messages, then perhaps raw bytes.

Rule 1: nothing is read beyond the frame that is being read, so a connection may change what it carries.
Rule 2: what waits to be sent is bounded. Whoever does not take it in time loses the connection.
Rule 3: one that sends messages faster than it may, known ones or not, is read more slowly; the kernel's window does
        the rest.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from haulier.core.errors import PeerError
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.codec import Message, Table
from haulier.soulseek.messages import INIT
from haulier.soulseek.protocol import READ_SIZE, Event, Frames

_PIECE: Final = 256 * 1024
_BURST: Final = 50
"""Messages that may come at once, at any rate."""


Leave = Callable[[], None]
"""Counts a connection out."""


class ConnectionLost(PeerError):
    """The other side went, or was left because of what it did."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class Connection:
    """One connection; the first messages are those that open one.

    Reading is one task's business at a time; anybody may send.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        bounds: Bounds,
        *,
        throttled: bool = True,
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.bounds = bounds
        self.frames = Frames(INIT, INIT)
        self.address: str = (writer.get_extra_info("peername") or ("",))[0]
        self.left: Leave | None = None
        """Counts it out; called once, when it closes."""
        self._events: list[Event] = []
        self._sending = asyncio.Lock()
        self._allowance = float(_BURST)
        self._allowed_at = asyncio.get_running_loop().time()
        self._throttled = throttled
        writer.transport.set_write_buffer_limits(high=bounds.unsent)
        _keep_alive(writer)

    @property
    def closing(self) -> bool:
        """Whether it has ended, or is about to."""
        return self.writer.is_closing()

    def switch(self, incoming: Table, outgoing: Table) -> None:
        """From now on other messages come and go."""
        self.frames.switch(incoming, outgoing)

    async def receive(self) -> Event:
        """Return the next message; cancelling it loses nothing.

        Raises:
            ConnectionLost: there is none, or it breaks the protocol.
        """
        while not self._events:
            await self._pace(self.frames.take_unknown())
            self._take(await self._read(self.frames.wanted))
        await self._pace(1)
        return self._events.pop(0)

    def _take(self, data: bytes) -> None:
        if not data:
            raise ConnectionLost("the other side has closed")
        self.frames.receive_data(data)
        self._events += self.frames.events()
        if self.frames.should_close() and not self._events:
            raise ConnectionLost(str(self.frames.fault))

    async def _pace(self, messages: int) -> None:
        """Wait until so many more messages may come."""
        loop = asyncio.get_running_loop()
        rate = self.bounds.messages_per_s
        earned = (loop.time() - self._allowed_at) * rate
        self._allowed_at = loop.time()
        self._allowance = min(_BURST, self._allowance + earned) - messages
        if self._throttled and self._allowance < 0:
            await asyncio.sleep(-self._allowance / rate)

    async def read_exactly(self, size: int) -> bytes:
        """Return raw bytes of a connection that carries no messages any more; raises ConnectionLost."""
        try:
            return await self.reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise ConnectionLost(f"{len(error.partial)} bytes came where {size} belong") from error
        except OSError as error:
            raise ConnectionLost(str(error)) from error

    async def read_some(self, size: int = READ_SIZE) -> bytes:
        """Return raw bytes, none at the end; raises ConnectionLost."""
        return await self._read(size)

    async def _read(self, size: int) -> bytes:
        try:
            return await self.reader.read(size)
        except OSError as error:
            raise ConnectionLost(str(error)) from error

    async def send(self, *messages: Message) -> None:
        """Send messages, in order and together.

        Raises:
            ConnectionLost: the other side is gone, or does not take them.
        """
        async with self._sending:
            for message in messages:
                self.frames.send(message)
            await self._write(self.frames.data_to_send())

    async def send_raw(self, data: bytes) -> None:
        """Send bytes; raises ConnectionLost."""
        async with self._sending:
            await self._write(data)

    def send_nowait(self, message: Message) -> None:
        """Send a message without waiting; whoever has not taken a whole buffer of them is left."""
        if self.closing:
            return
        if self.writer.transport.get_write_buffer_size() > self.bounds.unsent:
            self.abort()
            return
        self.frames.send(message)
        self.writer.write(self.frames.data_to_send())

    async def _write(self, data: bytes) -> None:
        for start in range(0, len(data), _PIECE):
            if self.closing:
                raise ConnectionLost("the connection is closed")
            self.writer.write(data[start : start + _PIECE])
            try:
                async with asyncio.timeout(self.bounds.message_write_s):
                    await self.writer.drain()
            except (OSError, TimeoutError) as error:
                self.abort()
                raise ConnectionLost(str(error) or "the other side takes nothing") from error

    def close(self) -> None:
        """Close after what waits is sent, if it is taken in time; a second call is harmless."""
        self._count_out()
        if self.closing:
            return
        self.writer.close()
        if self.writer.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(self.bounds.message_write_s, self.writer.transport.abort)

    def abort(self) -> None:
        """Close at once."""
        self._count_out()
        self.writer.transport.abort()

    def _count_out(self) -> None:
        left, self.left = self.left, None
        if left is not None:
            left()

    async def wait_closed(self) -> None:
        """Wait until the socket is closed."""
        with suppress(OSError):
            await self.writer.wait_closed()


async def stop_listening(server: asyncio.Server) -> None:
    """Close a server once every connection that it has taken was told of.

    asyncio forgets one that it takes in the very step in which its server is closed, and leaves it open.
    """
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    await asyncio.sleep(0)  # what was taken gets its transport,
    await asyncio.sleep(0)  # and is told of
    server.close()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Let the kernel notice a peer that vanished silently, within two minutes."""
    sock = writer.get_extra_info("socket")
    if sock is None:
        return
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def connect(host: str, port: int, bounds: Bounds, *, throttled: bool = True) -> Connection:
    """Open a connection.

    Args:
        host: Where to.
        port: Which one.
        bounds: Its limits.
        throttled: Whether rule 3 holds for who is there.

    Raises:
        ConnectionLost: nobody answers there in time.
    """
    try:
        async with asyncio.timeout(bounds.direct_connect_s):
            reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError, OverflowError) as error:
        raise ConnectionLost(str(error) or f"{host}:{port} does not answer") from error
    return Connection(reader, writer, bounds, throttled=throttled)


class Limits:
    """How many connections there are in all, how many come from each address, and how many each has us open."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._by_address: dict[tuple[str, bool], int] = {}
        self.total = 0

    def enter(self, address: str, *, asked: bool = False) -> Leave | None:
        """Count one more that comes, or is opened because somebody there has `asked`; None when there are too many."""
        key = (address, asked)
        here = self._by_address.get(key, 0)
        if self.total >= self._bounds.connections or here >= self._bounds.connections_per_address:
            return None
        self._by_address[key] = here + 1
        self.total += 1
        return lambda: self._leave(key)

    def go_out(self) -> Leave | None:
        """Count one more that we open, as `enter` does: how many go to one address is our own doing."""
        if self.total >= self._bounds.connections:
            return None
        self.total += 1
        return self._come_back

    def _come_back(self) -> None:
        self.total -= 1

    def _leave(self, key: tuple[str, bool]) -> None:
        self.total -= 1
        self._by_address[key] -= 1
        if not self._by_address[key]:
            del self._by_address[key]
