"""All rows in memory: the shipped fake of `UnitOfWork`, with faults on demand.

Rule 1: rows are frozen values and change by the transitions of the core only.
Rule 2: a transaction works on a draft; a commit swaps it in, a rollback forgets it.

One module although it is long: the stores are three views of one state, and are read beside each other.
"""

import math
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, Generic, TypeVar

from haulier.adapters.memory.access import (
    AccessRows,
    MemoryCapsuleStore,
    MemorySignInStore,
    MemoryTokenStore,
    Pause,
)
from haulier.adapters.memory.deliveries import MemoryDeliveryStore
from haulier.adapters.memory.doomed_blobs import MemoryDoomedBlobs
from haulier.adapters.memory.events import EventRows, MemoryEventStore
from haulier.adapters.memory.finalisations import MemoryFinalisationStore
from haulier.adapters.memory.finalisations import Rows as Finalisations
from haulier.adapters.memory.history import MemoryHistory
from haulier.adapters.memory.overview import MemoryOverview
from haulier.adapters.memory.processing import MemoryProcessingStore
from haulier.adapters.memory.storage_mark import MemoryStorageMark
from haulier.adapters.memory.visitors import MemoryVisitorStore
from haulier.adapters.turns import Turns
from haulier.core.caller import LOCAL
from haulier.core.capsule import Capsule, CapsulePolicy
from haulier.core.errors import QuotaExceeded, StorageUnavailable
from haulier.core.processing import FileMetadata
from haulier.core.ranges import Ranges
from haulier.core.record import Asset, AssetKind, Record, RecordId, RecordStatus, fold
from haulier.core.session import Chunk, Concat, LiveLimit, Mode, Session, SessionId, SessionStatus
from haulier.core.values import dataclass, replace
from haulier.core.visitor import Visitor
from haulier.ports import Delivery, KeyTaken, Mark, Page, RecordQuery

D = TypeVar("D")
T = TypeVar("T")


async def _no_pause() -> None:
    """Let a fake be as fast as it can."""


@dataclass(slots=True, kw_only=True)
class _Rows(Generic[D]):
    """One version of all rows; a committed one is never changed again."""

    sessions: dict[SessionId, Session[D]] = field(default_factory=dict)
    chunks: dict[SessionId, dict[int, Chunk]] = field(default_factory=dict)
    partials: dict[SessionId, tuple[SessionId, ...]] = field(default_factory=dict)
    """What final sessions are made of."""
    addresses: dict[SessionId, str] = field(default_factory=dict)
    """By what live sessions are counted beside their owners."""
    records: dict[RecordId, Record] = field(default_factory=dict)
    files: dict[RecordId, FileMetadata] = field(default_factory=dict)
    kept: frozenset[RecordId] = frozenset()
    """Deleted records whose bytes outlive the trash."""
    finalised: Finalisations = field(default_factory=dict)
    doomed: set[str] = field(default_factory=set)
    storage: list[str] = field(default_factory=list)
    access: AccessRows = field(default_factory=AccessRows)
    events: EventRows = field(default_factory=EventRows)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    visitors: dict[str, Visitor] = field(default_factory=dict)

    @property
    def capsules(self) -> dict[str, Capsule]:
        """Capsules by name."""
        return self.access.capsules

    def draft(self) -> "_Rows[D]":
        """Return a version that may be changed."""
        return _Rows(
            sessions=dict(self.sessions),
            chunks=dict(self.chunks),
            partials=dict(self.partials),
            addresses=dict(self.addresses),
            records=dict(self.records),
            files=dict(self.files),
            kept=self.kept,
            finalised=dict(self.finalised),
            doomed=set(self.doomed),
            storage=list(self.storage),
            access=self.access.draft(),
            events=self.events.draft(),
            deliveries=dict(self.deliveries),
            visitors=dict(self.visitors),
        )


@dataclass(slots=True, kw_only=True)
class _Store(Generic[D]):
    """What the processes on one database share."""

    rows: _Rows[D]
    durable: _Rows[D]
    turns: Turns = field(default_factory=Turns)
    """Of those who write."""
    failures: list[Exception] = field(default_factory=list)
    answers_to_lose: int = 0


