"""Visitors, on SQL; contracts as in the port."""

import json
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from haulier.adapters.sql.executor import Executor
from haulier.adapters.sql.models import visitors
from haulier.adapters.sql.rows import Row
from haulier.core.visitor import Visitor

_bind = sa.bindparam
_THIS: Final = visitors.c.id == _bind("id")
ADD: Final = sa.insert(visitors).values(
    {column.name: _bind(column.name, type_=column.type) for column in visitors.columns}
)
VISITOR: Final[sa.Select[Any]] = sa.select(visitors).where(_THIS)
_MOVED: Final = {
    "last_seen_at": _bind("now", type_=sa.Double),
    "expires_at": _bind("until", type_=sa.Double),
}
SEE: Final = (
    sa.update(visitors)
    .where(_THIS, visitors.c.expires_at > _bind("now", type_=sa.Double))
    .values({
        name: sa.case((visitors.c[name] < later, later), else_=visitors.c[name])
        for name, later in _MOVED.items()
    })
    .returning(*visitors.c)
)  # fmt: skip
SIGN_IN: Final = sa.update(visitors).where(_THIS).values(principal=_bind("signed_in"))
REMOVE: Final = sa.delete(visitors).where(_THIS)
ENDED: Final = (
    sa.select(visitors.c.id)
    .where(visitors.c.expires_at <= _bind("now"))
    .order_by(visitors.c.expires_at, visitors.c.id)
    .limit(_bind("limit"))
)
REMOVE_ENDED: Final = sa.delete(visitors).where(_THIS, visitors.c.expires_at <= _bind("now"))


class SqlVisitorStore:
    """`VisitorStore`."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor

    async def add(self, visitor: Visitor) -> None:
        """Add a new visitor."""
        values = {
            "id": visitor.id,
            "created_at": visitor.created_at,
            "last_seen_at": visitor.last_seen_at,
            "expires_at": visitor.expires_at,
            "principal": visitor.principal,
            "metadata": json.dumps(dict(visitor.metadata), ensure_ascii=False),
        }
        await self._sql.count(ADD, values)

    async def load(self, visitor_id: str) -> Visitor | None:
        """Return the visitor."""
        return _visitor(await self._sql.row(VISITOR, {"id": visitor_id}))

    async def see(self, visitor_id: str, *, now: float, ttl_s: float) -> Visitor | None:
        """Note that one that lives is seen."""
        return _visitor(await self._sql.row(SEE, {"id": visitor_id, "now": now, "until": now + ttl_s}))

    async def sign_in(self, visitor_id: str, principal: str) -> bool:
        """Note who signed in."""
        return await self._sql.count(SIGN_IN, {"id": visitor_id, "signed_in": principal}) == 1

    async def remove(self, visitor_id: str) -> bool:
        """Remove a visitor."""
        return await self._sql.count(REMOVE, {"id": visitor_id}) == 1

    async def remove_ended(self, *, now: float, limit: int) -> Sequence[str]:
        """Remove the visitors that ended longest ago."""
        # Each is judged again by its own statement: another process may remove them, or see one of them.
        ended = await self._sql.rows(ENDED, {"now": now, "limit": limit})
        return [
            row["id"] for row in ended if await self._sql.count(REMOVE_ENDED, {"id": row["id"], "now": now})
        ]


def _visitor(row: Row | None) -> Visitor | None:
    if row is None:
        return None
    return Visitor(
        id=row["id"],
        created_at=row["created_at"],
        last_seen_at=row["last_seen_at"],
        expires_at=row["expires_at"],
        principal=row["principal"],
        metadata=json.loads(row["metadata"]),
    )
