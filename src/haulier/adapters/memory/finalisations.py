"""What was made of uploads under which idempotency key, in memory; contracts as in the port."""

from collections.abc import Awaitable, Callable

from haulier.core.finalisation import Finalised

Rows = dict[tuple[str, str, str], Finalised]
"""By capsule, owner and key."""


class MemoryFinalisationStore:
    """`FinalisationStore` on a draft."""

    def __init__(self, rows: Rows, pause: Callable[[], Awaitable[None]]) -> None:
        self._rows = rows
        self._pause = pause

    async def note(self, made: Finalised) -> bool:
        """Remember what was made under a new key."""
        await self._pause()
        place = (made.capsule, made.owner, made.key)
        return self._rows.setdefault(place, made) is made

    async def find(self, capsule: str, owner: str, key: str) -> Finalised | None:
        """Return what was made under that key."""
        await self._pause()
        return self._rows.get((capsule, owner, key))

    async def forget(self, *, before: float) -> int:
        """Forget what was made under keys before that time."""
        await self._pause()
        old = [place for place, made in self._rows.items() if made.created_at < before]
        for place in old:
            del self._rows[place]
        return len(old)