class MemoryDatabase(Generic[D]):
    """`UnitOfWork` without a database: the same answers, no I/O, and faults where a test wants them."""

    def __init__(self, *, capsules: Mapping[str, int | None] | None = None) -> None:
        """Start with these capsules.

        Args:
            capsules: quotas in bytes (None: no limit) by name; without it, `default` alone.
        """
        quotas = {"default": None} if capsules is None else capsules
        self.pause: Pause = _no_pause
        """Called at every await point, so that a simulation can interleave and crash."""
        rows = {
            name: Capsule(
                name=name,
                owner=LOCAL.owner,
                quota=quota,
                policy=CapsulePolicy(admits_users=name == "default"),
            )
            for name, quota in quotas.items()
        }
        first: _Rows[D] = _Rows(access=AccessRows(capsules=rows))
        self._store: _Store[D] = _Store(rows=first, durable=first)
        self._life = 0

    def beside(self) -> "MemoryDatabase[D]":
        """Return the same rows for another process: its crash ends only its own transactions."""
        other: MemoryDatabase[D] = MemoryDatabase()
        other._store = self._store
        other.pause = self.pause
        return other

    @property
    def _rows(self) -> _Rows[D]:
        """What is committed."""
        return self._store.rows

    def fail_next(self, error: Exception) -> None:
        """Make the next transaction raise `error` instead of running; may be called several times."""
        self._store.failures.append(error)

    def lose_next_answer(self) -> None:
        """Make the next write that commits raise `StorageUnavailable` after its commit."""
        self._store.answers_to_lose += 1

    def crash(self, *, power: bool = False) -> None:
        """End this process' life: its transactions that run never commit.

        With `power`, commits after the last durable one are lost too.
        """
        self._life += 1
        self._store.turns.drop(self)
        if power:
            self._store.rows = self._store.durable

    async def read(self, work: "Callable[[MemoryTransaction[D]], Awaitable[T]]") -> T:
        """Run `work` on what is committed now."""
        self._raise_planned()
        await self.pause()
        return await work(MemoryTransaction(self._rows.draft(), self._pause_now))

    async def write(
        self,
        work: "Callable[[MemoryTransaction[D]], Awaitable[T]]",
        *,
        durable: bool = False,
        frees: bool = False,  # noqa: ARG002 - memory has no room to keep
    ) -> T:
        """Run `work` and commit, alone among the writes."""
        life = self._life
        turn = await self._store.turns.take(self)
        try:
            self._raise_planned()
            draft = self._rows.draft()
            result = await work(MemoryTransaction(draft, self._pause_now))
            await self.pause()
            self._commit(draft, life, durable=durable)
        finally:
            self._store.turns.leave(turn)
        await self.pause()
        self._lose_answer()
        return result

    async def close(self) -> None:
        """Do what a real database does when it is let go: nothing here."""

    async def _pause_now(self) -> None:
        # Looked up at each call, so that a test may set `pause` in the middle of a transaction.
        await self.pause()

    def _commit(self, draft: _Rows[D], life: int, *, durable: bool) -> None:
        if life != self._life:
            raise StorageUnavailable("the database crashed before the commit")
        self._store.rows = draft
        if durable:
            self._store.durable = draft

    def _raise_planned(self) -> None:
        if self._store.failures:
            raise self._store.failures.pop(0)

    def _lose_answer(self) -> None:
        if self._store.answers_to_lose:
            self._store.answers_to_lose -= 1
            raise StorageUnavailable("the answer to a commit was lost")


class MemoryTransaction(Generic[D]):
    """All rows, inside one transaction."""

    def __init__(self, rows: _Rows[D], pause: Pause) -> None:
        self.sessions: MemorySessionStore[D] = MemorySessionStore(rows, pause)
        self.records = MemoryRecordStore(rows, pause)
        self.history = MemoryHistory(rows.records, rows.files, pause)
        self.overview: MemoryOverview[D] = MemoryOverview(rows.sessions, rows.records, pause)
        self.capsules = MemoryCapsuleStore(rows.access, pause)
        self.tokens = MemoryTokenStore(rows.access, pause)
        self.finalisations = MemoryFinalisationStore(rows.finalised, pause)
        self.doomed_blobs = MemoryDoomedBlobs(rows.doomed, pause)
        self.storage = MemoryStorageMark(rows.storage, pause)
        self.events = MemoryEventStore(rows.events, pause)
        self.deliveries = MemoryDeliveryStore(rows.deliveries, pause)
        self.processing = MemoryProcessingStore(rows.records, pause)
        self.sign_ins = MemorySignInStore(rows.access, pause)
        self.visitors = MemoryVisitorStore(rows.visitors, pause)


