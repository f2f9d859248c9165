"""What operators see of all rows at once; contracts as in the port."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from haulier.adapters.sql.executor import Executor
from haulier.adapters.sql.many import sessions_of
from haulier.adapters.sql.models import IS_LIVE, records, uploads
from haulier.adapters.sql.statements import SESSION_COLUMNS
from haulier.core.record import RecordStatus
from haulier.core.session import SessionStatus
from haulier.core.upload import Upload

_COUNT: Final = sa.func.count().label("count")
_LIVE: Final = sa.text(IS_LIVE)
_AFTER: Final = sa.tuple_(uploads.c.created_at, uploads.c.id) > sa.tuple_(
    sa.bindparam("after_at"), sa.bindparam("after_id")
)
FIRST_PAGE: Final[sa.Select[Any]] = (
    sa.select(*SESSION_COLUMNS)
    .where(_LIVE)
    .order_by(uploads.c.created_at, uploads.c.id)
    .limit(sa.bindparam("limit"))
)
NEXT_PAGE: Final = FIRST_PAGE.where(_AFTER)
LIVE_COUNTS: Final[sa.Select[Any]] = (
    sa.select(uploads.c.status, _COUNT).where(_LIVE).group_by(uploads.c.status)
)
RECORD_COUNTS: Final[sa.Select[Any]] = (
    sa.select(records.c.status, _COUNT).where(records.c.deleted_at.is_(None)).group_by(records.c.status)
)
DELETED_COUNT: Final[sa.Select[Any]] = sa.select(_COUNT).where(records.c.deleted_at.is_not(None))


class SqlOverview:
    """`Overview`; contracts as in the port."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor

    async def live(self, *, after: tuple[float, str] | None, limit: int) -> Sequence[Upload]:
        """Return a page of live sessions, oldest first."""
        if after is None:
            rows = await self._sql.rows(FIRST_PAGE, {"limit": limit})
        else:
            values = {"after_at": after[0], "after_id": after[1], "limit": limit}
            rows = await self._sql.rows(NEXT_PAGE, values)
        return await sessions_of(self._sql, rows)

    async def live_counts(self) -> Mapping[SessionStatus, int]:
        """Count live sessions by status."""
        return {SessionStatus(row["status"]): row["count"] for row in await self._sql.rows(LIVE_COUNTS, {})}

    async def record_counts(self) -> Mapping[RecordStatus, int]:
        """Count records by status, without the trash."""
        return {RecordStatus(row["status"]): row["count"] for row in await self._sql.rows(RECORD_COUNTS, {})}

    async def deleted_count(self) -> int:
        """Count records in the trash."""
        row = await self._sql.row(DELETED_COUNT, {})
        return 0 if row is None else int(row["count"])
