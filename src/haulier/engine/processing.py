"""Smaller pictures of images that came alone: made beside requests, each record once, found again after a crash.

Rule 1: a record says what is left to do. Jobs are hints: one that is lost is asked for again, one that comes twice
        does nothing.
Rule 2: whoever processes a record has its fence; what an earlier attempt finds out counts no more.
Rule 3: all pictures of a record come in one transaction, with the end of its processing, or none.
Rule 4: only the image itself ends its processing without pictures. What is not its fault (a full disk, a database
        that is away, a service that stops) gives the attempt back; but whatever ends so many attempts that nobody
        knows why is taken for its fault, too.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from haulier.core.digest import Buffer, Digest, DigestName, new_hasher
from haulier.core.errors import HaulierError, QuotaExceeded, StorageError, StorageUnavailable
from haulier.core.event import EventKind
from haulier.core.processing import Derivatives, ProcessingFailure, Unprocessed, content_of
from haulier.core.quantity import MIB
from haulier.core.record import Asset, AssetKind, Record, RecordId, RecordStatus
from haulier.core.upload import UploadDetails
from haulier.core.values import dataclass
from haulier.engine.holders import may_take
from haulier.engine.outbox import tell
from haulier.logs import get_logger
from haulier.machine import Clock, Identifiers
from haulier.ports import ByteSink, JobQueue, Pictures, Transaction, UnitOfWork, Workers

MAX_ATTEMPTS: Final = 5
"""Attempts that end without a word: an image whose decoding takes the whole machine down is not tried for ever.
Precedent: systemd gives a service five starts in a row."""
BATCH: Final = 200
"""Records that one look for forgotten ones reads at a time."""
PICTURE_TYPE: Final = "image/webp"
ROOM: Final = 16 * MIB
"""Bytes that the pictures of one image take at most: noise that is transparent by noise takes 7 MB."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class _Result:
    """What an attempt came to: assets, and dimensions of the original; or why there are none."""

    assets: tuple[Asset, ...] = ()
    sides: tuple[int, int] | None = None
    failure: ProcessingFailure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingPorts:
    """The world of the processing."""

    work: UnitOfWork[UploadDetails]
    sink: ByteSink
    pictures: Pictures
    jobs: JobQueue
    workers: Workers
    clock: Clock
    ids: Identifiers
    holder: str
    """This worker, unlike any other that ever ran."""