class MemorySessionStore(Generic[D]):
    """`SessionStore` on a draft; contracts as in the port."""

    def __init__(self, rows: _Rows[D], pause: Pause) -> None:
        self._rows = rows
        self._pause = pause

    async def insert(self, session: Session[D], *, limit: LiveLimit) -> None:
        """Add an open session, unless its key is taken or there are too many."""
        await self._pause()
        spec = session.spec
        if spec.key is not None and self._keyed(spec.scope, spec.owner, spec.key) is not None:
            raise KeyTaken
        self._require_room(spec.owner, limit)
        self._require_new(session, SessionStatus.OPEN)
        if limit.address is not None:
            self._rows.addresses[session.id] = limit.address
        self._store(session)

    async def insert_committed(self, sessions: Sequence[Session[D]], *, limit: LiveLimit) -> None:
        """Add sessions that are committed, unless there are too many live ones."""
        await self._pause()
        self._require_room(sessions[0].spec.owner, limit)
        for session in sessions:
            self._require_new(session, SessionStatus.COMMITTED)
            self._store(session)

    def _require_room(self, owner: str, limit: LiveLimit) -> None:
        if self._count(None, owner) >= limit.of_owner:
            raise QuotaExceeded("sessions", limit.of_owner, "owner")
        if limit.address is not None and self._count_at(limit.address) >= limit.of_address:
            raise QuotaExceeded("sessions", limit.of_address, "address")

    def _require_new(self, session: Session[D], status: SessionStatus) -> None:
        if session.id in self._rows.sessions or session.status is not status:
            message = f"session {session.id} is not new"
            raise AssertionError(message)

    async def load(self, session_id: SessionId) -> Session[D] | None:
        """Return the session with all it has received."""
        await self._pause()
        return self._rows.sessions.get(session_id)

    async def peek(self, session_id: SessionId) -> Session[D] | None:
        """Return the session, in mode chunks without `received`."""
        await self._pause()
        session = self._rows.sessions.get(session_id)
        return None if session is None else _without_chunks(session)

    async def peek_chunk(self, session_id: SessionId, index: int) -> tuple[Session[D], Chunk | None] | None:
        """As `peek`, with an accepted chunk."""
        session = await self.peek(session_id)
        return None if session is None else (session, self._rows.chunks.get(session_id, {}).get(index))

    async def find(self, scope: str, owner: str, key: str) -> Session[D] | None:
        """Return the live or committed session with that idempotency key."""
        await self._pause()
        return self._keyed(scope, owner, key)

    async def chunk(self, session_id: SessionId, index: int) -> Chunk | None:
        """Return an accepted chunk."""
        await self._pause()
        return self._rows.chunks.get(session_id, {}).get(index)

    async def accept_chunk(self, session_id: SessionId, fence: int, chunk: Chunk, *, now: float) -> bool:
        """Accept the chunk of an open session under that fence, unless its index is."""
        session = await self._open(session_id)
        accepted = self._rows.chunks.get(session_id, {})
        if session is None or session.fence != fence or chunk.index in accepted:
            return False
        self._rows.chunks[session_id] = {**accepted, chunk.index: chunk}
        return self._store(session.accept(chunk.index, now=now))

    async def forget_chunk(self, session_id: SessionId, index: int, *, now: float) -> bool:
        """Drop an accepted chunk of a session whose chunks may be replaced."""
        session = await self._open(session_id)
        accepted = self._rows.chunks.get(session_id, {})
        if session is None or not session.replaceable or index not in accepted:
            return False
        self._rows.chunks[session_id] = {key: chunk for key, chunk in accepted.items() if key != index}
        return self._store(session.forget(index, now=now))

    async def lose_chunks(self, session_id: SessionId, fence: int, error: str | None, *, now: float) -> bool:
        """Drop all accepted chunks of an open session under that fence."""
        session = await self._open(session_id)
        if session is None or session.fence != fence:
            return False
        self._rows.chunks[session_id] = {}
        return self._store(session.lose(error, now=now))

    async def claim(
        self, session_id: SessionId, fence: int, holder: str | None, *, now: float
    ) -> Session[D] | None:
        """Make `holder` the one that appends, under a new fence."""
        session = await self._open(session_id)
        if session is None or session.fence != fence:
            return None
        claimed = session.claim(holder, now=now)
        self._store(claimed)
        return claimed

    async def ask(self, session_id: SessionId, fence: int) -> bool:
        """Note that the holder of that fence is asked."""
        session = await self._live(session_id)
        return session is not None and session.fence == fence and self._store(session.ask())

    async def unask(self, session_id: SessionId, fence: int) -> bool:
        """Note that the holder of that fence tried, and could not."""
        session = await self._live(session_id)
        return session is not None and session.fence == fence and self._store(session.unask())

    async def release(self, session_id: SessionId, fence: int) -> bool:
        """Let nobody append any more, under the fence."""
        session = await self._open(session_id)
        return session is not None and session.fence == fence and self._store(session.release())

    async def advance(
        self,
        session_id: SessionId,
        fence: int,
        offset: int,
        *,
        tail_trusted: bool,
        boot_id: str,
        now: float,
        release: bool = False,
    ) -> bool:
        """Store the offset, under the fence."""
        session = await self._open(session_id)
        if session is None or session.fence != fence:
            return False
        advanced = session.advance(offset, tail_trusted=tail_trusted, boot_id=boot_id, now=now)
        return self._store(advanced.release() if release else advanced)

    async def follow(self, session_id: SessionId, follower: str, *, instead_of: str | None) -> bool:
        """Make `follower` the one that follows a live session's bytes."""
        session = await self._live(session_id)
        if session is None or session.follower != instead_of:
            return False
        return self._store(session.follow(follower))

    async def marks(self, session_ids: Collection[SessionId]) -> Mapping[SessionId, Mark]:
        """Return what tells the change of each of these sessions."""
        await self._pause()
        sessions = (self._rows.sessions.get(session_id) for session_id in session_ids)
        return {session.id: _mark_of(session) for session in sessions if session is not None}

    async def declare_size(self, session_id: SessionId, size: int) -> bool:
        """Set an unknown size that is not below the offset."""
        session = await self._open(session_id)
        if session is None or session.size is not None or session.offset > size:
            return False
        return self._store(session.declare_size(size))

    async def join(self, final_id: SessionId, partial_ids: Sequence[SessionId]) -> None:
        """Make a new final session of these."""
        await self._pause()
        if final_id in self._rows.partials or any(it not in self._rows.sessions for it in partial_ids):
            message = f"session {final_id} is not new, or what it is made of is not there"
            raise AssertionError(message)
        self._rows.partials[final_id] = tuple(partial_ids)

    async def partials(self, final_id: SessionId) -> Sequence[Session[D]]:
        """Return what a final session is made of."""
        await self._pause()
        return [self._rows.sessions[it] for it in self._rows.partials.get(final_id, ())]

    async def finals(self, partial_id: SessionId) -> Sequence[Session[D]]:
        """Return the live final sessions that are made of this one."""
        await self._pause()
        return [final for final in self._finals(partial_id) if final.status.live]

    def _finals(self, partial_id: SessionId) -> list[Session[D]]:
        names = (final_id for final_id, made_of in self._rows.partials.items() if partial_id in made_of)
        return [self._rows.sessions[final_id] for final_id in sorted(names)]

    async def assemble(self, final_id: SessionId, size: int, *, now: float) -> bool:
        """Note that all is there."""
        session = await self._open(final_id)
        if session is None or session.spec.concat is not Concat.FINAL:
            return False
        return self._store(session.assemble(size, now=now))

    async def start_finish(
        self, session_id: SessionId, blob_key: str, holder: str, *, now: float
    ) -> Session[D] | None:
        """Move a complete session to finishing."""
        session = await self._open(session_id)
        if session is None or not session.complete:
            return None
        finishing = session.finish(blob_key, holder, now=now)
        self._store(finishing)
        return finishing

    async def amend(self, session_id: SessionId, fence: int, details: D) -> Session[D] | None:
        """Replace the details of a finishing session."""
        session = await self._finishing(session_id, fence)
        if session is None:
            return None
        amended = replace(session, details=details)
        self._store(amended)
        return amended

    async def take_finish(self, session_id: SessionId, fence: int, holder: str) -> Session[D] | None:
        """Let `holder` go on with finishing."""
        session = await self._finishing(session_id, fence)
        if session is None:
            return None
        taken = session.take_finish(holder)
        self._store(taken)
        return taken

    async def commit(self, session_id: SessionId, fence: int, details: D, *, now: float) -> bool:
        """Move to committed and forget the chunks."""
        session = await self._finishing(session_id, fence)
        if session is None:
            return False
        self._rows.chunks.pop(session_id, None)
        return self._store(session.commit(details, now=now))

    async def settle(self, session_id: SessionId, details: D, *, instead_of: D) -> bool:
        """Replace the details of a committed session, if they are those."""
        session = await self._committed(session_id, instead_of)
        return session is not None and self._store(session.settle(details))

    async def keep_answer(self, session_id: SessionId, answer: str) -> str | None:
        """Set the answer, unless there is one."""
        await self._pause()
        session = self._rows.sessions.get(session_id)
        if session is None:
            return None
        kept = session.keep(answer)
        self._store(kept)
        return kept.answer

    async def withdraw(self, session_id: SessionId, details: D, *, now: float) -> bool:
        """Move a committed session to aborted, if its details are those."""
        session = await self._committed(session_id, details)
        return session is not None and self._store(session.end(SessionStatus.ABORTED, error=None, now=now))

    async def detached(self, protocol: str, *, before: float, limit: int) -> Sequence[Session[D]]:
        """Return committed sessions that no record has, longest unseen first."""
        await self._pause()
        found = [
            session
            for session in self._rows.sessions.values()
            if _is_detached(session) and _protocol(session) == protocol and session.last_seen_at < before
        ]
        found.sort(key=lambda session: (session.last_seen_at, session.id))
        return [_without_chunks(session) for session in found[:limit]]

    async def reopen(self, session_id: SessionId, fence: int, error: str, *, now: float) -> bool:
        """Move back to open, with `error`."""
        session = await self._finishing(session_id, fence)
        return session is not None and self._store(session.reopen(error, now=now))

    async def end(
        self,
        session_id: SessionId,
        fence: int | None,
        status: SessionStatus,
        *,
        error: str | None,
        now: float,
    ) -> bool:
        """End an open session, or with a fence a finishing one, without a result."""
        if fence is None:
            session = await self._open(session_id)
        else:
            session = await self._finishing(session_id, fence)
        if session is None:
            return False
        self._rows.chunks.pop(session_id, None)
        return self._store(session.end(status, error=error, now=now))

    async def touch(self, session_id: SessionId, *, now: float) -> bool:
        """Note the activity of an open session."""
        session = await self._open(session_id)
        return session is not None and self._store(session.seen(now))

    async def adopt(self, scope: str, owner: str, by: str) -> int:
        """Give the owner's sessions in that scope to `by`, but those whose key it uses itself."""
        await self._pause()
        own = [
            session
            for session in self._rows.sessions.values()
            if (session.spec.scope, session.spec.owner) == (scope, owner)
            and (session.spec.key is None or self._keyed(scope, by, session.spec.key) is None)
        ]
        for session in own:
            self._store(replace(session, spec=replace(session.spec, owner=by)))
        return len(own)

    async def hasten(self, owner: str, *, now: float) -> int:
        """Let the time of the owner's open sessions be over."""
        await self._pause()
        own = [
            session
            for session in self._rows.sessions.values()
            if session.spec.owner == owner and session.status is SessionStatus.OPEN
        ]
        for session in own:
            self._store(session.hasten(now=now))
        return len(own)

    async def expire(
        self, *, now: float, held: Collection[SessionId], limit: int, most_ttl_s: float = float("inf")
    ) -> Sequence[Session[D]]:
        """Expire the longest overdue open sessions that nobody holds."""
        await self._pause()
        overdue = (
            session
            for session in self._rows.sessions.values()
            if session.status is SessionStatus.OPEN
            and session.expires_at <= now
            and session.spec.ttl_s <= most_ttl_s
            and session.id not in held
            and not self._is_needed(session, now)
        )
        chosen = sorted(overdue, key=lambda session: (session.expires_at, session.id))[:limit]
        expired = [session.end(SessionStatus.EXPIRED, error=None, now=now) for session in chosen]
        for session in expired:
            self._rows.chunks.pop(session.id, None)
            self._store(session)
        return [_without_chunks(session) for session in expired]

    def _is_needed(self, session: Session[D], now: float) -> bool:
        """Whether a live final session is made of it, or something that it is made of has time."""
        if session.spec.concat is Concat.PARTIAL:
            return any(final.status.live for final in self._finals(session.id))
        made_of = (self._rows.sessions[it] for it in self._rows.partials.get(session.id, ()))
        return any(it.status is SessionStatus.OPEN and it.expires_at > now for it in made_of)

    async def live(self, *, after: tuple[float, str] | None, limit: int) -> Sequence[Session[D]]:
        """Return a page of live sessions, oldest first, in mode chunks without `received`."""
        await self._pause()
        live = (session for session in self._rows.sessions.values() if session.status.live)
        places = sorted((session.created_at, session.id, session) for session in live)
        return [_without_chunks(it) for at, key, it in places if after is None or (at, key) > after][:limit]

    async def unfinished(self, *, after: tuple[float, str] | None, limit: int) -> Sequence[Session[D]]:
        """Return a page of those that are finishing, or append sessions whose finish is due."""
        live = await self.live(after=after, limit=len(self._rows.sessions))
        return [session for session in live if _is_unfinished(session)][:limit]

    async def count_live(self, scope: str | None, owner: str) -> int:
        """Count live sessions, in all scopes without `scope`."""
        await self._pause()
        return self._count(scope, owner)

    async def erase(self, session_id: SessionId) -> bool:
        """Remove a live row for which nothing was received."""
        session = await self._live(session_id)
        if session is None or session.received:
            return False
        self._drop(session_id)
        return True

    async def purge(self, *, before: float, limit: int) -> Sequence[Session[D]]:
        """Remove the sessions that ended longest ago."""
        await self._pause()
        ended = (
            session
            for session in self._rows.sessions.values()
            if not session.status.live and session.last_seen_at < before
        )
        chosen = sorted(ended, key=lambda session: (session.last_seen_at, session.id))[:limit]
        for session in chosen:
            self._drop(session.id)
        return [_without_chunks(session) for session in chosen]

    async def blob_keys(self, keys: Collection[str]) -> set[str]:
        """Return those of `keys` that a session names."""
        await self._pause()
        return {
            session.blob_key for session in self._rows.sessions.values() if session.blob_key is not None
        } & set(keys)

    async def _open(self, session_id: SessionId) -> Session[D] | None:
        await self._pause()
        session = self._rows.sessions.get(session_id)
        return session if session is not None and session.status is SessionStatus.OPEN else None

    async def _live(self, session_id: SessionId) -> Session[D] | None:
        await self._pause()
        session = self._rows.sessions.get(session_id)
        return session if session is not None and session.status.live else None

    async def _committed(self, session_id: SessionId, details: D) -> Session[D] | None:
        await self._pause()
        session = self._rows.sessions.get(session_id)
        if session is None or session.status is not SessionStatus.COMMITTED or session.details != details:
            return None
        return session

    async def _finishing(self, session_id: SessionId, fence: int) -> Session[D] | None:
        await self._pause()
        session = self._rows.sessions.get(session_id)
        if session is None or session.status is not SessionStatus.FINISHING or session.fence != fence:
            return None
        return session

    def _store(self, session: Session[D]) -> bool:
        self._rows.sessions[session.id] = session
        if not session.status.live:
            self._rows.addresses.pop(session.id, None)
        return True

    def _drop(self, session_id: SessionId) -> None:
        self._rows.sessions.pop(session_id, None)
        self._rows.addresses.pop(session_id, None)
        self._rows.chunks.pop(session_id, None)
        self._rows.partials.pop(session_id, None)
        for final_id, made_of in self._rows.partials.items():
            self._rows.partials[final_id] = tuple(it for it in made_of if it != session_id)

    def _keyed(self, scope: str, owner: str, key: str) -> Session[D] | None:
        return next(
            (
                session
                for session in self._rows.sessions.values()
                if (session.spec.scope, session.spec.owner, session.spec.key) == (scope, owner, key)
                and not session.status.gone
            ),
            None,
        )

    def _count(self, scope: str | None, owner: str) -> int:
        return sum(
            _counts(session) and session.spec.owner == owner and scope in {None, session.spec.scope}
            for session in self._rows.sessions.values()
        )

    def _count_at(self, address: str) -> int:
        return sum(
            at == address and _counts(self._rows.sessions[session_id])
            for session_id, at in self._rows.addresses.items()
        )


