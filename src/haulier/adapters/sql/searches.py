"""Records by what no index has in the order of a page: a part of the name, the beginning of the path, a kind of asset.

Rule 1: they are looked for among the newest rows first, which finds what many have; then a name by what migration 0014
        made for it, and a path by its index, which find what few have. Neither reads all rows.
Rule 2: only what is rare in a name leads to it: three letters that nearly all names have are long lists in an index, and
        exclude nothing. A few of the newest names tell which those are.
Rule 3: what nothing leads to is looked for row by row, in `FAR` rows; the page ends there, and the next one goes on
        behind them. Names too short are such, kinds, and all names where PostgreSQL has no extension for them.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any, Final

import sqlalchemy as sa

from haulier.adapters.sql.executor import TAKES_LONG, Executor
from haulier.adapters.sql.models import records
from haulier.adapters.sql.rows import Row
from haulier.adapters.sql.walks import JUDGED, Shape, aside, bounds, conditions, judged, newest
from haulier.core.record import fold
from haulier.core.values import dataclass
from haulier.ports import Key

NEAR: Final = 1000
"""Rows among which a name is looked for one by one, about a millisecond: a page of what every twentieth name has."""
FAR: Final = 50_000
"""The same of names that nothing else finds: some tens of milliseconds, and longer than most histories."""
GRAM: Final = 3
"""Characters: what names are found by in both databases."""
MAX_MOMENT: Final = 2**63 - 1
"""Microseconds; what a row id holds."""
SAMPLE: Final = 100
"""Names that tell which grams are rare."""
RARE: Final = 10
"""A gram is rare that at most one name in so many has."""
LEAST_GRAMS: Final = 3
"""Of a name that is looked for, the rarest, where fewer are rare."""
MAX_GRAMS: Final = 8
"""Of a name that is looked for; all of it is compared in the end, and so many leave few rows to compare."""
_KNOWN_TO_POSTGRESQL: Final = re.compile(r"[^\W_]{2}|[\W_][^\W_]")
"""Its trigrams are of words, with blanks around them; a gram without one would lead to all rows.
Source: the page of pg_trgm in PostgreSQL's manual, "Trigram (or Trigraph) Concepts"."""
_ESCAPED: Final = str.maketrans({"!": "!!", "%": "!%", "_": "!_"})

_bind = sa.bindparam
_NAMES: Final = sa.table("record_names", sa.column("rowid", sa.BigInteger))
_MOMENT: Final = _NAMES.c.rowid
_OF_MOMENT: Final = sa.and_(
    # These two are for the index, a little wide: times are doubles, and what is computed of them is rounded.
    records.c.created_at >= sa.literal_column("(record_names.rowid - 1) / 1000000.0"),
    records.c.created_at <= sa.literal_column("(record_names.rowid + 2) / 1000000.0"),
    sa.cast(records.c.created_at * sa.literal_column("1000000"), sa.Integer) == _MOMENT,
)
HAS_INDEX: Final[sa.Select[Any]] = sa.select(
    sa.literal_column("to_regclass('ix_records_names') IS NOT NULL").label("there")
)

Keys = Sequence[Key]


@cache
def found_near(shape: Shape) -> sa.Select[Any]:
    """Return the keys of what fits among the newest rows, which `newest` has the parameters for, and `most` of them."""
    near = newest(shape.leading, JUDGED).subquery("near")
    rest = Shape(filters=shape.filters - shape.leading.filters, statuses=shape.statuses)
    return (
        sa.select(near.c.created_at, near.c.id)
        .where(*judged(rest, near.c))
        .order_by(near.c.created_at.desc(), near.c.id.desc())
        .limit(_bind("most"))
        .execution_options(**TAKES_LONG)
    )


@cache
def named_on_sqlite(shape: Shape) -> sa.Select[Any]:
    """Return the keys of what fits, newest moments first; those of one moment in any order."""
    led = frozenset(
        {"deleted_at"} if "visible_to" in shape.filters else {"deleted_at", "owner", "capsule_id"}
    )
    return (
        sa.select(_MOMENT.label("moment"), records.c.created_at, records.c.id)
        .select_from(_NAMES.join(records, _OF_MOMENT))
        .where(
            sa.literal_column("record_names").op("MATCH")(_bind("grams")),
            _MOMENT.between(_bind("earliest"), _bind("latest")),
            # Rows are found by their moments, however much the rest lets through.
            *conditions(shape, aside("records", but=led)),
        )
        # By this alone the full-text table gives its rows in this order, and stops when there are enough.
        .order_by(_MOMENT.desc())
        .limit(_bind("most"))
    )


