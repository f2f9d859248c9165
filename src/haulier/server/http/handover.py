"""How connections come from the process that accepts them to a worker that serves them.

Rule 1: a connection goes to the worker that serves the fewest. The kernel's own ways know nothing of load: several
        listeners throw dice for each connection, one listener for all gives most to whoever wakes first.
Rule 2: a connection is the acceptor's until the worker says that it took it. One that was on its way to a worker which
        died goes to another: nobody has read a byte of it.
Rule 3: whoever is at one end of the channel learns of the other's death: the kernel closes it.

Downwards a message is one byte with one connection. Upwards it is one byte: `READY`, `TAKEN` for each connection that
came, `CLOSED` for each that is over, `LEAVING` when no more will be taken.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Final

from haulier.logs import get_logger

READY: Final = b"r"
TAKEN: Final = b"t"
CLOSED: Final = b"c"
LEAVING: Final = b"l"
_CONNECTION: Final = b"+"
_TURN: Final = 16
"""Connections that a worker takes before those that it has get a turn; what nginx calls multi_accept is unbounded."""
_WORDS: Final = 4096
"""Bytes that are heard at a time."""
_RETRY_S: Final = 0.1
"""After which a full channel is tried again; it is full while the other end is held up."""

log = get_logger()


class _End(Enum):
    """What comes instead of a connection."""

    ORPHANED = auto()
    """The other end is gone."""
    LOST = auto()
    """The kernel has closed the connection: this process has as many files open as it may."""


class WorkerEnd:
    """A worker's end: takes connections, tells what became of them."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._untold = bytearray()
        """What the other end is still to be told."""
        self._telling: asyncio.TimerHandle | None = None
        self._serving: set[asyncio.Task[Any]] = set()

    def open(self, protocol: Callable[[], asyncio.BaseProtocol], *, on_orphaned: Callable[[], None]) -> None:
        """Serve what comes from here on; a connection that is over must be told with `closed`.

        `on_orphaned` is called when the process that accepts is gone.
        """
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._take, protocol, on_orphaned)
        self._untold += READY
        self._tell()

    def close(self) -> None:
        """Take no more; what is still on its way here goes to another worker."""
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._refuse)
        self._untold += LEAVING
        self._tell()

    def closed(self) -> None:
        """One of the connections is over."""
        self._untold += CLOSED
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(0, self._tell)

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        try:
            del self._untold[: self._channel.send(self._untold)]
        except BlockingIOError:
            pass  # the other end is held up
        except OSError:
            self._untold.clear()  # nobody is left to be told
        if self._untold:
            self._telling = asyncio.get_running_loop().call_later(_RETRY_S, self._tell)

    def _take(self, protocol: Callable[[], asyncio.BaseProtocol], on_orphaned: Callable[[], None]) -> None:
        for _ in range(_TURN):
            descriptor = self._next()
            if descriptor is None:
                return
            if descriptor is _End.ORPHANED:
                on_orphaned()
                return
            self._untold += TAKEN
            self._tell()
            if descriptor is _End.LOST:
                log.warning("connection.lost", reason="too many open files")
                self.closed()
            else:
                self._serve(descriptor, protocol)

    def _refuse(self) -> None:
        # Our copies must not keep open what another worker closes.
        while isinstance(descriptor := self._next(), int):
            os.close(descriptor)

    def _next(self) -> "int | _End | None":
        try:
            message, descriptors, _, _ = socket.recv_fds(self._channel, len(_CONNECTION), 1)
        except BlockingIOError:
            return None
        except ConnectionError:
            message, descriptors = b"", []
        if not message:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            return _End.ORPHANED
        return descriptors[0] if descriptors else _End.LOST

    def _serve(self, descriptor: int, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        os.set_inheritable(descriptor, False)
        connection = socket.socket(fileno=descriptor)
        connection.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._adopt(connection, protocol))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _adopt(self, connection: socket.socket, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)
        except OSError as error:
            connection.close()
            self.closed()
            log.debug("connection.lost", reason=str(error))


def _ignore() -> None:
    """Nobody watches yet."""


class AcceptorEnd:
    """The end of the process that accepts, one for each worker."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._given = 0
        self._over = 0
        self._on_way: deque[socket.socket] = deque()
        self._on_ready: Callable[[], None] = _ignore
        self._on_left: Callable[[], None] = _ignore
        self.ready = False
        """Whether the worker takes connections."""

    @property
    def load(self) -> int:
        """Connections that the worker has."""
        return self._given - self._over

    @property
    def given(self) -> int:
        """Connections that the worker ever got."""
        return self._given

    def watch(self, *, on_ready: Callable[[], None], on_left: Callable[[], None]) -> None:
        """Listen to the worker from here on: it takes connections, it takes no more (which may be told twice)."""
        self._on_ready, self._on_left = on_ready, on_left
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._hear)

    def give(self, connection: socket.socket) -> bool:
        """Hand over a connection, for good; False when the worker cannot take it now."""
        try:
            socket.send_fds(self._channel, [_CONNECTION], [connection.fileno()])
        except OSError:
            return False  # its channel is full, or it has just died
        self._given += 1
        self._on_way.append(connection)
        return True

    def take_back(self) -> Sequence[socket.socket]:
        """Return the connections that the worker has not taken; only when it takes no more."""
        back = list(self._on_way)
        self._on_way.clear()
        return back

    def close(self) -> None:
        """Hear what the worker said last; it has ended."""
        while self._hear():
            pass
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self._channel.close()
        self._leave()

    def _hear(self) -> bool:
        """Hear what there is; return whether there may be more."""
        try:
            told = self._channel.recv(_WORDS)
        except BlockingIOError:
            return False
        except ConnectionError:
            told = b""
        for _ in range(told.count(TAKEN)):
            self._on_way.popleft().close()
        self._over += told.count(CLOSED)
        if READY in told:
            self.ready = True
            self._on_ready()
        if LEAVING in told or not told:
            self._leave()
        if not told:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
        return bool(told)

    def _leave(self) -> None:
        self.ready = False
        self._on_left()


def told_when_lost(protocol: type[asyncio.Protocol], on_lost: Callable[[], None]) -> type[asyncio.Protocol]:
    """Return a protocol class that is `protocol` and calls `on_lost` at the end of each connection."""

    def connection_lost(self: asyncio.Protocol, exc: Exception | None) -> None:
        protocol.connection_lost(self, exc)
        on_lost()

    return type(protocol.__name__, (protocol,), {"connection_lost": connection_lost})
