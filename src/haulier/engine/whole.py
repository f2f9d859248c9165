"""Sessions that begin and end in one step: files so short that all of them is here before anything is written.

Rule 1: nothing names the blob before one transaction adds the session, committed, and all that its policy makes of it.
        A crash, or a lost answer, leaves at most a blob that nobody names: the janitor's.
Rule 2: those of one owner that come at the same time share that transaction, and what it costs; see `gathering`.
Rule 3: whatever is not as it should be by then - a body that was cut, another digest - goes the way of every session,
        on which it is kept, judged and told. This way is only a shorter one.
"""

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from haulier.core.digest import Buffer
from haulier.core.errors import RequestError
from haulier.core.session import LiveLimit, Session, SessionSpec
from haulier.core.values import dataclass
from haulier.engine.background import finish_anyway
from haulier.engine.context import NotAsJudged, SessionContext
from haulier.engine.gathering import Gathering
from haulier.ports import Body, BodyEnd, Deliver, Transaction

D = TypeVar("D")
M = TypeVar("M")

MOST: Final = 16 * 1024
"""Bytes of a file that is taken in one step: of a thousand that come slowly no more than 16 MiB are in memory, of the
24 MiB by which a service may grow under them (tests/e2e/test_load.py)."""


class ReadAhead:
    """A body that may be read before it is received: `Body`."""

    def __init__(self, body: Body) -> None:
        self.length: Final = body.length
        """Announced bytes; None when the sender does not say."""
        self._body = body
        self._read = bytearray()
        self._end: BodyEnd | None = None
        """Why reading it ended; None: it was not read."""

    @property
    def short(self) -> bool:
        """Whether it is announced as one that has bytes, but few: ten thousand of them fit into a small memory."""
        return self.length is not None and 0 < self.length <= MOST

    async def whole(self) -> bytes | None:
        """Read a short body to its end and return it; None when it was cut. What was read is still received."""
        self._end = await self._body.receive(self._keep, limit=MOST)
        return bytes(self._read) if self._end is BodyEnd.COMPLETE else None

    def _keep(self, piece: Buffer) -> None:
        self._read += piece

    async def receive(self, deliver: Deliver, *, limit: int | None = None) -> BodyEnd:
        """Hand every piece to `deliver`, in order, until the body ends; to be called once."""
        if self._end is None:
            return await self._body.receive(deliver, limit=limit)
        room = len(self._read) if limit is None else limit
        if piece := memoryview(self._read)[:room]:
            pending = deliver(piece)
            if pending is not None:
                await pending
        return BodyEnd.LIMIT if len(self._read) > room else self._end

    def stop(self) -> None:
        """Make a running or later `receive` end with `STOPPED`; harmless when it has ended."""
        self._body.stop()


class WholePolicy(Protocol[D, M]):
    """What is decided about sessions that are committed at once; `M`: such a session, and what is made of it."""

    def made_of(self, session: Session[D]) -> M:
        """Return what a session makes, before anything of it is written."""

    async def kept(self, tx: Transaction[D], made: Sequence[M], by: Hashable) -> None:
        """In the transaction that adds sessions of one owner in one scope, and with them what they make.

        `by`: what let them in, in the words of whoever keeps them; equal for those that are added together. A RequestError,
        or `NotAsJudged`, leaves nothing of them.
        """

    def taken(self, made: M) -> None:
        """The transaction that added it has returned; not told when its answer was lost."""


@dataclass(frozen=True, slots=True)
class _Alike:
    """What sessions have in common that are added together: who may, and what for, is judged once."""

    scope: str
    owner: str
    by: Hashable
    limit: LiveLimit


class WholeSessions(Generic[D, M]):
    """The short way of the session engine."""

    def __init__(self, context: SessionContext[D], policy: WholePolicy[D, M]) -> None:
        self._context = context
        self._policy = policy
        self._sink = context.ports.sink
        self._gathering: Gathering[_Alike, tuple[Session[D], M]] = Gathering(self._add, context.background)

    async def keep(
        self, spec: SessionSpec, details: D, content: bytes, *, by: Hashable, limit: LiveLimit
    ) -> M:
        """Commit a session that has this content, and return what the policy makes of it.

        Args:
            spec: of an append without a key, whose size is that of the content.
            details: what the policy keeps with it, the content judged.
            content: the file.
            by: what let it in; the policy looks whether it still holds.
            limit: live sessions that there may be: whoever could begin none keeps none.

        Raises:
            QuotaExceeded · StorageError · NotAsJudged, and what the policy refuses with: nothing is left then.
        """
        self._context.refuse_when_stopping()
        session = await self._committed(spec, details)
        assert session.blob_key is not None
        await self._sink.store(session.blob_key, content)
        made = self._policy.made_of(session)
        try:
            await self._gathering.add(_Alike(spec.scope, spec.owner, by, limit), (session, made))
        except (RequestError, NotAsJudged):
            await finish_anyway(self._sink.delete(session.blob_key))
            raise
        # Nobody waits for what nobody knew of: no watcher and no other process has to be told.
        self._policy.taken(made)
        return made

    async def _committed(self, spec: SessionSpec, details: D) -> Session[D]:
        assert spec.key is None, "somebody may come back for it"
        ports = self._context.ports
        session_id = ports.ids.session_id()
        blob_key = await self._context.new_blob_key(details)
        now = self._context.now()
        return Session.begin_committed(
            session_id, spec, details, blob_key=blob_key, now=now, boot_id=ports.boot_id
        )

    async def _add(self, alike: _Alike, pairs: Sequence[tuple[Session[D], M]]) -> None:
        await self._context.ports.work.write(partial(self._add_in, pairs, alike), durable=True)

    async def _add_in(self, pairs: Sequence[tuple[Session[D], M]], alike: _Alike, tx: Transaction[D]) -> None:
        await tx.sessions.insert_committed([session for session, _ in pairs], limit=alike.limit)
        await self._policy.kept(tx, [made for _, made in pairs], alike.by)
