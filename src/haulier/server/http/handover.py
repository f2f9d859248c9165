"""How connections come from the process that accepts them to a worker that serves them.

Rule 1: a connection goes to the worker that serves the fewest. The kernel's own ways know nothing of load: several
        listeners throw dice for each connection, one listener for all gives most to whoever wakes first.
Rule 2: whoever is at one end of the channel learns of the other's death: the kernel closes it.

Downwards a message is one byte with one connection. Upwards it is one byte: `READY`, or `CLOSED` for each connection
that is over.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any, Final

import structlog

READY: Final = b"r"
CLOSED: Final = b"c"
_CONNECTION: Final = b"+"
_TURN: Final = 16
"""Connections that a worker takes before those that it has get a turn; what nginx calls multi_accept is unbounded."""
_RETRY_S: Final = 0.1
"""After which a full channel is tried again; it is full while the other end is held up."""

log = structlog.get_logger()


class WorkerEnd:
    """A worker's end: takes connections, tells what became of them."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._closed = 0
        self._telling: asyncio.TimerHandle | None = None
        self._serving: set[asyncio.Task[Any]] = set()

    def open(self, protocol: Callable[[], asyncio.BaseProtocol], *, on_orphaned: Callable[[], None]) -> None:
        """Serve what comes from here on; a connection that is over must be told with `closed`.

        `on_orphaned` is called when the process that accepts is gone.
        """
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._take, protocol, on_orphaned)
        self._channel.send(READY)

    def close(self) -> None:
        """Take no more; what was accepted and is still on its way here is closed with this process."""
        asyncio.get_running_loop().remove_reader(self._channel.fileno())

    def closed(self) -> None:
        """One of the connections is over."""
        self._closed += 1
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(0, self._tell)

    def _tell(self) -> None:
        self._telling = None
        try:
            self._closed -= self._channel.send(CLOSED * self._closed)
        except BlockingIOError:
            pass  # the other end is held up
        except OSError:
            self._closed = 0  # nobody is left to be told
        if self._closed:
            self._telling = asyncio.get_running_loop().call_later(_RETRY_S, self._tell)

    def _take(self, protocol: Callable[[], asyncio.BaseProtocol], on_orphaned: Callable[[], None]) -> None:
        for _ in range(_TURN):
            try:
                message, descriptors, _, _ = socket.recv_fds(self._channel, len(_CONNECTION), 1)
            except BlockingIOError:
                return
            except ConnectionError:
                message, descriptors = b"", []
            if not message:
                self.close()
                on_orphaned()
                return
            if descriptors:
                self._serve(descriptors[0], protocol)
            else:
                # The kernel has closed it: this process has as many files open as it may.
                log.warning("connection.lost", reason="too many open files")
                self.closed()

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


class AcceptorEnd:
    """The end of the process that accepts, one for each worker."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._channel = channel
        self._given = 0
        self._over = 0
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

    def watch(self, on_ready: Callable[[], None]) -> None:
        """Listen to the worker from here on; `on_ready` is called once."""
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._hear, on_ready)

    def give(self, connection: socket.socket) -> bool:
        """Hand over a connection, which the caller then closes; False when the worker cannot take it now."""
        try:
            socket.send_fds(self._channel, [_CONNECTION], [connection.fileno()])
        except OSError:
            return False  # its channel is full, or it has just died
        self._given += 1
        return True

    def close(self) -> None:
        """The worker has ended; harmless when called twice."""
        if self._channel.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._channel.close()
        self.ready = False

    def _hear(self, on_ready: Callable[[], None]) -> None:
        try:
            told = self._channel.recv(4096)
        except BlockingIOError:
            return
        except ConnectionError:
            told = b""
        if not told:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self.ready = False
            return
        self._over += told.count(CLOSED)
        if READY in told:
            self.ready = True
            on_ready()


def told_when_lost(protocol: type[asyncio.Protocol], on_lost: Callable[[], None]) -> type[asyncio.Protocol]:
    """Return a protocol class that is `protocol` and calls `on_lost` at the end of each connection."""

    def connection_lost(self: asyncio.Protocol, exc: Exception | None) -> None:
        protocol.connection_lost(self, exc)
        on_lost()

    return type(protocol.__name__, (protocol,), {"connection_lost": connection_lost})
