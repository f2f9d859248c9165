"""The server process: its socket, its signals, its end.

Rule 1: SIGTERM and SIGINT are ours. The engine saves what is running first, then uvicorn closes.
Rule 2: a graceful stop takes at most `STOPPING_S`, whatever hangs, and ends with 0; a second signal ends the waiting.
        A second one within `REPEAT_S` is the first again: a wrapper passes on what its group got too.
"""

import asyncio
import contextlib
import ctypes
import errno
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Any, Final, cast

import uvicorn

from haulier.core.errors import ConfigError
from haulier.logs import get_logger
from haulier.machine import NEW_OBJECTS
from haulier.server.http.handover import WorkerEnd, told_when_lost
from haulier.server.http.limits import ConnectionLimits
from haulier.server.http.protocol import protocol_with

STOPPING_S: Final = 10.0
"""From the signal to the end of the process; Docker kills after 10."""
REPEAT_S: Final = 0.5
"""Longer than any wrapper takes to pass a signal on, shorter than a person takes to insist."""
_BACKLOG: Final = 2048
"""Connections that wait to be accepted; uvicorn's default, cut by the kernel to its own limit."""

log = get_logger()


class Until(float, Enum):
    """By when a part of a graceful stop is over, in seconds since it began; what one leaves, the next one has."""

    SAVED = 6.0
    """What is running: the rows and syncs of a thousand bodies take one, on a slow disk."""
    ANSWERED = 8.0
    """Connections: who is told that the service stops reads that soon, or not at all."""
    CLOSED = 9.5
    """What runs beside requests; the rest is the interpreter's."""


class StopBudget:
    """The time that a graceful stop may take, shared by all that have to end."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._began: float | None = None

    def begin(self) -> None:
        """Let the time run; harmless when it does."""
        if self._began is None:
            self._began = self._monotonic()

    def left_s(self, until: Until) -> float:
        """Return how many seconds are left for that part; it begins the stop."""
        self.begin()
        assert self._began is not None
        return max(self._began + until - self._monotonic(), 0.0)


Ready = Callable[[int], None]
"""Told, once, the real port when the server takes requests."""
Stopping = Callable[[], Awaitable[None]]
"""Awaited, once, when the service is told to stop and its running requests are to let go."""


class HaulierServer(uvicorn.Server):
    """uvicorn's server with our end; see the rules above."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_ready: Ready,
        on_stopping: Stopping,
        budget: StopBudget | None = None,
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_stopping = on_stopping
        self._budget = budget or StopBudget()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._saving: asyncio.Timeout | None = None
        self._told_at = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets=sockets)
        spare_collector()
        if self.started and sockets:
            self._on_ready(sockets[0].getsockname()[1])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Stop; the second time at once. uvicorn's own raises the signal again, which would not end with 0."""
        now = time.monotonic()
        if not self.should_exit:
            self.should_exit = True
            self._told_at = now
            self._budget.begin()
        elif self._loop is not None and now - self._told_at > REPEAT_S:
            self.force_exit = True
            self._loop.call_soon_threadsafe(self._stop_saving)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, let the application save what is running, then close."""
        for server in self.servers:
            server.close()
        try:
            async with asyncio.timeout(self._budget.left_s(Until.SAVED)) as self._saving:
                await self._on_stopping()
        except TimeoutError:
            log.warning("server.not_all_saved", after_s=Until.SAVED.value)
        except Exception:  # whatever it was: connections and the application's lifespan still have to end
            log.exception("server.saving_failed")
        self._saving = None
        # uvicorn means whole seconds, and hands them to asyncio, which does not.
        self.config.timeout_graceful_shutdown = self._budget.left_s(Until.ANSWERED)  # type: ignore[assignment]
        await super().shutdown(sockets=sockets)
        self._loop = None  # from here on nothing is left to be hurried

    def _stop_saving(self) -> None:
        if self._saving is not None and self._loop is not None and not self._saving.expired():
            self._saving.reschedule(self._loop.time())


class WorkerServer(HaulierServer):
    """A server that listens nowhere: its connections come from the process above it."""

    def __init__(
        self, config: uvicorn.Config, end: WorkerEnd, *, on_stopping: Stopping, budget: StopBudget
    ) -> None:
        super().__init__(config, on_ready=lambda _port: None, on_stopping=on_stopping, budget=budget)
        self._end = end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and ask for connections."""
        await super().startup(sockets=sockets)
        if self.started:
            self._end.open(self._connection, on_orphaned=_die)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, then stop as every server does."""
        self._end.close()
        await super().shutdown(sockets=sockets)

    def _connection(self) -> asyncio.BaseProtocol:
        make = cast("Callable[..., asyncio.BaseProtocol]", self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def _die() -> None:
    """End as a crash would: the service is gone, and the next one may be starting already."""
    os.kill(os.getpid(), signal.SIGKILL)


async def _nothing() -> None:
    """Save nothing."""


def serve(
    app: Any,
    *,
    host: str,
    port: int,
    on_ready: Ready = lambda _port: None,
    on_stopping: Stopping = _nothing,
    budget: StopBudget | None = None,
    limits: ConnectionLimits = ConnectionLimits(),  # noqa: B008 - a frozen value
) -> int:
    """Serve `app` until a signal; return the exit code: 0 after a graceful stop, 1 after any other.

    To be called in the main thread, once: the process is expected to end when this returns, and SIGTERM
    and SIGINT do nothing any more.

    Args:
        app: An ASGI application; its lifespan is run.
        host: Where to listen: an address, or a name of which every address is taken.
        port: 0 for a free one.
        on_ready: Told the real port.
        on_stopping: Awaited before connections are closed.
        budget: Of the stop, for an application that reckons with it too.
        limits: What one connection may take.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    sockets = listen(host, port)
    config = _config(app, protocol_with(limits))
    server = HaulierServer(config, on_ready=on_ready, on_stopping=on_stopping, budget=budget)
    return _run(server, sockets)


