"""What is kept of transfers: every change reaches the store soon, in the order of changes, off nobody's way.

Rule 1: a change is taken at once and written a moment later, many together: a peer's hundred requests are one
        transaction, and no peer waits for a disk. What a crash can lose is the last moment of the queue, which
        peers ask for again.
Rule 2: who reads here sees what was put, written or not: a disk that is full hides nothing.
Rule 3: who follows hears of what is written. So what was heard is never newer than what is read afterwards.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from haulier.core.errors import StorageError
from haulier.core.news import News
from haulier.core.transfer import Direction, TransferId
from haulier.engine.followers import Followers
from haulier.ports import PeerTransfer, TransferQueueStore

GATHER_S: Final = 0.02
"""How long changes are gathered; a transaction costs about as much."""
RESULTS: Final = 100_000
"""Results that are kept: a peer that asks and refuses, again and again, makes a million a day."""
RETRY_S: Final = 5.0
"""After which a store that failed is tried again."""


class Ledger:
    """Writes transfers behind whoever changes them.

    Args:
        store: Where they go.
        log: Takes events with their fields.
    """

    def __init__(self, store: TransferQueueStore, log: Callable[..., None]) -> None:
        self._store = store
        self._log = log
        self._unwritten: dict[TransferId, News[PeerTransfer]] = {}
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self.followers: Followers[PeerTransfer] = Followers()

    def put(self, kept: PeerTransfer, *, moved: bool = False) -> None:
        """Keep this value, in the place of an older one.

        Args:
            kept: The value.
            moved: Whether only its bytes and its speed are new.
        """
        id_ = kept.transfer.id
        self._unwritten[id_] = News(kept, changed=not moved).over(self._unwritten.get(id_))
        self._wake.set()

    def take_back(self, transfer: TransferId) -> None:
        """Do not keep what is not written of a transfer; harmless when all is."""
        self._unwritten.pop(transfer, None)

    async def live(self, direction: Direction) -> Sequence[PeerTransfer]:
        """Return those that an earlier run has left; raises StorageError."""
        return await self._store.live(direction)

    async def find(self, transfer: TransferId) -> PeerTransfer | None:
        """Return one; raises StorageError."""
        unwritten = self._unwritten.get(transfer)
        return await self._store.find(transfer) if unwritten is None else unwritten.value

    async def latest(self, limit: int) -> Sequence[PeerTransfer]:
        """Return those that began last, the newest first; raises StorageError."""
        written = {kept.transfer.id: kept for kept in await self._store.latest(limit)}
        unwritten = {id_: news.value for id_, news in reversed(self._unwritten.items())}
        new = [kept for id_, kept in unwritten.items() if id_ not in written]
        return [*new, *(unwritten.get(id_, kept) for id_, kept in written.items())][:limit]

    async def forget(self, *, ended_before: float) -> None:
        """Forget those that ended before, and of many the older; raises StorageError."""
        if await self._store.forget(ended_before=ended_before, most=RESULTS):
            self.followers.tell_missed()

    async def run(self) -> None:
        """Write what is put, until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            try:
                await self.flush()
            except StorageError as error:
                self._log("transfers.not_kept", reason=str(error), waiting=len(self._unwritten))
                await asyncio.sleep(RETRY_S)

    async def flush(self) -> None:
        """Write all that was put; raises StorageError, and keeps it for the next time."""
        async with self._writing:
            self._wake.clear()
            batch = dict(self._unwritten)
            if not batch:
                return
            try:
                await self._store.save([news.value for news in batch.values()])
            except BaseException:
                self._wake.set()
                raise
            for id_, news in batch.items():
                if self._unwritten.get(id_) is news:
                    del self._unwritten[id_]
                self.followers.tell(id_, news)
