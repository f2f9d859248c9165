"""What the parts of the session engine share: its ports, its policy, and the words they have in common."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Generic, NoReturn, Protocol, TypeVar

from haulier.core.defaults import MAX_UPLOAD_BYTES
from haulier.core.errors import (
    BodyCut,
    BodyMalformed,
    InvalidRequest,
    ServiceStopping,
    StorageError,
    StorageUnavailable,
    UploadBusy,
    UploadComplete,
    UploadGone,
    UploadNotFound,
)
from haulier.core.session import Mode, Session, SessionId, SessionStatus
from haulier.core.speed import Speed
from haulier.core.values import dataclass
from haulier.engine.background import Background, finish_anyway
from haulier.engine.changes import Changes
from haulier.engine.holders import may_take
from haulier.logs import get_logger
from haulier.machine import Clock, Identifiers
from haulier.ports import (
    BodyEnd,
    ByteSink,
    Claims,
    RangeBusy,
    RangeWriter,
    Signals,
    Transaction,
    UnitOfWork,
    Workers,
)

D = TypeVar("D")
T = TypeVar("T")

RANGE_WAIT_S: Final = 10.0
"""How long a request waits for a byte range that another process has; below the 30 s after which many proxies
give up. Inside one process requests follow each other without a bound."""
FIRST_PAUSE_S: Final = 0.01
LAST_PAUSE_S: Final = 0.25
"""Between two looks at such a range; they double from the first to the last."""

FOLLOWER_S: Final = 1.0
"""How often a process that takes a session's bytes looks whether whoever follows them still lives."""

log = get_logger()


class NotAsJudged(Exception):
    """What let a session in does not hold any more; from a policy to whoever wanted to keep it, never shown."""


class SessionPolicy(Protocol[D]):
    """What the layer above decides and does at the turning points of a session."""

    async def began(self, tx: Transaction[D], session: Session[D]) -> None:
        """In the transaction that adds the session; may refuse by raising."""

    async def grew(self, tx: Transaction[D], session: Session[D], offset: int) -> None:
        """In the transaction that moves an append's offset, from the session's to `offset` (a lost tail: back).

        Only for sessions whose size was unknown at their begin. May refuse by raising a RequestError.
        """

    async def completing(self, tx: Transaction[D], session: Session[D]) -> None:
        """In the transaction that starts the finish of `session`; may refuse by raising a RequestError.

        Then it stays as it was; once it has passed, the finish goes on to its end.
        """

    async def verify(self, session: Session[D]) -> D:
        """All bytes are here: judge them, and return the details with the result.

        Raises:
            DigestMismatch: they are not the right ones.
            StorageError: they cannot be read now.
        """
        ...

    async def approve(self, session: Session[D], details: D) -> None:
        """The bytes are under their final name and nobody can read them yet: may refuse by raising a RequestError.

        Then the session fails. Any other error leaves it to be finished later; this may be called again.
        """

    async def committed(self, tx: Transaction[D], session: Session[D]) -> None:
        """In the transaction that commits the session; a RequestError makes the session fail."""

    def settled(self, session: Session[D]) -> None:
        """The transaction that committed the session has returned; not told when its answer was lost."""

    async def ended(self, tx: Transaction[D], session: Session[D]) -> None:
        """In the transaction that ends the session without a result."""

    async def erased(self, tx: Transaction[D], session: Session[D]) -> None:
        """In the transaction that takes back a begin whose part could not be made."""

    async def purged(self, tx: Transaction[D], session: Session[D]) -> None:
        """In the transaction that removes an ended session's row, or throws its result away."""

    def keeps_blob(self, session: Session[D]) -> bool:
        """Whether something else than the session names its blob."""
        ...

    def shares(self, session: Session[D]) -> bool:
        """Whether one worker follows the session's bytes for all of them, and finishes it."""
        ...

    def found(self, session: Session[D]) -> None:
        """This worker follows an open session, which has received this: at first, or in other processes."""

    def accepted(self, session_id: SessionId, start: int, stop: int) -> None:
        """Bytes were accepted."""

    def rewound(self, session_id: SessionId) -> None:
        """Accepted bytes are about to be replaced, or were lost."""

    def left(self, session_id: SessionId, status: SessionStatus) -> None:
        """The session ended."""

    def remembered(self) -> Collection[SessionId]:
        """Return the sessions that this process follows."""
        ...

    def hold_back(self, session_id: SessionId) -> Awaitable[None] | None:
        """Return what to await before more bytes are taken, if something falls behind."""
        ...

    def shelf(self, details: D) -> str:
        """Return how the key of a session's blob begins: a sink may keep some in a place of their own."""
        ...

    def result_of(self, session: Session[D]) -> str | None:
        """Return the name of a committed session's result, for people."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Settings of the engine."""

    max_live: int = 10_000
    """Live sessions of one owner."""
    max_size: int = MAX_UPLOAD_BYTES
    """Bytes that one session may have."""
    durable: bool = False
    """Whether an acceptance survives a power loss, not only a kill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPorts(Generic[D]):
    """The world of one engine."""

    work: UnitOfWork[D]
    sink: ByteSink
    claims: Claims
    """Inside this process."""
    workers: Workers
    """The other processes."""
    signals: Signals
    clock: Clock
    ids: Identifiers
    holder: str
    """This worker, unlike any other that ever ran."""
    boot_id: str
    """The machine's current boot."""


