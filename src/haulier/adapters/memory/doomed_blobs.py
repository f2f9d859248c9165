"""Blobs that are still to be removed, in memory; contracts as in the port."""

from collections.abc import Awaitable, Callable, Collection, Sequence


class MemoryDoomedBlobs:
    """`DoomedBlobs` on a draft."""

    def __init__(self, rows: set[str], pause: Callable[[], Awaitable[None]]) -> None:
        self._rows = rows
        self._pause = pause

    async def add(self, blob_keys: Collection[str]) -> None:
        """Note them."""
        await self._pause()
        self._rows.update(blob_keys)

    async def list(self, *, after: str, limit: int) -> Sequence[str]:
        """Return those behind `after`."""
        await self._pause()
        return sorted(key for key in self._rows if key > after)[:limit]

    async def named(self, keys: Collection[str]) -> set[str]:
        """Return those of `keys` that are noted."""
        await self._pause()
        return self._rows.intersection(keys)

    async def remove(self, blob_keys: Collection[str]) -> None:
        """Forget them."""
        await self._pause()
        self._rows.difference_update(blob_keys)