class MemoryRecordStore:
    """`RecordStore` on a draft; contracts as in the port."""

    def __init__(self, rows: _Rows[Any], pause: Pause) -> None:
        self._rows = rows
        self._pause = pause

    async def insert(self, *records: Record) -> None:
        """Add records, with the assets that they have."""
        await self._pause()
        for record in records:
            if record.id in self._rows.records:
                message = f"record {record.id} is not new"
                raise AssertionError(message)
            self._rows.records[record.id] = record

    async def load(self, record_id: RecordId) -> Record | None:
        """Return the record with its assets."""
        await self._pause()
        return self._rows.records.get(record_id)

    async def complete(self, record_id: RecordId, original: Asset, *, now: float, more: bool = False) -> bool:
        """Complete an uploading record that has no original yet, or leave it to be processed."""
        record = await self._uploading(record_id)
        if record is None or record.asset(original.kind) is not None:
            return False
        return self._store(record.complete(original, now=now, more=more))

    async def add_asset(self, record_id: RecordId, asset: Asset) -> bool:
        """Add an asset of a kind that the record lacks."""
        await self._pause()
        record = self._rows.records.get(record_id)
        if record is None or record.erased or record.asset(asset.kind) is not None:
            return False
        return self._store(replace(record, assets=(*record.assets, asset)))

    async def end(self, record_id: RecordId, status: RecordStatus, *, error: str | None, now: float) -> bool:
        """End an uploading record without an original."""
        record = await self._uploading(record_id)
        return record is not None and self._store(record.end(status, error=error, now=now))

    async def list(self, query: RecordQuery) -> Page[Record]:
        """Return a page, newest first."""
        await self._pause()
        found = [record for record in self._rows.records.values() if _matches(record, query)]
        if query.visible_to is not None:
            found = [record for record in found if self._rows.access.shows(record, query.visible_to)]
        found.sort(key=lambda record: (record.created_at, record.id), reverse=True)
        return Page.cut(found, query.limit, key=lambda record: (record.created_at, record.id))

    async def adopt(self, capsule: str, owner: str, by: str, *, limit: int) -> Sequence[RecordId]:
        """Give records in that capsule from one owner to another."""
        await self._pause()
        own = [it for it in self._rows.records.values() if (it.capsule, it.owner) == (capsule, owner)][:limit]
        for record in own:
            self._rows.records[record.id] = replace(record, owner=by)
        return [record.id for record in own]

    async def delete(self, record_id: RecordId, *, now: float, keep_assets: bool) -> bool:
        """Mark a record that has ended as deleted."""
        await self._pause()
        record = self._rows.records.get(record_id)
        if record is None or record.status is RecordStatus.UPLOADING:
            return False
        if record.deleted_at is None:
            self._rows.kept |= {record_id} if keep_assets else set()
            return self._store(replace(record, deleted_at=now))
        if record_id in self._rows.kept and not keep_assets:
            self._rows.kept -= {record_id}
            self._store(replace(record, deleted_at=now))
        return False

    async def restore(self, record_id: RecordId) -> bool:
        """Clear the mark, while there is something to come back to."""
        await self._pause()
        record = self._rows.records.get(record_id)
        if record is None or record.deleted_at is None:
            return False
        if record.uploaded_at is not None and not record.assets:
            return False
        self._rows.kept -= {record_id}
        return self._store(replace(record, deleted_at=None))

    async def deleted_before(self, before: float, *, limit: int) -> Sequence[Record]:
        """Return the records deleted longest ago whose assets are to be removed."""
        await self._pause()
        due = [
            (record.deleted_at, record.id, record)
            for record in self._rows.records.values()
            if record.deleted_at is not None
            and record.deleted_at < before
            and record.assets
            and record.id not in self._rows.kept
        ]
        return [record for _, _, record in sorted(due, key=lambda item: item[:2])[:limit]]

    async def erase(self, record_id: RecordId) -> None:
        """Remove the row and its assets' rows."""
        await self._pause()
        self._rows.records.pop(record_id, None)
        self._rows.files.pop(record_id, None)
        self._rows.kept -= {record_id}

    async def drop_assets(self, record_id: RecordId, *, deleted_before: float = math.inf) -> Sequence[Asset]:
        """Remove the rows of a deleted record's assets, unless they are kept."""
        await self._pause()
        record = self._rows.records.get(record_id)
        if record is None or record.deleted_at is None or record_id in self._rows.kept:
            return ()
        if record.deleted_at >= deleted_before:
            return ()
        self._store(replace(record, assets=()))
        return record.assets

    async def blob_keys(self, keys: Collection[str]) -> set[str]:
        """Return those of `keys` that an asset names."""
        await self._pause()
        named = (asset.blob_key for record in self._rows.records.values() for asset in record.assets)
        return set(keys).intersection(named)

    async def describe(self, record_id: RecordId, metadata: FileMetadata) -> None:
        """Keep what a record's original holds."""
        await self._pause()
        if record_id not in self._rows.records or record_id in self._rows.files:
            message = f"record {record_id} is not there, or described already"
            raise AssertionError(message)
        self._rows.files[record_id] = metadata

    async def description(self, record_id: RecordId) -> FileMetadata | None:
        """Return what was kept."""
        await self._pause()
        return self._rows.files.get(record_id)

    async def _uploading(self, record_id: RecordId) -> Record | None:
        await self._pause()
        record = self._rows.records.get(record_id)
        return record if record is not None and record.status is RecordStatus.UPLOADING else None

    def _store(self, record: Record) -> bool:
        assets = tuple(sorted(record.assets, key=lambda asset: _KINDS.index(asset.kind)))
        self._rows.records[record.id] = replace(record, assets=assets)
        return True


