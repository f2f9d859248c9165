"""The queues of a Soulseek node in memory, for tests."""

from collections.abc import Sequence
from itertools import count

from haulier.core.transfer import Direction, TransferId
from haulier.core.values import replace
from haulier.ports import PeerTransfer
from haulier.sending_ports import EVERY_ROW, JournalQuery


class MemoryTransferQueueStore:
    """Keeps transfers in a dictionary, in the order in which they came."""

    def __init__(self) -> None:
        self._kept: dict[TransferId, PeerTransfer] = {}
        self._numbers = count(1)

    async def save(self, transfers: Sequence[PeerTransfer]) -> None:
        """Keep these."""
        for kept in transfers:
            before = self._kept.get(kept.transfer.id)
            number = next(self._numbers) if before is None else before.number
            self._kept[kept.transfer.id] = replace(kept, number=number)

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

    async def latest(
        self, limit: int, *, query: JournalQuery = EVERY_ROW, below: int | None = None
    ) -> Sequence[PeerTransfer]:
        """Return the newest."""
        return [
            kept
            for kept in reversed(self._kept.values())
            if (below is None or kept.number < below)
            and query.remote in {None, kept.transfer.line}
            and query.live in {None, kept.transfer.outcome is None}
        ][:limit]

    async def forget(self, *, ended_before: float, most: int) -> int:
        """Forget those that ended before, and of those that have ended all but the newest."""
        ended = [
            (key, kept.ended_at) for key, kept in reversed(self._kept.items()) if kept.ended_at is not None
        ]
        old = [key for place, (key, at) in enumerate(ended) if at < ended_before or place >= most]
        for key in old:
            del self._kept[key]
        return len(old)
