"""Histories; contracts as in the port.

Rule 1: every page is read along an index in its own order, so that it costs the same wherever it lies.
Rule 2: of several statuses each is read along the index by itself, and the first of all are taken.
Rule 3: a part of a name is looked for among the newest rows first, which finds what many names have; then by what
        migration 0014 made for it, which finds what few have. Neither reads the whole history.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from haulier.adapters.sql.among import among, array
from haulier.adapters.sql.executor import TAKES_LONG, Executor
from haulier.adapters.sql.models import assets, file_metadata, records
from haulier.adapters.sql.rows import Row, containing, successor
from haulier.core.record import RecordId, fold
from haulier.ports import DayCount, HistoryQuery, HistoryRow

_SHOWN: Final = (
    "id", "original_filename", "content_type", "status", "size", "error", "metadata", "created_at", "uploaded_at",
)  # fmt: skip
_FOUND: Final = (
    "media_type", "encoding", "line_count", "record_count", "preview", "valid_json", "valid_csv", "errors",
)  # fmt: skip
NEAR: Final = 1000
"""Rows among which a name is looked for one by one, about a millisecond: a page of what every twentieth name has."""
GRAM: Final = 3
"""Characters: what names are found by in both databases."""
MAX_MOMENT: Final = 2**63 - 1
"""Microseconds; what a row id holds."""
MAX_GRAMS: Final = 8
"""Of a name that is looked for; all of it is compared in the end, and so many leave few rows to compare."""
TELLING: Final = 3
"""Grams with a digit that do without the others: numbers tell names apart, and words and extensions are in most."""

_bind = sa.bindparam
_MINE: Final = sa.and_(records.c.owner == _bind("owner"), records.c.deleted_at.is_(None))


def _filters(of: Any) -> Mapping[str, sa.ColumnElement[bool]]:
    return {
        "filename": of.folded_filename.like(_bind("filename"), escape="!"),
        "path_from": of.path >= _bind("path_from"),
        "path_to": of.path < _bind("path_to"),
        "since": of.created_at >= _bind("since"),
        "until": of.created_at < _bind("until"),
        "after_id": sa.tuple_(of.created_at, of.id) < sa.tuple_(_bind("after_at"), _bind("after_id")),
    }


_FILTERS: Final = _filters(records.c)


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


# --- by a part of the name ----------------------------------------------------------------------------

_JUDGED: Final = ("created_at", "id", "status", "folded_filename", "path")
_TIMES: Final = frozenset({"since", "until", "after_id"})
_NEWEST: Final = (records.c.created_at.desc(), records.c.id.desc())
_NAMES: Final = sa.table("record_names", sa.column("rowid", sa.BigInteger))
_MOMENT: Final = _NAMES.c.rowid
_ASIDE: Final = SimpleNamespace(**{name: sa.literal_column(f"+records.{name}") for name in _JUDGED})
"""The same columns, not for an index of SQLite's: rows are found by their moment, however much the rest lets through."""
_OF_MOMENT: Final = sa.and_(
    # These two are for the index, a little wide: times are doubles, and what is computed of them is rounded.
    records.c.created_at >= sa.literal_column("(record_names.rowid - 1) / 1000000.0"),
    records.c.created_at <= sa.literal_column("(record_names.rowid + 2) / 1000000.0"),
    sa.cast(records.c.created_at * sa.literal_column("1000000"), sa.Integer) == _MOMENT,
)


def _conditions(filters: frozenset[str], statuses: int, of: Any = records.c) -> list[sa.ColumnElement[bool]]:
    known = _filters(of)
    conditions = [known[name] for name in sorted(filters & known.keys())]
    if statuses:
        conditions.append(of.status.in_([_bind(f"status_{number}") for number in range(statuses)]))
    return conditions


@cache
def near_rows(filters: frozenset[str], statuses: int) -> sa.Select[Any]:
    """Return the newest rows, whatever their names: of one status when one is wanted, else of all."""
    return (
        sa.select(*(records.c[name] for name in _JUDGED))
        .where(_MINE, *_conditions(filters & _TIMES, statuses if statuses == 1 else 0))
        .order_by(*_NEWEST)
        .limit(_bind("near"))
    )


@cache
def count_near(filters: frozenset[str], statuses: int) -> sa.Select[Any]:
    """Return how many these are."""
    return sa.select(sa.func.count().label("count")).select_from(
        near_rows(filters, statuses).subquery("near")
    )


@cache
def named_near(filters: frozenset[str], statuses: int) -> sa.Select[Any]:
    """Return the keys of what fits among the newest rows."""
    near = near_rows(filters, statuses).subquery("near")
    return (
        sa.select(near.c.created_at, near.c.id)
        .where(*_conditions(filters - _TIMES, statuses, near.c))
        .order_by(near.c.created_at.desc(), near.c.id.desc())
        .limit(_bind("limit"))
        .execution_options(**TAKES_LONG)
    )


