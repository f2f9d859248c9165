"""Bytes at the current end of a session, with a true offset whatever happened before.

Rule 1: one append at a time, in all processes; a newer request asks the running one to let go, and gets the
        true offset.
Rule 2: bytes count when the row says so; the row is written at least every `CHECKPOINT_BYTES` or
        `CHECKPOINT_S`. Bytes past the row count only when their request had no digest to judge them
        and the machine has not been down since; otherwise they are cut off before the next write. Where
        what counts is to survive a power loss they never count: perhaps a sync has failed to store them.
        Where a handler ends that may still be alive, they are measured when its range is free.
Rule 3: the row never reaches the session's size before the body came to its announced end; the
        acceptance that does so starts the finish in the same transaction.
Rule 4: nothing is written or cut before the fence was seen to be ours under the lock of the range: a handler
        that slept, and was taken for dead, wakes up to a row that is not its own.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Generic, TypeVar

from haulier.core.digest import Buffer
from haulier.core.errors import (
    HaulierError,
    InvalidRequest,
    LengthExceeded,
    LengthInconsistent,
    OffsetMismatch,
    RequestError,
    StorageError,
)
from haulier.core.quantity import MIB
from haulier.core.session import Concat, Mode, Session, SessionId, SessionStatus
from haulier.core.values import dataclass
from haulier.engine.append_claims import AppendClaims
from haulier.engine.background import SETTLE_S, finish_anyway
from haulier.engine.body_checks import BodyCheck
from haulier.engine.context import SessionContext
from haulier.engine.endings import Endings
from haulier.logs import get_logger
from haulier.ports import Body, BodyEnd, RangeWriter, Transaction

D = TypeVar("D")

CHECKPOINT_BYTES: Final = 8 * MIB
"""Most bytes without a row: what a client sends again at worst after the machine went down."""
CHECKPOINT_S: Final = 1.0
"""Longest time without a row while bytes come: how old the offset is that others see."""

log = get_logger()


@dataclass(slots=True)
class AppendHold(Generic[D]):
    """The right to append to a session, under its newest fence."""

    session: Session[D]
    on_asked: Callable[[Callable[[], None]], None]
    """Registers what to call when a newer request wants this one to let go."""


class AppendIntake(Generic[D]):
    """The append half of the session engine.

    `append` and `settle` return the session when it has become `finishing`; completing it is the
    caller's part.
    """

    def __init__(self, context: SessionContext[D], endings: Endings[D]) -> None:
        self._context = context
        self._endings = endings
        self._work = context.ports.work
        self._sink = context.ports.sink
        self._claims = AppendClaims(context)

    @asynccontextmanager
    async def hold(self, session_id: SessionId) -> AsyncIterator[AppendHold[D]]:
        """Ask a running append to let go, then hold the end of the session, its tail made true.

        Raises:
            UploadNotFound · UploadBusy · UploadComplete · UploadGone: it is not an open append session.
        """
        session = await self._context.peek(session_id)
        self._context.require_mode(session, Mode.APPEND)
        self._context.require_open(session)
        if session.spec.concat is Concat.FINAL:
            raise InvalidRequest.of("upload", "is put together of others, and takes no bytes itself")
        claim = await self._context.ports.claims.claim(session_id, "append", ask=True)
        try:
            self._context.refuse_when_stopping()  # it may have waited for long
            taken = await self._claims.take(session, self._context.ports.holder)
            try:
                yield AppendHold(await self._with_true_tail(taken), claim.on_asked)
            finally:
                await finish_anyway(self._claims.let_go(taken))
        finally:
            claim.release()

    async def offset(self, session_id: SessionId) -> Session[D]:
        """Ask a running append to let go; return the session with its true offset, or `finishing`.

        Raises as `hold`.
        """
        claim = await self._context.ports.claims.claim(session_id, "append", ask=True)
        try:
            self._context.refuse_when_stopping()
            session = await self._context.peek(session_id)
            self._context.require_open(session)
            moved = await self._claims.take(session, None)
            if not moved.due and await self._sink.extent(session_id) == moved.offset:
                return moved
        finally:
            claim.release()
        async with self.hold(session_id) as hold:  # its tail is to be made true, or its finish to be started
            return await self.settle_complete(hold.session)

    async def _with_true_tail(self, session: Session[D]) -> Session[D]:
        """Return the session with the offset that its bytes have, as it now stands in the row."""
        offset = await self._true_offset(session)
        if offset == session.offset:
            return session
        if offset < session.offset:
            self._context.policy.rewound(session.id)
        try:
            held = await self._advance(session, offset, trusted=session.tail_trusted)
        except RequestError:
            # The policy refuses what came after the last row; it never counted.
            async with self._writing(session) as writer:
                await self._sink.truncate(session.id, writer.position)
            return session
        if not held:
            await self._context.explain_refusal(session.id, "a newer request took over")
        if offset > session.offset:
            self._context.moved(session.id, session.offset, offset)
        return await self._context.load(session.id)

    async def _true_offset(self, session: Session[D]) -> int:
        extent = await self._sink.extent(session.id)
        if self._tail_counts(session):
            return extent if session.size is None else min(extent, session.size)
        if extent > session.offset:
            async with self._writing(session) as writer:
                await self._sink.truncate(session.id, writer.position)
        return min(extent, session.offset)

    def _tail_counts(self, session: Session[D]) -> bool:
        """Whether bytes past the row count (Rule 2)."""
        same_boot = session.boot_id == self._context.ports.boot_id
        return session.tail_trusted and same_boot and not self._context.limits.durable

    @asynccontextmanager
    async def _writing(self, session: Session[D]) -> AsyncIterator[RangeWriter]:
        """Hold the range behind the offset, the fence seen to be ours under its lock (Rule 4)."""
        async with self._context.writing(session.id, session.offset, session.size) as writer:
            current = await self._context.peek(session.id)
            if current.status is not SessionStatus.OPEN or current.fence != session.fence:
                await self._context.explain_refusal(session.id, "a newer request took over")
            yield writer

    async def save(self, session: Session[D], offset: int, *, trusted: bool) -> None:
        """Write the row.

        Raises:
            UploadBusy · UploadGone: this append does not hold the session any more.
        """
        if not await self._advance(session, offset, trusted=trusted):
            await self._context.explain_refusal(session.id, "a newer request took over")

    async def _advance(self, session: Session[D], offset: int, *, trusted: bool) -> bool:
        return await self._work.write(
            lambda tx: self._advance_in(tx, session, offset, trusted=trusted),
            durable=self._context.limits.durable,
        )

    async def _advance_in(
        self, tx: Transaction[D], session: Session[D], offset: int, *, trusted: bool, release: bool = False
    ) -> bool:
        unknown = session.spec.size is None
        before = await tx.sessions.peek(session.id) if unknown else None
        advanced = await tx.sessions.advance(
            session.id,
            session.fence,
            offset,
            tail_trusted=trusted,
            boot_id=self._context.ports.boot_id,
            now=self._context.now(),
            release=release,
        )
        if advanced and before is not None:
            await self._context.policy.grew(tx, before, offset)
        return advanced

    async def append(
        self,
        hold: AppendHold[D],
        offset: int,
        body: Body,
        *,
        check: BodyCheck,
        final: bool,
        size: int | None,
        progressed: Callable[[int], None] | None = None,
    ) -> Session[D]:
        """Take a body at `offset`; return the session, `finishing` when that was the last byte.

        `size`: declared by this body. `progressed`: hears the offset whenever the row knows a new one.

        Raises:
            OffsetMismatch · LengthExceeded · LengthInconsistent · DigestMismatch · BodyCut · UploadBusy · StorageError
        """
        session = await self.settle_complete(hold.session)
        if session.status is SessionStatus.FINISHING:
            return session
        if offset != session.offset:
            raise OffsetMismatch(session.offset, offset)
        bound = _agreed_bound(session, size, self._context.limits.max_size)
        if body.length is not None and body.length > bound - offset:
            raise LengthExceeded(bound)
        if offset:
            # Parts of appends are not sized in advance: what was free when this one was begun may be gone.
            await self._sink.check(body.length)
        hold.on_asked(body.stop)
        trusted = not (check.strict or self._context.limits.durable)
        if self._tail_counts(session) is not trusted:
            # The row says before the first byte whether bytes past it are to be believed after a crash.
            await self.save(session, offset, trusted=trusted)
        async with self._writing(session) as writer:
            run = _Run(self, session, writer, body=body, check=check, bound=bound, progressed=progressed)
            try:
                end = await run.receive(limit=bound - offset)
            except asyncio.CancelledError:
                await self._keep_cancelled(run)
                raise
            except RequestError:
                # The policy refuses to take more; what no row knows goes.
                await self._sink.truncate(session.id, run.saved)
                raise
            return await finish_anyway(self._settle(run, end, size=size, final=final))

    async def _keep_cancelled(self, run: "_Run[D]") -> None:
        """Write down what a cancelled request brought, as if its connection had been cut."""
        try:
            async with asyncio.timeout(SETTLE_S):
                await self._settle(run, BodyEnd.CUT, size=None, final=False)
        except (HaulierError, TimeoutError) as error:
            log.info("append.cancelled", session=run.session.id, result=repr(error))

    async def _settle(self, run: "_Run[D]", end: BodyEnd, *, size: int | None, final: bool) -> Session[D]:
        """Write down what a body brought, as the way it ended allows."""
        session, start = run.session, run.session.offset
        if run.lost:
            await self._context.explain_refusal(session.id, "a newer request took over")
        if end is BodyEnd.LIMIT:
            await self._sink.truncate(session.id, run.saved)
            raise LengthExceeded(run.bound)
        if run.check.strict:
            await self._judge(run, end)
        position = await run.writer.flush(durable=self._context.limits.durable)
        ended = final and end is BodyEnd.COMPLETE
        settled = await self.settle(session, position, size=position if ended else size, ended=ended)
        self._context.moved(session.id, run.told, position)
        if end is not BodyEnd.COMPLETE and settled.status is SessionStatus.OPEN:
            await self._context.explain_cut(session.id, end, position - start)
        if ended and settled.status is SessionStatus.OPEN:
            assert settled.size is not None, f"session {session.id} has ended without a size"
            raise LengthInconsistent(settled.size, position)
        return settled

    async def _judge(self, run: "_Run[D]", end: BodyEnd) -> None:
        """Keep a body that came with a digest only when it came whole and is what its digest names."""
        session = run.session
        try:
            if end is not BodyEnd.COMPLETE:
                await self._context.explain_cut(session.id, end, run.writer.position - session.offset)
            await run.writer.flush(durable=False)
            start, stop = session.offset, run.writer.position
            await run.check.verify(partial(self._sink.scan, session.id, start, stop))
        except RequestError:
            await self._sink.truncate(session.id, session.offset)
            raise

    async def settle_complete(self, session: Session[D]) -> Session[D]:
        """Start the finish of a session that a crash left open with all its bytes; others stay as they are."""
        return await self.settle(session, session.offset, size=None) if session.due else session

    async def settle(
        self, session: Session[D], offset: int, *, size: int | None, ended: bool = False
    ) -> Session[D]:
        """Store the offset, let go and, if that completes the session, start the finish with it.

        Nothing may be written to the part after it. `size` is declared where it was unknown. `ended`: these were
        the last bytes, by their sender's word.

        Raises:
            UploadBusy · UploadGone: this append does not hold the session any more.
        """
        blob_key = await self._context.new_blob_key(session.details)
        holder = await self._context.finisher(session)

        finals: Sequence[Session[D]] = ()

        async def store(tx: Transaction[D]) -> Session[D] | None:
            nonlocal finals
            if not await self._advance_in(tx, session, offset, trusted=True, release=True):
                return None
            if session.size is None and size is not None:
                await tx.sessions.declare_size(session.id, size)
            known = size if session.size is None else session.size
            if offset != known or (session.spec.ends_by_word and not ended):
                return await tx.sessions.load(session.id)
            if session.spec.concat is Concat.PARTIAL:
                finals = await self._endings.partial_completed(tx, session.id)
                return await tx.sessions.load(session.id)
            started = await tx.sessions.start_finish(session.id, blob_key, holder, now=self._context.now())
            assert started is not None, f"session {session.id} is not complete"
            await self._context.policy.completing(tx, started)
            return started

        with self._context.owing(session.id):
            settled = await self._work.write(store, durable=self._context.limits.durable)
        if settled is None:
            await self._context.explain_refusal(session.id, "a newer request took over")
        self._context.holds.pop(session.id, None)
        self._context.changes.notify(session.id)
        await self._endings.finals_moved(finals)
        return settled


class _Run(Generic[D]):
    """One body going into a range writer, with the row close behind."""

    def __init__(
        self,
        intake: AppendIntake[D],
        session: Session[D],
        writer: RangeWriter,
        *,
        body: Body,
        check: BodyCheck,
        bound: int,
        progressed: Callable[[int], None] | None,
    ) -> None:
        self.session = session
        self.writer = writer
        self.check = check
        self.bound = bound
        """The most bytes that the session may have."""
        self.lost = False
        """Whether another handler took over: neither row nor file may be written any more."""
        self.saved = writer.position
        """What the row says."""
        self.told = writer.position
        """What the policy knows."""
        self._intake = intake
        self._context = intake._context  # noqa: SLF001 - the two classes are one thing
        self._body = body
        self._progressed = progressed
        self._due = asyncio.Event()
        self._ended = False
        self._error: RequestError | StorageError | None = None

    async def receive(self, *, limit: int) -> BodyEnd:
        """Take the whole body; return why it ended.

        Raises:
            StorageError: a byte, or the word of it, could not be stored; what the row says is stored.
            RequestError: the policy refuses to take more; what the row says is stored.
        """
        saving = (
            None
            if self.check.strict
            else self._context.background.start(
                self._keep_saving(self.writer.position + limit), name=f"append {self.session.id}"
            )
        )
        try:
            end = await self._body.receive(self._deliver, limit=limit)
        finally:
            if saving is not None:
                # Not cancelled: a row that is being written gets written, and `saved` must be what it says,
                # since a body that turns out too long is cut back to that.
                self._ended = True
                self._due.set()
                await asyncio.wait({saving})
        if self._error is not None:
            raise self._error
        return end

    def _deliver(self, piece: Buffer) -> Awaitable[None] | None:
        self.check.update(piece)
        written = self.writer.write(piece)
        if not self._is_far() or self.check.strict:
            return written
        self._due.set()
        held = self._context.policy.hold_back(self.session.id)
        return _both(written, held) if written and held else written or held

    async def _keep_saving(self, end: int) -> None:
        while not (self.lost or self._error or self._ended):
            if self.writer.position == end or not self._is_far():
                # Not far: what was asked for while the last row was written is in it, or too little yet.
                self._due.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECKPOINT_S):
                        await self._due.wait()
            if self.saved < self.writer.position != end and not self._ended:
                await self._save(end)

    def _is_far(self) -> bool:
        """Whether the row is so far behind that it is due."""
        return self.writer.position - self.saved >= CHECKPOINT_BYTES

    async def _save(self, end: int) -> None:
        try:
            # A body of unknown length would take the last byte, and then no row could be written that frees any.
            await self._intake._sink.check(None)  # noqa: SLF001 - the two classes are one thing
            position = await self.writer.flush(durable=self._context.limits.durable)
            if position != end:  # else the last bytes came meanwhile, and the body's end decides about them
                await self._store(position)
        except (RequestError, StorageError) as error:
            self._error = error
            self._body.stop()

    async def _store(self, position: int) -> None:
        self.lost = not await self._intake._advance(self.session, position, trusted=True)  # noqa: SLF001 - one thing
        if self.lost:
            self._body.stop()
            return
        self._context.moved(self.session.id, self.told, position)
        self.saved = self.told = position
        if self._progressed is not None:
            self._progressed(position)


def _agreed_bound(session: Session[D], size: int | None, limit: int) -> int:
    """Return how many bytes the session may come to have; the service takes `limit`.

    Raises:
        LengthInconsistent: the size that is declared is not the known one, or less than what is here.
        LengthExceeded: it is more than is taken.
    """
    if session.size is not None:
        if size is not None and size != session.size:
            raise LengthInconsistent(session.size, size)
        return session.size
    most = limit if session.spec.max_size is None else min(limit, session.spec.max_size)
    if size is None:
        return most
    if size < session.offset:
        raise LengthInconsistent(session.offset, size)
    if size > most:
        raise LengthExceeded(most)
    return size


async def _both(first: Awaitable[None], second: Awaitable[None]) -> None:
    await first
    await second
