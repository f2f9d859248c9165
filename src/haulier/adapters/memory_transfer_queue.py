"""The queues of a Soulseek node in memory, for tests."""

from collections.abc import Sequence

from haulier.core.transfer import Direction, TransferId
from haulier.ports import PeerTransfer


class MemoryTransferQueueStore:
    """Keeps transfers in a dictionary, in the order in which they came."""

    def __init__(self) -> None:
        self._kept: dict[TransferId, PeerTransfer] = {}

    async def save(self, transfers: Sequence[PeerTransfer]) -> None:
        """Keep these."""
        self._kept.update({kept.transfer.id: kept for kept in transfers})

    async def find(self, transfer: TransferId) -> PeerTransfer | None:
        """Return one."""
        return self._kept.get(transfer)

    async def live(self, direction: Direction) -> Sequence[PeerTransfer]:
        """Return those that have not ended."""
        return [
            kept
            for kept in self._kept.values()
            if kept.transfer.outcome is None and kept.transfer.direction is direction
        ]

    async def latest(self, limit: int) -> Sequence[PeerTransfer]:
        """Return the newest."""
        return list(reversed(self._kept.values()))[:limit]

    async def forget(self, *, ended_before: float) -> int:
        """Forget those that ended before."""
        old = [
            key
            for key, kept in self._kept.items()
            if kept.ended_at is not None and kept.ended_at < ended_before
        ]
        for key in old:
            del self._kept[key]
        return len(old)
