"""Histories: what a caller has uploaded, and nobody else's.

Rule 1: rows leave as they are stored; whoever shows them presents them one by one, so that one that cannot be shown
        does not take its page with it.
"""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final

from haulier.core.caller import Caller
from haulier.core.errors import AccessDenied, InvalidRequest, RecordNotFound
from haulier.core.record import RecordId
from haulier.core.upload import UploadDetails
from haulier.core.values import replace
from haulier.engine.records import RecordService
from haulier.machine import Clock
from haulier.ports import DayCount, HistoryQuery, HistoryRow, Page, Transaction, UnitOfWork

DAY_S: Final = 86_400.0
EXPORT_PAGE: Final = 200
"""Rows that an export reads at a time: memory is flat, and no transaction is open while a client is slow."""


class HistoryService:
    """Histories of every front end."""

    def __init__(self, work: UnitOfWork[UploadDetails], records: RecordService, clock: Clock) -> None:
        self._work = work
        self._records = records
        self._clock = clock

    async def page(self, query: HistoryQuery, *, caller: Caller) -> Page[HistoryRow]:
        """Return a page of the caller's own history, whoever the query names.

        Raises:
            AccessDenied: the credential is for one upload only.
            InvalidRequest: to leave so many rows out, more would have to be looked through than one page may.
            StorageUnavailable
        """
        mine = replace(query, owner=_owner(caller))
        page = await self._work.read(lambda tx: tx.history.page(mine))
        if query.skip and page.next is not None and len(page.items) < query.limit:
            raise InvalidRequest.of(
                "page", "is too far for a name that fits so rarely; follow `next` instead"
            )
        return page

    async def export(self, query: HistoryQuery, *, caller: Caller) -> AsyncIterator[Sequence[HistoryRow]]:
        """Yield all rows that the filters of `query` let through, a page at a time. Raises as `page`."""
        query = replace(query, limit=EXPORT_PAGE, skip=0)
        while True:
            page = await self.page(query, caller=caller)
            yield page.items
            if page.next is None:
                return
            query = replace(query, after=page.next)

    async def one(self, record_id: RecordId, *, caller: Caller) -> HistoryRow:
        """Return one row of the caller's. Raises RecordNotFound, also for what is in the trash."""
        owner = _owner(caller)
        row = await self._work.read(lambda tx: tx.history.one(owner, record_id))
        if row is None:
            raise RecordNotFound(record_id)
        return row

    async def days(self, days: int, *, caller: Caller) -> Sequence[DayCount]:
        """Count the caller's records of the last so many days, today included, by day (UTC) and status."""
        owner, tomorrow = _owner(caller), (self._clock.now() // DAY_S + 1) * DAY_S
        since = tomorrow - days * DAY_S
        return await self._work.read(lambda tx: tx.history.days(owner, since=since, until=tomorrow))

    async def delete(self, record_id: RecordId, *, caller: Caller) -> None:
        """Put one of the caller's records into the trash; see `RecordService.delete`."""
        await self._require_mine(record_id, caller)
        await self._records.delete(record_id, caller=caller)

    async def restore(self, record_id: RecordId, *, caller: Caller) -> HistoryRow:
        """Take one of the caller's records out of the trash; see `RecordService.restore`."""
        await self._require_mine(record_id, caller)
        await self._records.restore(record_id, caller=caller)
        return await self.one(record_id, caller=caller)

    async def _require_mine(self, record_id: RecordId, caller: Caller) -> None:
        if not await self._work.read(partial(_is_owned, record_id, _owner(caller))):
            raise RecordNotFound(record_id)


async def _is_owned(record_id: RecordId, owner: str, tx: Transaction[UploadDetails]) -> bool:
    record = await tx.records.load(record_id)
    return record is not None and record.owner == owner


def _owner(caller: Caller) -> str:
    if caller.upload is not None:
        raise AccessDenied("look at a history")
    return caller.owner
