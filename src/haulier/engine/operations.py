"""What operators ask of a running service, and may set going.

Rule 1: looking disturbs nobody; what is shown of uploads is what their rows say.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from haulier.core.caller import Caller
from haulier.core.capsule import Capsule
from haulier.core.errors import AccessDenied
from haulier.core.record import RecordStatus
from haulier.core.session import SessionStatus
from haulier.core.upload import Upload, UploadDetails
from haulier.core.values import dataclass
from haulier.ports import Transaction, UnitOfWork


@dataclass(frozen=True, slots=True)
class LivePage:
    """A page of live uploads, oldest first; `next` is where the one after it begins."""

    items: Sequence[Upload]
    next: tuple[float, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What a service holds. Sizes are bytes; a status that nothing has counts 0."""

    uploads: Mapping[SessionStatus, int]
    records: Mapping[RecordStatus, int]
    deleted_records: int
    capsules: Sequence[Capsule]
    workers: int
    """Processes that live, of all services on the same rows."""


class OperatorService:
    """The operators' calls; each raises AccessDenied for a caller who is none."""

    def __init__(
        self,
        work: UnitOfWork[UploadDetails],
        *,
        expire: Callable[[], Awaitable[int]],
        count_workers: Callable[[], Awaitable[int]],
    ) -> None:
        """`expire` ends what nobody has touched for its time to live; `count_workers` counts the living."""
        self._work = work
        self._expire = expire
        self._count_workers = count_workers

    async def live(self, *, after: tuple[float, str] | None, limit: int, caller: Caller) -> LivePage:
        """Return open and finishing uploads, each with what it has received."""
        require_operator(caller)
        found = await self._work.read(lambda tx: tx.overview.live(after=after, limit=limit + 1))
        items = found[:limit]
        return LivePage(items, (items[-1].created_at, items[-1].id) if len(found) > limit else None)

    async def stats(self, *, caller: Caller) -> Stats:
        """Count what there is, on one consistent view."""
        require_operator(caller)
        workers = await self._count_workers()

        async def look(tx: Transaction[UploadDetails]) -> Stats:
            return Stats(
                uploads=Counter(await tx.overview.live_counts()),
                records=Counter(await tx.overview.record_counts()),
                deleted_records=await tx.overview.deleted_count(),
                capsules=await tx.capsules.list(),
                workers=workers,
            )

        return await self._work.read(look)

    async def count_live(self, *, caller: Caller) -> int:
        """Count open and finishing uploads, for whoever scrapes."""
        require_operator(caller)
        return sum((await self._work.read(lambda tx: tx.overview.live_counts())).values())

    async def expire(self, *, caller: Caller) -> int:
        """End at once what nobody has touched for its time to live; return how many uploads."""
        require_operator(caller)
        return await self._expire()


def require_operator(caller: Caller) -> None:
    """Refuse whoever is no operator. Raises AccessDenied."""
    if not caller.operator:
        raise AccessDenied("the operators' calls")
