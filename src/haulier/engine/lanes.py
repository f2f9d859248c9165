"""Finalisation: records out of uploads that were committed on their own.

Rule 1: all records of one call are made in one transaction, or none; each can be read the moment it commits.
Rule 2: an upload is taken by one record only, by a conditional statement; it is of the caller, of the capsule and of
        the kind that are asked for, or everything is refused.
Rule 3: what no record has taken can be given up at any time, and is freed when the retention ends.
"""

from collections.abc import Sequence
from functools import partial

from haulier.core.access import Rights
from haulier.core.caller import Caller
from haulier.core.errors import (
    AccessDenied,
    AssetNotFound,
    IdempotencyKeyReused,
    InvalidRequest,
    RecordNotFound,
    UploadBusy,
    UploadComplete,
    UploadNotFound,
)
from haulier.core.event import EventKind
from haulier.core.finalisation import AssetSource, Finalisation, Finalised
from haulier.core.processing import is_image
from haulier.core.record import PROCESSED, AssetKind, Record, RecordId, RecordStatus
from haulier.core.session import SessionId, SessionStatus
from haulier.core.upload import Upload, UploadDetails, require_valid
from haulier.core.values import replace
from haulier.engine.gate import require_known
from haulier.engine.outbox import tell
from haulier.engine.policy import asset_of, new_record, wants_pictures
from haulier.machine import Clock, Identifiers
from haulier.ports import AccessPolicy, JobQueue, Transaction, UnitOfWork

Sources = Sequence[tuple[AssetSource, Upload]]
"""The uploads of one record."""


class LaneService:
    """What brings the lanes of an upload together."""

    def __init__(
        self,
        work: UnitOfWork[UploadDetails],
        access: AccessPolicy,
        clock: Clock,
        ids: Identifiers,
        *,
        jobs: JobQueue | None = None,
    ) -> None:
        """`jobs` takes images that came alone; None: that is not done here."""
        self._jobs = jobs
        self._work = work
        self._access = access
        self._clock = clock
        self._ids = ids

    async def finalise(self, asked: Finalisation, *, caller: Caller) -> Sequence[Record]:
        """Make one record of each group of detached uploads; all of them, or none.

        To be used by whoever has to bring several files in together, or a file with its derivatives: begin each
        with `lanes`, send its bytes and finish it, all of them in parallel; then call this once. Before it nobody
        sees a record, after it everybody sees all of them. What is not to be kept is ended with
        `UploadService.abort`, which frees a detached upload whether it is open or committed.

        The same key with the same request returns the same records, as they are now, whoever asks how often and
        how many at a time. Without a key a second call finds its uploads taken.

        Returns: the records, in the order that was asked for. Each asset keeps the blob of its own upload.

        Raises:
            InvalidRequest: an upload is of another capsule, kind or owner, or the request contradicts itself.
            UploadNotFound · UploadGone
            UploadBusy: an upload is not committed yet.
            UploadComplete: a record has it already.
            IdempotencyKeyReused · RecordNotFound: of the key's records one is gone for good.
            CapsuleNotFound · AccessDenied · StorageError
        """
        require_valid(asked.problems())
        new_ids = tuple(self._ids.record_id() for _ in asked.records)
        records = await self._work.write(partial(self._finalise, asked, new_ids, caller), durable=True)
        self.process(records)
        return records

    def process(self, records: Sequence[Record]) -> None:
        """Ask for the processing of records with which something is left to do, after their commit."""
        if self._jobs is not None:
            for record in records:
                if record.unprocessed:
                    self._jobs.enqueue(record.id, line=record.owner)

    async def retry(self, record_id: RecordId, *, caller: Caller) -> Record:
        """Try again to make the pictures that a record of an image does not have. Repeating is harmless.

        Whatever it has stays as it is, also while that goes on.

        Returns: the record, which is `processing`; as it was, when it lacks none, or they are being made.

        Raises:
            RecordNotFound: there is none that the caller may know of, or it is in the trash.
            AssetNotFound: it has no original.
            AccessDenied: the caller may not change it.
            UploadBusy: its upload is under way.
            InvalidRequest: no pictures are made of such a file, or none here.
        """
        record = await self._work.write(partial(self._retry, record_id, caller), durable=True)
        self.process([record])
        return record

    async def _retry(self, record_id: RecordId, caller: Caller, tx: Transaction[UploadDetails]) -> Record:
        record = await _existing(tx, record_id)
        rights = await self._access.rights(tx, caller, record.capsule)
        if rights is None or not rights.reads(record.owner) or record.deleted_at is not None:
            raise RecordNotFound(record_id)
        if not rights.removes(record.owner):
            raise AccessDenied(f"have pictures made of record {record_id!r}")
        if not self._is_to_retry(record):
            return record
        if await tx.processing.again(record_id, record.fence):
            await tell(tx, EventKind.UPDATED, record_id, now=self._clock.now())
        return await _existing(tx, record_id)

    def _is_to_retry(self, record: Record) -> bool:
        if record.status is RecordStatus.UPLOADING:
            raise UploadBusy(record.id, "its upload is under way")
        if record.asset(AssetKind.ORIGINAL) is None:
            raise AssetNotFound(record.id, AssetKind.ORIGINAL)
        if not is_image(record.content_type):
            raise InvalidRequest.of("record", f"no pictures are made of {record.content_type}")
        if self._jobs is None:
            raise InvalidRequest.of("record", "this service makes no pictures (image_processes)")
        return record.status in PROCESSED and record.lacks_pictures

    async def _finalise(
        self,
        asked: Finalisation,
        new_ids: tuple[RecordId, ...],
        caller: Caller,
        tx: Transaction[UploadDetails],
    ) -> Sequence[Record]:
        rights = await self.enter(tx, asked.capsule, caller)
        now = self._clock.now()
        ids = await _claim_key(tx, asked, new_ids, owner=caller.owner, now=now)
        if ids is new_ids:
            for record_id, sources in zip(new_ids, asked.records, strict=True):
                await self._make(
                    tx, record_id, [(it, await _take(tx, it, rights)) for it in sources], now=now
                )
        return [await _existing(tx, record_id) for record_id in ids]

    async def enter(self, tx: Transaction[UploadDetails], capsule: str, caller: Caller) -> Rights:
        """Return the rights of a caller who may make records in a capsule.

        Raises:
            CapsuleNotFound · AccessDenied
        """
        rights = require_known(await self._access.rights(tx, caller, capsule), capsule)
        if not rights.begins:
            raise AccessDenied(f"make records in capsule {capsule!r}")
        return rights

    async def make_one(
        self,
        tx: Transaction[UploadDetails],
        record_id: RecordId,
        upload: SessionId,
        *,
        media_type: str,
        rights: Rights,
    ) -> Record:
        """Make the record of one detached upload, whose bytes were found to be of that type.

        Raises:
            UploadNotFound · UploadGone · UploadBusy · UploadComplete · TypeNotAccepted
        """
        rights.capsule.policy.require_type(media_type)
        source = AssetSource(kind=AssetKind.ORIGINAL, upload=upload)
        taken = await _take(tx, source, rights)
        await self._make(tx, record_id, [(source, taken)], media_type=media_type, now=self._clock.now())
        return await _existing(tx, record_id)

    async def _make(
        self,
        tx: Transaction[UploadDetails],
        record_id: RecordId,
        sources: Sources,
        *,
        now: float,
        media_type: str | None = None,
    ) -> None:
        """Add the record of these uploads, and let it have their assets; `media_type` is the original's by content."""
        original = next(upload for source, upload in sources if source.kind is AssetKind.ORIGINAL)
        if media_type is not None:
            original = replace(original, details=replace(original.details, content_type=media_type))
        # In the lists it is as new as it is to those who read them, however long its bytes took.
        await tx.records.insert(replace(new_record(original, record_id), created_at=now))
        await tell(tx, EventKind.CREATED, record_id, now=now)
        more = self._jobs is not None and len(sources) == 1 and wants_pictures(original.details)
        for source, upload in sorted(sources, key=lambda pair: pair[0].kind is not AssetKind.ORIGINAL):
            asset = asset_of(original if source.kind is AssetKind.ORIGINAL else upload)
            if source.width is not None:
                asset = replace(asset, width=source.width, height=source.height)
            if source.kind is AssetKind.ORIGINAL:
                await tx.records.complete(record_id, asset, now=now, more=more)
            else:
                await tx.records.add_asset(record_id, asset)
            taken = upload.details.attached(record_id)
            if not await tx.sessions.settle(upload.id, taken, instead_of=upload.details):
                raise UploadBusy(upload.id, "somebody else takes it, or gives it up, right now")
        await tell(tx, EventKind.UPDATED if more else EventKind.COMPLETED, record_id, now=now)


