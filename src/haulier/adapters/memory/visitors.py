"""Visitors in memory; contracts as in the port."""

from collections.abc import Sequence

from haulier.adapters.memory.access import Pause
from haulier.core.values import replace
from haulier.core.visitor import Visitor


class MemoryVisitorStore:
    """`VisitorStore` on a draft."""

    def __init__(self, rows: dict[str, Visitor], pause: Pause) -> None:
        self._rows = rows
        self._pause = pause

    async def add(self, visitor: Visitor) -> None:
        """Add a new visitor."""
        await self._pause()
        if visitor.id in self._rows:
            message = f"visitor {visitor.id} is not new"
            raise AssertionError(message)
        self._rows[visitor.id] = visitor

    async def load(self, visitor_id: str) -> Visitor | None:
        """Return the visitor."""
        await self._pause()
        return self._rows.get(visitor_id)

    async def see(self, visitor_id: str, *, now: float, ttl_s: float) -> Visitor | None:
        """Note that one that lives is seen."""
        visitor = await self.load(visitor_id)
        if visitor is None or not visitor.lives(now=now):
            return None
        self._rows[visitor_id] = visitor.seen(now=now, ttl_s=ttl_s)
        return self._rows[visitor_id]

    async def sign_in(self, visitor_id: str, principal: str) -> bool:
        """Note who signed in."""
        visitor = await self.load(visitor_id)
        if visitor is None:
            return False
        self._rows[visitor_id] = replace(visitor, principal=principal)
        return True

    async def remove(self, visitor_id: str) -> bool:
        """Remove a visitor."""
        await self._pause()
        return self._rows.pop(visitor_id, None) is not None

    async def remove_ended(self, *, now: float, limit: int) -> Sequence[str]:
        """Remove the visitors that ended longest ago."""
        await self._pause()
        ended = [visitor for visitor in self._rows.values() if not visitor.lives(now=now)]
        chosen = sorted(ended, key=lambda visitor: (visitor.expires_at, visitor.id))[:limit]
        for visitor in chosen:
            del self._rows[visitor.id]
        return [visitor.id for visitor in chosen]
