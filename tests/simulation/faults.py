"""What goes wrong: crashes, failing and slow back ends, lost answers, clocks that are set."""

import asyncio
from collections.abc import Callable
from typing import Final

from haulier.core.errors import StorageError, StorageFull, StorageUnavailable
from tests.simulation.server import INTERVAL_S, Server
from tests.simulation.world import World

SINK_OPERATIONS: Final = (
    *("prepare", "check", "open", "write", "write", "flush", "sync", "extent", "truncate"),
    *("scan", "discard", "commit", "commit", "store", "store", "read", "stat", "delete"),
)
HOUR_S: Final = 3600.0


class Nemesis:
    """Does a seeded choice of bad things to a world, then heals it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.random("nemesis")
        kinds: list[Callable[[], object]] = [
            self._crash,
            self._stop,
            self._fail_rows,
            self._lose_commit,
            self._fail_bytes,
            self._fill_disk,
            self._slow_down,
            self._lose_replies,
            self._set_clock,
        ]
        # Few kinds a scenario: a rare order of two faults is met more often than among all at once.
        self._kinds = self._rng.sample(kinds, self._rng.choice((0, 1, 2, 2, 3, 9)))

    async def run(self) -> None:
        """Do it, for some minutes of virtual time."""
        for _ in range(self._rng.randint(1, 25)):
            await asyncio.sleep(self._rng.choice((0.01, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0)))
            if self._kinds:
                await self._strike()
        self._heal()
        await self._world.start()

    async def _strike(self) -> None:
        kind = self._rng.choice(self._kinds)
        self._world.trace.note("nemesis", kind.__name__)
        happens = kind()
        if asyncio.iscoroutine(happens):
            await happens

    def _heal(self) -> None:
        world = self._world
        world.trace.note("nemesis", "heal")
        world.disk.capacity, world.slow_s, world.loss = None, 0.0, 0.0
        world.database._store.failures.clear()
        world.database._store.answers_to_lose = 0
        for server in world.servers:
            server.sink._faults._waiting.clear()

    # --- processes -----------------------------------------------------------------------------------

    async def _crash(self) -> None:
        for server in self._some():
            self._world.kill(server)
        await self._come_back()

    async def _stop(self) -> None:
        for server in self._some():
            await self._world.stop(server)
        await self._come_back()

    def _some(self) -> list[Server]:
        """Return one of the servers, or all."""
        servers = self._world.servers
        if not servers or self._rng.random() < 0.3:
            return list(servers)
        return [self._rng.choice(servers)]

    async def _come_back(self) -> None:
        await asyncio.sleep(self._rng.choice((0.0, 0.0, 0.5, 30.0)))
        await self._world.start()

    # --- back ends -----------------------------------------------------------------------------------

    def _fail_rows(self) -> None:
        self._world.faulty = self._world.forgetful = True
        for _ in range(self._rng.choice((1, 1, 3))):
            self._world.database.fail_next(StorageUnavailable("the database is away"))

    def _lose_commit(self) -> None:
        self._world.faulty = self._world.forgetful = True
        self._world.database.lose_next_answer()

    def _fail_bytes(self) -> None:
        if not self._world.servers:
            return
        server = self._rng.choice(self._world.servers)
        self._world.faulty = True
        operation = self._rng.choice(SINK_OPERATIONS)
        error: StorageError = self._rng.choice((StorageUnavailable("input/output error"), StorageFull(1, 0)))
        self._world.trace.note("nemesis", f"{operation} will fail: {error}")
        server.sink.fail_next(operation, error)

    def _fill_disk(self) -> None:
        """Leave a little room, or all of it again."""
        disk = self._world.disk
        self._world.faulty = True
        if disk.capacity is not None:
            disk.capacity = None
            return
        disk.capacity = 10**9
        free = disk.free
        assert free is not None
        disk.capacity = disk.capacity - free + self._rng.randint(0, 20)

    def _slow_down(self) -> None:
        self._world.slow_s = self._rng.choice((0.0, 0.01, 0.5))

    # --- network and clock ---------------------------------------------------------------------------

    def _lose_replies(self) -> None:
        self._world.forgetful = True
        self._world.loss = self._rng.choice((0.0, 0.2, 0.5))

    def _set_clock(self) -> None:
        """Set the wall; once between two looks of the janitor, which sees the sum of several only."""
        if self._world.loop.time() < self._world.clock.jumped_at + 2 * INTERVAL_S:
            return
        step = self._rng.choice((-HOUR_S, -10.0, 10.0, HOUR_S, 48 * HOUR_S))
        self._world.trace.note("nemesis", f"the clock is set by {step} s")
        self._world.clock.jump(step)
