"""Which storage has the bytes that the rows speak of; see statements.py for the rules."""

from typing import Any, Final

import sqlalchemy as sa

from haulier.adapters.sql.executor import Executor
from haulier.adapters.sql.models import storages

NOTED: Final[sa.Select[Any]] = sa.select(storages.c.id)
NOTE: Final = sa.insert(storages).values(id=sa.bindparam("id"))


class SqlStorageMark:
    """`StorageMark`; contracts as in the port."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor

    async def noted(self) -> str | None:
        """Return its id."""
        row = await self._sql.row(NOTED, {})
        return None if row is None else row["id"]

    async def note(self, storage_id: str) -> str:
        """Note it, unless one is noted."""
        await self._sql.exclude("the storage of these rows")
        noted = await self.noted()
        if noted is None:
            await self._sql.count(NOTE, {"id": storage_id})
        return noted or storage_id
