"""The outbox on SQL; contracts as in the port.

Rule 1: SQLite has one writer, so numbers are given in the order of commits, and are all there is to a place. PostgreSQL
        has many: there an event counts only when its transaction is older than the oldest one that still runs, and
        transactions come before numbers.
Rule 2: whoever reads on looks at nothing before its place, however much is kept there. SQLite would, for a pair of which
        one is its row id: it searches by the other one only.
Source: PostgreSQL's manual, "Transaction ID and Snapshot Information Functions" (`pg_snapshot_xmin`: the lowest
        transaction ID still active; all lower ones are either committed and visible, or rolled back).
"""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy.ext.compiler import compiles

from haulier.adapters.sql.among import among, array
from haulier.adapters.sql.executor import Executor
from haulier.adapters.sql.models import capsules, events
from haulier.adapters.sql.rows import Parameters, Row
from haulier.core.event import EVERYTHING, MAX_NUMBER, START, Event, EventKind, Interest, Position, Told
from haulier.core.record import RecordId

_bind = sa.bindparam


class _ThisTransaction(sa.ColumnElement[int]):
    """The number of the transaction that runs the statement."""

    type = sa.BigInteger()
    inherit_cache = True


class _OldestRunning(sa.ColumnElement[int]):
    """The lowest number of a transaction that may still commit."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(_ThisTransaction, "sqlite")
def _this_on_sqlite(*_: Any, **__: Any) -> str:
    return "0"


@compiles(_ThisTransaction, "postgresql")
def _this_on_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)"


@compiles(_OldestRunning, "sqlite")
def _oldest_on_sqlite(*_: Any, **__: Any) -> str:
    return str(MAX_NUMBER)


@compiles(_OldestRunning, "postgresql")
def _oldest_on_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT)"


class _Either(sa.ColumnElement[Any]):
    """One of two terms: what SQLite understands best, and what PostgreSQL needs."""

    inherit_cache = False

    def __init__(self, *, sqlite: sa.ColumnElement[Any], postgresql: sa.ColumnElement[Any]) -> None:
        self.sqlite: Final = sqlite
        self.postgresql: Final = postgresql


@compiles(_Either, "sqlite")
def _either_on_sqlite(either: _Either, compiler: Any, **options: Any) -> str:
    text: str = compiler.process(either.sqlite, **options)
    return text


@compiles(_Either, "postgresql")
def _either_on_postgresql(either: _Either, compiler: Any, **options: Any) -> str:
    text: str = compiler.process(either.postgresql, **options)
    return text


_PLACE: Final = (events.c.xid, events.c.seq)
_SETTLED: Final = events.c.xid < _OldestRunning()
_AFTER: Final = _Either(
    sqlite=events.c.seq > _bind("seq"),
    postgresql=sa.tuple_(*_PLACE) > sa.tuple_(_bind("xid"), _bind("seq")),
)
_BEFORE: Final = _Either(
    sqlite=events.c.seq < _bind("seq"),
    postgresql=sa.tuple_(*_PLACE) < sa.tuple_(_bind("xid"), _bind("seq")),
)
_FORWARD: Final = (_Either(sqlite=events.c.seq, postgresql=events.c.xid), events.c.seq)
_BACKWARD: Final = tuple(term.desc() for term in _FORWARD)
APPEND: Final = (
    sa.insert(events)
    .values(
        xid=_ThisTransaction(),
        capsule_id=sa.select(capsules.c.id).where(capsules.c.name == _bind("capsule")).scalar_subquery(),
        **{name: _bind(name) for name in ("record_id", "owner", "kind", "payload", "created_at")},
    )
    .inline()
)
LAST_SETTLED: Final[sa.Select[Any]] = sa.select(*_PLACE).where(_SETTLED).order_by(*_BACKWARD).limit(1)
_LAST_SEQ: Final = LAST_SETTLED.with_only_columns(events.c.seq).correlate(None).scalar_subquery()
_WANTED: Final = sa.and_(
    among(events.c.kind, "kinds"), events.c.payload.like(_bind("with_fact", type_=sa.Text))
)
EVENTS: Final = (
    sa.select(*events.c, capsules.c.name.label("capsule"), _SETTLED.label("settled"))
    .select_from(events.join(capsules, capsules.c.id == events.c.capsule_id))
    .where(_AFTER, sa.or_(_WANTED, events.c.seq == _LAST_SEQ))
    .order_by(*_FORWARD)
    .limit(_bind("limit"))
)
FIRST: Final[sa.Select[Any]] = sa.select(*_PLACE).order_by(*_FORWARD).limit(1)
LAST: Final[sa.Select[Any]] = sa.select(*_PLACE).order_by(*_BACKWARD).limit(1)
FIRST_YOUNG: Final[sa.Select[Any]] = (
    sa.select(*_PLACE).where(events.c.created_at >= _bind("before")).order_by(*_FORWARD).limit(1)
)
LAST_BEFORE: Final[sa.Select[Any]] = sa.select(*_PLACE).where(_BEFORE).order_by(*_BACKWARD).limit(1)
_PRUNED: Final = sa.select(events.c.seq).where(_BEFORE).order_by(*_FORWARD).limit(_bind("limit"))
PRUNE: Final = sa.delete(events).where(events.c.seq.in_(_PRUNED.correlate(None)))


class SqlEventStore:
    """`EventStore`."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor
        self._written = False

    def begin(self) -> None:
        """Have written nothing yet."""
        self._written = False

    @property
    def written(self) -> bool:
        """Whether this transaction has events; on SQLite it may be that of several callers."""
        return self._written

    async def append(self, *events: Event) -> None:
        """Write events."""
        self._written = True
        await self._sql.count_all(APPEND, [_parameters(event) for event in events])

    async def after(
        self, position: Position, *, limit: int, interest: Interest = EVERYTHING
    ) -> tuple[Sequence[Told], bool]:
        """Return the events behind that position that are settled, and whether all are."""
        rows = await self._sql.rows(EVENTS, {**_place(position), **_wanted(interest), "limit": limit})
        # In this order those that are not settled come last.
        found = [_told(row) for row in rows if row["settled"]]
        return found, len(found) == len(rows)

    async def last_settled(self) -> Position:
        """Return the last position that nothing can come before any more."""
        return _position(await self._sql.row(LAST_SETTLED, {})) or START

    async def kept(self) -> tuple[Position, Position] | None:
        """Return where the first and the last event are."""
        first = _position(await self._sql.row(FIRST, {}))
        last = _position(await self._sql.row(LAST, {}))
        return None if first is None or last is None else (first, last)

    async def prune(self, *, before: float, limit: int) -> int:
        """Remove what is older than everything younger, but the last of it."""
        young = _position(await self._sql.row(FIRST_YOUNG, {"before": before}))
        end = young or Position(MAX_NUMBER, MAX_NUMBER)
        last = _position(await self._sql.row(LAST_BEFORE, _place(end)))
        return 0 if last is None else await self._sql.count(PRUNE, {**_place(last), "limit": limit})


def _parameters(event: Event) -> Parameters:
    return {
        "capsule": event.capsule,
        "record_id": event.record,
        "owner": event.owner,
        "kind": str(event.kind),
        "payload": to_json(event.facts).decode(),
        "created_at": event.created_at,
    }


def _place(position: Position) -> dict[str, Any]:
    return {"xid": position.transaction, "seq": position.number}


@cache
def _wanted(interest: Interest) -> Parameters:
    assert interest.fact is None or interest.fact.isalpha(), "other characters may mean something to LIKE"
    # Inside another text the quotes have backslashes, so only the key itself fits.
    with_fact = "%" if interest.fact is None else f'%"{interest.fact}":%'
    return {"kinds": array(sorted(interest.kinds)), "with_fact": with_fact}


def _position(row: Row | None) -> Position | None:
    return None if row is None else Position(row["xid"], row["seq"])


def _told(row: Row) -> Told:
    event = Event(
        kind=EventKind(row["kind"]),
        record=RecordId(row["record_id"]),
        capsule=row["capsule"],
        owner=row["owner"],
        facts=json.loads(row["payload"]),
        created_at=row["created_at"],
    )
    return Told(Position(row["xid"], row["seq"]), event)
