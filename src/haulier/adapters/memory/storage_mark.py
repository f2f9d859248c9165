"""Which storage has the bytes, in memory; contracts as in the port."""

from collections.abc import Awaitable, Callable


class MemoryStorageMark:
    """`StorageMark` on a draft: of a list that has one id, or none yet."""

    def __init__(self, rows: list[str], pause: Callable[[], Awaitable[None]]) -> None:
        self._rows = rows
        self._pause = pause

    async def noted(self) -> str | None:
        """Return its id."""
        await self._pause()
        return self._rows[0] if self._rows else None

    async def note(self, storage_id: str) -> str:
        """Note it, unless one is noted."""
        await self._pause()
        if not self._rows:
            self._rows.append(storage_id)
        return self._rows[0]
