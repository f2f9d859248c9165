"""Numbered chunks on their way in, in any order and in parallel.

Rule 1: a chunk counts only when all of it has arrived, with its exact length and, if it came with one,
        its digest.
Rule 2: an accepted index is read and compared, never written; the one exception is a replacement after
        the whole file's digest was wrong, and that takes the acceptance back first.
Rule 3: two puts of one index follow each other; different indexes never meet. Inside a process the claim
        sees to it, between processes the lock of the range: whoever has it looks at the row before it
        writes, and has it until the acceptance is in the row.
Rule 4: a chunk is accepted under the fence that was read before it was written. Whoever finds the part gone takes
        back what was accepted, moves the fence, and then makes the part anew; so no chunk counts whose bytes
        went into the old one.
"""

from collections.abc import Awaitable
from functools import partial
from typing import Generic, TypeVar

import xxhash

from haulier.core.digest import Buffer
from haulier.core.errors import ChunkConflict, ChunkTooLong, ChunkTooShort, UploadBusy, UploadNotFound
from haulier.core.session import Chunk, Mode, Session, SessionId, SessionStatus
from haulier.core.values import dataclass
from haulier.engine.background import finish_anyway
from haulier.engine.body_checks import ChunkCheck, Scan
from haulier.engine.context import SessionContext
from haulier.logs import get_logger
from haulier.ports import Body, BodyEnd, Deliver, RangeWriter, Transaction

D = TypeVar("D")

log = get_logger()


