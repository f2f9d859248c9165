"""What uploads decide at the turning points of their sessions: quotas, digests, records.

Rule 1: a record begins and ends with its upload, in the same transactions.
"""

import asyncio
from collections.abc import Awaitable, Collection, Hashable, Mapping, Sequence
from typing import Final, Protocol

from haulier.core.caller import Caller, Scope
from haulier.core.capsule import Capsule
from haulier.core.digest import Buffer, Digest, DigestName, new_hasher
from haulier.core.errors import AccessDenied, InvalidRequest
from haulier.core.event import ENDS, Event, EventKind, event_of
from haulier.core.ingestion import PROTOCOL, SHELF
from haulier.core.processing import MAX_INLINE, data_url, is_image
from haulier.core.record import Asset, AssetKind, Record, RecordId, RecordStatus
from haulier.core.session import SessionId, SessionStatus
from haulier.core.upload import Upload, UploadDetails
from haulier.core.values import dataclass, replace
from haulier.engine.body_checks import SHORT, Scan
from haulier.engine.context import NotAsJudged
from haulier.engine.digests import SHARED_FROM, Digests
from haulier.engine.gate import Admission
from haulier.engine.hooks import FinishedUpload, OnFinish, ask
from haulier.engine.outbox import event_in, tell
from haulier.ports import AccessPolicy, ByteSink, JobQueue, Transaction

RECORD_ENDS: Final[Mapping[SessionStatus, RecordStatus]] = {
    SessionStatus.ABORTED: RecordStatus.CANCELLED,
    SessionStatus.EXPIRED: RecordStatus.EXPIRED,
    SessionStatus.FAILED: RecordStatus.FAILED,
}


class UploadObserver(Protocol):
    """Hears, in this process and right after it happened, what operators count."""

    def begun(self) -> None:
        """An upload was begun."""

    def accepted(self, count: int, /) -> None:
        """So many bytes were accepted."""

    def ended(self, status: SessionStatus, /) -> None:
        """An upload came to its end."""


@dataclass(frozen=True, slots=True)
class TakenUpload:
    """An upload that was committed at once, and its record: as it was begun, and as it is now."""

    upload: Upload
    begun: Record
    record: Record


