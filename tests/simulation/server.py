"""One life of the service: the real engine in a process that can be killed."""

import random
from collections.abc import Awaitable, Callable
from typing import Final

from haulier.adapters.access import GrantedAccess
from haulier.adapters.claims import LocalClaims
from haulier.adapters.memory import MemoryDisk
from haulier.adapters.memory_rows import MemoryDatabase
from haulier.adapters.signals import MemorySignals
from haulier.adapters.workers import MemoryWorkers
from haulier.core.upload import UploadDetails
from haulier.engine.background import Background
from haulier.engine.context import SessionLimits, SessionPorts
from haulier.engine.janitor import Janitor, JanitorLimits
from haulier.engine.records import RecordService
from haulier.engine.uploads import UploadLimits, UploadService
from haulier.ports import Clock, Identifiers
from tests.simulation.loop import Process
from tests.simulation.sink import LossySink

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
        database: MemoryDatabase[UploadDetails],
        disk: MemoryDisk,
        *,
        clock: Clock,
        ids: Identifiers,
        pause: Callable[[], Awaitable[None]],
        rng: random.Random,
        durable: bool,
    ) -> None:
        self.process = Process(f"server {number}")
        self.ready = False
        self.background = Background()
        self.claims = LocalClaims()
        self.signals = MemorySignals()
        self.workers = MemoryWorkers(f"holder {number}")
        self.sink = LossySink(disk, pause=pause, rng=rng)
        self._disk = disk
        access = GrantedAccess(clock)
        self.uploads = UploadService(
            SessionPorts(
                work=database,
                sink=self.sink,
                claims=self.claims,
                workers=self.workers,
                signals=self.signals,
                clock=clock,
                ids=ids,
                holder=f"holder {number}",
                boot_id="boot",
            ),
            access,
            self.background,
            secret=b"simulated",
            limits=UploadLimits(chunk_size=CHUNK, ttl_s=TTL_S, sessions=SessionLimits(durable=durable)),
            hashers=2,
        )
        self.records = RecordService(database, self.sink, access, clock)
        self.failures: list[str] = []
        """Steps of the janitor that failed."""
        self.janitor = Janitor(
            self.uploads,
            self.records,
            sink=self.sink,
            work=database,
            clock=clock,
            limits=JanitorLimits(interval_s=INTERVAL_S, ttl_s=TTL_S),
            swept=self._swept,
        )

    def _swept(self, result: str, count: int) -> None:
        if result.endswith("-failed"):
            self.failures.append(result)

    async def run(self) -> None:
        """Repair what the last life left, then serve and sweep for ever."""
        await self.uploads.redo()
        self.background.start(self.uploads.resume(), name="resume")
        self.ready = True
        await self.janitor.run()

    async def stop(self) -> None:
        """End gracefully."""
        await self.uploads.stop()
        await self.background.stop(grace_s=5.0)

    def leaks(self) -> list[str]:
        """Name what is kept although nothing is under way."""
        sessions = self.uploads._sessions
        context = sessions._context
        kept = {
            "followers": self.uploads._digests._followers,
            "speeds": context._speeds,
            "watchers": context.changes._watchers,
            "completions": sessions._endings._completions,
            "claims": self.claims._places,
            "counts of claims": self.claims._counts,
            "events of idleness": self.claims._idle,
            "background tasks": self.background._tasks,
            "writers": self.sink.writers,
            "ranges": self._disk.ranges._claims,
        }
        return [f"{name}: {things}" for name, things in kept.items() if things]
