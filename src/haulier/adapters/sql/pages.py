"""Pages of records, newest first: of a history, or of a list."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import sqlalchemy as sa

from haulier.adapters.sql.among import among, array
from haulier.adapters.sql.executor import Executor
from haulier.adapters.sql.models import records
from haulier.adapters.sql.rows import Row, containing, successor
from haulier.adapters.sql.searches import Search
from haulier.adapters.sql.walks import IDS, RESTORABLE, Shape, bounds, named, newest
from haulier.core.values import dataclass
from haulier.ports import HistoryQuery, Page, RecordQuery

Show = Callable[[sa.Subquery], sa.Select[Any]]
"""Makes the statement that gives the rows whose keys are in a subquery, newest first. A function of a module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be on a page."""

    shape: Shape
    values: Mapping[str, Any]
    """Of its filters and statuses."""
    name: str | None
    limit: int
    skip: int = 0

    @classmethod
    def by(cls, sql: Executor, query: HistoryQuery | RecordQuery, *, name: str | None, **own: Any) -> "Asked":
        """Read a query; `own`: filters that the other kind of query lacks."""
        given = {
            **own,
            "filename": containing(name) if name else None,
            "path_from": query.path_prefix or None,
            "path_to": successor(query.path_prefix or ""),
            "since": query.since,
            "until": query.until,
        }
        if query.after is not None:
            given["after_at"], given["after_id"] = query.after
        filters = {name: value for name, value in given.items() if value is not None}
        statuses = {f"status_{number}": value.value for number, value in enumerate(sorted(query.statuses))}
        deleted = isinstance(query, RecordQuery) and query.deleted
        judged: set[str] = {RESTORABLE} if deleted else set()
        return cls(
            shape=Shape(
                filters=frozenset(filters.keys() | judged),
                statuses=len(statuses),
                deleted=deleted,
                lateral=sql.dialect == "postgresql",
            ),
            values={**filters, **statuses},
            name=name or None,
            limit=query.limit,
            skip=query.skip if isinstance(query, HistoryQuery) else 0,
        )


async def read_page(sql: Executor, asked: Asked, show: Show) -> Page[Row]:
    """Return a page; where a search has ended before it was full, the next one goes on from there."""
    if IDS in asked.shape.filters or not asked.shape.searched:
        statement = _page(show, asked.shape)
        rows = await sql.rows(statement, {**asked.values, **bounds(asked.limit + 1, asked.skip)})
        return Page.cut(rows, asked.limit, key=lambda row: (row["created_at"], row["id"]))
    most = asked.skip + asked.limit + 1
    keys, end = await Search(sql, asked.shape, asked.values, asked.name, most).run()
    page = Page.cut(keys[asked.skip :], asked.limit, key=lambda key: key)
    rows = await sql.rows(_these(show), {IDS: array(key for _, key in page.items)})
    return Page(items=rows, next=page.next or end)


@cache
def _page(show: Show, shape: Shape) -> sa.Select[Any]:
    return show((named(shape) if IDS in shape.filters else newest(shape)).subquery("chosen"))


@cache
def _these(show: Show) -> sa.Select[Any]:
    keys = sa.select(records.c.created_at, records.c.id).where(among(records.c.id, IDS))
    return show(keys.subquery("chosen"))
