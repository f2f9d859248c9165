"""Forms: several files that become records together, or none of them.

Rule 1: a file of a form is an upload like any other, without a record, until all files of the form are here and good.
Rule 2: one transaction makes the records of all; until its commit nothing of the form can be seen.
Rule 3: whatever ends a form early gives all that it brought back at once. A form whose process died is not renewed any
        more, so its files expire within minutes.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, Protocol

from haulier.core.access import Rights
from haulier.core.caller import Caller
from haulier.core.errors import (
    ContentInvalid,
    FieldProblem,
    FileEmpty,
    FileMissing,
    HaulierError,
    QueueFull,
    UploadBusy,
)
from haulier.core.ingestion import PROTOCOL, IngestionRules
from haulier.core.processing import FileMetadata, ProcessingFailure
from haulier.core.record import Record, RecordId
from haulier.core.session import Mode, SessionStatus
from haulier.core.upload import BeginUpload, Upload, UploadDetails, check_filename, require_valid
from haulier.core.values import dataclass, replace
from haulier.engine.background import Background, finish_anyway
from haulier.engine.lanes import LaneService
from haulier.engine.uploads import UploadService
from haulier.logs import get_logger
from haulier.machine import Clock, Identifiers
from haulier.ports import Body, ByteSink, ContentChecker, Transaction, UnitOfWork

TTL_S: Final = 120.0
"""How long what a dead process had received of a form stays: a few of the janitor's rounds."""
RENEW_S: Final = TTL_S / 4
MAX_SHOWN: Final = 64
"""Characters of a bad name that are said again: enough to know which file it is."""
BATCH: Final = 200
"""Left-over files that one sweep frees; the next one goes on."""

log = get_logger()


