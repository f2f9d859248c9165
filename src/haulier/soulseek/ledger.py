"""What is kept of transfers: every change reaches the store soon, in the order of changes, off nobody's way.

Rule 1: a change is taken at once and written a moment later, many together: a peer's hundred requests are one
        transaction, and no peer waits for a disk. What a crash can lose is the last moment of the queue, which
        peers ask for again.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from haulier.core.errors import StorageError
from haulier.core.transfer import TransferId
from haulier.ports import PeerTransfer, TransferQueueStore

GATHER_S: Final = 0.02
"""How long changes are gathered; a transaction costs about as much."""
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
        self._changed: dict[TransferId, PeerTransfer] = {}
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()

    def put(self, kept: PeerTransfer) -> None:
        """Keep this value, in the place of an older one."""
        self._changed[kept.transfer.id] = kept
        self._wake.set()

    async def run(self) -> None:
        """Write what is put, until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            try:
                await self.flush()
            except StorageError as error:
                self._log("transfers.not_kept", reason=str(error), waiting=len(self._changed))
                await asyncio.sleep(RETRY_S)

    async def flush(self) -> None:
        """Write all that was put; raises StorageError, and keeps it for the next time."""
        async with self._writing:
            self._wake.clear()
            changed, self._changed = self._changed, {}
            if not changed:
                return
            try:
                await self._store.save(list(changed.values()))
            except BaseException:
                self._changed = {**changed, **self._changed}
                self._wake.set()
                raise
