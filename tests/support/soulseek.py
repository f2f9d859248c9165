"""Soulseek networks of one machine: a rendezvous, nodes of ours, and Nicotine+ as a foreign one."""

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from haulier.adapters.clock import SystemClock
from haulier.adapters.share_index import SqliteShareIndex
from haulier.adapters.transfer_queue import SqliteTransferQueueStore
from haulier.core.retry import RetryPolicy
from haulier.core.secret import Secret
from haulier.core.values import replace
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.lanes import Lanes
from haulier.soulseek.node import Node, NodeSettings
from haulier.soulseek.rendezvous import Rendezvous
from haulier.soulseek.server_link import Identity
from haulier.soulseek.shares import Share
from haulier.soulseek.upload import UploadRules
from tests.support.components import require
from tests.support.ports import free_port

DEADLINE_S: Final = 120.0
HOST: Final = "127.0.0.1"
PATIENT: Final = Bounds(
    connections_per_address=1_000, queued_files_per_user=10_000, messages_per_s=1_000.0, retry_base_s=0.1
)
"""The bounds of every day, which a busy machine does not reach, but for a crowd behind one address."""
SHORT: Final = replace(
    PATIENT,
    handshake_s=2.0,
    response_s=2.0,
    offset_s=2.0,
    stall_s=2.0,
    rate_window_s=3.0,
    linger_s=0.3,
    place_poll_s=1.0,
    replaced_s=0.5,
)
"""Bounds for a test that waits until one has passed; everything else that it does has to be done within them."""
QUICK: Final = RetryPolicy(retries=100, base_s=0.2, cap_s=0.5)


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Look often until the condition holds, for at most the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        await asyncio.sleep(0.01)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_file(path: Path, size: int, seed: int = 0) -> Path:
    """Write a file whose bytes are all different from another's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    block = hashlib.shake_256(f"{path.name} {seed}".encode("utf-8", "surrogateescape")).digest(
        min(size, 1 << 20)
    )
    with path.open("wb") as file:
        for start in range(0, size, len(block) or 1):
            file.write(start.to_bytes(8, "big"))
            file.write(block)
        file.truncate(size)
    return path


class Network:
    """A rendezvous, and nodes that end with it."""

    def __init__(self, folder: Path, stack: AsyncExitStack, server: Rendezvous, port: int) -> None:
        self.folder = folder
        self.server = server
        self.port = port
        self.password = "secret"
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._stack = stack

    def settings(self, user: str, shared: Path | None = None, **settings: Any) -> NodeSettings:
        shares = () if shared is None else (Share(shared.name, shared.resolve()),)
        values: dict[str, Any] = {"bounds": PATIENT, "reconnect": QUICK, "download_retry": QUICK, **settings}
        identity = Identity(user=user, password=Secret(self.password), host=HOST, port=self.port)
        return NodeSettings(identity=identity, host=HOST, port=0, shares=shares, **values)

    async def node(self, user: str, shared: Path | None = None, **settings: Any) -> Node:
        """Start a node that is stopped at the end of the test."""
        return await self._stack.enter_async_context(self.running(user, shared, **settings))

    @asynccontextmanager
    async def running(self, user: str, shared: Path | None = None, **settings: Any) -> AsyncIterator[Node]:
        """Run a node; what it keeps outlives it."""
        folder = self.folder / f"node-{user}"
        folder.mkdir(exist_ok=True)
        index = SqliteShareIndex(folder / "shares.db")
        store = SqliteTransferQueueStore(folder / "transfers.db")
        await index.open()
        await store.open()
        node = Node(
            self.settings(user, shared, **settings),
            index=index,
            store=store,
            clock=SystemClock(),
            log=self._log,
        )
        try:
            await node.start()
            yield node
        finally:
            await node.stop()
            await index.close()
            await store.close()

    def told(self, field: str) -> set[tuple[str, object]]:
        """Return the events of all nodes, each with one of its fields."""
        return {(event, fields.get(field)) for event, fields in self.events}

    def _log(self, event: str, **fields: Any) -> None:
        assert event != "task.failed", fields
        self.events.append((event, fields))


@asynccontextmanager
async def network(folder: Path, **options: Any) -> AsyncIterator[Network]:
    """Run a rendezvous for a test."""
    server = Rendezvous(**options)
    _, port = await server.start(HOST, 0)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop)
        yield Network(folder, stack, server, port)


class Nicotine:
    """Nicotine+ without a window, with a folder of its own.

    Args:
        folder: Where it keeps everything.
        port: Of the rendezvous.
        user: Its name.
        shared: What it shares, under the folder's name.
        settings: Sections and options of its configuration, as Python values.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        user: str,
        shared: Path | None = None,
        settings: dict[str, dict[str, object]] | None = None,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.downloads = folder / "downloads"
        self.incomplete = folder / "incomplete"
        for path in (self.data, self.downloads, self.incomplete):
            path.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._settings: dict[str, dict[str, object]] = {
            "server": {
                "server": (HOST, port),
                "login": user,
                "passw": "secret",
                "portrange": (self.port, self.port),
                # Nothing of a test leaves the machine: a router is not asked for anything.
                "upnp": False,
                "auto_connect_startup": True,
            },
            "transfers": {
                "incompletedir": str(self.incomplete),
                "downloaddir": str(self.downloads),
                "shared": [] if shared is None else [(shared.name, str(shared))],
                "rescanonstartup": True,
                "useupslots": True,
                "uploadslots": 3,
                "uploadbandwidth": 0,
            },
            "logging": {"transfers": False, "debug": False},
        }
        for section, options in (settings or {}).items():
            self._settings.setdefault(section, {}).update(options)

    def want(self, user: str, path: str, size: int, *, have: bytes = b"", hole: int = 0) -> None:
        """Let it download a file when it starts; it has the first bytes already, or so many zeros."""
        row = [user, path, str(self.downloads), "User logged off", size, len(have) or hole or None, {}]
        seeds = self.data / "downloads.json"
        rows = json.loads(seeds.read_text()) if seeds.exists() else []
        seeds.write_text(json.dumps([*rows, row]))
        if have or hole:
            self.part(user, path).write_bytes(have)
            os.truncate(self.part(user, path), len(have) or hole)

    def part(self, user: str, path: str) -> Path:
        """Where it keeps an unfinished download."""
        name = hashlib.md5((path + user).encode(), usedforsecurity=False).hexdigest()
        return self.incomplete / f"INCOMPLETE{name}{path.rpartition(chr(92))[2]}"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        config = self.folder / "config"
        if not config.exists():
            lines = [
                line
                for section, options in self._settings.items()
                for line in (f"[{section}]", *(f"{name} = {value}" for name, value in options.items()))
            ]
            config.write_text("\n".join(lines) + "\n")
        program = require("nicotine")
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [program, "--headless", "-b", HOST, "-c", str(config), "-u", str(self.data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder)},  # noqa: TID251 - a child's
            )

    def kill(self) -> None:
        """End it as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(DEADLINE_S)

    def stop(self) -> None:
        """End it in order."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(DEADLINE_S)
            finally:
                process.kill()
                process.wait(DEADLINE_S)


@contextmanager
def nicotine(
    folder: Path, port: int, user: str, shared: Path | None = None, **options: Any
) -> Iterator[Nicotine]:
    """Give a Nicotine+ that is not started yet; what fails meanwhile is told with its log."""
    folder.mkdir(parents=True, exist_ok=True)
    foreign = Nicotine(folder, port, user, shared, **options)
    try:
        yield foreign
    except BaseException as error:
        error.add_note(f"--- the log of Nicotine+\n{foreign.log[-8_000:]}")
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            foreign.kill()


def slow_lane(bytes_per_s: float) -> UploadRules:
    """Rules under which uploads are that slow, all together."""
    return UploadRules(throttles=Lanes(SystemClock(), together=bytes_per_s))