class UploadPolicy:
    """What uploads decide; `SessionPolicy` and `WholePolicy` say when each call comes and what it means."""

    def __init__(
        self,
        digests: Digests,
        observer: UploadObserver | None,
        access: AccessPolicy,
        *,
        sink: ByteSink,
        on_finish: OnFinish | None,
        jobs: JobQueue | None,
    ) -> None:
        self._jobs = jobs
        self._sink = sink
        self._on_finish = on_finish
        self._digests = digests
        self._observer = observer
        self._access = access

    async def began(self, tx: Transaction[UploadDetails], session: Upload) -> None:
        """Reserve the bytes and, if the upload makes one, add the record."""
        details = session.details
        await tx.capsules.reserve(details.capsule, session.size or 0)
        if details.makes_record:
            assert details.record is not None
            record = new_record(session, details.record)
            await tx.records.insert(record)
            await tx.events.append(event_of(EventKind.CREATED, record, now=session.created_at))

    async def grew(self, tx: Transaction[UploadDetails], session: Upload, offset: int) -> None:
        """Keep as many bytes reserved as an upload has whose size was unknown at its begin."""
        await tx.capsules.reserve(session.details.capsule, offset - session.offset)

    async def completing(self, tx: Transaction[UploadDetails], session: Upload) -> None:
        """Judge again what may have changed since the begin: the owner's right, the capsule's room and policy.

        From here on the upload comes to its end, whoever goes on with it.
        """
        capsule, size = await self._require_writer(tx, session), session.size or 0
        if session.spec.size is None:
            # What its sender was told at its begin, whatever holds for others by now.
            told = replace(capsule.policy, min_size=session.spec.min_size, max_size=session.spec.max_size)
            told.require_size(size)
        capsule.require_room(size)

    async def _require_writer(self, tx: Transaction[UploadDetails], session: Upload) -> Capsule:
        name = session.details.capsule
        # Not the caller's credential, which may be gone for long: what the owner may do, here and now.
        owner = Caller(owner=session.spec.owner, scope=Scope.WRITE, upload=session.id)
        rights = await self._access.rights(tx, owner, name)
        if rights is None or not rights.writes:
            raise AccessDenied(f"complete uploads in capsule {name!r}")
        return rights.capsule

    @staticmethod
    def judge(details: UploadDetails, content: bytes) -> UploadDetails:
        """As `verify`, of a whole content.

        Raises:
            DigestMismatch: it is not what was promised.
        """
        expected, name = details.expected, details.digest_name
        if expected is not None:
            expected.require(_digest(expected.name, content).value)
            if name in {DigestName.NONE, expected.name}:
                return replace(details, digest=expected)
        return replace(details, digest=None if name is DigestName.NONE else _digest(name, content))

    async def verify(self, session: Upload) -> UploadDetails:
        """Compute what was asked for, and compare it with what was promised."""
        details, size = session.details, session.size or 0
        expected, digest = details.promised or details.expected, None
        if details.digest_name is not DigestName.NONE:
            digest = await self._digests.value(session.id, details.digest_name, size)
        if expected is not None:
            same = digest is not None and digest.name is expected.name
            actual = digest if same else await self._digests.value(session.id, expected.name, size)
            assert actual is not None
            expected.require(actual.value)
            digest = digest or actual
        return replace(details, digest=digest, data_url=await self._inline(session))

    async def _inline(self, session: Upload) -> str | None:
        """Return a placeholder as a URL, where it can be one."""
        size = session.size or 0
        if session.details.asset is not AssetKind.PLACEHOLDER or size > MAX_INLINE:
            return None
        content = bytearray()
        await self._sink.scan(session.id, 0, size, content.extend)
        return data_url(bytes(content), session.details.content_type)

    async def approve(self, session: Upload, details: UploadDetails) -> None:
        """Ask the embedding program."""
        if self._on_finish is None:
            return
        asset = asset_of(session)
        finished = FinishedUpload(
            upload=session,
            details=details,
            size=asset.size,
            read=lambda: self._sink.read(asset.blob_key, 0, asset.size),
        )
        await ask("on_finish", self._on_finish(finished))

    async def committed(self, tx: Transaction[UploadDetails], session: Upload) -> None:
        """Give the record its asset, and turn reserved bytes into used ones."""
        details, asset = session.details, asset_of(session)
        await tx.capsules.use(details.capsule, reserved=_reserved(session), size=asset.size)
        if details.record is None:
            return
        now = session.last_seen_at
        more = self.goes_on(session)
        if details.adds_to_record:
            added = await tx.records.add_asset(details.record, asset)
        else:
            added = await tx.records.complete(details.record, asset, now=now, more=more)
        if not added:
            raise InvalidRequest.of("record", f"{details.record} cannot take this {asset.kind} any more")
        unfinished = details.adds_to_record or more
        await tell(tx, EventKind.UPDATED if unfinished else EventKind.COMPLETED, details.record, now=now)

    def made_of(self, session: Upload) -> TakenUpload:
        """Return the upload's record as well, for which nothing has to be looked up."""
        assert session.details.record is not None, f"upload {session.id} makes no record"
        begun = new_record(session, session.details.record)
        record = begun.complete(asset_of(session), now=session.last_seen_at, more=self.goes_on(session))
        return TakenUpload(session, begun, record)

    async def kept(self, tx: Transaction[UploadDetails], made: Sequence[TakenUpload], by: Hashable) -> None:
        """Count the bytes, and add the records with their assets, if the `Admission` still holds by which they came."""
        assert isinstance(by, Admission)
        rights = await self._access.rights(tx, by.caller, by.capsule)
        if rights is None or not by.holds(rights):
            raise NotAsJudged
        capsule = rights.capsule
        size = sum(taken.record.size or 0 for taken in made)
        await tx.capsules.fill(capsule.name, size)
        await tx.records.insert(*(taken.record for taken in made))
        events = list[Event]()
        for taken in made:
            kind = EventKind.UPDATED if taken.record.unprocessed else EventKind.COMPLETED
            events.append(event_of(EventKind.CREATED, taken.begun, now=taken.begun.created_at))
            events.append(event_in(kind, taken.record, capsule, now=taken.begun.created_at))
        await tx.events.append(*events)

    def taken(self, made: TakenUpload) -> None:
        """Tell who counts, and ask for what is left to be done."""
        record = made.record
        if self._observer is not None:
            self._observer.begun()
            self._observer.accepted(record.size or 0)
            self._observer.ended(SessionStatus.COMMITTED)
        if self._jobs is not None and record.unprocessed:
            self._jobs.enqueue(record.id, line=record.owner)

    def goes_on(self, session: Upload) -> bool:
        """Whether something is left to be done with what a committed upload brought."""
        return session.details.makes_record and self._jobs is not None and wants_pictures(session.details)

    def settled(self, session: Upload) -> None:
        """Ask for what is left to be done; when this process dies first, a redo finds the record."""
        if self._jobs is not None and self.goes_on(session):
            assert session.details.record is not None
            self._jobs.enqueue(session.details.record, line=session.spec.owner)

    async def ended(self, tx: Transaction[UploadDetails], session: Upload) -> None:
        """Give the bytes back, and end the record that the upload made."""
        details = session.details
        await tx.capsules.release(details.capsule, _reserved(session))
        if details.makes_record and details.record is not None:
            status = RECORD_ENDS[session.status]
            await tx.records.end(details.record, status, error=session.error, now=session.last_seen_at)
            await tell(tx, ENDS[status], details.record, now=session.last_seen_at)

    async def erased(self, tx: Transaction[UploadDetails], session: Upload) -> None:
        """Take the reservation and the record back."""
        details = session.details
        await tx.capsules.release(details.capsule, _reserved(session))
        if details.makes_record and details.record is not None:
            await tell(tx, EventKind.ERASED, details.record, now=session.last_seen_at)
            await tx.records.erase(details.record)

    async def purged(self, tx: Transaction[UploadDetails], session: Upload) -> None:
        """Free the bytes of an asset that no record took."""
        if session.status is SessionStatus.COMMITTED and not self.keeps_blob(session):
            await tx.capsules.use(session.details.capsule, reserved=0, size=-(session.size or 0))

    def keeps_blob(self, session: Upload) -> bool:
        """Whether a record names the blob."""
        return session.details.record is not None

    def shares(self, session: Upload) -> bool:
        """Whether the digest is worth that one worker computes it for all."""
        big = session.size is None or session.size >= SHARED_FROM
        return big and session.details.digest_name is not DigestName.NONE

    def found(self, session: Upload) -> None:
        """Let the digest catch up with what is here."""
        self._digests.follow(session.id, session.details.digest_name, session.received)

    def accepted(self, session_id: SessionId, start: int, stop: int) -> None:
        """Let the digest follow."""
        self._digests.accepted(session_id, start, stop)
        if self._observer is not None:
            self._observer.accepted(stop - start)

    def rewound(self, session_id: SessionId) -> None:
        """Drop the digest: what it has read will change."""
        self._digests.forget(session_id)

    def left(self, session_id: SessionId, status: SessionStatus) -> None:
        """Drop the digest, and tell who counts."""
        self._digests.forget(session_id)
        if self._observer is not None:
            self._observer.ended(status)

    def remembered(self) -> Collection[SessionId]:
        """Return the uploads whose digest is kept."""
        return self._digests.followed_uploads()

    def hold_back(self, session_id: SessionId) -> Awaitable[None] | None:
        """Wait for a digest that has fallen behind."""
        return self._digests.caught_up(session_id)

    def shelf(self, details: UploadDetails) -> str:
        """Keep what comes by forms in a place of its own."""
        return SHELF if details.protocol == PROTOCOL else ""

    def result_of(self, session: Upload) -> str | None:
        """Return the record's id."""
        return session.details.record


