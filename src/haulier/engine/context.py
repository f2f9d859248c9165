"""What the parts of the session engine share: its ports, its policy, and the words they have in common."""

from collections.abc import AsyncIterator, Awaitable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, NoReturn, Protocol, TypeVar

from haulier.core.errors import (
    BodyCut,
    InvalidRequest,
    ServiceStopping,
    UploadBusy,
    UploadNotFound,
)
from haulier.core.session import MIB, Mode, Session, SessionId, SessionStatus
from haulier.core.speed import Speed
from haulier.engine.background import Background, finish_anyway
from haulier.engine.changes import Changes
from haulier.ports import (
    BodyEnd,
    ByteSink,
    Claims,
    Clock,
    Identifiers,
    RangeBusy,
    RangeWriter,
    Transaction,
    UnitOfWork,
)

D = TypeVar("D")


class SessionPolicy(Protocol[D]):
    """What the layer above decides and does at the turning points of a session."""

    async def began(self, tx: Transaction[D], session: Session[D]) -> None:
        """In the transaction that adds the session; may refuse by raising."""

    async def verify(self, session: Session[D]) -> D:
        """All bytes are here: judge them, and return the details with the result.

        Raises:
            DigestMismatch: they are not the right ones.
            StorageError: they cannot be read now.
        """
        ...

    async def committed(self, tx: Transaction[D], session: Session[D]) -> None:
        """In the transaction that commits the session; a RequestError makes the session fail."""

    async def ended(self, tx: Transaction[D], session: Session[D]) -> None:
        """In the transaction that ends the session without a result."""

    async def erased(self, tx: Transaction[D], session: Session[D]) -> None:
        """In the transaction that takes back a begin whose part could not be made."""

    async def purged(self, tx: Transaction[D], session: Session[D]) -> None:
        """In the transaction that removes an ended session's row."""

    def keeps_blob(self, session: Session[D]) -> bool:
        """Whether something else than the session names its blob."""
        ...

    def found(self, session: Session[D]) -> None:
        """An open session was taken up, with all that it has received."""

    def accepted(self, session_id: SessionId, start: int, stop: int) -> None:
        """Bytes were accepted."""

    def rewound(self, session_id: SessionId) -> None:
        """Accepted bytes are about to be replaced, or were lost."""

    def left(self, session_id: SessionId, status: SessionStatus) -> None:
        """The session ended."""

    def remembered(self) -> Collection[SessionId]:
        """Return the sessions about which something is kept in this process."""
        ...

    def hold_back(self, session_id: SessionId) -> Awaitable[None] | None:
        """Return what to await before more bytes are taken, if something falls behind."""
        ...

    def result_of(self, session: Session[D]) -> str | None:
        """Return the name of a committed session's result, for people."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Settings of the engine."""

    max_live: int = 10_000
    """Live sessions of one owner."""
    max_size: int = 5 * 1024 * 1024 * MIB
    """Bytes that one session may have."""
    durable: bool = False
    """Whether an acceptance survives a power loss, not only a kill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPorts(Generic[D]):
    """The world of one engine."""

    work: UnitOfWork[D]
    sink: ByteSink
    claims: Claims
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
        self.changes = Changes()
        self.stopping = False
        self._speeds: dict[SessionId, Speed] = {}

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

    def refuse_when_stopping(self) -> None:
        """Raise ServiceStopping once the service is about to end."""
        if self.stopping:
            raise ServiceStopping

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
        raise BodyCut(received)

    @asynccontextmanager
    async def writing(
        self, session_id: SessionId, start: int, stop: int | None
    ) -> AsyncIterator[RangeWriter]:
        """Hold the claimed range of a session's part, and release it at the end."""
        try:
            writer = await self.ports.sink.open(session_id, start, stop)
        except RangeBusy:
            raise UploadBusy(session_id, "another process writes these bytes") from None
        try:
            yield writer
        finally:
            await finish_anyway(writer.close())

    def moved(self, session_id: SessionId, start: int, stop: int) -> None:
        """Bytes were accepted: tell the policy, the speed and the watchers."""
        now = self.ports.clock.monotonic()
        speed = self._speeds.get(session_id) or Speed.start(now)
        self._speeds[session_id] = speed.moved(stop - start, now=now)
        self.policy.accepted(session_id, start, stop)
        self.changes.notify(session_id)

    def speed(self, session_id: SessionId) -> float:
        """Return how fast bytes are accepted here, in bytes per second."""
        speed = self._speeds.get(session_id)
        return 0.0 if speed is None else speed.at(self.ports.clock.monotonic())

    def remembered(self) -> set[SessionId]:
        """Return the sessions about which something is kept here."""
        return {*self._speeds, *self.policy.remembered()}

    def forget(self, session_id: SessionId) -> None:
        """Keep nothing about a session that may have ended, and wake who waits: the row knows."""
        self._speeds.pop(session_id, None)
        self.policy.rewound(session_id)
        self.changes.notify(session_id)

    def left(self, session_id: SessionId, status: SessionStatus) -> None:
        """The session ended: forget what was kept about it, and wake who waits."""
        self._speeds.pop(session_id, None)
        self.policy.left(session_id, status)
        self.changes.notify(session_id)
