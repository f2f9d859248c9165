"""The real upload manager on the shipped fakes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import field
from random import Random

from haulier.adapters.memory.files import MemoryFiles
from haulier.adapters.memory.journal import MemoryJournal, MemoryJournalFile
from haulier.adapters.memory.remote import IN_ORDER, MemoryRemote
from haulier.core.dispatch import Dispatch
from haulier.core.transfer import Phase
from haulier.core.values import dataclass
from haulier.engine.send import Role, UploadManager
from haulier.engine.send_runner import SendLimits
from haulier.testing import ManualClock, SeededIdentifiers

SOON_S = 60.0
"""For what happens at once; only a test that fails waits so long."""


@dataclass
class Sending:
    """A world that outlives its managers."""

    clock: ManualClock = field(default_factory=ManualClock)
    files: MemoryFiles = field(default_factory=MemoryFiles)
    remote: MemoryRemote = field(default_factory=MemoryRemote)
    ordered: MemoryRemote = field(default_factory=lambda: MemoryRemote(IN_ORDER))
    journal: MemoryJournalFile = field(default_factory=MemoryJournalFile)
    chance: Random = field(default_factory=lambda: Random(7))

    def __post_init__(self) -> None:
        self.remotes = {"any": self.remote, "ordered": self.ordered}
        self.ids = SeededIdentifiers(self.clock)

    def manager(
        self,
        *,
        role: Role = Role.WHEN_FREE,
        limits: SendLimits | None = None,
        unknown_s: float = 5.0,
        journal: MemoryJournal | None = None,
    ) -> UploadManager:
        """A process of its own."""
        return UploadManager(
            journal or MemoryJournal(self.journal),
            self.remotes,
            files=self.files,
            clock=self.clock,
            ids=self.ids,
            chance=self.chance.random,
            role=role,
            limits=limits,
            unknown_s=unknown_s,
        )

    @asynccontextmanager
    async def running(
        self, *, role: Role = Role.WHEN_FREE, limits: SendLimits | None = None
    ) -> AsyncIterator[UploadManager]:
        """A process that is stopped at the end; nothing is left of it."""
        manager = self.manager(role=role, limits=limits)
        async with asyncio.timeout(SOON_S):
            async with manager:
                yield manager
            assert self.files.open_now == 0

    def file(self, name: str, data: bytes) -> str:
        """Write a file and return its path."""
        self.files.write(f"/{name}", data)
        return f"/{name}"

    def newest(self, name: str) -> bytes:
        """What the remote that takes any order has under that name."""
        return self.remote.files[name][-1]


async def in_phase(manager: UploadManager, transfer_id: str, *phases: Phase) -> Dispatch:
    """Wait until a transfer is in one of these phases, and everybody who then sleeps sleeps."""
    async with asyncio.timeout(SOON_S):
        while True:
            view = await manager.get(transfer_id)
            if view is not None and view.row.transfer.phase in phases:
                await settle()
                return view.row
            await asyncio.sleep(0)


async def settle() -> None:
    """Let everything happen that needs no time, in threads too."""
    for _ in range(5):
        await asyncio.to_thread(lambda: None)
        for _ in range(40):
            await asyncio.sleep(0)
