"""Histories; contracts as in the port."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from haulier.adapters.sql.executor import Executor
from haulier.adapters.sql.models import assets, file_metadata, records
from haulier.adapters.sql.pages import Asked, read_page
from haulier.adapters.sql.rows import Row
from haulier.core.record import RecordId
from haulier.ports import DayCount, HistoryQuery, HistoryRow, Page

_SHOWN: Final = (
    "id", "original_filename", "content_type", "status", "size", "error", "metadata", "created_at", "uploaded_at",
)  # fmt: skip
_FOUND: Final = (
    "media_type", "encoding", "line_count", "record_count", "preview", "valid_json", "valid_csv", "errors",
)  # fmt: skip
_bind = sa.bindparam
_MINE: Final = sa.and_(records.c.owner == _bind("owner"), records.c.deleted_at.is_(None))


def show(chosen: sa.Subquery) -> sa.Select[Any]:
    """Return the rows of chosen records, with what their originals are."""
    found = {f"file_{name}": file_metadata.c[name] for name in _FOUND}
    return (
        sa.select(
            *(records.c[name] for name in _SHOWN),
            assets.c.blob_key,
            *(column.label(label) for label, column in found.items()),
        )
        .select_from(chosen)
        .join(records, records.c.id == chosen.c.id)
        .outerjoin(
            assets,
            sa.and_(assets.c.record_id == records.c.id, assets.c.kind == sa.literal_column("'original'")),
        )
        .outerjoin(file_metadata, file_metadata.c.record_id == records.c.id)
        .order_by(chosen.c.created_at.desc(), chosen.c.id.desc())
    )


ONE: Final = show(
    sa.select(records.c.created_at, records.c.id).where(_MINE, records.c.id == _bind("id")).subquery("chosen")
)


class _DayOf(sa.ColumnElement[int]):
    """The day since the epoch of a time; SQLite may come without `floor`, and PostgreSQL's cast rounds."""

    inherit_cache = False
    type = sa.BigInteger()

    def __init__(self, time: sa.ColumnElement[float]) -> None:
        self.time = time


@compiles(_DayOf, "sqlite")
def _day_on_sqlite(day: _DayOf, compiler: Any, **options: Any) -> str:
    return f"CAST({compiler.process(day.time, **options)} / 86400.0 AS INTEGER)"


@compiles(_DayOf, "postgresql")
def _day_on_postgres(day: _DayOf, compiler: Any, **options: Any) -> str:
    return f"CAST(floor({compiler.process(day.time, **options)} / 86400.0) AS BIGINT)"


_DAY: Final = _DayOf(records.c.created_at).label("day")
DAYS: Final = (
    sa.select(
        _DAY,
        records.c.status,
        sa.func.count().label("count"),
        sa.func.coalesce(sa.func.sum(records.c.size), sa.literal_column("0")).label("size"),
    )
    .where(_MINE, records.c.created_at >= _bind("since"), records.c.created_at < _bind("until"))
    .group_by(sa.text("day"), records.c.status)
    .order_by(sa.text("day"), records.c.status)
)


class SqlHistory:
    """`HistoryStore`."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor

    async def page(self, query: HistoryQuery) -> Page[HistoryRow]:
        """Return a page."""
        page = await read_page(
            self._sql, Asked.by(self._sql, query, name=query.filename, owner=query.owner), show
        )
        return Page(items=[_row(row) for row in page.items], next=page.next)

    async def one(self, owner: str, record_id: RecordId) -> HistoryRow | None:
        """Return one row of the owner's."""
        row = await self._sql.row(ONE, {"owner": owner, "id": record_id})
        return None if row is None else _row(row)

    async def days(self, owner: str, *, since: float, until: float) -> Sequence[DayCount]:
        """Count what was begun in `[since, until)`, by day and status."""
        rows = await self._sql.rows(DAYS, {"owner": owner, "since": since, "until": until})
        return [
            DayCount(day=int(row["day"]), status=row["status"], count=row["count"], size=int(row["size"]))
            for row in rows
        ]


def _row(row: Row) -> HistoryRow:
    shown = {name: row[name] for name in (*_SHOWN, "blob_key")}
    if row["file_media_type"] is None:
        return {**shown, "file": None}
    return {**shown, "file": {name: row[f"file_{name}"] for name in _FOUND}}
