"""The generic session engine: bytes come in, are accepted, and become one blob.

Rule 1: the row is the truth for what was accepted, the sink for the bytes; nothing is cached between.
Rule 2: nothing is written without the claim of its range, and every later step names the fence.
Rule 3: only finish, abort, expiry and a failed append end a session; everything else leaves it usable.
Rule 4: a step that somebody else may have to go on with is written down before it starts.

It knows no HTTP, capsule, digest, media type or record: those are its policy's.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

from haulier.core.errors import (
    ChunksMissing,
    HaulierError,
    InvalidRequest,
    StorageError,
    UploadComplete,
    UploadNotFound,
    WaitTimeout,
)
from haulier.core.session import Concat, LiveLimit, Mode, Session, SessionId, SessionSpec, SessionStatus
from haulier.engine.appends import AppendIntake
from haulier.engine.attention import AllEars, Attention
from haulier.engine.background import Background, finish_anyway
from haulier.engine.body_checks import BodyCheck, ChunkCheck, NoCheck
from haulier.engine.chunks import ChunkIntake
from haulier.engine.concatenation import total_of, total_size
from haulier.engine.context import SessionContext, SessionLimits, SessionPolicy, SessionPorts
from haulier.engine.endings import LOOK_S, Endings
from haulier.engine.whole import WholePolicy, WholeSessions
from haulier.logs import get_logger
from haulier.ports import Body, Ears, KeyTaken, Transaction

D = TypeVar("D")
M = TypeVar("M")

log = get_logger()

PROGRESS_S: Final = 0.25
"""Least time between two reports to one watcher."""
SESSIONS_IN_A_PAGE: Final = 500
"""Read at once by whoever goes through all of them: about a megabyte, whatever there is."""


class SessionService(Generic[D]):
    """Upload sessions over a store, a sink and a policy. All calls may run in parallel."""

    def __init__(
        self,
        ports: SessionPorts[D],
        policy: SessionPolicy[D],
        background: Background,
        limits: SessionLimits = SessionLimits(),  # noqa: B008 - frozen
    ) -> None:
        self._context = SessionContext(ports, policy, background, limits)
        self._work = ports.work
        self._sink = ports.sink
        self._endings = Endings(self._context)
        self._chunks = ChunkIntake(self._context)
        self._appends = AppendIntake(self._context, self._endings)
        self._attention = Attention(self._context, self._endings)

    def whole(self, policy: WholePolicy[D, M]) -> WholeSessions[D, M]:
        """Return the short way, for what is here in full."""
        return WholeSessions(self._context, policy)

    # --- begin ---------------------------------------------------------------------------------------

    async def begin(
        self,
        spec: SessionSpec,
        details: D,
        *,
        limit: LiveLimit | None = None,
        partials: Sequence[SessionId] = (),
    ) -> tuple[Session[D], bool]:
        """Return a new session and True, or the one that has its idempotency key and False.

        The caller compares the found one's `request_hash`. An append session of size 0 is complete at
        once.

        Args:
            spec: what it is begun with.
            details: what the policy keeps with it.
            limit: live sessions that there may be, instead of the limits' number of an owner.
            partials: what a final session is made of, in this order; see `total_of`.

        Raises:
            UploadNotFound · UploadGone · InvalidRequest: a final session cannot be made of these.
            QuotaExceeded · StorageError, and what the policy refuses with.
        """
        self._context.refuse_when_stopping()
        await self._check_room(spec)
        ids = self._context.ports.ids
        boot_id, me, now = self._context.ports.boot_id, self._context.ports.holder, self._context.now()
        session = Session.begin(ids.session_id(), spec, details, now=now, boot_id=boot_id, follower=me)
        limit = limit or LiveLimit(of_owner=self._context.limits.max_live)
        while (found := await self._make_or_find(session, limit, partials)).id != session.id:
            if await self._is_still_there(found):
                return found, False
        try:
            return await self._endings.completed(found, started=True), True
        except StorageError:
            if spec.key is None:
                # Whoever began it hears of no id, and begins another one: in the end there would be two.
                try:
                    await finish_anyway(self._endings.give_up(found.id))
                except UploadComplete:  # the answer to its commit was lost, or came too late
                    return await self.load(found.id), True
            raise

    async def total_of(self, partials: Sequence[SessionId], *, scope: str, owner: str) -> int | None:
        """Return the size of what would be made of these partial sessions; None while one has none.

        Raises:
            UploadNotFound · UploadGone · InvalidRequest: nothing can be made of them, there and by that owner.
        """
        return await self._work.read(partial(total_of, partials, scope=scope, owner=owner))

    async def prospect_of(self, session: Session[D]) -> tuple[int | None, float]:
        """Return a session's size and expiry; those of a final one that waits are what its partial ones make of them."""
        if session.spec.concat is not Concat.FINAL or session.status is not SessionStatus.OPEN:
            return session.size, session.expires_at
        partials = await self._work.read(lambda tx: tx.sessions.partials(session.id))
        return total_size(partials), max(session.expires_at, *(each.expires_at for each in partials))

    async def _make_or_find(
        self, session: Session[D], limit: LiveLimit, partials: Sequence[SessionId]
    ) -> Session[D]:
        """Return the session with its part made, or the one that has its key.

        The claim tells whoever finds the row that its begin may still take it back.
        """
        claim = await self._context.ports.claims.claim(session.id, "begin")
        try:
            found = await self._insert_or_find(session, limit, partials)
            if found.id == session.id and session.spec.concat is not Concat.FINAL:
                await self._prepare(session)  # a final one gets its part when it is put together
            return found
        finally:
            claim.release()

    async def _is_still_there(self, found: Session[D]) -> bool:
        """Wait for a begin that may fail; return whether its session can be continued."""
        claim = await self._context.ports.claims.claim(found.id, "begin")
        try:
            current = await self._work.read(lambda tx: tx.sessions.load(found.id))
            if current is not None:
                await self._prepare_again(current)
            return current is not None
        finally:
            claim.release()

    async def _check_room(self, spec: SessionSpec) -> None:
        try:
            await self._sink.check(spec.size)
        except StorageError:
            # What was begun has its room already; on a disk that it has filled it must still be found.
            key = spec.key
            if key is None or not await self._work.read(
                lambda tx: tx.sessions.find(spec.scope, spec.owner, key)
            ):
                raise

    async def _insert_or_find(
        self, session: Session[D], limit: LiveLimit, partials: Sequence[SessionId]
    ) -> Session[D]:
        while True:
            try:
                return await self._work.write(partial(self._insert_or_find_in, session, limit, partials))
            except KeyTaken:
                log.debug("session.key_taken", session=session.id)  # faster by a moment: find that one

    async def _insert_or_find_in(
        self, session: Session[D], limit: LiveLimit, partials: Sequence[SessionId], tx: Transaction[D]
    ) -> Session[D]:
        spec = session.spec
        if spec.key is not None:
            found = await tx.sessions.find(spec.scope, spec.owner, spec.key)
            if found is not None:
                return found
        await tx.sessions.insert(session, limit=limit)
        await self._context.policy.began(tx, session)
        if spec.concat is Concat.FINAL:
            return await self._endings.join(tx, session, partials)
        if spec.mode is not Mode.APPEND or not session.due:
            return session
        # No body will come that completes an empty append: its finish starts with its row.
        blob_key, holder = self._context.ports.ids.blob_key(), self._context.ports.holder
        finishing = await tx.sessions.start_finish(session.id, blob_key, holder, now=session.created_at)
        assert finishing is not None, f"session {session.id} is not complete"
        await self._context.policy.completing(tx, finishing)
        return finishing

    async def _prepare(self, session: Session[D]) -> None:
        reserved = session.size if session.spec.mode is Mode.CHUNKS else None
        try:
            await self._sink.prepare(session.id, size=reserved)
        except StorageError:
            await finish_anyway(self._take_back(session))
            raise
        self._context.found(session)

    async def _prepare_again(self, session: Session[D]) -> None:
        # A crash may have come between the row and the part. Only while nothing was received: a part that
        # was lost with accepted bytes must not come back as zeros.
        chunked = session.spec.mode is Mode.CHUNKS
        if chunked and session.status is SessionStatus.OPEN and not session.received:
            await self._sink.prepare(session.id, size=session.size)

    async def _take_back(self, session: Session[D]) -> None:
        """Erase a session without a part, unless another process has found its row and taken bytes for it."""
        if not await self._work.write(partial(self._erase_in, session), frees=True):
            await self._context.follow(session)  # as its row says that this process does

    async def _erase_in(self, session: Session[D], tx: Transaction[D]) -> bool:
        erased = await tx.sessions.erase(session.id)
        if erased:
            await self._context.policy.erased(tx, session)
        return erased

    # --- reading -------------------------------------------------------------------------------------

    async def load(self, session_id: SessionId) -> Session[D]:
        """Return the session with all it has received; disturbs nobody.

        Raises:
            UploadNotFound: there is none.
        """
        return await self._context.load(session_id)

    async def find_pending(self, scope: str, owner: str, key: str) -> Session[D] | None:
        """Return the live session with that idempotency key; one that ended is not pending."""
        found = await self._work.read(lambda tx: tx.sessions.find(scope, owner, key))
        return found if found is not None and found.status.live else None

    async def count_active_for(self, scope: str | None, owner: str) -> int:
        """Count the owner's live sessions, in one scope or in all."""
        return await self._work.read(lambda tx: tx.sessions.count_live(scope, owner))

    async def probe(self) -> Sequence[Session[D]]:
        """Return all live sessions, without the chunks they have received."""
        return [session async for session in self._pages(_live_in)]

    def speed(self, session_id: SessionId) -> float:
        """Return how fast bytes are accepted here, in bytes per second."""
        return self._context.speed(session_id)

    def notify(self, session_id: SessionId) -> None:
        """Wake the watchers of a session: something that its policy knows has changed."""
        self._context.changes.wake(session_id)

    async def wait(self, session_id: SessionId, *, timeout_s: float) -> Session[D]:
        """Return the session once it has ended, whenever that happened.

        Raises:
            UploadNotFound: at once, for an unknown id.
            WaitTimeout: it is still live after `timeout_s` seconds.
            ServiceStopping: this process ends; ask again.
        """
        with self._context.changes.watching(session_id) as changed:
            try:
                async with asyncio.timeout(timeout_s):
                    while (session := await self.load(session_id)).status.live:
                        self._context.refuse_when_stopping()
                        await self._next_change(session, changed)
                        changed.clear()
            except TimeoutError:
                session = await self.load(session_id)
                if session.status.live:
                    raise WaitTimeout(session.status, session.received.total, session.size) from None
        return session

    async def watch(self, session_id: SessionId) -> AsyncGenerator[Session[D], None]:
        """Yield the session now and after changes, the last one ended; reports are `PROGRESS_S` apart.

        Ends early, without an ended one, when the service stops.
        """
        with self._context.changes.watching(session_id) as changed:
            while True:
                changed.clear()
                session = await self.load(session_id)
                yield session
                if not session.status.live or self._context.stopping:
                    return
                await self._next_change(session, changed)
                await self._context.ports.clock.sleep(PROGRESS_S)

    async def _next_change(self, session: Session[D], changed: asyncio.Event) -> None:
        """Wait for a change, and for the death of the worker that finishes the session: then go on with it."""
        foreign = session.status is SessionStatus.FINISHING and session.holder != self._context.ports.holder
        if foreign and await self._endings.is_left(session):
            await self._go_on(session)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S if foreign else None):
                await changed.wait()

    # --- bytes ---------------------------------------------------------------------------------------

    async def put_chunk(
        self,
        session_id: SessionId,
        index: int,
        body: Body,
        *,
        check: ChunkCheck | None = None,
        replace: bool = False,
    ) -> None:
        """Accept chunk `index`, or find it accepted with the same bytes.

        `replace` takes other bytes in place of accepted ones, after the whole file's digest was wrong.

        Raises:
            ChunkOutOfRange · ChunkTooLong · ChunkTooShort · ChunkConflict · DigestMismatch · BodyCut
            UploadNotFound · UploadGone · UploadComplete · UploadBusy · StorageError
        """
        self._context.refuse_when_stopping()
        await self._chunks.put(session_id, index, body, check=check or NoCheck(), replace=replace)

    async def append(
        self,
        session_id: SessionId,
        offset: int,
        body: Body,
        *,
        check: BodyCheck | None = None,
        final: bool = False,
        size: int | None = None,
        progressed: Callable[[int], None] | None = None,
    ) -> Session[D]:
        """Take bytes at the session's end; complete it when they were the last ones.

        What arrived before a cut is kept, unless the body came with a digest (`check.strict`). `final`:
        the end of this body is the end of the file. `size` declares an unknown size, once what came is stored,
        or must be the known one. `progressed` hears the offset whenever a new one is acknowledged before the end.
        Returns the session as it is afterwards.

        Raises:
            OffsetMismatch · LengthExceeded · LengthInconsistent · DigestMismatch · BodyCut · InvalidRequest
            UploadNotFound · UploadGone · UploadComplete · UploadBusy · StorageError
        """
        self._context.refuse_when_stopping()
        async with self._appends.hold(session_id) as hold:
            session = await self._appends.append(
                hold,
                offset,
                body,
                check=check or NoCheck(),
                final=final,
                size=size,
                progressed=progressed,
            )
        return await self._endings.completed(session, started=True)

    async def offset(self, session_id: SessionId) -> Session[D]:
        """Ask a running append to let go; return the session with its true offset.

        Raises:
            UploadNotFound: there is none.
            UploadGone: it ended without a result; its offset would read as if it could go on, or was whole.
            UploadBusy: its bytes are here, but its finish failed, and is tried again; whoever read that nothing is
                missing would take it for done.
        """
        session = await self.load(session_id)
        self._context.require_mode(session, Mode.APPEND)
        if session.status.gone:
            self._context.require_open(session)
        if session.status is SessionStatus.COMMITTED or session.spec.concat is Concat.FINAL:
            return session
        if session.status is SessionStatus.FINISHING:
            return await self._endings.settled(session, started=False)
        session = await self._appends.offset(session_id)
        return await self._endings.settled(session, started=True)

    # --- finish --------------------------------------------------------------------------------------

    async def finish(
        self,
        session_id: SessionId,
        *,
        size: int | None = None,
        amend: Callable[[D], D] | None = None,
    ) -> Session[D]:
        """Make the bytes final; return the session, committed, or still finishing after `FINISH_WAIT_S`.

        The work goes on without its request; repeating this call, or waiting, gives the result. `size`
        declares an unknown size, or must be the known one. `amend` changes the details first.

        Raises:
            ChunksMissing · DigestMismatch · InvalidRequest · UploadNotFound · UploadGone · StorageError
        """
        self._context.refuse_when_stopping()
        session = await self.load(session_id)
        if session.status is not SessionStatus.OPEN:
            return await self._endings.completed(session, started=False)
        if session.spec.concat is not Concat.NONE:
            raise InvalidRequest.of("upload", f"is {session.spec.concat}, and is not finished by a request")
        if session.spec.mode is Mode.CHUNKS:
            started = await self._start_finish(session, size, amend)
        else:
            async with self._appends.hold(session.id) as hold:
                started = await self._start_finish(hold.session, size, amend)
        if started is not None:
            return await self._endings.completed(started, started=True)
        session = await self.load(session_id)
        if session.status is SessionStatus.OPEN:
            raise ChunksMissing(session.received.missing(_agreed_size(session, size)))
        return await self._endings.completed(session, started=False)

    async def _start_finish(
        self, session: Session[D], size: int | None, amend: Callable[[D], D] | None
    ) -> Session[D] | None:
        agreed, blob_key = _agreed_size(session, size), await self._context.new_blob_key(session.details)
        holder, now = await self._context.finisher(session), self._context.now()

        async def start(tx: Transaction[D]) -> Session[D] | None:
            if session.size is None and session.offset == agreed:
                await tx.sessions.declare_size(session.id, agreed)
            started = await tx.sessions.start_finish(session.id, blob_key, holder, now=now)
            if started is None:
                return None
            await self._context.policy.completing(tx, started)
            if amend is None or (details := amend(started.details)) == started.details:
                return started
            return await tx.sessions.amend(started.id, started.fence, details)

        with self._context.owing(session.id):
            started = await self._work.write(start)
        if started is not None:
            self._context.holds.pop(session.id, None)
            self._context.changes.notify(session.id)
        return started

    # --- ends without a result -----------------------------------------------------------------------

    async def abort(self, session_id: SessionId) -> None:
        """End the session and free its bytes; harmless when it ended without a result already.

        A finish that is under way is awaited: it may still fail.

        Raises:
            UploadNotFound · UploadComplete · StorageError
        """
        await self._endings.abort(session_id)

    async def fail(self, session_id: SessionId, error: str) -> None:
        """End an open session as failed, for what its sender did, and free its bytes; others stay as they are.

        Raises:
            StorageError
        """
        await self._endings.fail(session_id, error)

    async def keep_answer(self, session_id: SessionId, answer: str) -> str:
        """Keep what whoever asked for the result was told; return what was kept first.

        Raises:
            UploadNotFound: there is no such session any more.
        """
        kept = await self._work.write(lambda tx: tx.sessions.keep_answer(session_id, answer))
        if kept is None:
            raise UploadNotFound(session_id)
        return kept

    async def give_up(self, session_id: SessionId) -> None:
        """As `abort`, but a finish that has failed here is not tried again: it ends without a result."""
        await self._endings.give_up(session_id)

    async def expire(self, *, now: float | None = None, most_ttl_s: float = float("inf")) -> int:
        """End sessions whose last activity is longer ago than their time to live; return how many.

        Never one that anybody holds, nor one that is finishing, nor one that has a longer time to live than `most_ttl_s`.
        """
        return await self._endings.expire(self._context.now() if now is None else now, most_ttl_s)

    async def purge(self, *, before: float) -> int:
        """Remove what is left of sessions that ended before then; return how many."""
        return await self._endings.purge(before=before)

    # --- start and stop ------------------------------------------------------------------------------

    async def listen(self, *others: Ears) -> None:
        """Hear what other processes do to the sessions that matter here, for ever; cancel it to end it.

        `others` hear the same words.
        """
        await self._context.ports.signals.listen(AllEars(self._attention, *others))

    async def resume(self) -> None:
        """Follow the open sessions that no other worker follows: their digests catch up at once."""
        async for session in self._pages(_live_in):
            try:
                await self._context.follow(session)
            except HaulierError as error:
                log.warning("session.not_followed", session=session.id, error=str(error))

    async def redo(self) -> int:
        """Go on with what a dead worker left half finished; return how many sessions that is.

        Finishes are begun here, not awaited: how they end is in their rows.
        """
        await self._forget_ended()
        left = 0
        async for session in self._pages(_unfinished_in):
            if await self._endings.is_left(session):
                left += 1
                await self._go_on(session)
        return left

    async def _forget_ended(self) -> None:
        """Forget what is remembered about sessions that have ended, with a lost answer."""
        remembered = self._context.remembered()
        marks = await self._work.read(lambda tx: tx.sessions.marks(remembered))
        for session_id in remembered:
            mark = marks.get(session_id)
            if mark is None or not mark.status.live:
                self._context.forget(session_id)

    async def _pages(self, page: "Page[D]") -> AsyncIterator[Session[D]]:
        """Yield the sessions of all pages, each read in a transaction of its own."""
        after: tuple[float, str] | None = None
        while sessions := await self._work.read(partial(page, after)):
            for session in sessions:
                yield session
            after = sessions[-1].created_at, sessions[-1].id

    async def _go_on(self, session: Session[D]) -> None:
        """Start the finish that is left; one session that cannot be helped must not keep the others waiting."""
        if session.status is SessionStatus.FINISHING:
            self._endings.completing(session, take=True)
            return
        try:
            # Asked before it is claimed: a claim is activity, and what may not be completed has to expire.
            await self._work.read(partial(self._context.policy.completing, session=session))
            async with self._appends.hold(session.id) as hold:
                settled = await self._appends.settle_complete(hold.session)
        except HaulierError as error:
            log.warning("session.not_redone", session=session.id, error=str(error))
            return
        if settled.status is SessionStatus.FINISHING:
            self._endings.completing(settled, take=False)

    async def keep(self) -> None:
        """Note the activity of what is held here, so that no other process thinks it old.

        Appends whose end could not be written into their rows are let go of.
        """
        held, now = self._context.ports.claims.held(), self._context.now()

        async def touch(tx: Transaction[D]) -> None:
            for session_id in sorted(held):
                await tx.sessions.touch(session_id, now=now)

        if held:
            await self._work.write(touch)
        for session_id, fence in list(self._context.holds.items()):
            if session_id not in held:
                await self._context.release(session_id, fence)

    async def stop(self) -> None:
        """Take no more bytes; let every running body save what it has, and wake whoever waits.

        Finishes that are under way have a while still, which is not awaited here.
        """
        self._context.stopping = True
        self._endings.stop()
        claims = self._context.ports.claims
        held = sorted(claims.held())
        for session_id in held:
            claims.ask_all(session_id)
        for session_id in held:
            await claims.idle(session_id)
        self._context.changes.wake_all()


Page = Callable[[tuple[float, str] | None, Transaction[D]], Awaitable[Sequence[Session[D]]]]
"""Reads the sessions behind a place, (created_at, id)."""


async def _live_in(after: tuple[float, str] | None, tx: Transaction[D]) -> Sequence[Session[D]]:
    return await tx.sessions.live(after=after, limit=SESSIONS_IN_A_PAGE)


async def _unfinished_in(after: tuple[float, str] | None, tx: Transaction[D]) -> Sequence[Session[D]]:
    return await tx.sessions.unfinished(after=after, limit=SESSIONS_IN_A_PAGE)


def _agreed_size(session: Session[D], size: int | None) -> int:
    """Return the size that session and finish agree on.

    Raises:
        InvalidRequest: they do not, or neither has one.
    """
    if session.size is None and size is None:
        raise InvalidRequest.of("size", "must be given: this upload was begun without one")
    if session.size is not None and size not in {None, session.size}:
        raise InvalidRequest.of("size", f"must be {session.size}, the size this upload was begun with")
    if session.size is None and size is not None and session.offset > size:
        raise InvalidRequest.of("size", f"must be at least {session.offset}: so many bytes are here")
    return session.size if session.size is not None else size or 0