_KINDS: Final = tuple(AssetKind)


def _counts(session: Session[Any]) -> bool:
    return session.status.live and not (session.spec.concat is Concat.PARTIAL and session.complete)


def _mark_of(session: Session[D]) -> Mark:
    return Mark(
        status=session.status,
        fence=session.fence,
        holder=session.holder,
        asked=session.asked,
        follower=session.follower,
        progress=(session.received, session.last_seen_at),
    )


def _is_detached(session: Session[Any]) -> bool:
    return session.status is SessionStatus.COMMITTED and session.details.record is None


def _protocol(session: Session[Any]) -> str:
    return str(session.details.protocol)


def _is_unfinished(session: Session[Any]) -> bool:
    due = session.spec.mode is Mode.APPEND and session.due
    return session.status is SessionStatus.FINISHING or due


def _without_chunks(session: Session[D]) -> Session[D]:
    return replace(session, received=Ranges()) if session.spec.mode is Mode.CHUNKS else session


def _matches(record: Record, query: RecordQuery) -> bool:
    return all(_conditions(record, query))


def _conditions(record: Record, query: RecordQuery) -> Iterator[bool]:
    yield query.deleted is (record.deleted_at is not None)
    yield not query.deleted or record.uploaded_at is None or bool(record.assets)
    yield not query.ids or record.id in query.ids
    yield query.owner in {None, record.owner}
    yield query.capsule in {None, record.capsule}
    yield not query.statuses or record.status in query.statuses
    yield query.name is None or fold(query.name) in fold(record.filename)
    yield not query.path_prefix or (record.path or "").startswith(query.path_prefix)
    yield query.since is None or record.created_at >= query.since
    yield query.until is None or record.created_at < query.until
    yield query.kind is None or any(asset.kind == query.kind for asset in record.assets)
    yield query.after is None or (record.created_at, record.id) < query.after