@cache
def named_on_sqlite(filters: frozenset[str], statuses: int) -> sa.Select[Any]:
    """Return the keys of what fits, newest moments first; those of one moment in any order."""
    return (
        sa.select(_MOMENT.label("moment"), records.c.created_at, records.c.id)
        .select_from(_NAMES.join(records, _OF_MOMENT))
        .where(
            sa.literal_column("record_names").op("MATCH")(_bind("grams")),
            _MOMENT.between(_bind("earliest"), _bind("latest")),
            _MINE,
            *_conditions(filters, statuses, _ASIDE),
        )
        # By this alone the full-text table gives its rows in this order, and stops when there are enough.
        .order_by(_MOMENT.desc())
        .limit(_bind("limit"))
    )


@cache
def named_on_postgresql(filters: frozenset[str], statuses: int) -> sa.Select[Any]:
    """Return the keys of what fits, newest first."""
    named = (
        sa.select(records.c.created_at, records.c.id)
        .where(_MINE, *_conditions(filters, statuses))
        .cte("named")
        # Else the planner may walk along the history, in the hope of a page's worth soon.
        .prefix_with("MATERIALIZED")
    )
    return sa.select(named).order_by(named.c.created_at.desc(), named.c.id.desc()).limit(_bind("limit"))


SHOWN: Final = _shown(
    sa.select(records.c.created_at, records.c.id).where(among(records.c.id, "ids")).subquery("chosen")
)
Key = tuple[float, str]


def grams_of(name: str) -> Sequence[str]:
    """Return what a folded name has to have to contain this one; none: it is too short to say."""
    folded = fold(name)
    grams = {folded[start : start + GRAM] for start in range(len(folded) - GRAM + 1)}
    # No name has this character, and in a full-text query everything ends with it.
    known = sorted(gram for gram in grams if "\0" not in gram)
    telling = [gram for gram in known if any(letter.isdigit() for letter in gram)]
    return (telling if len(telling) >= TELLING else known)[:MAX_GRAMS]


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
        if query.filename and (grams := grams_of(query.filename)):
            found = {"owner": query.owner, "limit": query.skip + query.limit + 1, **given, **statuses}
            keys = await self._named(frozenset(given), len(statuses), grams, found)
            ids = array(key for _, key in keys[query.skip :])
            return [_row(row) for row in await self._sql.rows(SHOWN, {"ids": ids})]
        if len(statuses) > 1:
            bounds["reach"] = query.limit + 1 + query.skip
        statement = page_of_history(frozenset(given), len(statuses))
        return [_row(row) for row in await self._sql.rows(statement, {**given, **statuses, **bounds})]

    async def _named(
        self, filters: frozenset[str], statuses: int, grams: Sequence[str], values: Mapping[str, Any]
    ) -> Sequence[Key]:
        near = {**values, "near": NEAR}
        keys = [_key(row) for row in await self._sql.rows(named_near(filters, statuses), near)]
        if len(keys) == values["limit"]:
            return keys
        seen = await self._sql.row(count_near(filters, statuses), near)
        if seen is None or seen["count"] < NEAR:
            return keys
        if self._sql.dialect == "sqlite":
            return await self._named_on_sqlite(named_on_sqlite(filters, statuses), grams, values)
        return [_key(row) for row in await self._sql.rows(named_on_postgresql(filters, statuses), values)]

    async def _named_on_sqlite(
        self, statement: sa.Select[Any], grams: Sequence[str], values: Mapping[str, Any]
    ) -> Sequence[Key]:
        quoted = (gram.replace('"', '""') for gram in grams)
        values = {**values, "grams": " AND ".join(f'"{gram}"' for gram in quoted), **_moments(values)}
        rows = await self._sql.rows(statement, values)
        keys = {_key(row) for row in rows}
        if len(rows) == values["limit"]:
            # Of the last moment there may be more, and any of them come first.
            last = rows[-1]["moment"]
            same = {**values, "earliest": last, "latest": last, "limit": -1}
            keys |= {_key(row) for row in await self._sql.rows(statement, same)}
        return sorted(keys, reverse=True)[: values["limit"]]

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


def _key(row: Row) -> Key:
    return row["created_at"], row["id"]


def _moments(values: Mapping[str, Any]) -> Mapping[str, int]:
    """Return between which moments the rows lie, a little more than the times say."""
    ends = [values[name] for name in ("until", "after_at") if name in values]
    latest = min((math.floor(end * 1e6) + 1 for end in ends), default=MAX_MOMENT)
    earliest = math.floor(values["since"] * 1e6) - 1 if "since" in values else 0
    return {"earliest": max(earliest, 0), "latest": min(max(latest, 0), MAX_MOMENT)}


def _row(row: Row) -> HistoryRow:
    shown = {name: row[name] for name in (*_SHOWN, "blob_key")}
    if row["file_media_type"] is None:
        return {**shown, "file": None}
    return {**shown, "file": {name: row[f"file_{name}"] for name in _FOUND}}
