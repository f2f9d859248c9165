"""Records newest first, along indexes: what histories and lists are read by.

Rule 1: whatever leads to rows is an index in the order of the page, so that a page costs the same wherever it lies;
        what is in the trash is in indexes of its own (migrations 0015 and 0017).
Rule 2: of several statuses each is read along the index by itself, and the first of all are taken, so that a rare one
        is not looked for among a million others. So is each capsule that somebody may read.
"""

from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any, Final

import sqlalchemy as sa

from haulier.adapters.sql.among import among
from haulier.adapters.sql.models import assets, capsules, grants, records
from haulier.adapters.sql.statements import ADMITS_USERS, ADMITS_VISITORS, capsule_id
from haulier.core.caller import USER
from haulier.core.values import dataclass, replace
from haulier.core.visitor import VISITOR

_bind = sa.bindparam
LEADING: Final = frozenset({"owner", "capsule", "visible_to", "since", "until", "after_id"})
"""Filters that lead to rows; the others judge each row."""
KEY: Final = ("created_at", "id")
JUDGED: Final = (*KEY, "status", "folded_filename", "path", "uploaded_at")
"""What the others look at."""
IDS: Final = "ids"
"""A filter that leads to its rows by itself; see `named`."""
RESTORABLE: Final = "restorable"
"""A filter without a parameter: the record has its bytes, or never had any."""
_PLACE: Final = frozenset({*KEY, "deleted_at"})
_BEFORE_ALL: Final[sa.ColumnElement[float]] = sa.literal_column("-1e300")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the text of a statement depends on; there are few."""

    filters: frozenset[str]
    """The names of their parameters."""
    statuses: int
    deleted: bool = False
    lateral: bool = False
    """Whether the database knows the word."""

    @property
    def searched(self) -> bool:
        """Whether it has filters that only judge rows."""
        return not self.filters <= LEADING | {"after_at"}

    @property
    def leading(self) -> "Shape":
        """The same without what judges rows; one status leads to rows too."""
        return Shape(
            filters=self.filters & LEADING,
            statuses=self.statuses if self.statuses == 1 else 0,
            deleted=self.deleted,
            lateral=self.lateral,
        )


def conditions(shape: Shape, of: Any = records.c) -> list[sa.ColumnElement[bool]]:
    """Return all that the rows must fulfil, on these columns of theirs."""
    there = of.deleted_at.is_not(None) if shape.deleted else of.deleted_at.is_(None)
    return [there, *_led(shape, of), *judged(shape, of)]


def _led(shape: Shape, of: Any) -> list[sa.ColumnElement[bool]]:
    known = {
        "owner": of.owner == _bind("owner"),
        "capsule": of.capsule_id == capsule_id(),
        "visible_to": _visible(of),
        "since": of.created_at >= _bind("since"),
        "until": of.created_at < _bind("until"),
        "after_id": sa.tuple_(of.created_at, of.id) < sa.tuple_(_bind("after_at"), _bind("after_id")),
    }
    return [known[name] for name in sorted(shape.filters & LEADING)]


def judged(shape: Shape, of: Any) -> list[sa.ColumnElement[bool]]:
    """Return what judges rows that something else has led to."""
    asset = sa.select(assets.c.kind).where(assets.c.record_id == of.id, assets.c.kind == _bind("kind"))
    known: Mapping[str, sa.ColumnElement[bool]] = {
        "filename": of.folded_filename.like(_bind("filename"), escape="!"),
        "path_from": of.path >= _bind("path_from"),
        "path_to": of.path < _bind("path_to"),
        "kind": sa.exists(asset),
        # As `RESTORE_RECORD` has it.
        RESTORABLE: sa.or_(
            of.uploaded_at.is_(None), sa.exists(sa.select(assets.c.kind).where(assets.c.record_id == of.id))
        ),
    }
    wanted = [known[name] for name in sorted(shape.filters & known.keys())]
    if shape.statuses == 1:
        return [*wanted, of.status == _bind("status_0")]
    if shape.statuses:
        return [*wanted, of.status.in_([_bind(f"status_{number}") for number in range(shape.statuses)])]
    return wanted


def aside(table: str, *, but: frozenset[str]) -> Any:
    """Return the columns of records, under a name of theirs, not for an index of SQLite's to be found by, but some."""
    return SimpleNamespace(
        **{
            column.name: sa.literal_column(f"{'' if column.name in but else '+'}{table}.{column.name}")
            for column in records.c
        }
    )


# What an owner may read (see core/access.py): all in capsules of its own or with a grant; its own where its kind is
# admitted and it has none.
def _reads_all(of: Any) -> sa.ColumnElement[bool]:
    granted = sa.select(grants.c.role).where(
        grants.c.capsule_id == of.id, grants.c.principal == _bind("visible_to")
    )
    return sa.or_(of.owner == _bind("visible_to"), sa.exists(granted))


