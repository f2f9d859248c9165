"""Everything around the engine: the machine, the network between it and its clients, and the course of a scenario."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

from haulier.adapters.memory.rows import MemoryDatabase
from haulier.adapters.memory.sink import MemoryDisk
from haulier.adapters.workers import MemoryWorkers
from haulier.core.errors import HaulierError, ServiceStopping, StorageError
from haulier.core.upload import UploadDetails
from haulier.testing import SeededIdentifiers
from tests.simulation.ledger import Ledger
from tests.simulation.loop import SimLoop
from tests.simulation.server import Server
from tests.simulation.signals import SimSignals
from tests.simulation.sink import Doubts
from tests.simulation.trace import Trace

T = TypeVar("T")

HANGS_S: Final = 900.0
"""Virtual seconds after which a request that has not ended never will."""


class ConnectionLost(Exception):
    """The client does not learn what became of its request."""


class SimClock:
    """`haulier.machine.Clock` on virtual time, with a wall that can be set."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.shift = 1_800_000_000.0
        self.jumped_at = float("-inf")

    def now(self) -> float:
        """Return the wall's time."""
        return self._loop.time() + self.shift

    def monotonic(self) -> float:
        """Return virtual time."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Wait in virtual time."""
        await asyncio.sleep(seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall."""
        self.shift += seconds
        self.jumped_at = self._loop.time()


class World:
    """The machine and the network of one scenario."""

    def __init__(self, seed: int, loop: SimLoop) -> None:
        self.seed = seed
        self.loop = loop
        self.trace = Trace(loop)
        self.clock = SimClock(loop)
        self.database: MemoryDatabase[UploadDetails] = MemoryDatabase()
        self.database.pause = self._pause
        self.disk = MemoryDisk(clock=self.clock)
        self.ledger = Ledger()
        self.servers: list[Server] = []
        """Those that run."""
        self.lives = 0
        """Servers that were started."""
        self.started_at = 0.0
        """When the youngest server was started."""
        self.workers = MemoryWorkers()
        self.room: list[SimSignals] = []
        self.doubts = Doubts()
        self.calm = asyncio.Event()
        """Set when nothing bad happens any more."""
        self.faulty = False
        """Whether back ends were ever made to fail."""
        self.forgetful = False
        """Whether the service or a client may ever have missed an answer."""
        self.slow_s = 0.0
        """Longest wait at a slow back end."""
        self.loss = 0.0
        """Share of answers that never arrive."""
        self._ids = SeededIdentifiers(self.clock, seed)
        self._pauses = self.random("pauses")
        self._network = self.random("network")
        self._losses = self.random("losses")
        self._durable = self._losses.random() < 0.3
        self.size = self.random("size").choice((1, 1, 2, 3))
        """Servers that share everything."""
        self._replies: dict[asyncio.Future[Any], Server] = {}

    def random(self, name: str) -> random.Random:
        """Return chance that depends on the seed and the name only."""
        return random.Random(f"{self.seed}/{name}")

    # --- the server ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start services until all stay up."""
        while len(self.servers) < self.size or not all(server.ready for server in self.servers):
            if len(self.servers) < self.size:
                self._start()
            await asyncio.sleep(0.1)

    def _start(self) -> None:
        self.lives += 1
        server = Server(
            self.lives, self, ids=self._ids, pause=self._pause, rng=self._losses, durable=self._durable
        )
        self.servers.append(server)
        self.started_at = self.loop.time()
        self.trace.note("world", f"{server.process.name} starts")
        main = self.loop.create_task(server.run(), context=server.process.context.copy())
        main.add_done_callback(partial(self._server_ended, server))

    def _server_ended(self, server: Server, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or server not in self.servers:
            return
        error = task.exception()
        self.trace.require(isinstance(error, StorageError) and self.faulty, f"the service ended: {error!r}")
        self.kill(server)  # it did not come up; whoever runs it starts it again

    def kill(self, server: Server) -> None:
        """End a server as `kill -9` does: its tasks are gone, what was written is written."""
        if server not in self.servers:
            return
        self.servers.remove(server)
        self.forgetful = True
        self.trace.note("world", f"{server.process.name} is killed")
        self.loop.kill(server.process)
        server.die()
        self._lose_replies(server)

    async def stop(self, server: Server) -> None:
        """End a server gracefully."""
        if server not in self.servers:
            return
        self.forgetful = True
        self.trace.note("world", f"{server.process.name} stops")
        task = self.loop.create_task(server.stop(), context=server.process.context.copy())
        await asyncio.wait({task}, timeout=20.0)
        if server in self.servers:
            self.trace.require(task.done(), "a graceful stop did not end")
            task.result()
            self.kill(server)

    def _lose_replies(self, server: Server) -> None:
        for reply, answering in list(self._replies.items()):
            if answering is server and not reply.done():
                reply.set_exception(ConnectionLost)

    # --- the network ---------------------------------------------------------------------------------

    async def request(self, who: str, what: str, work: Callable[[Server], Awaitable[T]]) -> T:
        """Send a request and return its answer.

        Raises:
            HaulierError: the service's refusal.
            ConnectionLost: no answer.
        """
        ready = [server for server in self.servers if server.ready]
        if not ready:
            await asyncio.sleep(0.5)
            raise ConnectionLost
        server = self._network.choice(ready)
        self.trace.note(who, f"{what} @{server.process.name}")
        handler = self.loop.create_task(_call(work, server), context=server.process.context.copy())
        reply: asyncio.Future[T] = self.loop.create_future()
        self._replies[reply] = server
        handler.add_done_callback(partial(self._answer, reply))
        self._maybe_lose(handler, reply)
        try:
            async with asyncio.timeout(HANGS_S):
                answer = await reply
        except TimeoutError:
            raise self.trace.violated(f"{who}: {what} never ends: {handler.get_stack()}") from None
        except (HaulierError, ConnectionLost) as error:
            self.trace.note(who, f"{what} -> {error!r}")
            raise
        finally:
            del self._replies[reply]
        self.trace.note(who, f"{what} -> ok")
        return answer

    def _maybe_lose(self, handler: "asyncio.Task[T]", reply: "asyncio.Future[T]") -> None:
        """Let the client go away: it hears nothing, and a front end may cancel what it asked for."""
        if self._network.random() < self.loss:
            delay = self._network.choice((0.0, 0.01, 0.3, 2.0))
            self.loop.call_later(delay, _set_lost, reply)
            if self._network.random() < 0.5:
                self.loop.call_later(delay, handler.cancel)

    def _answer(self, reply: "asyncio.Future[T]", handler: "asyncio.Task[T]") -> None:
        if handler.cancelled():
            _set_lost(reply)
            return
        error = handler.exception()
        if error is not None:
            self.trace.require(isinstance(error, HaulierError), f"a handler failed: {error!r}")
            own = isinstance(error, StorageError) and not isinstance(error, ServiceStopping)
            self.trace.require(self.faulty or not own, f"storage failed by itself: {error!r}")
        if reply.done():
            return
        if error is not None:
            reply.set_exception(error)
        else:
            reply.set_result(handler.result())

    async def _pause(self) -> None:
        """Be now and then as slow as a disk."""
        luck = self._pauses.random()
        if luck < 0.5:
            return
        await asyncio.sleep(self._pauses.random() * self.slow_s if luck > 0.9 else 0.0)


def _set_lost(reply: "asyncio.Future[Any]") -> None:
    if not reply.done():
        reply.set_exception(ConnectionLost)


async def _call(work: Callable[[Server], Awaitable[T]], server: Server) -> T:
    return await work(server)