class SessionContext(Generic[D]):
    """Shared by the engine's parts; lives as long as the service."""

    def __init__(
        self, ports: SessionPorts[D], policy: SessionPolicy[D], background: Background, limits: SessionLimits
    ) -> None:
        self.ports = ports
        self.policy = policy
        self.background = background
        self.limits = limits
        self.awake = asyncio.Event()
        """Set when this process may begin to care for what others do to a session."""
        self.changes = Changes(self.awake, ports.signals.tell)
        self.stopping = False
        self.holds: dict[SessionId, int] = {}
        """The fences of the sessions whose rows name this worker as the one that appends."""
        self.owed: dict[SessionId, int | None] = {}
        """Sessions that this worker may have to finish without knowing it: their rows are looked at.

        With the fence under which their finish failed here, if it did: then it goes on when it is asked.
        """
        self._speeds: dict[SessionId, Speed] = {}
        self._looked: dict[SessionId, float] = {}
        """When it was last looked who follows a session that moves here and is not followed here."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return self.ports.clock.now()

    async def load(self, session_id: SessionId) -> Session[D]:
        """Return the session with all it has received. Raises UploadNotFound."""
        session = await self.ports.work.read(lambda tx: tx.sessions.load(session_id))
        if session is None:
            raise UploadNotFound(session_id)
        return session

    async def peek(self, session_id: SessionId) -> Session[D]:
        """Return the session without the chunks it has received. Raises UploadNotFound."""
        session = await self.ports.work.read(lambda tx: tx.sessions.peek(session_id))
        if session is None:
            raise UploadNotFound(session_id)
        return session

    async def new_blob_key(self, details: D) -> str:
        """Return the key of a blob that is to be made of a session.

        On a shelf it is also looked whether there is such a blob already, as is promised there. Elsewhere 106 random
        bits have to do, and a column that has every key once: a look would cost small files a tenth of their time.
        """
        shelf = self.policy.shelf(details)
        key = shelf + self.ports.ids.blob_key()
        while shelf and await self.ports.sink.stat(key) is not None:
            log.warning("blob_key.taken", key=key)
            key = shelf + self.ports.ids.blob_key()
        return key

    def refuse_when_stopping(self) -> None:
        """Raise ServiceStopping once the service is about to end."""
        if self.stopping:
            raise ServiceStopping

    async def may_take(self, holder: str | None) -> bool:
        """Whether this worker may take what `holder` has: nobody, itself, or one that is dead."""
        return await may_take(self.ports.workers, self.ports.holder, holder)

    def require_mode(self, session: Session[D], mode: Mode) -> None:
        """Raise InvalidRequest for a session that continues by the other mode."""
        if session.spec.mode is not mode:
            raise InvalidRequest.of(
                "mode", f"this upload was begun with mode {session.spec.mode}, so it cannot take {mode}"
            )

    def require_open(self, session: Session[D]) -> None:
        """Raise as `Session.require_open`, with the name of a committed one's result."""
        session.require_open(result=self.policy.result_of(session))

    async def explain_refusal(self, session_id: SessionId, otherwise: str) -> NoReturn:
        """Raise why a conditional statement on an open session did not hold."""
        self.require_open(await self.peek(session_id))
        raise UploadBusy(session_id, otherwise)

    async def explain_cut(self, session_id: SessionId, end: BodyEnd, received: int) -> NoReturn:
        """Raise what ended a body early; a cut is activity of its session too."""
        now = self.now()
        await finish_anyway(self.ports.work.write(lambda tx: tx.sessions.touch(session_id, now=now)))
        if end is BodyEnd.STOPPED:
            self.refuse_when_stopping()
            await self.explain_refusal(session_id, "a newer request took over")
        raise BodyMalformed(received) if end is BodyEnd.MALFORMED else BodyCut(received)

    @asynccontextmanager
    async def writing(
        self, session_id: SessionId, start: int, stop: int | None
    ) -> AsyncIterator[RangeWriter]:
        """Hold the claimed range of a session's part, and release it at the end.

        Raises:
            UploadBusy: another process has it for longer than anybody waits.
        """
        try:
            writer = await self.patiently(lambda: self.ports.sink.open(session_id, start, stop))
        except RangeBusy:
            raise UploadBusy(session_id, "another process writes these bytes") from None
        except StorageUnavailable:
            await self._require_still_open(session_id)
            raise
        try:
            yield writer
        except (UploadNotFound, UploadGone, UploadComplete):
            # It ended in another process, which may have removed the part before ours was opened.
            await finish_anyway(writer.close())
            await finish_anyway(self.discard(session_id))
            raise
        finally:
            await finish_anyway(writer.close())

    async def _require_still_open(self, session_id: SessionId) -> None:
        """Say that the session has ended in another process, if that is why there is no part to open."""
        session = await self.peek(session_id)
        if not session.status.live:
            await self.discard(session_id)
        self.require_open(session)

    async def freshen(self, session: Session[D]) -> None:
        """Note activity that began late in the session's life, so that no other process ends it in between."""
        now = self.now()
        if now > session.last_seen_at + session.spec.ttl_s / 2:
            await self.ports.work.write(lambda tx: tx.sessions.touch(session.id, now=now))

    async def patiently(self, claim: Callable[[], Awaitable[T]]) -> T:
        """Return what `claim` gives, waiting for a range that another process has for a while.

        Raises:
            RangeBusy: it still has it after `RANGE_WAIT_S`.
            ServiceStopping: this process ends.
        """
        clock, pause = self.ports.clock, FIRST_PAUSE_S
        deadline = clock.monotonic() + RANGE_WAIT_S
        while True:
            try:
                return await claim()
            except RangeBusy:
                self.refuse_when_stopping()
                if clock.monotonic() >= deadline:
                    raise
            await clock.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE_S)

    async def discard(self, session_id: SessionId) -> None:
        """Remove a part that nobody needs any more; one that resists is left for the janitor."""
        try:
            await self.ports.sink.discard(session_id)
        except StorageError as error:
            log.warning("part.kept", session=session_id, error=str(error))

    def moved(self, session_id: SessionId, start: int, stop: int) -> None:
        """Bytes were accepted: tell the policy, the speed and the watchers."""
        now = self.ports.clock.monotonic()
        speed = self._speeds.get(session_id) or Speed.start(now)
        self._speeds[session_id] = speed.moved(stop - start, now=now)
        self.policy.accepted(session_id, start, stop)
        self.changes.notify(session_id)
        if session_id not in self.policy.remembered():
            self._look_for_follower(session_id, now)

    def _look_for_follower(self, session_id: SessionId, now: float) -> None:
        if now >= self._looked.get(session_id, now):
            self._looked[session_id] = now + FOLLOWER_S
            self.background.start(self._follow_when_shared(session_id), name=f"follow {session_id}")

    async def _follow_when_shared(self, session_id: SessionId) -> None:
        session = await self.peek(session_id)
        if self.policy.shares(session):
            await self.follow(session)
        elif session_id in self._looked:
            self._looked[session_id] = float("inf")

    async def follow(self, session: Session[D]) -> None:
        """Follow an open session, unless another worker that lives does."""
        me = self.ports.holder
        if session.status is not SessionStatus.OPEN or not await self.may_take(session.follower):
            return
        followed = session.follower == me or await self.ports.work.write(
            lambda tx: tx.sessions.follow(session.id, me, instead_of=session.follower)
        )
        if not followed:
            return
        self.policy.rewound(session.id)  # what was read before this claim may have changed
        self.found(await self.load(session.id))

    def found(self, session: Session[D]) -> None:
        """An open session is followed here, with all that it has received."""
        self.policy.found(session)
        self.awake.set()

    @contextmanager
    def owing(self, session_id: SessionId) -> Iterator[None]:
        """Remember that the answer to a write was lost which may have made this worker the one that finishes."""
        try:
            yield
        except (StorageError, asyncio.CancelledError):
            self.owed[session_id] = None
            self.awake.set()
            raise

    async def release(self, session_id: SessionId, fence: int) -> None:
        """Say in the row that nobody appends any more; what cannot be said now is said when somebody asks."""
        try:
            await self.ports.work.write(lambda tx: tx.sessions.release(session_id, fence), frees=True)
        except StorageError as error:
            log.warning("append.not_released", session=session_id, error=str(error))
            return
        if self.holds.get(session_id) == fence:
            del self.holds[session_id]
        self.changes.notify(session_id)

    async def finisher(self, session: Session[D]) -> str:
        """Return the worker that is to finish the session: the one that has read its bytes, if it lives."""
        me, follower = self.ports.holder, session.follower
        if follower is None or not self.policy.shares(session) or await self.may_take(follower):
            return me
        return follower

    def speed(self, session_id: SessionId) -> float:
        """Return how fast bytes are accepted here, in bytes per second."""
        speed = self._speeds.get(session_id)
        return 0.0 if speed is None else speed.at(self.ports.clock.monotonic())

    def remembered(self) -> set[SessionId]:
        """Return the sessions about which something is kept here."""
        return {*self._speeds, *self._looked, *self.owed, *self.policy.remembered()}

    def forget(self, session_id: SessionId) -> None:
        """Keep nothing about a session that may have ended, and wake who waits: the row knows."""
        self._forget(session_id)
        self.policy.rewound(session_id)
        self.changes.notify(session_id)

    def committed(self, session: Session[D]) -> None:
        """The session's commit has returned."""
        self.left(session.id, SessionStatus.COMMITTED)
        self.policy.settled(session)

    def left(self, session_id: SessionId, status: SessionStatus) -> None:
        """The session ended: forget what was kept about it, and wake who waits."""
        self._forget(session_id)
        self.policy.left(session_id, status)
        self.changes.notify(session_id)

    def _forget(self, session_id: SessionId) -> None:
        self._speeds.pop(session_id, None)
        self._looked.pop(session_id, None)
        self.owed.pop(session_id, None)
