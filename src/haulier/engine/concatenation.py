"""Sessions that are put together of others.

Rule 1: a final session starts to finish in the transaction in which the last of its partial ones becomes complete,
        or in its own begin; so it is never forgotten between two steps.
Rule 2: in a transaction partial sessions are touched before final ones, and each kind in the order of its ids, so that
        no two transactions wait for each other.
Rule 3: what a final session is made of stays until it is built, or fails it visibly when it goes.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

from haulier.core.errors import (
    InvalidRequest,
    LengthExceeded,
    RequestError,
    StorageUnavailable,
    UploadBusy,
    UploadNotFound,
)
from haulier.core.session import Concat, Session, SessionId, SessionStatus
from haulier.engine.context import SessionContext
from haulier.ports import Concatenating, RangeBusy, Transaction

D = TypeVar("D")


class Concatenation(Generic[D]):
    """The steps of final sessions that no other session has."""

    def __init__(self, context: SessionContext[D]) -> None:
        self._context = context

    # --- in transactions -----------------------------------------------------------------------------

    async def join(self, tx: Transaction[D], final: Session[D], partials: Sequence[SessionId]) -> Session[D]:
        """Make a new final session of these; return it, finishing when all of them are complete.

        Raises:
            UploadNotFound · UploadGone · InvalidRequest: it cannot be made of them.
            what the policy refuses with.
        """
        for partial_id in sorted(set(partials)):
            # Using it is activity; and from here on nobody else completes, ends or expires it before we commit.
            await tx.sessions.touch(partial_id, now=final.created_at)
        await total_of(partials, tx, scope=final.spec.scope, owner=final.spec.owner)
        await tx.sessions.join(final.id, partials)
        ready = await self._ready(tx, final)
        return final if ready is None else await self._start(tx, final, ready)

    async def partial_completed(self, tx: Transaction[D], partial_id: SessionId) -> Sequence[Session[D]]:
        """Start the final sessions that only this one was missing for; return those that moved on.

        One that may not be completed any more fails; the partial one is not to blame.
        """
        moved = []
        for final in await tx.sessions.finals(partial_id):
            ready = await self._ready(tx, final)
            if ready is None:
                continue
            try:
                moved.append(await self._start(tx, final, ready))
            except RequestError as refusal:
                moved.append(await self._fail(tx, final, str(refusal)))
        return moved

    async def partial_ended(self, tx: Transaction[D], partial: Session[D]) -> Sequence[Session[D]]:
        """Let the final sessions fail that are made of one that is gone; return them.

        Raises:
            UploadBusy: one is just being put together; what it is made of is needed until then.
        """
        finals = await tx.sessions.finals(partial.id)
        if any(final.status is SessionStatus.FINISHING for final in finals):
            raise UploadBusy(partial.id, "an upload is being put together of it")
        error = f"upload {partial.id!r}, of which it was to be made, is {partial.status}"
        return [await self._fail(tx, final, error) for final in finals]

    async def note_use(self, tx: Transaction[D], final: Session[D], now: float) -> None:
        """What it is made of was used: its time to live begins anew."""
        for partial_id in sorted({partial.id for partial in await tx.sessions.partials(final.id)}):
            await tx.sessions.touch(partial_id, now=now)

    async def _ready(self, tx: Transaction[D], final: Session[D]) -> Session[D] | None:
        """Return an open final session with all that it is made of, once that is complete."""
        if final.status is not SessionStatus.OPEN:
            return None
        partials = await tx.sessions.partials(final.id)
        if not all(partial.complete for partial in partials):
            return None
        return final.assemble(total_size(partials) or 0, now=self._context.now())

    async def _start(self, tx: Transaction[D], final: Session[D], ready: Session[D]) -> Session[D]:
        # What is refused has changed nothing, should the transaction go on: so that first.
        limit = self._context.limits.max_size
        if ready.offset > limit:
            raise LengthExceeded(limit)
        await self._context.policy.completing(tx, ready)
        if final.size is None:
            await self._context.policy.grew(tx, final, ready.offset)
        blob_key, holder, now = (
            self._context.ports.ids.blob_key(),
            self._context.ports.holder,
            ready.last_seen_at,
        )
        await tx.sessions.assemble(final.id, ready.offset, now=now)
        started = await tx.sessions.start_finish(final.id, blob_key, holder, now=now)
        assert started is not None, f"session {final.id} is not complete"
        return started

    async def _fail(self, tx: Transaction[D], final: Session[D], error: str) -> Session[D]:
        now = self._context.now()
        failed = final.end(SessionStatus.FAILED, error=error, now=now)
        await tx.sessions.end(final.id, None, failed.status, error=error, now=now)
        await self._context.policy.ended(tx, failed)
        return failed

    # --- bytes ---------------------------------------------------------------------------------------

    async def build(self, final: Session[D]) -> None:
        """Put the bytes of a finishing session together; may be repeated.

        Raises:
            StorageError: that cannot be done now.
        """
        sink = self._context.ports.sink
        assert isinstance(sink, Concatenating), "a final session was begun on a sink that cannot"
        assert final.blob_key is not None
        if await sink.stat(final.blob_key) is not None:
            return  # it was built, and made a blob, before a crash
        parts = [(partial.id, partial.size or 0) for partial in await self._partials(final)]
        try:
            await self._context.patiently(lambda: sink.concatenate(final.id, parts))
        except RangeBusy:
            raise StorageUnavailable(f"part {final.id} is still being put together") from None

    async def survives(self, final: Session[D]) -> bool:
        """Whether a finishing session that could not be built may still be: nothing it is made of is lost."""
        sink = self._context.ports.sink
        for partial in await self._partials(final):
            if await sink.extent(partial.id) < (partial.size or 0):
                return False
        return True

    async def _partials(self, final: Session[D]) -> Sequence[Session[D]]:
        return await self._context.ports.work.read(lambda tx: tx.sessions.partials(final.id))


async def total_of(
    partials: Sequence[SessionId], tx: Transaction[D], *, scope: str, owner: str
) -> int | None:
    """Return the size of what would be made of these; None while one has none.

    Raises:
        UploadNotFound: one is not there, or not that owner's.
        UploadGone: one has ended.
        InvalidRequest: one is not partial, or in another scope.
    """
    found = {partial_id: await tx.sessions.peek(partial_id) for partial_id in sorted(set(partials))}
    sessions = []
    for partial_id in partials:
        session = found[partial_id]
        if session is None or session.spec.owner != owner:
            raise UploadNotFound(partial_id)
        if session.spec.concat is not Concat.PARTIAL or session.spec.scope != scope:
            raise InvalidRequest.of("partials", f"{partial_id} is no partial upload of the same capsule")
        session.require_open()
        sessions.append(session)
    return total_size(sessions)


def total_size(sessions: Sequence[Session[D]]) -> int | None:
    """Return the sum of the sizes; None while one is unknown."""
    sizes = [session.size for session in sessions]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None