class DigestCheck:
    """Judges one body by the digests that came with it; see `ChunkCheck`."""

    strict = True

    def __init__(self, digests: tuple[Digest, ...]) -> None:
        self._digests = digests
        self._begin()
        self._seen = 0

    def _begin(self) -> None:
        self._hashers = [new_hasher(digest.name) for digest in self._digests]

    def update(self, piece: Buffer) -> None:
        """See the next piece; a body that is not short is hashed when it is judged, in a thread."""
        self._seen += memoryview(piece).nbytes
        if self._seen <= SHORT:
            self._hash(piece)

    def update_aside(self, piece: Buffer) -> Awaitable[None]:
        """See the next piece of a body that is stored nowhere."""
        # Copied: the piece is the caller's again before the thread has seen it (`haulier.ports.Deliver`).
        return asyncio.to_thread(self._hash, bytes(piece))

    async def verify(self, scan: Scan) -> None:
        """Judge the whole body. Raises DigestMismatch."""
        if self._seen > SHORT:
            self._begin()
            await scan(self._hash)
        for digest, hasher in zip(self._digests, self._hashers, strict=True):
            digest.require(hasher.digest())

    def _hash(self, piece: Buffer) -> None:
        for hasher in self._hashers:
            hasher.update(piece)


def _digest(name: DigestName, content: bytes) -> Digest:
    hasher = new_hasher(name)
    hasher.update(content)
    return Digest(name, hasher.digest())


def _reserved(session: Upload) -> int:
    """Return what the capsule keeps for the upload: all of a size known at its begin, else what has come."""
    return session.offset if session.spec.size is None else session.spec.size


def asset_of(session: Upload) -> Asset:
    """Return the asset that a committed upload is."""
    if session.blob_key is None or session.size is None:
        message = f"upload {session.id} is committed without a blob key or a size"
        raise AssertionError(message)
    details = session.details
    return Asset(
        kind=details.asset,
        blob_key=session.blob_key,
        size=session.size,
        digest=details.digest,
        content_type=details.content_type,
        width=details.width,
        height=details.height,
        data_url=details.data_url,
    )


def wants_pictures(original: UploadDetails) -> bool:
    """Whether the service is to make smaller pictures of what came alone."""
    return original.derivatives and is_image(original.content_type)


def new_record(session: Upload, record_id: RecordId) -> Record:
    """Return the record, without assets yet, of which the upload is the original."""
    details = session.details
    return Record(
        id=record_id,
        capsule=details.capsule,
        owner=session.spec.owner,
        filename=details.filename,
        path=details.path,
        content_type=details.content_type,
        size=session.size,
        metadata=details.metadata,
        created_at=session.created_at,
    )
