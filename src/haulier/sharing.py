"""Soulseek nodes put together: the one place that picks their adapters, and holds what only one may hold.

Rule 1: a data directory has one node, and a name one login on this machine; both are locks that the kernel lets
        go when their holder dies. A second login would end the first, so it is refused before it is tried.
Rule 2: `haulier serve` never imports this module.
"""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeVar

import uvicorn
from platformdirs import user_state_path

from haulier.adapters.clock import SystemClock
from haulier.adapters.lock_files import try_lock
from haulier.adapters.memory.shares import MemoryShareIndex
from haulier.adapters.node_beside import CONTROL_ADDRESS, CONTROL_TOKEN
from haulier.adapters.share_index import FILE_NAME as SHARES
from haulier.adapters.share_index import SqliteShareIndex
from haulier.adapters.stop_signals import until_stopped
from haulier.adapters.transfer_queue import FILE_NAME as TRANSFERS
from haulier.adapters.transfer_queue import SqliteTransferQueueStore
from haulier.core.errors import ConfigError, NodeBusy
from haulier.core.transfer import Direction
from haulier.core.values import dataclass
from haulier.logs import get_logger
from haulier.ports import ShareIndex
from haulier.private_files import replace_private
from haulier.server.logs import configure_logging
from haulier.soulseek.control import control_app
from haulier.soulseek.download import Download
from haulier.soulseek.lanes import Lanes
from haulier.soulseek.node import Node, NodeSettings
from haulier.soulseek.rendezvous import Rendezvous

LOCK: Final = "soulseek.lock"
ACCOUNTS_LOCK: Final = "rendezvous.lock"
SHOWN_EVERY_S: Final = 0.25
STARTING_S: Final = 0.01
_TOKEN_BYTES: Final = 32
_EVERYDAY: Final = frozenset({"peer.lost", "peer.unreachable"})
"""Events that fill a log and tell an operator nothing: of two attempts to connect one always loses."""

T = TypeVar("T")

_LEVELS: Final = {
    "task.failed": logging.ERROR,
    "transfers.not_kept": logging.ERROR,
    "upkeep.failed": logging.WARNING,
    "upload.put_off": logging.WARNING,
    "server.lost": logging.WARNING,
}
"""How bad events are that are worse than information; the first is a mistake of ours."""