def _own_as_guest(of: Any) -> sa.ColumnElement[bool]:
    return sa.or_(
        *(
            sa.and_(
                of.owner == _bind("visible_to"),
                of.owner.like(sa.literal_column(f"'{kind}%'")),
                of.capsule_id.in_(sa.select(capsules.c.id).where(admitted, sa.not_(_reads_all(capsules.c)))),
            )
            for kind, admitted in ((USER, ADMITS_USERS), (VISITOR, ADMITS_VISITORS))
        )
    )


def _visible(of: Any) -> sa.ColumnElement[bool]:
    return sa.or_(
        of.capsule_id.in_(sa.select(capsules.c.id).where(_reads_all(capsules.c))), _own_as_guest(of)
    )


Branch = sa.Select[Any]


def _branches(shape: Shape, columns: tuple[str, ...]) -> list[Branch]:
    """Return selections, each of which an index gives in order, and which have each row once."""
    shown = [records.c[name] for name in columns]
    if "visible_to" in shape.filters and "owner" not in shape.filters:
        rest = replace(shape, filters=shape.filters - {"visible_to"})
        own = sa.select(*shown).where(
            records.c.owner == _bind("visible_to"), _own_as_guest(records.c), *conditions(rest)
        )
        return [own, _in_each_capsule(rest, shown) if shape.lateral else _of_capsules(rest, shown)]
    if shape.statuses <= 1:
        return [sa.select(*shown).where(*conditions(shape))]
    rest = replace(shape, statuses=0)
    return [
        sa.select(*shown).where(*conditions(rest), records.c.status == _bind(f"status_{number}"))
        for number in range(shape.statuses)
    ]


def _in_each_capsule(shape: Shape, shown: list[sa.Column[Any]]) -> Branch:
    """Return the newest rows of each capsule whose rows may all be read, as many as could be taken."""
    readable = capsules.alias("readable")
    each = (
        sa.select(*shown)
        .where(records.c.capsule_id == readable.c.id, *conditions(shape))
        .order_by(*_newest_first(records.c))
        .limit(_bind("reach"))
        .correlate(readable)
        .lateral("each")
    )
    return sa.select(*each.c).select_from(readable.join(each, sa.true())).where(_reads_all(readable.c))


def _of_capsules(shape: Shape, columns: list[sa.Column[Any]]) -> Branch:
    """Return the same, or a few more, in other words: those from the last one on that could be taken."""
    other, readable = records.alias("other"), capsules.alias("readable")
    last = (
        sa.select(other.c.created_at)
        .where(other.c.capsule_id == readable.c.id, *conditions(shape, aside("other", but=_PLACE)))
        .order_by(*_newest_first(other.c))
        .limit(sa.literal_column("1"))
        .offset(_bind("reach") - sa.literal_column("1"))
        .correlate(readable)
        .scalar_subquery()
    )
    # SQLite is to go from capsules along the index of their records. It would rather walk along all of them, for their
    # order, for another filter or because it takes few to fit: so it may use none of these columns for that.
    of_readable = records.c.capsule_id == readable.c.id.concat(sa.literal_column("''"))
    shown = aside("records", but=frozenset())
    return (
        sa.select(*(getattr(shown, column.name).label(column.name) for column in columns))
        .select_from(readable.join(records, of_readable))
        .where(
            _reads_all(readable.c),
            records.c.created_at >= sa.func.coalesce(last, _BEFORE_ALL),
            *conditions(shape, aside("records", but=_PLACE)),
        )
    )


@cache
def newest(shape: Shape, columns: tuple[str, ...] = KEY) -> sa.Select[Any]:
    """Return these columns of the newest rows.

    Parameters beside those of the filters: `limit`, `skip`, and `reach`, which is both together.
    """
    branches = [
        branch.order_by(*_newest_first(branch.selected_columns)) for branch in _branches(shape, columns)
    ]
    if len(branches) == 1:
        return branches[0].limit(_bind("limit")).offset(_bind("skip"))
    # As many as could be taken of each, then the newest of these.
    each = [sa.select(branch.limit(_bind("reach")).subquery()) for branch in branches]
    together = sa.union_all(*each).subquery("together")
    return (
        sa.select(together).order_by(*_newest_first(together.c)).limit(_bind("limit")).offset(_bind("skip"))
    )


@cache
def named(shape: Shape) -> sa.Select[Any]:
    """Return the keys of the newest of the rows whose ids are in `IDS`. Parameters as of `newest`."""
    # Materialized: else a planner may walk along an index of the other filters.
    these = sa.select(records).where(among(records.c.id, IDS)).cte("these").prefix_with("MATERIALIZED")
    return (
        sa.select(these.c.created_at, these.c.id)
        .where(*conditions(shape, these.c))
        .order_by(*_newest_first(these.c))
        .limit(_bind("limit"))
        .offset(_bind("skip"))
    )


def _newest_first(of: Any) -> tuple[sa.UnaryExpression[Any], ...]:
    return of.created_at.desc(), of.id.desc()


def bounds(limit: int, skip: int = 0) -> Mapping[str, int]:
    """Return the parameters of `newest` beside those of filters."""
    return {"limit": limit, "skip": skip, "reach": limit + skip}
