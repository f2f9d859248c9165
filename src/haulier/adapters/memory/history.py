"""Histories in memory; contracts as in the port."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

from haulier.adapters.memory.access import Pause
from haulier.core.processing import FileMetadata
from haulier.core.record import AssetKind, Record, RecordId, fold
from haulier.ports import DayCount, HistoryQuery, HistoryRow, Page

DAY_S: Final = 86_400.0


class MemoryHistory:
    """`HistoryStore` on a draft."""

    def __init__(
        self, records: Mapping[RecordId, Record], files: Mapping[RecordId, FileMetadata], pause: Pause
    ) -> None:
        self._records = records
        self._files = files
        self._pause = pause

    async def page(self, query: HistoryQuery) -> Page[HistoryRow]:
        """Return a page."""
        await self._pause()
        found = [record for record in self._mine(query.owner) if _fits(record, query)]
        found.sort(key=lambda record: (record.created_at, record.id), reverse=True)
        page = Page.cut(found[query.skip :], query.limit, key=lambda record: (record.created_at, record.id))
        return Page(items=[self._row(record) for record in page.items], next=page.next)

    async def one(self, owner: str, record_id: RecordId) -> HistoryRow | None:
        """Return one row of the owner's."""
        await self._pause()
        return next((self._row(record) for record in self._mine(owner) if record.id == record_id), None)

    async def days(self, owner: str, *, since: float, until: float) -> Sequence[DayCount]:
        """Count what was begun in `[since, until)`, by day and status."""
        await self._pause()
        counts: Counter[tuple[int, str]] = Counter()
        sizes: Counter[tuple[int, str]] = Counter()
        for record in self._mine(owner):
            if since <= record.created_at < until:
                key = (int(record.created_at // DAY_S), record.status.value)
                counts[key] += 1
                sizes[key] += record.size or 0
        return [
            DayCount(day=day, status=status, count=count, size=sizes[day, status])
            for (day, status), count in sorted(counts.items())
        ]

    def _mine(self, owner: str) -> list[Record]:
        return [
            record for record in self._records.values() if record.owner == owner and record.deleted_at is None
        ]

    def _row(self, record: Record) -> HistoryRow:
        original = record.asset(AssetKind.ORIGINAL)
        file = self._files.get(record.id)
        return {
            "id": record.id,
            "original_filename": record.filename,
            "content_type": record.content_type,
            "status": record.status.value,
            "size": record.size,
            "error": record.error,
            "metadata": json.dumps(dict(record.metadata)),
            "created_at": record.created_at,
            "uploaded_at": record.uploaded_at,
            "blob_key": None if original is None else original.blob_key,
            "file": None
            if file is None
            else {**asdict(file), "errors": json.dumps([asdict(it) for it in file.errors])},
        }


def _fits(record: Record, query: HistoryQuery) -> bool:
    return (
        (not query.statuses or record.status in query.statuses)
        and (query.filename is None or fold(query.filename) in fold(record.filename))
        and (not query.path_prefix or (record.path or "").startswith(query.path_prefix))
        and (query.since is None or record.created_at >= query.since)
        and (query.until is None or record.created_at < query.until)
        and (query.after is None or (record.created_at, record.id) < query.after)
    )
