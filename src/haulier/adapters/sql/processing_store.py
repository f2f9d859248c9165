"""What is being done with records, on SQL; contracts as in the port."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from haulier.adapters.sql.executor import Executor
from haulier.adapters.sql.many import records_of
from haulier.adapters.sql.models import IS_UNPROCESSED, assets, records
from haulier.adapters.sql.statements import BEFORE_ALL, LOCK_RECORD, RECORD, RECORD_COLUMNS
from haulier.core.record import PROCESSED, AssetKind, Record, RecordId, RecordStatus

_bind = sa.bindparam
_THIS: Final = records.c.id == _bind("id")
_LEFT: Final = (sa.text(IS_UNPROCESSED),)
_HELD: Final = (
    _THIS,
    records.c.status == sa.literal_column("'processing'"),
    records.c.fence == _bind("fence"),
)
_PLACE: Final = sa.tuple_(records.c.created_at, records.c.id)
LEFT: Final = (
    sa.select(*RECORD_COLUMNS)
    .where(*_LEFT, sa.tuple_(_bind("after_at"), _bind("after_id")) < _PLACE)
    .order_by(records.c.created_at, records.c.id)
    .limit(_bind("limit"))
)
TAKE: Final = (
    sa.update(records)
    .where(_THIS, records.c.fence == _bind("fence"), *_LEFT)
    .values(
        status=sa.literal_column("'processing'"),
        processing_started_at=_bind("now"),
        attempts=records.c.attempts + sa.literal_column("1"),
        fence=records.c.fence + sa.literal_column("1"),
        holder=_bind("holder"),
    )
)
GIVE_BACK: Final = (
    sa.update(records)
    .where(*_HELD)
    .values(attempts=records.c.attempts - sa.literal_column("1"), holder=sa.null())
)
_HAS_ORIGINAL: Final = sa.exists(
    sa.select(assets.c.kind).where(
        assets.c.record_id == records.c.id, assets.c.kind == sa.literal_column("'original'")
    )
)
AGAIN: Final = (
    sa.update(records)
    .where(
        _THIS,
        records.c.fence == _bind("fence"),
        records.c.status.in_([sa.literal_column(f"'{status}'") for status in sorted(PROCESSED)]),
        records.c.deleted_at.is_(None),
        _HAS_ORIGINAL,
    )
    .values(
        status=sa.literal_column("'processing'"),
        error=sa.null(),
        finished_at=sa.null(),
        attempts=sa.literal_column("0"),
        fence=records.c.fence + sa.literal_column("1"),
        holder=sa.null(),
    )
)
SETTLE: Final = (
    sa.update(records)
    .where(*_HELD, _HAS_ORIGINAL)
    .values(status=_bind("status"), error=_bind("error"), finished_at=_bind("now"), holder=sa.null())
)
MEASURE: Final = (
    sa.update(assets)
    .where(assets.c.record_id == _bind("id"), assets.c.kind == _bind("kind"), assets.c.width.is_(None))
    .values(width=_bind("width"), height=_bind("height"))
)


class SqlProcessingStore:
    """`ProcessingStore`."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor

    async def left(self, *, after: tuple[float, str] | None, limit: int) -> Sequence[Record]:
        """Return the oldest records that are to be processed."""
        after_at, after_id = after or BEFORE_ALL
        values = {"after_at": after_at, "after_id": after_id, "limit": limit}
        return await records_of(self._sql, await self._sql.rows(LEFT, values))

    async def take(self, record_id: RecordId, fence: int, holder: str, *, now: float) -> Record | None:
        """Let `holder` process the record, under a new fence."""
        taken = await self._count(TAKE, record_id, fence=fence, holder=holder, now=now)
        return await self._load(record_id) if taken else None

    async def again(self, record_id: RecordId, fence: int) -> bool:
        """Let the record be processed once more, under a new fence."""
        # As when it is settled: its original may be dropped right now.
        await self._sql.row(LOCK_RECORD, {"id": record_id})
        return await self._count(AGAIN, record_id, fence=fence)

    async def give_back(self, record_id: RecordId, fence: int) -> bool:
        """Let nobody process the record, under the fence."""
        return await self._count(GIVE_BACK, record_id, fence=fence)

    async def settle(
        self, record_id: RecordId, fence: int, status: RecordStatus, *, error: str | None, now: float
    ) -> bool:
        """End the processing, under the fence."""
        # Its original may be dropped right now; that waits for the record's row too.
        await self._sql.row(LOCK_RECORD, {"id": record_id})
        return await self._count(SETTLE, record_id, fence=fence, status=status.value, error=error, now=now)

    async def measure(self, record_id: RecordId, kind: AssetKind, *, width: int, height: int) -> bool:
        """Note the dimensions of an asset that has none."""
        return await self._count(MEASURE, record_id, kind=kind.value, width=width, height=height)

    async def _count(self, statement: sa.Update, record_id: RecordId, **values: Any) -> bool:
        return await self._sql.count(statement, {"id": record_id, **values}) == 1

    async def _load(self, record_id: RecordId) -> Record | None:
        row = await self._sql.row(RECORD, {"id": record_id})
        return None if row is None else (await records_of(self._sql, [row]))[0]
