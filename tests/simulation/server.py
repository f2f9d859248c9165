"""One life of the service: the real engine in a process that can be killed."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from haulier.adapters.access import GrantedAccess
from haulier.adapters.claims import LocalClaims
from haulier.engine.background import Background
from haulier.engine.context import SessionLimits, SessionPorts
from haulier.engine.janitor import Janitor, JanitorLimits
from haulier.engine.planning import UploadLimits
from haulier.engine.records import RecordService
from haulier.engine.uploads import UploadService
from haulier.machine import Identifiers
from tests.simulation.loop import Process
from tests.simulation.signals import SimSignals
from tests.simulation.sink import LossySink
from tests.support.visitors import people

if TYPE_CHECKING:
    from tests.simulation.world import World

TTL_S: Final = 120.0
INTERVAL_S: Final = 20.0
"""Between two sweeps of the janitor."""
CHUNK: Final = 8
"""Bytes; a file of a few dozen bytes is big here."""


class Server:
    """The parts of one process, wired as the service wires them."""

    def __init__(
        self,
        number: int,
        world: "World",
        *,
        ids: Identifiers,
        pause: Callable[[], Awaitable[None]],
        rng: random.Random,
        durable: bool,
    ) -> None:
        self.process = Process(f"server {number}")
        self.holder = f"holder {number}"
        self.ready = False
        self.background = Background()
        self.claims = LocalClaims()
        self.database = world.database.beside()
        self.sink = LossySink(world.disk, pause=pause, rng=rng, doubts=world.doubts)
        self.signals = SimSignals(world.room, rng)
        self._workers = world.workers
        self._workers.living.add(self.holder)
        self._disk = world.disk
        access = GrantedAccess(world.clock)
        self.uploads = UploadService(
            SessionPorts(
                work=self.database,
                sink=self.sink,
                claims=self.claims,
                workers=self._workers,
                signals=self.signals,
                clock=world.clock,
                ids=ids,
                holder=self.holder,
                boot_id="boot",
            ),
            access,
            self.background,
            secret=b"simulated",
            limits=UploadLimits(chunk_size=CHUNK, ttl_s=TTL_S, sessions=SessionLimits(durable=durable)),
            hashers=2,
        )
        self.records = RecordService(self.database, self.sink, access, world.clock)
        self._loops: list[asyncio.Task[Any]] = []
        """What runs until the end."""
        self.failures: list[str] = []
        """Steps of the janitor that failed."""
        self.janitor = Janitor(
            self.uploads,
            self.records,
            people(self.database, world.clock),
            sink=self.sink,
            work=self.database,
            clock=world.clock,
            limits=JanitorLimits(interval_s=INTERVAL_S, ttl_s=TTL_S),
            swept=self._swept,
        )

    def _swept(self, result: str, count: int) -> None:
        if result.endswith("-failed"):
            self.failures.append(result)

    async def run(self) -> None:
        """Repair what the last life left, then serve and sweep for ever."""
        self._loops = [self.background.start(self.uploads.listen(), name="signals")]
        await self.uploads.redo()
        self.background.start(self.uploads.resume(), name="resume")
        self.ready = True
        sweeping = self.background.start(self.janitor.run(), name="janitor")
        self._loops.append(sweeping)
        await sweeping

    def end_loops(self) -> None:
        """Hear and sweep no more."""
        for loop in self._loops:
            loop.cancel()

    def die(self) -> None:
        """Lose what the kernel and the database take from a dead process."""
        self._workers.living.discard(self.holder)
        self.signals.leave()
        self.database.crash()
        self.sink.die()

    async def stop(self) -> None:
        """End gracefully."""
        await self.uploads.stop()
        self.end_loops()
        await self.background.stop(grace_s=5.0)

    def leaks(self) -> list[str]:
        """Name what is kept although nothing is under way."""
        sessions = self.uploads._sessions
        context = sessions._context
        kept = {
            "followers": self.uploads._digests._followers,
            "speeds": context._speeds,
            "bodies read ahead": self.uploads._ahead,
            "watchers": context.changes._watchers,
            "completions": sessions._endings._completions,
            "holds": context.holds,
            "owed": context.owed,
            "claims": self.claims._places,
            "counts of claims": self.claims._counts,
            "events of idleness": self.claims._idle,
            "background tasks": self.background._tasks,
            "writers": self.sink.writers,
            "ranges": self._disk.ranges._claims,
        }
        return [f"{name}: {things}" for name, things in kept.items() if things]
