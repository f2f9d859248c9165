"""Records and their assets: listing, reading, deleting, and removing bytes for good."""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Final

from haulier.core.access import Rights
from haulier.core.caller import Caller
from haulier.core.errors import (
    AccessDenied,
    AssetNotFound,
    HaulierError,
    RecordNotFound,
    RequestError,
    StorageError,
    UploadBusy,
)
from haulier.core.event import EventKind
from haulier.core.record import Asset, AssetKind, Record, RecordId, RecordStatus
from haulier.core.session import SessionStatus
from haulier.core.upload import Upload, UploadDetails
from haulier.core.values import replace
from haulier.engine.erasing import Eraser
from haulier.engine.gate import require_known
from haulier.engine.outbox import tell
from haulier.machine import Clock
from haulier.ports import AccessPolicy, ByteSink, JobQueue, Page, RecordQuery, Transaction, UnitOfWork

PURGE_BATCH: Final = 200
"""Records whose bytes one round of the janitor removes."""


class RecordService:
    """Records of every front end."""

    def __init__(
        self,
        work: UnitOfWork[UploadDetails],
        sink: ByteSink,
        access: AccessPolicy,
        clock: Clock,
        *,
        jobs: JobQueue | None = None,
    ) -> None:
        """`jobs` takes images that are to be processed; None: that is not done here."""
        self._jobs = jobs
        self._work = work
        self._sink = sink
        self._access = access
        self._clock = clock
        self._eraser = Eraser(work, sink)

    async def list(self, query: RecordQuery, *, caller: Caller) -> Page[Record]:
        """Return a page of what the caller may know of, newest first.

        Raises:
            CapsuleNotFound · AccessDenied
        """
        return await self._work.read(partial(self._list, query, caller))

    async def _list(self, query: RecordQuery, caller: Caller, tx: Transaction[UploadDetails]) -> Page[Record]:
        if caller.upload is not None:
            raise AccessDenied("list records")
        capsule = query.capsule or caller.capsule
        if capsule is None:
            visible_to = None if caller.operator else caller.owner
            return await tx.records.list(replace(query, visible_to=visible_to))
        rights = require_known(await self._access.rights(tx, caller, capsule), capsule)
        owner = query.owner if rights.reads_all else caller.owner
        return await tx.records.list(replace(query, capsule=capsule, owner=owner))

    async def get(self, record_id: RecordId, *, caller: Caller) -> Record:
        """Return a record; one in the trash says so by `deleted_at`.

        Raises:
            RecordNotFound: there is none that the caller may know of.
        """
        record, _ = await self._work.read(partial(self._look, record_id, caller))
        return record

    async def _look(
        self, record_id: RecordId, caller: Caller, tx: Transaction[UploadDetails]
    ) -> tuple[Record, Rights]:
        record = await tx.records.load(record_id)
        if record is None or record.erased:
            raise RecordNotFound(record_id)
        rights = await self._access.rights(tx, caller, record.capsule)
        if rights is None or not rights.reads(record.owner):
            raise RecordNotFound(record_id)
        return record, rights

    async def result_of(self, upload: Upload) -> Record | None:
        """Return the record that a committed upload made or added to, for whoever was shown the upload.

        None when there is none, or none any more: that the upload was committed stays true.
        """
        record_id = upload.details.record
        if record_id is None or upload.status is not SessionStatus.COMMITTED:
            return None
        record = await self._work.read(lambda tx: tx.records.load(record_id))
        return None if record is None or record.erased else record

    async def asset(self, record_id: RecordId, kind: AssetKind, *, caller: Caller) -> tuple[Record, Asset]:
        """Return a record and one of its assets, to be read.

        Raises:
            RecordNotFound: none, or it is in the trash.
            AssetNotFound: the record has no such asset.
        """
        return _readable(await self.get(record_id, caller=caller), kind)

    async def linked(self, record_id: RecordId, kind: AssetKind) -> tuple[Record, Asset]:
        """As `asset`, for whoever has a link to it."""
        record = await self._work.read(lambda tx: tx.records.load(record_id))
        if record is None:
            raise RecordNotFound(record_id)
        return _readable(record, kind)

    def read(self, asset: Asset, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield an asset's bytes `[start, stop)`. Raises StorageUnavailable when they are not there."""
        return self._sink.read(asset.blob_key, start, stop)

    async def delete(
        self, record_id: RecordId, *, caller: Caller, at_once: bool = False, keep_assets: bool = False
    ) -> None:
        """Put a record into the trash; `at_once`: remove its bytes now. Repeating is harmless.

        Raises:
            RecordNotFound · AccessDenied
            UploadBusy: its upload is still under way; abort that.
        """
        record = await self._removable(record_id, caller)
        if record.status is RecordStatus.UPLOADING:
            raise UploadBusy(record_id, "its upload is under way; abort the upload instead")
        now = self._clock.now()

        async def trash(tx: Transaction[UploadDetails]) -> None:
            if await tx.records.delete(record_id, now=now, keep_assets=keep_assets):
                await tell(tx, EventKind.DELETED, record_id, now=now)

        await self._work.write(trash, durable=True, frees=True)
        if at_once:
            await self._remove(record_id)

    async def delete_many(
        self,
        record_ids: Sequence[RecordId],
        *,
        caller: Caller,
        at_once: bool = False,
        keep_assets: bool = False,
    ) -> Mapping[RecordId, HaulierError | None]:
        """Delete each of these records, as `delete` does; one that cannot be deleted does not stop the others.

        Returns: of each id, in the order that was asked for, None or what `delete` raised for it.
        """
        results: dict[RecordId, HaulierError | None] = {}
        for record_id in dict.fromkeys(record_ids):
            try:
                await self.delete(record_id, caller=caller, at_once=at_once, keep_assets=keep_assets)
            except (RequestError, StorageError) as error:
                results[record_id] = error
            else:
                results[record_id] = None
        return results

    async def restore(self, record_id: RecordId, *, caller: Caller) -> Record:
        """Take a record out of the trash. Repeating is harmless.

        Raises:
            RecordNotFound: none, or its bytes are gone.
            AccessDenied
        """
        record = await self._removable(record_id, caller)
        if record.deleted_at is not None:
            now = self._clock.now()
            restored = await self._work.write(partial(_restore, record_id, now), durable=True)
            if not restored:
                raise RecordNotFound(record_id)
        record = await self.get(record_id, caller=caller)
        if self._jobs is not None and record.unprocessed:
            # What had its turn while it was in the trash was left as it was.
            self._jobs.enqueue(record.id, line=record.owner)
        return record

    async def _removable(self, record_id: RecordId, caller: Caller) -> Record:
        record, rights = await self._work.read(partial(self._look, record_id, caller))
        if not rights.removes(record.owner):
            raise AccessDenied(f"delete or restore record {record_id!r}")
        return record

    async def purge(self, *, deleted_before: float) -> int:
        """Remove the bytes of records that are in the trash since before then; return how many."""
        total = 0
        while batch := await self._work.read(
            lambda tx: tx.records.deleted_before(deleted_before, limit=PURGE_BATCH)
        ):
            for record in batch:
                # Another step of the batch may have taken its time: somebody may have wanted it back since.
                await self._remove(record.id, deleted_before=deleted_before)
            total += len(batch)
        return total

    async def forget_keys(self, *, before: float) -> int:
        """Forget the idempotency keys under which records were finalised before then; the records stay."""
        return await self._work.write(lambda tx: tx.finalisations.forget(before=before), frees=True)

    async def _remove(self, record_id: RecordId, *, deleted_before: float = math.inf) -> None:
        # Rows first: once they are gone nobody can restore the record.
        drop = partial(_drop, record_id, deleted_before, self._clock.now())
        dropped = await self._work.write(drop, durable=True, frees=True)
        await self._eraser.erase([asset.blob_key for asset in dropped])

    async def erase_rest(self) -> int:
        """Remove bytes that were to go and could not yet, of records and of uploads; return how many went."""
        return await self._eraser.redo()


def _readable(record: Record, kind: AssetKind) -> tuple[Record, Asset]:
    if record.deleted_at is not None:
        raise RecordNotFound(record.id)
    asset = record.asset(kind)
    if asset is None:
        raise AssetNotFound(record.id, str(kind))
    return record, asset


async def _restore(record_id: RecordId, now: float, tx: Transaction[UploadDetails]) -> bool:
    restored = await tx.records.restore(record_id)
    if restored:
        await tell(tx, EventKind.RESTORED, record_id, now=now)
    return restored


async def _drop(
    record_id: RecordId, deleted_before: float, now: float, tx: Transaction[UploadDetails]
) -> Sequence[Asset]:
    record = await tx.records.load(record_id)
    dropped = await tx.records.drop_assets(record_id, deleted_before=deleted_before)
    await tx.doomed_blobs.add([asset.blob_key for asset in dropped])
    if record is not None and dropped:
        await tx.capsules.use(record.capsule, reserved=0, size=-sum(asset.size for asset in dropped))
        await tell(tx, EventKind.ERASED, record_id, now=now)
    return dropped
