"""Histories; contracts as in the port.

Rule 1: every page is read along an index in its own order, so that it costs the same wherever it lies.
Rule 2: of several statuses each is read along the index by itself, and the first of all are taken.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from haulier.adapters.sql.executor import Executor
from haulier.adapters.sql.models import assets, file_metadata, records
from haulier.adapters.sql.rows import Row, containing, successor
from haulier.core.record import RecordId
from haulier.ports import DayCount, HistoryQuery, HistoryRow

_SHOWN: Final = (
    "id", "original_filename", "content_type", "status", "size", "error", "metadata", "created_at", "uploaded_at",
)  # fmt: skip
_FOUND: Final = (
    "media_type", "encoding", "line_count", "record_count", "preview", "valid_json", "valid_csv", "errors",
)  # fmt: skip
_bind = sa.bindparam
_MINE: Final = sa.and_(records.c.owner == _bind("owner"), records.c.deleted_at.is_(None))
_FILTERS: Final[Mapping[str, sa.ColumnElement[bool]]] = {
    "filename": records.c.folded_filename.like(_bind("filename"), escape="!"),
    "path_from": records.c.path >= _bind("path_from"),
    "path_to": records.c.path < _bind("path_to"),
    "since": records.c.created_at >= _bind("since"),
    "until": records.c.created_at < _bind("until"),
    "after_id": sa.tuple_(records.c.created_at, records.c.id)
    < sa.tuple_(_bind("after_at"), _bind("after_id")),
}


def _shown(chosen: sa.Subquery) -> sa.Select[Any]:
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


def _keys(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(records.c.created_at, records.c.id).where(_MINE, *conditions)


@cache
def page_of_history(filters: frozenset[str], statuses: int) -> sa.Select[Any]:
    """Return the statement with these filters and that many statuses; there are few such shapes."""
    conditions = [_FILTERS[name] for name in sorted(filters & _FILTERS.keys())]
    newest = (records.c.created_at.desc(), records.c.id.desc())
    if statuses <= 1:
        by_status = [records.c.status == _bind("status_0")] * statuses
        chosen = _keys(*conditions, *by_status).order_by(*newest).limit(_bind("limit")).offset(_bind("skip"))
        return _shown(chosen.subquery("chosen"))
    # As many as the page could take of each, then the newest of these.
    each = [
        sa.select(
            _keys(*conditions, records.c.status == _bind(f"status_{number}"))
            .order_by(*newest)
            .limit(_bind("reach"))
            .subquery()
        )
        for number in range(statuses)
    ]
    together = sa.union_all(*each).subquery("together")
    chosen = (
        sa.select(together)
        .order_by(together.c.created_at.desc(), together.c.id.desc())
        .limit(_bind("limit"))
        .offset(_bind("skip"))
    )
    return _shown(chosen.subquery("chosen"))


ONE: Final = _shown(_keys(records.c.id == _bind("id")).subquery("chosen"))


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
    .where(_MINE, _FILTERS["since"], _FILTERS["until"])
    .group_by(sa.text("day"), records.c.status)
    .order_by(sa.text("day"), records.c.status)
)


class SqlHistory:
    """`HistoryStore`."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor

    async def page(self, query: HistoryQuery) -> Sequence[HistoryRow]:
        """Return a page, and one row more when there is a next page."""
        filters = {
            "filename": containing(query.filename) if query.filename else None,
            "path_from": query.path_prefix or None,
            "path_to": successor(query.path_prefix or ""),
            "since": query.since,
            "until": query.until,
        }
        if query.after is not None:
            filters["after_at"], filters["after_id"] = query.after
        given = {name: value for name, value in filters.items() if value is not None}
        statuses = {f"status_{number}": value.value for number, value in enumerate(sorted(query.statuses))}
        bounds = {"owner": query.owner, "limit": query.limit + 1, "skip": query.skip}
        if len(statuses) > 1:
            bounds["reach"] = query.limit + 1 + query.skip
        statement = page_of_history(frozenset(given), len(statuses))
        return [_row(row) for row in await self._sql.rows(statement, {**given, **statuses, **bounds})]

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
