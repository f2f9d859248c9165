"""Services as operators set them up: one process, several workers, several services on one PostgreSQL.

Rule 1: a test names no topology; it gets a `Fleet` and sends each request to any of its ports.
"""

import os
import random
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from haulier.core.values import dataclass
from tests.support.postgres import fresh_database
from tests.support.processes import ServeProcess, serving, wait_until

BEHIND_A_PROXY: Final = {"HAULIER_OPEN": "true"}
"""A name with another port than the service's own is what a rebound name looks like; this lets it in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """How many services with how many workers each. Several services share a PostgreSQL and a storage directory."""

    name: str
    services: int = 1
    workers: int = 1


ONE_PROCESS: Final = Topology(name="one process")
TWO_WORKERS: Final = Topology(name="two workers", workers=2)
TWO_SERVICES: Final = Topology(name="two services", services=2)
THREE_WORKERS: Final = Topology(name="three workers", workers=3)
THREE_SERVICES: Final = Topology(name="three services", services=3)


@dataclass(frozen=True)
class Fleet:
    """Running services that share everything."""

    topology: Topology
    services: tuple[ServeProcess, ...]
    storage: Path
    """Where the bytes are."""

    @property
    def ports(self) -> list[int]:
        """One of each service."""
        return [service.port for service in self.services]

    @property
    def first(self) -> int:
        """The port that an older request goes to."""
        return self.ports[0]

    @property
    def last(self) -> int:
        """The port that a newer request goes to; another service's where there is another."""
        return self.ports[-1]

    def part(self, upload: str) -> Path:
        """Return where an upload's bytes are while it lives."""
        return self.storage / "incoming" / upload

    def kill_one(self, chance: random.Random) -> None:
        """Kill a process as a crash would; return when there is another in its place."""
        service = chance.choice(self.services)
        if self.topology.workers > 1:
            victim = chance.choice(sorted(service.ready_workers().values()))
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: self._is_replaced(service, victim), "a new worker is ready")
        else:
            service.kill()
            service.start()

    def _is_replaced(self, service: ServeProcess, victim: int) -> bool:
        pids = service.ready_workers().values()
        return victim not in pids and len(pids) == self.topology.workers


@contextmanager
def fleet(topology: Topology, folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Fleet]:
    """Run services for the duration of a test, below `folder`."""
    settings = {**BEHIND_A_PROXY, "HAULIER_WORKERS": str(topology.workers), **(settings or {})}
    with ExitStack() as stack:
        storage = folder / "data 0"
        if topology.services > 1:
            storage = folder / "storage"
            database = stack.enter_context(fresh_database())
            settings |= {"HAULIER_DATABASE_URL": database, "HAULIER_STORAGE_URL": f"file://{storage}"}
        services = [
            stack.enter_context(serving(folder / f"data {number}", settings))
            for number in range(topology.services)
        ]
        yield Fleet(topology, tuple(services), storage)
