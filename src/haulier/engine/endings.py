"""How sessions end: committed, failed, aborted or expired; each once, and safe to go on with by others.

Rule 1: a finish is `finishing` with a blob key in the row, then bytes judged, then the blob, then the row
        `committed`; whoever finds it half way goes on from the start, and every step bears repeating.
Rule 2: a step after the first names the fence; a holder that lost it changes nothing, neither rows nor bytes.
Rule 3: bytes are freed after the row says that they are nobody's.
Rule 4: an acceptance may outlive its bytes when the power fails, unless it was durable; so a session that
        saw another boot of the machine is compared with its chunks' fingerprints before it is committed.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

import xxhash

from haulier.core.errors import (
    ChunksMissing,
    DigestMismatch,
    RequestError,
    ServiceStopping,
    StorageError,
    StorageUnavailable,
    UploadBusy,
    UploadComplete,
    UploadGone,
)
from haulier.core.ranges import Ranges
from haulier.core.session import Concat, Mode, Session, SessionId, SessionStatus
from haulier.engine.concatenation import Concatenation
from haulier.engine.context import SessionContext
from haulier.engine.erasing import Eraser
from haulier.logs import get_logger
from haulier.ports import RangeBusy, Transaction

D = TypeVar("D")

log = get_logger()

FINISH_WAIT_S: Final = 25.0
"""How long a finish keeps its caller waiting; below the 30 s after which many proxies give up."""
STOP_S: Final = 4.0
"""How long a finish may still take when the service stops: most end within it, and of the 6 s in which a service saves what
is running enough is left for whoever then gives its upload up."""
LOOK_S: Final = 0.5
"""How often whoever waits for a finish of another process looks whether that one still lives."""
BATCH: Final = 200
"""Sessions that one statement expires or purges; keeps the write transaction short."""


class Endings(Generic[D]):
    """The last steps of sessions."""

    def __init__(self, context: SessionContext[D]) -> None:
        self._context = context
        self._work = context.ports.work
        self._sink = context.ports.sink
        self._concatenation = Concatenation(context)
        self._eraser = Eraser(self._work, self._sink)
        self._completions: dict[SessionId, asyncio.Task[None]] = {}
        self._limits: set[asyncio.Timeout] = set()
        """Of what must not outlast a stop."""
        self._stops_at: float | None = None
        """Until when that may take, by the loop's clock; None: the service does not stop."""

    def stop(self) -> None:
        """Let finishes, and who waits for them, end within `STOP_S`; harmless when the service stops already.

        One that takes longer has failed for now, as if the storage did not answer: the next process goes on with it, unless
        its upload is given up.
        """
        if self._stops_at is None:
            self._stops_at = asyncio.get_running_loop().time() + STOP_S
            for limit in self._limits:
                limit.reschedule(self._stops_at)

    @contextlib.asynccontextmanager
    async def _until_stopped(self) -> AsyncIterator[None]:
        """Raise ServiceStopping in place of what outlasts a stop."""
        limit = asyncio.timeout_at(self._stops_at)
        try:
            async with limit:
                self._limits.add(limit)
                try:
                    yield
                finally:
                    self._limits.discard(limit)
        except TimeoutError:
            if limit.expired():
                raise ServiceStopping from None
            raise

    async def completed(self, session: Session[D], *, started: bool) -> Session[D]:
        """Return the session once its finish, if there is one, has a result, or after a while.

        `started`: this caller began the finish, so its fence is the newest.
        """
        if session.status.gone:
            self._context.require_open(session)
        if session.status is not SessionStatus.FINISHING:
            return session
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_WAIT_S), self._until_stopped():
                await self._outcome(session, started=started)
        return await self._context.load(session.id)

    async def settled(self, session: Session[D], *, started: bool) -> Session[D]:
        """As `completed`, for who asks how far the session is.

        Raises:
            UploadBusy: its finish failed, and may succeed later.
            what ended it, if that is what came of its finish.
        """
        try:
            return await self.completed(session, started=started)
        except StorageError as error:
            if (await self._context.peek(session.id)).status is not SessionStatus.FINISHING:
                raise
            raise UploadBusy(session.id, "its finish failed, and is tried again") from error

    async def _outcome(self, session: Session[D], *, started: bool) -> None:
        """Wait until the finish has a result, going on with it when nobody that lives does.

        Raises:
            what ended it, as far as that is known: here, or in the row when another process went on.
        """
        while session.status is SessionStatus.FINISHING:
            mine = session.holder == self._context.ports.holder
            if mine or session.id in self._completions or await self._context.may_take(session.holder):
                await asyncio.shield(self.completing(session, take=not (mine and started)))
                session = await self._context.peek(session.id)  # finishing still: another worker took it over
            else:
                session = await self._next_look(session)
        if (mismatch := DigestMismatch.found_in(session.error)) is not None:
            raise mismatch

    async def _next_look(self, session: Session[D]) -> Session[D]:
        """Return the session after its next change, or when its holder may have died.

        Raises:
            StorageUnavailable: its holder tried what it was asked for, and failed.
        """
        with self._context.changes.watching(session.id) as changed:
            seen = await self._context.peek(session.id)
            if _is_held(seen, session.fence):
                if seen.asked != seen.fence:
                    # It may not know that it is to finish, or have failed before.
                    await self._work.write(lambda tx: tx.sessions.ask(seen.id, seen.fence), frees=True)
                    self._context.ports.signals.tell(seen.id)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await changed.wait()
                now = await self._context.peek(session.id)
                if _is_held(now, seen.fence) and now.asked != now.fence:
                    raise StorageUnavailable("its finish failed in another worker, and is tried again")
                return now
        return await self._context.peek(session.id)

    def completing(self, session: Session[D], *, take: bool) -> "asyncio.Task[None]":
        """Return the one task that completes this session here; it goes on without its request."""
        task = self._completions.get(session.id)
        if task is None:
            self._context.owed.pop(session.id, None)
            task = self._context.background.start(
                self._try_to_complete(session, take=take), name=f"finish {session.id}"
            )
            self._completions[session.id] = task
        return task

    async def _try_to_complete(self, session: Session[D], *, take: bool) -> None:
        try:
            async with self._until_stopped():
                await self._complete(session, take=take)
        except StorageError:
            # Once it is no longer under way here: an ask from now on begins it again.
            await self._tell_failed(session.id)
            raise

    async def _tell_failed(self, session_id: SessionId) -> None:
        """A finish failed here: let whoever waits for it in another worker know, and ask again."""
        with contextlib.suppress(StorageError):
            session = await self._context.peek(session_id)
            if session.status is SessionStatus.FINISHING and session.holder == self._context.ports.holder:
                self._context.owed[session_id] = session.fence
                self._context.awake.set()
                await self._work.write(lambda tx: tx.sessions.unask(session_id, session.fence), frees=True)

    async def _complete(self, session: Session[D], *, take: bool) -> None:
        """Go the way from `finishing` to a result; after a crash it is gone again, from the start."""
        current: Session[D] | None = session
        try:
            if take:
                holder = self._context.ports.holder
                current = await self._work.write(
                    lambda tx: tx.sessions.take_finish(session.id, session.fence, holder)
                )
            if current is not None:
                await self._verify_and_commit(current)
        except StorageUnavailable as error:
            if current is not None and await self._was_taken(current):
                return  # its bytes may have gone where they belong: the row knows
            if not error.lost:
                await self._settle_loss(session.id)
            raise
        finally:
            del self._completions[session.id]
            self._context.changes.notify(session.id)

    async def _was_taken(self, session: Session[D]) -> bool:
        """Whether somebody went on with the finish before us: another worker, or another request of this one."""
        now = await self._work.read(lambda tx: tx.sessions.peek(session.id))
        return now is None or now.fence != session.fence

    async def _verify_and_commit(self, session: Session[D]) -> None:
        if session.follower != self._context.ports.holder:
            self._context.policy.rewound(session.id)  # bytes may have changed after they were followed here
        await self._require_survived(session)
        if session.spec.concat is Concat.FINAL:
            await self._concatenation.build(session)
        try:
            details = await self._context.policy.verify(session)
        except DigestMismatch as mismatch:
            await self._reject(session, mismatch)
            raise
        blob_key, size = _final_name(session)
        await self._make_blob(session, blob_key, size)
        try:
            await self._context.policy.approve(session, details)
            committed = await self._work.write(partial(self._commit_in, session, details), durable=True)
        except RequestError as refusal:
            if not await self._fail(session, str(refusal), doomed=[blob_key]):
                return  # the blob may be what its new holder has committed
            raise
        if not committed:
            log.warning("session.taken_over", session=session.id)
            return
        self._context.committed(session)
        await self._context.discard(session.id)
        log.info("session.committed", session=session.id, size=size)

    async def _require_survived(self, session: Session[D]) -> None:
        """After a halt of the machine, compare accepted chunks with what is on disk (Rule 4).

        Raises:
            ChunksMissing: some are gone; they no longer count, and the session is open again.
            UploadBusy: somebody else took the finish over.
        """
        if session.spec.mode is Mode.CHUNKS and session.boot_id != self._context.ports.boot_id:
            blob_key, size = _final_name(session)
            await self._sink.recover(session.id, blob_key, size=size)
            await self._forget_lost(session)

    async def _settle_loss(self, session_id: SessionId) -> None:
        """After a finish failed: if its bytes are gone it can never succeed, and must not be tried for ever.

        Raises:
            ChunksMissing: they are; the session is open again, and they may be sent again.
            UploadGone: they are, and no append could bring them again.
            StorageError: the storage does not answer, so nobody knows.
        """
        session = await self._context.peek(session_id)
        if session.status is not SessionStatus.FINISHING or session.holder != self._context.ports.holder:
            return
        blob_key, size = _final_name(session)
        if session.spec.concat is Concat.FINAL:
            if await self._concatenation.survives(session):
                return
        elif await self._sink.recover(session.id, blob_key, size=size):
            return
        if session.spec.mode is Mode.APPEND:
            error = f"its {size} bytes were lost on disk"
            if await self._fail(session, error):
                raise UploadGone(session.id, SessionStatus.FAILED, error)
            return
        await self._forget_lost(session)

    async def _forget_lost(self, session: Session[D]) -> None:
        """Let chunks that are not on disk as they were accepted count no more.

        Raises:
            ChunksMissing: there were some; the session is open again.
            UploadBusy: somebody else took the finish over.
        """
        extent = await self._sink.extent(session.id)
        indexes = range(session.chunk_count)
        lost = [index for index in indexes if not await self._survived(session, index, extent)]
        if not lost:
            return
        gone = Ranges.of(session.chunk_range(index) for index in lost)
        now, error = self._context.now(), f"{gone.total} accepted bytes were lost on disk"

        async def give_up(tx: Transaction[D]) -> bool:
            reopened = await tx.sessions.reopen(session.id, session.fence, error, now=now)
            for index in lost if reopened else ():
                await tx.sessions.forget_chunk(session.id, index, now=now)
            return reopened

        if not await self._work.write(give_up, durable=True):
            raise UploadBusy(session.id, "another worker goes on with its finish")
        # Zeros where the part is shorter now: what they stand for does not count any more.
        await self._sink.prepare(session.id, size=session.size)
        self._context.policy.rewound(session.id)
        log.warning("session.bytes_lost", session=session.id, size=gone.total)
        raise ChunksMissing(gone.pairs)

    async def _survived(self, session: Session[D], index: int, extent: int) -> bool:
        start, stop = session.chunk_range(index)
        chunk = await self._work.read(lambda tx: tx.sessions.chunk(session.id, index))
        if chunk is None or stop > extent:
            return False
        fingerprint = xxhash.xxh3_128()
        await self._sink.scan(session.id, start, stop, fingerprint.update)
        return fingerprint.digest() == chunk.fingerprint

    async def _make_blob(self, session: Session[D], blob_key: str, size: int) -> None:
        try:
            await self._context.patiently(lambda: self._sink.commit(session.id, blob_key, size=size))
        except RangeBusy:
            raise StorageUnavailable(f"part {session.id} is still being written") from None
        except StorageUnavailable as error:
            if error.lost:  # trying again can only fail, for ever
                await self._fail(session, str(error))
            raise

    async def _commit_in(self, session: Session[D], details: D, tx: Transaction[D]) -> bool:
        now = self._context.now()
        if session.spec.concat is Concat.FINAL:
            await self._concatenation.note_use(tx, session, now)
        if not await tx.sessions.commit(session.id, session.fence, details, now=now):
            return False
        await self._context.policy.committed(tx, session.commit(details, now=now))
        return True

    async def _reject(self, session: Session[D], mismatch: DigestMismatch) -> None:
        """The whole file is not what it should be: chunks may be replaced, an append is over."""
        if session.spec.mode is Mode.APPEND:
            await self._fail(session, str(mismatch))
            return
        now = self._context.now()
        if await self._work.write(
            lambda tx: tx.sessions.reopen(session.id, session.fence, str(mismatch), now=now)
        ):
            self._context.policy.rewound(session.id)

    async def _fail(self, session: Session[D], error: str, *, doomed: Sequence[str] = ()) -> bool:
        """End a finish that we hold as failed, and free its bytes; False when it is another holder's (Rule 2).

        `doomed`: the blob, where it was made.
        """
        if not await self._end(session, session.fence, SessionStatus.FAILED, error, doomed=doomed):
            log.warning("session.taken_over", session=session.id, error=error)
            return False
        await self.free(session.id, SessionStatus.FAILED)
        await self._eraser.erase(doomed)
        return True

    async def fail(self, session_id: SessionId, error: str) -> None:
        """End an open session as failed; see `SessionService.fail`."""
        session = await self._context.peek(session_id)
        if await self._end(session, None, SessionStatus.FAILED, error):
            await self.free(session_id, SessionStatus.FAILED)

    async def abort(self, session_id: SessionId) -> None:
        """End the session and free its bytes; see `SessionService.abort`."""
        while not (session := await self._context.peek(session_id)).status.gone:
            if session.status is SessionStatus.FINISHING:
                await self._await_finish(session)
            elif session.status is SessionStatus.COMMITTED:
                if await self._withdraw(session):
                    return
            elif await self._end(session, None, SessionStatus.ABORTED):
                await self.free(session_id, SessionStatus.ABORTED)
                return
        # It had ended before; but perhaps with a lost answer, so that its bytes are still there.
        await self._let_go(session_id)
        await self._context.discard(session_id)

    async def _withdraw(self, session: Session[D]) -> bool:
        """Throw a committed session's result away, unless something took it.

        Raises:
            UploadComplete: something did.
        """
        policy, now = self._context.policy, self._context.now()
        if policy.keeps_blob(session):
            raise UploadComplete(session.id, policy.result_of(session))
        blob_key, _ = _final_name(session)

        async def withdraw(tx: Transaction[D]) -> bool:
            if not await tx.sessions.withdraw(session.id, session.details, now=now):
                return False
            # As it was: its bytes counted.
            await policy.purged(tx, session)
            await tx.doomed_blobs.add([blob_key])
            return True

        if not await self._work.write(withdraw, durable=True, frees=True):
            return False
        await self._eraser.erase([blob_key])
        self._context.changes.notify(session.id)
        return True

    async def give_up(self, session_id: SessionId) -> None:
        """End a session whose finish has failed here, instead of going on with it; others are aborted.

        Raises as `abort`, and leaves a finish to whoever has taken it over.
        """
        while (session := await self._context.peek(session_id)).status is SessionStatus.FINISHING:
            if session.holder != self._context.ports.holder:
                break
            doomed = [_final_name(session)[0]]
            if await self._end(
                session, session.fence, SessionStatus.FAILED, "it was given up", doomed=doomed
            ):
                # It may hang, or word of its own begin may have started it once more: either way it changes no row any more.
                await self._at_rest(session_id)
                await self.free(session_id, SessionStatus.FAILED)
                await self._eraser.erase(doomed)
                return
        await self.abort(session_id)

    async def _at_rest(self, session_id: SessionId) -> None:
        """Wait until nothing completes the session here, whatever that comes to."""
        while (running := self._completions.get(session_id)) is not None:
            await asyncio.wait({running})

    async def _await_finish(self, session: Session[D]) -> None:
        """Wait until the finish has come to something; one that cannot be put together now is given up.

        Raises:
            UploadBusy: it takes long.
            StorageError: it failed, and may be tried again.
        """
        try:
            # A RequestError has moved the session on; after any other one asking again would go round for ever.
            with contextlib.suppress(RequestError):
                async with asyncio.timeout(FINISH_WAIT_S), self._until_stopped():
                    await self._outcome(session, started=False)
        except TimeoutError:
            raise UploadBusy(session.id, "its finish takes long") from None
        except StorageError:
            # What it is made of stays as it is, and could not be freed before it: nothing else would make room.
            holder = (await self._context.peek(session.id)).holder
            if session.spec.concat is not Concat.FINAL or holder not in {None, self._context.ports.holder}:
                raise
            await self.give_up(session.id)

    async def _end(
        self,
        session: Session[D],
        fence: int | None,
        status: SessionStatus,
        error: str | None = None,
        *,
        doomed: Sequence[str] = (),
    ) -> bool:
        now = self._context.now()
        finals: Sequence[Session[D]] = ()

        async def end(tx: Transaction[D]) -> bool:
            nonlocal finals
            if not await tx.sessions.end(session.id, fence, status, error=error, now=now):
                return False
            # Read again: since the caller saw it, it may have grown.
            ended = await tx.sessions.peek(session.id)
            assert ended is not None
            await self._context.policy.ended(tx, ended)
            await tx.doomed_blobs.add(doomed)
            if session.spec.concat is Concat.PARTIAL:
                finals = await self._concatenation.partial_ended(tx, ended)
            return True

        try:
            done = await self._work.write(end, durable=True, frees=True)
        except StorageError:
            self._context.forget(session.id)  # it may have ended: whoever waits looks at the row
            raise
        await self.finals_moved(finals)
        return done

    # --- made of others ------------------------------------------------------------------------------

    async def join(self, tx: Transaction[D], final: Session[D], partials: Sequence[SessionId]) -> Session[D]:
        """Make a new final session of these, in the transaction that adds it; see `Concatenation.join`."""
        return await self._concatenation.join(tx, final, partials)

    async def partial_completed(self, tx: Transaction[D], partial_id: SessionId) -> Sequence[Session[D]]:
        """A partial session is complete: return the final ones that moved on by it, for `finals_moved`."""
        return await self._concatenation.partial_completed(tx, partial_id)

    async def finals_moved(self, finals: Sequence[Session[D]]) -> None:
        """After the commit: put together the final sessions that are complete, free those that failed."""
        for final in finals:
            if final.status is SessionStatus.FINISHING:
                self._context.changes.notify(final.id)
                self.completing(final, take=False)
            else:
                await self.free(final.id, final.status)

    async def free(self, session_id: SessionId, status: SessionStatus) -> None:
        """Nobody may write to the session any more: let every handler go, then remove its bytes."""
        await self._let_go(session_id)
        self._context.left(session_id, status)
        await self._context.discard(session_id)

    async def _let_go(self, session_id: SessionId) -> None:
        claims = self._context.ports.claims
        claims.ask_all(session_id)
        await claims.idle(session_id)

    async def expire(self, now: float, most_ttl_s: float) -> int:
        """End sessions whose time is over; see `SessionService.expire`."""
        total = 0
        while batch := await self._work.write(partial(self._expire_in, now, most_ttl_s), frees=True):
            for session in batch:
                await self.free(session.id, SessionStatus.EXPIRED)
            total += len(batch)
        return total

    async def _expire_in(self, now: float, most_ttl_s: float, tx: Transaction[D]) -> Sequence[Session[D]]:
        held = self._context.ports.claims.held()
        batch = await tx.sessions.expire(now=now, held=held, limit=BATCH, most_ttl_s=most_ttl_s)
        for session in batch:
            await self._context.policy.ended(tx, session)
        return batch

    async def purge(self, *, before: float) -> int:
        """Remove the rows of sessions that ended before then, and bytes that only they name."""
        total = 0
        while batch := await self._work.write(partial(self._purge_in, before), frees=True):
            await self._eraser.erase(self._nobodys(batch))
            total += len(batch)
        return total

    def _nobodys(self, ended: Sequence[Session[D]]) -> Sequence[str]:
        """Return the blobs that nothing names once these rows are gone."""
        keeps = self._context.policy.keeps_blob
        return [each.blob_key for each in ended if each.blob_key is not None and not keeps(each)]

    async def _purge_in(self, before: float, tx: Transaction[D]) -> Sequence[Session[D]]:
        batch = await tx.sessions.purge(before=before, limit=BATCH)
        await tx.doomed_blobs.add(self._nobodys(batch))
        for session in batch:
            await self._context.policy.purged(tx, session)
        return batch

    async def is_left(self, session: Session[D]) -> bool:
        """Whether a step of this live session was begun and nobody that lives goes on with it."""
        if session.status is SessionStatus.FINISHING:
            left = session.id not in self._completions
        else:
            left = session.spec.mode is Mode.APPEND and session.due
        return left and await self._context.may_take(session.holder)


def _is_held(session: Session[D], fence: int) -> bool:
    """Whether it is finishing still, under that fence."""
    return session.status is SessionStatus.FINISHING and session.fence == fence


def _final_name(session: Session[D]) -> tuple[str, int]:
    if session.blob_key is None or session.size is None:
        message = f"session {session.id} is finishing without a blob key or a size"
        raise AssertionError(message)
    return session.blob_key, session.size