def serve_handed(
    app: Any,
    channel: socket.socket,
    *,
    on_stopping: Stopping = _nothing,
    budget: StopBudget | None = None,
    limits: ConnectionLimits = ConnectionLimits(),  # noqa: B008 - a frozen value
) -> int:
    """As `serve`, but on connections that a `Supervisor` hands over through `channel`; dies with it."""
    end = WorkerEnd(channel)
    config = _config(app, told_when_lost(protocol_with(limits), end.closed))
    return _run(WorkerServer(config, end, on_stopping=on_stopping, budget=budget or StopBudget()), [])


def _config(app: Any, protocol: type[asyncio.Protocol]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # who is behind a proxy is the application's to judge
        server_header=False,
        backlog=_BACKLOG,
    )


def _run(server: HaulierServer, sockets: list[socket.socket]) -> int:
    set_allocator()
    # uvicorn handles signals while its loop runs; before and after that they would kill.
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, server.handle_exit)
    try:
        server.run(sockets=sockets)
    except SystemExit:  # uvicorn's word for a failed start, which it has logged
        return 1
    return 0 if server.started and not server.force_exit else 1


def listen(host: str, port: int) -> list[socket.socket]:
    """Return bound sockets for every address of `host`, all with one port; the caller closes them.

    Raises:
        ConfigError: the name is unknown, the address is not ours, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError("host", host, f"it is no address to listen on ({error.strerror})") from error
    sockets: list[socket.socket] = []
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            sockets.append(_bound(family, (address[0], port, *address[2:])))
        except OSError as error:
            for bound in sockets:
                bound.close()
            raise _not_listening(host, port, error) from error
        port = sockets[0].getsockname()[1]
    return sockets


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would steal a port in use
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def _not_listening(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError("host", host, "no address of this machine; choose another with --host")
    holder = port_holder(port)
    if holder is not None:
        cure = f"{holder} listens there; stop it, or choose another port with --port (0: any free one)"
        return ConfigError("port", str(port), cure)
    if isinstance(error, PermissionError):
        return ConfigError(
            "port", str(port), "ports below 1024 need privileges; choose a higher one with --port"
        )
    reason = f"cannot listen on {host} port {port} ({error.strerror}); choose others with --host and --port"
    return ConfigError("port", str(port), reason)


def port_holder(port: int) -> str | None:
    """Return who listens on a TCP port, as `process 123 (its command)`; None where that cannot be known.

    Source: proc(5): state 0A in /proc/net/tcp is LISTEN, its inode is a link in the holder's /proc/PID/fd.
    """
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        if inodes.isdisjoint(_links(process / "fd")):
            continue
        command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return f"process {process.name} ({command[:200]})"
    return "another user's process" if inodes else None


def _listening_inodes(port: int) -> Iterator[str]:
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with contextlib.suppress(OSError):
            for line in table.read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _links(directory: Path) -> set[str]:
    links = set()
    with contextlib.suppress(OSError):  # not ours to see, or the process is gone
        for entry in directory.iterdir():
            with contextlib.suppress(OSError):  # closed since it was listed
                links.add(str(entry.readlink()))
    return links


def spare_collector() -> None:
    """Let the garbage collector look at little, and seldom.

    What a service is made of stays until it ends: some hundred thousand objects, 50 ms of a full collection, in which
    nothing is received. A request that is over leaves nothing that refers to itself (`Exchange.run_asgi`); but those
    that come together have more objects than make the collector start, and are gone before it finds anything.
    Source: `gc.freeze` and `gc.set_threshold` of Python's manual.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)


_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_MMAP_THRESHOLD: Final = 64 * 1024 * 1024
"""Bytes from which on a block is mapped by itself: more than any buffer of a request has, a step of a digest among them."""
_TRIM_THRESHOLD: Final = 16 * 1024 * 1024
"""Free bytes at the heap's end that are kept for the next requests: the receive buffers of some dozens of them. What is
more goes back to the machine."""


def set_allocator() -> bool:
    """Have glibc reuse memory for buffers instead of mapping each anew; tell whether it does.

    Mapping, faulting and unmapping such buffers is the largest single cost of receiving through asyncio.
    Source: mallopt(3), whose numbers these are; a no-op elsewhere.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD))