async def _claim_key(
    tx: Transaction[UploadDetails],
    asked: Finalisation,
    new_ids: tuple[RecordId, ...],
    *,
    owner: str,
    now: float,
) -> tuple[RecordId, ...]:
    """Return the ids of the records: the new ones, or those that were made under the key before.

    Raises:
        IdempotencyKeyReused: for another request.
    """
    if asked.key is None:
        return new_ids
    made = Finalised(
        capsule=asked.capsule,
        owner=owner,
        key=asked.key,
        request_hash=asked.fingerprint(),
        records=new_ids,
        created_at=now,
    )
    if await tx.finalisations.note(made):
        return new_ids
    earlier = await tx.finalisations.find(asked.capsule, owner, asked.key)
    if earlier is None:
        raise UploadBusy(asked.key, "its idempotency key is being forgotten right now")
    if earlier.request_hash != made.request_hash:
        raise IdempotencyKeyReused(asked.key)
    return earlier.records


async def _take(tx: Transaction[UploadDetails], source: AssetSource, rights: Rights) -> Upload:
    """Return the upload, which may become the asset that is asked for; `settle` decides.

    Raises:
        UploadNotFound · UploadGone · UploadBusy · UploadComplete · InvalidRequest
    """
    upload = await tx.sessions.peek(source.upload)
    if upload is None or not rights.sees(upload.id, upload.spec.owner):
        raise UploadNotFound(source.upload)
    if upload.spec.owner != rights.owner:
        raise InvalidRequest.of("assets", f"upload {upload.id!r} is another owner's")
    if upload.details.capsule != rights.capsule.name:
        raise InvalidRequest.of(
            "assets", f"upload {upload.id!r} is in capsule {upload.details.capsule!r}; finalise it there"
        )
    if upload.details.asset is not source.kind:
        raise InvalidRequest.of(
            "assets", f"upload {upload.id!r} was begun as {upload.details.asset}, not as {source.kind}"
        )
    _require_detached(upload)
    return upload


def _require_detached(upload: Upload) -> None:
    if upload.status is SessionStatus.OPEN:
        raise UploadBusy(upload.id, "it is not finished yet")
    if upload.status is not SessionStatus.COMMITTED:
        upload.require_open()
    if upload.details.record is not None:
        raise UploadComplete(upload.id, upload.details.record)


async def _existing(tx: Transaction[UploadDetails], record_id: RecordId) -> Record:
    record = await tx.records.load(record_id)
    if record is None or record.erased:
        raise RecordNotFound(record_id)
    return record