class ProcessingService:
    """Does what is left to do with records that have arrived."""

    def __init__(self, ports: ProcessingPorts, *, digest: DigestName) -> None:
        """`digest` is what the pictures get."""
        self._ports = ports
        self._work = ports.work
        self._sink = ports.sink
        self._digest = digest
        self._running: set[RecordId] = set()

    async def redo(self) -> int:
        """Ask again for what a crash or an error left; return for how many records."""
        count, after = 0, None
        while batch := await self._work.read(partial(_left, after)):
            for record in batch:
                if self._ports.jobs.knows(record.id) or not await self._may_take(record):
                    continue
                if not self._ports.jobs.enqueue(record.id, line=record.owner):
                    return count
                count += 1
            after = batch[-1].created_at, batch[-1].id
        return count

    async def run(self, record_id: RecordId) -> None:
        """Process a record, unless somebody who lives does, or nothing is left to do.

        Raises:
            StorageError: it could not be done now; `redo` asks for it again.
        """
        if record_id in self._running:
            return
        self._running.add(record_id)
        try:
            record = await self._take(record_id)
            if record is not None:
                await self._process(record)
        finally:
            self._running.discard(record_id)

    async def _may_take(self, record: Record) -> bool:
        # Held by this worker and not running here: an earlier attempt failed in a way nobody expected.
        return record.id not in self._running and await self._is_free(record)

    async def _is_free(self, record: Record) -> bool:
        return await may_take(self._ports.workers, self._ports.holder, record.holder)

    async def _take(self, record_id: RecordId) -> Record | None:
        record = await self._work.read(lambda tx: tx.records.load(record_id))
        if record is None or not record.unprocessed or not await self._is_free(record):
            return None
        now, holder = self._ports.clock.now(), self._ports.holder

        async def take(tx: Transaction[UploadDetails]) -> Record | None:
            taken = await tx.processing.take(record_id, record.fence, holder, now=now)
            if taken is not None:
                await tell(tx, EventKind.UPDATED, record_id, now=now)
            return taken

        return await self._work.write(take)

    async def _process(self, record: Record) -> None:
        try:
            result = await self._result(record)
            try:
                await self._settle(record, result)
            except QuotaExceeded:
                await self._free(result.assets)
                await self._settle(record, _Result(failure=ProcessingFailure.QUOTA_EXCEEDED))
        except HaulierError:
            with suppress(StorageError):
                await self._work.write(lambda tx: tx.processing.give_back(record.id, record.fence))
            raise

    async def _result(self, record: Record) -> _Result:
        if record.attempts > MAX_ATTEMPTS:
            return _Result(failure=ProcessingFailure.IMAGE_CRASHED)
        original = record.asset(AssetKind.ORIGINAL)
        if original is None:
            raise StorageUnavailable(f"the original of record {record.id} is gone")
        async with self._parts() as parts:
            await self._sink.check(ROOM)
            made = await self._ports.pictures.derive(
                original.blob_key,
                display=parts[AssetKind.DISPLAY],
                thumbnail=parts[AssetKind.THUMBNAIL],
                line=record.owner,
            )
            if isinstance(made, Unprocessed):
                return await self._without(record, made)
            assets = await self._store(made, parts)
            return _Result(assets, (made.source_width, made.source_height))

    async def _without(self, record: Record, found: Unprocessed) -> _Result:
        """Return why there are no pictures, if that is the image's doing."""
        if found.failure is ProcessingFailure.QUEUE_FULL:
            raise StorageUnavailable(found.failure.words)
        await self._sink.check(ROOM)  # on a disk that filled up meanwhile nothing can be made of anything
        log.info("record.unprocessed", record=record.id, failure=found.failure.value, detail=found.detail)
        return _Result(failure=found.failure)

    @asynccontextmanager
    async def _parts(self) -> AsyncIterator[dict[AssetKind, str]]:
        """Name the parts in which pictures are made; whatever is left of them goes."""
        kinds = (AssetKind.DISPLAY, AssetKind.THUMBNAIL, AssetKind.PLACEHOLDER)
        parts: dict[AssetKind, str] = {kind: self._ports.ids.session_id() for kind in kinds}
        try:
            yield parts
        finally:
            for key in parts.values():
                with suppress(StorageError):  # the janitor finds it
                    await self._sink.discard(key)

    async def _store(self, made: Derivatives, parts: dict[AssetKind, str]) -> tuple[Asset, ...]:
        """Make blobs of the pictures; all of them, or none."""
        content = content_of(made.placeholder_url)
        await self._write(parts[AssetKind.PLACEHOLDER], content)
        pictures = {
            AssetKind.DISPLAY: made.display,
            AssetKind.THUMBNAIL: made.thumbnail,
            AssetKind.PLACEHOLDER: made.placeholder,
        }
        assets: list[Asset] = []
        try:
            for kind, picture in pictures.items():
                url = made.placeholder_url if kind is AssetKind.PLACEHOLDER else None
                size = await self._sink.extent(parts[kind])
                asset = Asset(
                    kind=kind,
                    blob_key=self._ports.ids.blob_key(),
                    size=size,
                    digest=await self._digest_of(parts[kind], size),
                    content_type=PICTURE_TYPE,
                    width=picture.width,
                    height=picture.height,
                    data_url=url,
                )
                await self._sink.commit(parts[kind], asset.blob_key, size=size)
                assets.append(asset)
        except StorageError:
            await self._free(assets)
            raise
        return tuple(assets)

    async def _write(self, key: str, content: bytes) -> None:
        writer = await self._sink.open(key, 0, len(content))
        try:
            waiting = writer.write(content)
            if waiting is not None:
                await waiting
            await writer.flush(durable=False)
        finally:
            await writer.close()

    async def _digest_of(self, key: str, size: int) -> Digest | None:
        if self._digest is DigestName.NONE:
            return None
        hasher = new_hasher(self._digest)

        def take(piece: Buffer) -> None:
            hasher.update(piece)

        await self._sink.scan(key, 0, size, take)
        return Digest(self._digest, hasher.digest())

    async def _settle(self, record: Record, result: _Result) -> None:
        """End the attempt. Raises QuotaExceeded: the capsule has no room for the pictures."""
        added = await self._work.write(partial(self._settle_in, record, result), durable=True)
        # Surplus: somebody brought a picture of that kind meanwhile, deleted the record, or went on in our place.
        await self._free([asset for asset in result.assets if asset not in added])

    async def _settle_in(
        self, record: Record, result: _Result, tx: Transaction[UploadDetails]
    ) -> Sequence[Asset]:
        now = self._ports.clock.now()
        status = await _status(tx, record, result.failure)
        error = None if result.failure is None else result.failure.value
        if not await tx.processing.settle(record.id, record.fence, status, error=error, now=now):
            return ()
        added = [asset for asset in result.assets if await tx.records.add_asset(record.id, asset)]
        if size := sum(asset.size for asset in added):
            await tx.capsules.fill(record.capsule, size)
        if result.sides is not None:
            width, height = result.sides
            await tx.processing.measure(record.id, AssetKind.ORIGINAL, width=width, height=height)
        kind = EventKind.FAILED if status is RecordStatus.FAILED else EventKind.COMPLETED
        await tell(tx, kind, record.id, now=now)
        return added

    async def _free(self, assets: Sequence[Asset]) -> None:
        for asset in assets:
            with suppress(StorageError):  # nobody names it, so the janitor finds it
                await self._sink.delete(asset.blob_key)


async def _left(after: tuple[float, str] | None, tx: Transaction[UploadDetails]) -> Sequence[Record]:
    return await tx.processing.left(after=after, limit=BATCH)


async def _status(
    tx: Transaction[UploadDetails], record: Record, failure: ProcessingFailure | None
) -> RecordStatus:
    """Return how the record ends: an image without pictures fails only where its capsule wants them valid."""
    if failure is None or failure is ProcessingFailure.QUOTA_EXCEEDED:
        return RecordStatus.COMPLETED
    capsule = await tx.capsules.load(record.capsule)
    strict = capsule is not None and capsule.policy.valid_images
    return RecordStatus.FAILED if strict else RecordStatus.COMPLETED
