"""Which of the workers that share rows and bytes are alive."""

import asyncio

from haulier.adapters.worker_locks import WorkerLocks


class SharedWorkers:
    """`haulier.ports.Workers` for processes that share a storage directory: their lock files say it."""

    def __init__(self, locks: WorkerLocks) -> None:
        self._locks = locks

    async def is_dead(self, worker: str) -> bool:
        """Whether that worker does not run any more, as the kernel says, now.

        Raises:
            StorageUnavailable: the directory cannot be read, so that nobody can tell.
        """
        return await asyncio.to_thread(self._locks.is_dead, worker)


class MemoryWorkers:
    """`haulier.ports.Workers` of a test: those live that it says."""

    def __init__(self, *living: str) -> None:
        self.living = set(living)

    async def is_dead(self, worker: str) -> bool:
        """Whether that worker is not among the living."""
        return worker not in self.living