class IncomingFile(Body, Protocol):
    """One file of a form."""

    @property
    def filename(self) -> str:
        """As its sender says."""
        ...

    @property
    def charset(self) -> str | None:
        """What its sender says that its text is encoded in."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestionPorts:
    """What forms need beside the uploads."""

    work: UnitOfWork[UploadDetails]
    lanes: LaneService
    sink: ByteSink
    checker: ContentChecker
    clock: Clock
    ids: Identifiers


@dataclass(frozen=True, slots=True)
class _Taken:
    """A file that is here, whole and good."""

    upload: Upload
    metadata: FileMetadata


class IngestionService:
    """Takes forms."""

    def __init__(self, uploads: UploadService, ports: IngestionPorts, rules: IngestionRules) -> None:
        self.rules = rules
        self._uploads = uploads
        self._ports = ports
        self._background = Background()
        """Its tasks end with their forms."""

    async def ingest(
        self, files: AsyncIterator[IncomingFile], *, caller: Caller, capsule: str, expected: int | None
    ) -> Sequence[Record]:
        """Store all files of a form, or none; return their records.

        Args:
            files: each is received to its end before the next one is asked for.
            caller: who owns them.
            capsule: where they go.
            expected: bytes of the whole form, where that is known.

        Raises:
            FileMissing · FileEmpty · InvalidRequest · LengthExceeded · TypeNotAccepted · NameNotAccepted · ContentInvalid
            CapsuleNotFound · AccessDenied · QuotaExceeded · BodyCut · QueueFull · StorageError
        """
        await self._ports.work.read(lambda tx: self._ports.lanes.enter(tx, capsule, caller))
        await self._ports.sink.check(expected)
        begun: list[Upload] = []
        renewing = self._background.start(self._renew(begun), name="form.renew")
        try:
            return await self._ingest(files, begun, caller, capsule)
        except BaseException as error:
            log.warning("form.failed", files=[one.details.filename for one in begun], error=repr(error))
            await finish_anyway(self._give_up(begun))
            raise
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})

    async def _ingest(
        self, files: AsyncIterator[IncomingFile], begun: list[Upload], caller: Caller, capsule: str
    ) -> Sequence[Record]:
        taken = [await self._take(file, begun, caller, capsule) async for file in files]
        if not taken:
            raise FileMissing
        for one in taken:
            state = await self._uploads.finish(one.upload.id, caller=caller, size=one.upload.offset)
            if state.upload.status is not SessionStatus.COMMITTED:
                raise UploadBusy(one.upload.id, "it takes too long to be finished")
        pairs = [(one, self._ports.ids.record_id()) for one in taken]
        records = await self._ports.work.write(
            partial(self._record_all, pairs, caller, capsule), durable=True
        )
        self._ports.lanes.process(records)
        log.info("form.stored", records=[record.id for record in records])
        return records

    async def _take(self, file: IncomingFile, begun: list[Upload], caller: Caller, capsule: str) -> _Taken:
        require_valid(_named(file.filename, check_filename(file.filename)))
        self.rules.require_name(file.filename)
        upload = await self._begin(file.filename, caller, capsule)
        begun.append(upload)
        state = await self._uploads.append(upload.id, 0, file, caller=caller)
        if state.upload.offset == 0:
            raise FileEmpty(1, file.filename)
        metadata = await self._check(state.upload, file)
        return _Taken(state.upload, metadata)

    async def _begin(self, filename: str, caller: Caller, capsule: str) -> Upload:
        request = BeginUpload(
            filename=filename,
            size=None,
            mode=Mode.APPEND,
            capsule=capsule,
            lanes=True,
            protocol=PROTOCOL,
            ttl_s=TTL_S,
        )
        return (await self._uploads.begin(request, caller=caller)).upload

    async def _check(self, upload: Upload, file: IncomingFile) -> FileMetadata:
        found = await self._ports.checker.check(
            upload.id,
            size=upload.offset,
            filename=file.filename,
            charset=file.charset,
            line=upload.spec.owner,
        )
        if isinstance(found, FileMetadata):
            if found.errors:
                first = found.errors[0]
                raise ContentInvalid(file.filename, first.message, first.line, first.column)
            return found
        if found.failure is ProcessingFailure.QUEUE_FULL:
            raise QueueFull("a check of their content")
        log.warning("form.unchecked", upload=upload.id, failure=found.failure.value, detail=found.detail)
        raise ContentInvalid(file.filename, found.failure.words)

    async def _record_all(
        self,
        pairs: Sequence[tuple[_Taken, RecordId]],
        caller: Caller,
        capsule: str,
        tx: Transaction[UploadDetails],
    ) -> Sequence[Record]:
        rights = await self._ports.lanes.enter(tx, capsule, caller)
        return [await self._record(tx, one, record_id, rights) for one, record_id in pairs]

    async def _record(
        self, tx: Transaction[UploadDetails], one: _Taken, record_id: RecordId, rights: Rights
    ) -> Record:
        found = one.metadata
        record = await self._ports.lanes.make_one(
            tx, record_id, one.upload.id, media_type=found.media_type, rights=rights
        )
        await tx.records.describe(record_id, found)
        return record

    async def _renew(self, begun: Sequence[Upload]) -> None:
        """Keep what a form has brought alive while the rest comes."""
        while True:
            await self._ports.clock.sleep(RENEW_S)
            try:
                await self._ports.work.write(partial(_touch_all, tuple(begun), self._ports.clock.now()))
            except HaulierError as error:
                log.warning("form.not_renewed", error=str(error))

    async def _give_up(self, begun: Sequence[Upload]) -> None:
        """Free all that a form has brought; what resists expires soon, or is found by the janitor."""
        for upload in begun:
            await self._free(upload)

    async def _free(self, upload: Upload) -> bool:
        try:
            await self._uploads.give_up(upload.id)
        except HaulierError as error:
            log.warning("form.not_freed", upload=upload.id, error=str(error))
            return False
        return True

    async def sweep(self, *, before: float) -> int:
        """Free what forms of dead processes had finished before then and nobody recorded; return how many."""
        left = await self._ports.work.read(
            lambda tx: tx.sessions.detached(PROTOCOL, before=before, limit=BATCH)
        )
        return sum([await self._free(upload) for upload in left])


def _named(filename: str, problems: Iterable[FieldProblem]) -> Iterator[FieldProblem]:
    """Say of which file of a form they are."""
    shown = filename if len(filename) <= MAX_SHOWN else f"{filename[:MAX_SHOWN]}..."
    return (replace(problem, reason=f"{shown!r} {problem.reason}") for problem in problems)


async def _touch_all(begun: Sequence[Upload], now: float, tx: Transaction[UploadDetails]) -> None:
    for upload in begun:
        await tx.sessions.touch(upload.id, now=now)
