"""How far each receiver of events has come, in memory."""

from haulier.adapters.memory.access import Pause
from haulier.core.event import Position
from haulier.core.values import replace
from haulier.ports import Delivery


class MemoryDeliveryStore:
    """`DeliveryStore` on a draft; contracts as in the port."""

    def __init__(self, rows: dict[str, Delivery], pause: Pause) -> None:
        self._rows = rows
        self._pause = pause

    async def load(self, receiver: str) -> Delivery | None:
        """Return how far the receiver has come."""
        await self._pause()
        return self._rows.get(receiver)

    async def begin(self, receiver: str, position: Position, holder: str) -> Delivery | None:
        """Add a receiver that is not known."""
        if await self.load(receiver) is not None:
            return None
        return self._put(Delivery(receiver=receiver, position=position, fence=1, holder=holder))

    async def take(self, receiver: str, fence: int, holder: str) -> Delivery | None:
        """Make `holder` the one that delivers, under a new fence."""
        row = await self._held(receiver, fence)
        return None if row is None else self._put(replace(row, fence=fence + 1, holder=holder))

    async def advance(self, receiver: str, fence: int, position: Position) -> bool:
        """Move on, under the fence."""
        row = await self._held(receiver, fence)
        if row is None:
            return False
        self._put(replace(row, position=position, failures=0, due_at=0.0, error=None))
        return True

    async def postpone(self, receiver: str, fence: int, *, failures: int, due_at: float, error: str) -> bool:
        """Note a failure, under the fence."""
        row = await self._held(receiver, fence)
        if row is None:
            return False
        self._put(replace(row, failures=failures, due_at=due_at, error=error))
        return True

    async def _held(self, receiver: str, fence: int) -> Delivery | None:
        row = await self.load(receiver)
        return row if row is not None and row.fence == fence else None

    def _put(self, row: Delivery) -> Delivery:
        self._rows[row.receiver] = row
        return row