Ready = Callable[[str], None]
Log = Callable[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a node keeps things."""

    data_dir: Path
    home: Path | None = None
    """Of the locks of names; the platform's user state directory by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """Where the control API is, and its token; without one the token's file is made."""

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None

    def __post_init__(self) -> None:
        try:
            loopback = self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise ConfigError(
                "control", self.host, "the control API listens on loopback only, as 127.0.0.1:PORT"
            )


async def share(
    settings: NodeSettings,
    control: ControlSettings,
    places: Places,
    log: Log,
    *,
    ready: Ready,
    watch: Callable[[Node], None] | None = None,
) -> None:
    """Run a node until SIGTERM or Ctrl-C, which may come while it starts; `watch` is shown it several times a second.

    Raises:
        NodeBusy: there is one already.
        LoginRefused: the server does not let us in.
        LoggedInElsewhere: somebody took our name while we ran.
    """

    async def work() -> None:
        async with _node(settings, places, log) as node, controlled(node, control, places.data_dir):
            ready(f"{node.address[0]}:{node.address[1]}")
            await _show_until_ended(node, watch)

    await until_stopped(work())


async def _show_until_ended(node: Node, watch: Callable[[Node], None] | None) -> None:
    assert node.ended is not None
    while not node.ended.done():
        if watch is not None:
            watch(node)
        await asyncio.wait({node.ended}, timeout=None if watch is None else SHOWN_EVERY_S)
    node.ended.result()


@asynccontextmanager
async def lone_node(settings: NodeSettings, places: Places, log: Log) -> AsyncIterator[Node]:
    """Log in for one command: a node that shares nothing and touches nothing that another run has left."""
    async with _node(settings, places, log, lone=True) as node:
        yield node


async def fetch_alone(node: Node, user: str, file: str, target: Path) -> Download:
    """Begin a download, or go on with one to the same place that an earlier run has left."""
    for kept in await node.ledger.live(Direction.DOWNLOAD):
        if (kept.transfer.line, kept.file, kept.target) == (user, file, os.fspath(target)):
            node.downloads.start([kept])
            download = node.downloads.find(kept.transfer.id)
            assert download is not None
            node.downloads.resume(download)
            return download
    return await node.downloads.fetch(user, file, target)


async def while_logged_in(node: Node, work: Coroutine[Any, Any, T]) -> T:
    """Do something for as long as the server keeps us; raises why it does not, as `Node.wait_ended` does."""
    loop = asyncio.get_running_loop()
    doing, ending = loop.create_task(work), loop.create_task(node.wait_ended())
    try:
        await asyncio.wait({doing, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            ending.result()
        return await doing
    finally:
        doing.cancel()
        ending.cancel()
        await asyncio.gather(doing, ending, return_exceptions=True)


async def rendezvous(
    server: Rendezvous, host: str, port: int, *, data_dir: Path | None, ready: Ready
) -> None:
    """Run a rendezvous server until SIGTERM or Ctrl-C.

    Raises:
        NodeBusy: another one keeps its accounts in that directory.
    """

    async def work() -> None:
        with _only_accounts(data_dir):
            try:
                address = await server.start(host, port)
                ready(f"{address[0]}:{address[1]}")
                await asyncio.get_running_loop().create_future()
            finally:
                await server.stop()

    await until_stopped(work())


def lanes(*, together: float | None, each: float | None) -> Lanes:
    """Return bounds on the rate of uploads, in bytes per second: of all, and of one user."""
    return Lanes(SystemClock(), together=together, each=each)


def logger(form: str) -> Log:
    """Send log events to standard error, and return what takes them."""
    configure_logging("json" if form == "json" else "console")
    log = get_logger()

    def tell(event: str, **fields: Any) -> None:
        if event not in _EVERYDAY:
            log.log(_LEVELS.get(event, logging.INFO), event, **fields)

    return tell


def _prepare(data_dir: Path) -> None:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            "data_dir", str(data_dir), f"expected a directory that can be made ({error.strerror})"
        ) from error


def _keep_private(settings: NodeSettings, data_dir: Path) -> None:
    """See that no peer can fetch the control token; raises ConfigError. What begins with a dot is never shared."""
    private = data_dir.resolve()
    for shared in settings.shares:
        if not private.is_relative_to(shared.root):
            continue
        if not any(part.startswith(".") for part in private.relative_to(shared.root).parts):
            raise ConfigError(
                "share",
                str(shared.root),
                f"it holds the data directory {private}; share another folder, or name another --data-dir",
            )


@asynccontextmanager
async def _node(
    settings: NodeSettings, places: Places, log: Log, *, lone: bool = False
) -> AsyncIterator[Node]:
    data_dir = places.data_dir
    _prepare(data_dir)
    _keep_private(settings, data_dir)
    with _only(data_dir / LOCK, f"the node of {data_dir}"), _only_login(settings, places.home):
        index = MemoryShareIndex() if lone else SqliteShareIndex(data_dir / SHARES)
        store = SqliteTransferQueueStore(data_dir / TRANSFERS)
        async with _opened(index), _opened(store):
            node = Node(settings, index=index, store=store, clock=SystemClock(), log=log)
            try:
                await node.start(restore=not lone)
                yield node
            finally:
                await node.stop()


@asynccontextmanager
async def _opened(adapter: ShareIndex | SqliteTransferQueueStore) -> AsyncIterator[None]:
    if isinstance(adapter, MemoryShareIndex):
        yield
        return
    assert isinstance(adapter, SqliteShareIndex | SqliteTransferQueueStore)
    await adapter.open()
    try:
        yield
    finally:
        await adapter.close()


@contextmanager
def _only(path: Path, what: str) -> Iterator[None]:
    descriptor, holder = try_lock(path)
    if descriptor is None:
        raise NodeBusy(what, holder)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _only_accounts(data_dir: Path | None) -> Iterator[None]:
    """Let no other server give away a name that this one has given to somebody."""
    if data_dir is None:
        yield
        return
    _prepare(data_dir)
    with _only(data_dir / ACCOUNTS_LOCK, f"the server of {data_dir}"):
        yield


@contextmanager
def _only_login(settings: NodeSettings, home: Path | None) -> Iterator[None]:
    identity = settings.identity
    root = (user_state_path("haulier", appauthor=False) if home is None else home) / "soulseek"
    root.mkdir(parents=True, exist_ok=True)
    name = sha256(
        f"{identity.user}@{identity.host}:{identity.port}".encode("utf-8", "surrogateescape")
    ).hexdigest()
    with _only(root / f"{name[:32]}.lock", f"{identity.user} at {identity.host}:{identity.port}"):
        yield


# --- control -----------------------------------------------------------------------------------------


@asynccontextmanager
async def controlled(node: Node, settings: ControlSettings, data_dir: Path) -> AsyncIterator[None]:
    """Let a node be controlled over HTTP, and write down where and with which token."""
    token = _token(data_dir / CONTROL_TOKEN, settings.token)
    with contextlib.closing(_listening(settings)) as listening:
        host, port = listening.getsockname()[:2]
        stopping = asyncio.Event()
        server = _Quiet(
            uvicorn.Config(
                control_app(node, token, stopping),
                log_config=None,
                access_log=False,
                lifespan="off",
                loop="none",
            )
        )
        serving = asyncio.get_running_loop().create_task(server.serve(sockets=[listening]))
        while not server.started and not serving.done():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(STARTING_S)
        address = data_dir / CONTROL_ADDRESS
        told = json.dumps({"url": f"http://{host}:{port}", "pid": os.getpid()})
        replace_private(address, f"{told}\n")
        try:
            yield
        finally:
            address.unlink(missing_ok=True)
            node.ledger.followers.close()
            stopping.set()
            server.should_exit = True
            await serving


class _Quiet(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _listening(settings: ControlSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            "control", f"{settings.host}:{settings.port}", f"expected a free address ({error.strerror})"
        ) from error
    return listening


def _token(path: Path, given: str | None) -> str:
    """Return the given token or that of the file. The file has it afterwards: `haulier serve` looks there."""
    if not given and path.exists():
        if path.stat().st_mode & 0o077:
            raise ConfigError("data_dir", str(path.parent), f"{path} must have mode 0600; use chmod 600")
        return path.read_text().strip()
    token = given or secrets.token_urlsafe(_TOKEN_BYTES)
    replace_private(path, f"{token}\n")
    return token
