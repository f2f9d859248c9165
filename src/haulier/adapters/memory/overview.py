"""What operators see of all rows at once, in memory; contracts as in the port."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

from haulier.core.record import Record, RecordId, RecordStatus
from haulier.core.session import Session, SessionId, SessionStatus

D = TypeVar("D")


class MemoryOverview(Generic[D]):
    """`Overview` of one version of all rows."""

    def __init__(
        self,
        sessions: Mapping[SessionId, Session[D]],
        records: Mapping[RecordId, Record],
        pause: Callable[[], Awaitable[None]],
    ) -> None:
        self._sessions = sessions
        self._records = records
        self._pause = pause

    async def live(self, *, after: tuple[float, str] | None, limit: int) -> Sequence[Session[D]]:
        """Return a page of live sessions, oldest first."""
        await self._pause()
        live = sorted(self._live(), key=_place)
        return [session for session in live if after is None or _place(session) > after][:limit]

    async def live_counts(self) -> Mapping[SessionStatus, int]:
        """Count live sessions by status."""
        await self._pause()
        return Counter(session.status for session in self._live())

    async def record_counts(self) -> Mapping[RecordStatus, int]:
        """Count records by status, without the trash."""
        await self._pause()
        return Counter(record.status for record in self._records.values() if record.deleted_at is None)

    async def deleted_count(self) -> int:
        """Count records in the trash."""
        await self._pause()
        return sum(record.deleted_at is not None for record in self._records.values())

    def _live(self) -> list[Session[D]]:
        return [session for session in self._sessions.values() if session.status.live]


def _place(session: Session[D]) -> tuple[float, str]:
    return session.created_at, session.id