@cache
def named_on_postgresql(shape: Shape, grams: int) -> sa.Select[Any]:
    """Return the keys of what fits, newest first; so many grams lead to it."""
    # The index would be asked for every gram of the name itself.
    unindexed = SimpleNamespace(
        **{column.name: column for column in records.c}
        | {"folded_filename": sa.literal_column("(records.folded_filename || '')")}
    )
    leading = [records.c.folded_filename.like(_bind(f"gram_{number}"), escape="!") for number in range(grams)]
    named = (
        sa.select(records.c.created_at, records.c.id)
        .where(*leading, *conditions(shape, unindexed))
        .cte("named")
        # Else the planner may walk along the history, in the hope of a page's worth soon.
        .prefix_with("MATERIALIZED")
    )
    return sa.select(named).order_by(named.c.created_at.desc(), named.c.id.desc()).limit(_bind("most"))


def grams_of(name: str, sample: Sequence[str]) -> Sequence[str]:
    """Return what leads to a name, the rarest first; `sample`: folded names. None: it is too short for that."""
    folded = fold(name)
    grams = {folded[start : start + GRAM] for start in range(len(folded) - GRAM + 1)}
    # No name has a NUL, and in a full-text query everything ends with it.
    counts = {gram: sum(gram in other for other in sample) for gram in grams if "\0" not in gram}
    ranked = sorted(counts, key=lambda gram: (counts[gram], gram))
    rare = [gram for gram in ranked if counts[gram] * RARE <= len(sample)]
    return (rare if len(rare) >= LEAST_GRAMS else ranked[:LEAST_GRAMS])[:MAX_GRAMS]


@dataclass(frozen=True, slots=True)
class Search:
    """A search for the keys of rows."""

    sql: Executor
    shape: Shape
    values: Mapping[str, Any]
    """Of all filters, the name's too."""
    name: str | None
    most: int
    """Keys to return."""

    async def run(self) -> tuple[Keys, Key | None]:
        """Return the first keys that fit; and where the search has ended, if it did before there were enough."""
        keys, end = await self._near(NEAR)
        if end is None:
            return keys, None
        found = await self._led()
        return await self._near(FAR) if found is None else (found, None)

    async def _led(self) -> Keys | None:
        """Return what something leads to; None: nothing does."""
        grams = grams_of(self.name, await self._sample()) if self.name else ()
        if grams and self.sql.dialect == "sqlite":
            return await self._on_sqlite(grams)
        known = [gram for gram in grams if _KNOWN_TO_POSTGRESQL.search(gram)]
        if known and await self._is_indexed():
            return await self._on_postgresql(known)
        if "path_from" in self.shape.filters:
            return [_key(row) for row in await self._rows(newest(self.shape), **bounds(self.most))]
        return None

    async def _near(self, reach: int) -> tuple[Keys, Key | None]:
        """Look through so many rows."""
        keys = [_key(row) for row in await self._rows(found_near(self.shape), **bounds(reach))]
        if len(keys) == self.most:
            return keys, None
        # The last of them, and one more if there is one.
        ends = await self.sql.rows(newest(self.shape.leading), {**self.values, **bounds(2, reach - 1)})
        return keys, _key(ends[0]) if len(ends) > 1 else None

    async def _sample(self) -> Sequence[str]:
        newest_rows = newest(self.shape.leading, JUDGED)
        rows = await self.sql.rows(newest_rows, {**self.values, **bounds(SAMPLE)})
        return [row["folded_filename"] for row in rows]

    async def _is_indexed(self) -> bool:
        row = await self.sql.row(HAS_INDEX, {})
        return row is not None and row["there"]

    async def _on_postgresql(self, grams: Sequence[str]) -> Keys:
        patterns = {f"gram_{number}": f"%{gram.translate(_ESCAPED)}%" for number, gram in enumerate(grams)}
        return [
            _key(row) for row in await self._rows(named_on_postgresql(self.shape, len(grams)), **patterns)
        ]

    async def _on_sqlite(self, grams: Sequence[str]) -> Keys:
        statement = named_on_sqlite(self.shape)
        quoted = (gram.replace('"', '""') for gram in grams)
        values = {"grams": " AND ".join(f'"{gram}"' for gram in quoted), **_moments(self.values)}
        rows = await self._rows(statement, **values)
        keys = {_key(row) for row in rows}
        if len(rows) == self.most:
            # Of the last moment there may be more, and any of them come first.
            last = rows[-1]["moment"]
            same = {**values, "earliest": last, "latest": last, "most": -1}
            keys |= {_key(row) for row in await self._rows(statement, **same)}
        return sorted(keys, reverse=True)[: self.most]

    async def _rows(self, statement: sa.Select[Any], **more: Any) -> Sequence[Row]:
        return await self.sql.rows(statement, {**self.values, "most": self.most, **more})


def _key(row: Row) -> Key:
    return row["created_at"], row["id"]


def _moments(values: Mapping[str, Any]) -> Mapping[str, int]:
    """Return between which moments the rows lie, a little more than the times say."""
    ends = [values[name] for name in ("until", "after_at") if name in values]
    latest = min((math.floor(end * 1e6) + 1 for end in ends), default=MAX_MOMENT)
    earliest = math.floor(values["since"] * 1e6) - 1 if "since" in values else 0
    return {"earliest": max(earliest, 0), "latest": min(max(latest, 0), MAX_MOMENT)}
