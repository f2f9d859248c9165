"""Services as operators set them up: one process, several workers, several services on one database.

Rule 1: a test names no topology; it gets a `Fleet` and sends each request to any of its ports.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.processes import ServeProcess, serving

BEHIND_A_PROXY: Final = {"HAULIER_OPEN": "true"}
"""A name with another port than the service's own is what a rebound name looks like; this lets it in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """How many services with how many workers each."""

    name: str
    services: int = 1
    workers: int = 1


ONE_PROCESS: Final = Topology(name="one process")


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
        """Kill a process as a crash would, and have it back."""
        service = chance.choice(self.services)
        service.kill()
        service.start()


@contextmanager
def fleet(topology: Topology, folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Fleet]:
    """Run services for the duration of a test, below `folder`."""
    with ExitStack() as stack:
        service = stack.enter_context(serving(folder / "data", {**BEHIND_A_PROXY, **(settings or {})}))
        yield Fleet(topology, (service,), folder / "data")
