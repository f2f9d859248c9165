"""Blobs that are still to be removed; see statements.py for the rules."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import sqlalchemy as sa

from haulier.adapters.sql.executor import Executor
from haulier.adapters.sql.inserts import InsertNew
from haulier.adapters.sql.models import doomed_blobs

_bind = sa.bindparam
ADD: Final = InsertNew(doomed_blobs, doomed_blobs.c.blob_key).inline().values(blob_key=_bind("blob_key"))
LIST: Final = (
    sa.select(doomed_blobs.c.blob_key)
    .where(doomed_blobs.c.blob_key > _bind("after"))
    .order_by(doomed_blobs.c.blob_key)
    .limit(_bind("limit"))
)
IS_DOOMED: Final[sa.Select[Any]] = sa.select(sa.literal_column("1")).where(
    doomed_blobs.c.blob_key == _bind("blob_key")
)
REMOVE: Final = sa.delete(doomed_blobs).where(doomed_blobs.c.blob_key == _bind("blob_key"))


class SqlDoomedBlobs:
    """`DoomedBlobs`; contracts as in the port. Calls are for a few hundred keys at most."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor

    async def add(self, blob_keys: Collection[str]) -> None:
        """Note them; in one order, so that two transactions wait for each other and never in a circle."""
        for key in sorted(blob_keys):
            await self._sql.count(ADD, {"blob_key": key})

    async def list(self, *, after: str, limit: int) -> Sequence[str]:
        """Return those behind `after`."""
        rows = await self._sql.rows(LIST, {"after": after, "limit": limit})
        return [row["blob_key"] for row in rows]

    async def named(self, keys: Collection[str]) -> set[str]:
        """Return those of `keys` that are noted."""
        return {key for key in keys if await self._sql.row(IS_DOOMED, {"blob_key": key}) is not None}

    async def remove(self, blob_keys: Collection[str]) -> None:
        """Forget them."""
        for key in sorted(blob_keys):
            await self._sql.count(REMOVE, {"blob_key": key})