class ChunkIntake(Generic[D]):
    """The chunk half of the session engine."""

    def __init__(self, context: SessionContext[D]) -> None:
        self._context = context
        self._work = context.ports.work

    async def put(
        self, session_id: SessionId, index: int, body: Body, *, check: ChunkCheck, replace: bool
    ) -> None:
        """Accept chunk `index`, or find it accepted with the same bytes; see `SessionService`."""
        claim = await self._context.ports.claims.claim(session_id, f"chunk {index}")
        try:
            self._context.refuse_when_stopping()  # it may have waited for long
            claim.on_asked(body.stop)
            self._context.awake.set()
            session, chunk = await self._find(session_id, index)
            self._context.require_mode(session, Mode.CHUNKS)
            if session.status is not SessionStatus.FINISHING:
                self._context.require_open(session)
            _require_length(session, index, body)
            await self._put_claimed(session, chunk, _Put(index, body, check, replace))
        finally:
            claim.release()

    async def _put_claimed(self, session: Session[D], chunk: Chunk | None, put: "_Put") -> None:
        if chunk is not None and not (put.replace and session.replaceable):
            await self._compare(session, chunk, put)
            return
        self._context.require_open(session)
        await self._context.freshen(session)
        held = self._context.policy.hold_back(session.id)
        if held is not None:
            await held
        await self._require_part(session)
        async with self._context.writing(session.id, *session.chunk_range(put.index)) as writer:
            # Somebody else may have had the lock before: what was read without it is old.
            session, chunk = await self._find(session.id, put.index)
            if chunk is not None and put.replace and session.replaceable:
                await self._forget(session, put.index)
                chunk = None
            if chunk is None:
                self._context.require_open(session)
                await self._store(session, writer, put)
                return
        await self._compare(session, chunk, put)

    async def _require_part(self, session: Session[D]) -> None:
        """Make a part that is gone anew, once nothing counts that was in it.

        Raises:
            StorageError: it cannot be made, or is out of reach and may come back.
            UploadBusy: somebody else has just done so.
        """
        sink = self._context.ports.sink
        if await sink.extent(session.id) >= (session.size or 0):
            return
        claim = await self._context.ports.claims.claim(session.id, "part")
        try:
            if not await sink.recover(session.id, None, size=session.size or 0):
                await self._lose(session)
                await sink.discard(session.id)
                await sink.prepare(session.id, size=session.size)
        finally:
            claim.release()

    async def _lose(self, session: Session[D]) -> None:
        now = self._context.now()

        async def lose(tx: Transaction[D]) -> int | None:
            current = await tx.sessions.load(session.id)
            lost = 0 if current is None else current.received.total
            error = f"{lost} accepted bytes were lost on disk" if lost else None
            return lost if await tx.sessions.lose_chunks(session.id, session.fence, error, now=now) else None

        lost = await self._work.write(lose, durable=True)
        if lost is None:
            await self._context.explain_refusal(session.id, "its part was made anew")
        self._context.policy.rewound(session.id)
        self._context.changes.notify(session.id)
        log.warning("session.bytes_lost", session=session.id, size=lost)

    async def _find(self, session_id: SessionId, index: int) -> tuple[Session[D], Chunk | None]:
        return await self._work.read(partial(_find, session_id, index))

    async def _forget(self, session: Session[D], index: int) -> None:
        now = self._context.now()
        forgotten = await self._work.write(
            lambda tx: tx.sessions.forget_chunk(session.id, index, now=now),
            durable=self._context.limits.durable,
        )
        if not forgotten:
            await self._context.explain_refusal(session.id, "the chunk is being changed")
        self._context.policy.rewound(session.id)

    async def _compare(self, session: Session[D], chunk: Chunk, put: "_Put") -> None:
        fingerprint = xxhash.xxh3_128()

        def deliver(piece: Buffer) -> Awaitable[None] | None:
            fingerprint.update(piece)
            return put.check.update_aside(piece)

        await self._receive(session, put, deliver)
        await put.check.verify(self._scan_of(session, put))
        if fingerprint.digest() != chunk.fingerprint:
            raise ChunkConflict(chunk.index)
        await self._require_unchanged(session, chunk)

    async def _require_unchanged(self, session: Session[D], chunk: Chunk) -> None:
        """Check that no other process has replaced the chunk while it was compared."""
        after, current = await self._find(session.id, chunk.index)
        if current is not None and current.fingerprint == chunk.fingerprint:
            return
        # Forgotten with a finish that began after we looked: only a finish that went wrong lets chunks be replaced.
        first_finish = not session.replaceable and after.fence <= session.fence + 1
        if not (first_finish and after.status in {SessionStatus.FINISHING, SessionStatus.COMMITTED}):
            self._context.require_open(after)
            raise UploadBusy(session.id, "the chunk was replaced meanwhile")

    async def _store(self, session: Session[D], writer: RangeWriter, put: "_Put") -> None:
        fingerprint = xxhash.xxh3_128()
        start, stop = session.chunk_range(put.index)

        def deliver(piece: Buffer) -> Awaitable[None] | None:
            fingerprint.update(piece)
            put.check.update(piece)
            return writer.write(piece)

        await self._receive(session, put, deliver)
        await writer.flush(durable=self._context.limits.durable)
        await put.check.verify(self._scan_of(session, put))
        chunk = Chunk(index=put.index, size=stop - start, fingerprint=fingerprint.digest())
        # The claim and the range are held until the row is written: whoever comes next sees it.
        await finish_anyway(self._accept(session, chunk))

    def _scan_of(self, session: Session[D], put: "_Put") -> Scan:
        """Return what gives a chunk again, as it is stored."""
        return partial(self._context.ports.sink.scan, session.id, *session.chunk_range(put.index))

    async def _accept(self, session: Session[D], chunk: Chunk) -> None:
        now = self._context.now()
        accepted = await self._work.write(
            lambda tx: tx.sessions.accept_chunk(session.id, session.fence, chunk, now=now),
            durable=self._context.limits.durable,
        )
        if not accepted:
            await self._context.explain_refusal(session.id, "its chunks have changed meanwhile")
        self._context.moved(session.id, *session.chunk_range(chunk.index))

    async def _receive(self, session: Session[D], put: "_Put", deliver: Deliver) -> None:
        """Take one chunk's body; return only when it came whole and exactly as long as the chunk."""
        start, stop = session.chunk_range(put.index)
        received = 0

        def count(piece: Buffer) -> Awaitable[None] | None:
            nonlocal received
            received += len(piece)
            return deliver(piece)

        end = await put.body.receive(count, limit=stop - start)
        if end is BodyEnd.LIMIT:
            raise ChunkTooLong(put.index, stop - start)
        if end is not BodyEnd.COMPLETE:
            await self._context.explain_cut(session.id, end, received)
        if received < stop - start:
            raise ChunkTooShort(put.index, stop - start, received)


@dataclass(frozen=True, slots=True)
class _Put:
    """One request."""

    index: int
    body: Body
    check: ChunkCheck
    replace: bool


def _require_length(session: Session[D], index: int, body: Body) -> None:
    """Refuse by the announced length, before a byte is read."""
    start, stop = session.chunk_range(index)
    if body.length is not None and body.length > stop - start:
        raise ChunkTooLong(index, stop - start)
    if body.length is not None and body.length < stop - start:
        raise ChunkTooShort(index, stop - start, body.length)


async def _find(session_id: SessionId, index: int, tx: Transaction[D]) -> tuple[Session[D], Chunk | None]:
    found = await tx.sessions.peek_chunk(session_id, index)
    if found is None:
        raise UploadNotFound(session_id)
    return found
