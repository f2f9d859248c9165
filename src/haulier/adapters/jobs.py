"""Jobs in the process that asked for them: a few at a time, one line after the other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from haulier.bounded.turns import FairTurns
from haulier.core.record import RecordId
from haulier.engine.background import Background

WAITING: Final = 10_000
"""Jobs that are kept in mind; some hundred bytes each. The others are found again by their records."""


class LocalJobs:
    """`haulier.ports.JobQueue` in this process."""

    def __init__(
        self,
        work: Callable[[RecordId], Awaitable[None]],
        background: Background,
        *,
        parallel: int,
        waiting: int = WAITING,
    ) -> None:
        """Let `work` be done, `parallel` times at once; it owns its errors, `background` tells them."""
        self._work = work
        self._background = background
        self._waiting = waiting
        self._turns = FairTurns(parallel, waiting=waiting)
        self._tasks: dict[RecordId, asyncio.Task[None]] = {}
        self._started: set[RecordId] = set()
        self._stopped = False

    def enqueue(self, record_id: RecordId, *, line: str) -> bool:
        """Let a record be processed soon; False: too many wait, or the process is about to end."""
        if record_id in self._tasks:
            return True
        if self._stopped or len(self._tasks) >= self._waiting:
            return False
        task = self._background.start(self._run(record_id, line), name=f"process {record_id}")
        self._tasks[record_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(record_id, None))
        return True

    def knows(self, record_id: RecordId) -> bool:
        """Whether it waits here, or is being processed."""
        return record_id in self._tasks

    async def _run(self, record_id: RecordId, line: str) -> None:
        async with self._turns.turn(line):
            self._started.add(record_id)
            try:
                await self._work(record_id)
            finally:
                self._started.discard(record_id)

    def stop(self) -> None:
        """Begin nothing any more; what runs goes on to its end. A second call is harmless."""
        self._stopped = True
        for record_id, task in tuple(self._tasks.items()):
            if record_id not in self._started:
                task.cancel()
