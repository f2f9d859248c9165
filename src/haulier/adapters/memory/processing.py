"""What is being done with records, in memory; contracts as in the port."""

from collections.abc import Sequence

from haulier.adapters.memory.access import Pause
from haulier.core.record import PROCESSED, AssetKind, Record, RecordId, RecordStatus
from haulier.core.values import replace


class MemoryProcessingStore:
    """`ProcessingStore` on a draft."""

    def __init__(self, records: dict[RecordId, Record], pause: Pause) -> None:
        self._records = records
        self._pause = pause

    async def left(self, *, after: tuple[float, str] | None, limit: int) -> Sequence[Record]:
        """Return the oldest records that are to be processed."""
        await self._pause()
        places = sorted(
            (record.created_at, record.id)
            for record in self._records.values()
            if record.unprocessed and record.deleted_at is None
        )
        return [
            self._records[record_id] for at, record_id in places if after is None or (at, record_id) > after
        ][:limit]

    async def take(self, record_id: RecordId, fence: int, holder: str, *, now: float) -> Record | None:
        """Let `holder` process the record, under a new fence."""
        await self._pause()
        record = self._records.get(record_id)
        if record is None or not record.unprocessed or record.fence != fence or record.deleted_at is not None:
            return None
        return self._put(record.process(holder, now=now))

    async def again(self, record_id: RecordId, fence: int) -> bool:
        """Let the record be processed once more, under a new fence."""
        await self._pause()
        record = self._records.get(record_id)
        if record is None or record.status not in PROCESSED or record.fence != fence:
            return False
        if record.deleted_at is not None or record.asset(AssetKind.ORIGINAL) is None:
            return False
        self._put(record.process_again())
        return True

    async def give_back(self, record_id: RecordId, fence: int) -> bool:
        """Let nobody process the record, under the fence."""
        record = await self._held(record_id, fence)
        return record is not None and bool(self._put(record.give_back()))

    async def settle(
        self, record_id: RecordId, fence: int, status: RecordStatus, *, error: str | None, now: float
    ) -> bool:
        """End the processing, under the fence."""
        record = await self._held(record_id, fence)
        if record is None or record.asset(AssetKind.ORIGINAL) is None:
            return False
        self._put(record.settle(status, error=error, now=now))
        return True

    async def measure(self, record_id: RecordId, kind: AssetKind, *, width: int, height: int) -> bool:
        """Note the dimensions of an asset that has none."""
        await self._pause()
        record = self._records.get(record_id)
        asset = None if record is None else record.asset(kind)
        if record is None or asset is None or asset.width is not None:
            return False
        measured = replace(asset, width=width, height=height)
        self._put(replace(record, assets=tuple(measured if it is asset else it for it in record.assets)))
        return True

    async def _held(self, record_id: RecordId, fence: int) -> Record | None:
        await self._pause()
        record = self._records.get(record_id)
        held = record is not None and record.status is RecordStatus.PROCESSING and record.fence == fence
        return record if held else None

    def _put(self, record: Record) -> Record:
        self._records[record.id] = record
        return record
