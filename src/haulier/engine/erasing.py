"""Bytes that are to go for good.

Rule 1: they are noted in the transaction that takes away the last row that names them. What is noted goes, if not now
        then at a later round of the janitor: nobody finds in `lost+found/` what was said to be erased.
Rule 2: one that cannot be removed keeps no other from it.
"""

from collections.abc import Sequence
from typing import Any, Final

from haulier.core.errors import StorageError
from haulier.logs import get_logger
from haulier.ports import ByteSink, UnitOfWork

log = get_logger()

BATCH: Final = 200
"""Blobs that one round of the janitor looks up, and forgets, at a time; keeps the write transaction short."""


class Eraser:
    """Removes blobs that are noted as doomed."""

    def __init__(self, work: UnitOfWork[Any], sink: ByteSink) -> None:
        self._work = work
        self._sink = sink

    async def erase(self, blob_keys: Sequence[str]) -> int:
        """Remove these blobs, which a committed transaction has noted; return how many are gone.

        What fails is logged and stays noted.
        """
        gone = [key for key in blob_keys if await self._is_gone(key)]
        if gone:
            try:
                await self._work.write(lambda tx: tx.doomed_blobs.remove(gone), frees=True)
            except StorageError as error:  # the next round finds nothing to remove, and forgets them
                log.warning("blobs.not_forgotten", count=len(gone), error=str(error))
        return len(gone)

    async def _is_gone(self, blob_key: str) -> bool:
        try:
            await self._sink.delete(blob_key)
        except StorageError as error:
            log.warning("blob.not_erased", blob=blob_key, error=str(error))
            return False
        return True

    async def redo(self) -> int:
        """Try all that are noted; return how many are gone now."""
        total, after = 0, ""
        while batch := await self._list(after):
            total += await self.erase(batch)
            after = batch[-1]
        return total

    async def _list(self, after: str) -> Sequence[str]:
        return await self._work.read(lambda tx: tx.doomed_blobs.list(after=after, limit=BATCH))
