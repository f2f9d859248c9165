"""What happened, written in the transaction in which it happens, and read on from any place.

Rule 1: an event is committed with what it tells, or not at all; nobody announces anything before its commit.
Rule 2: a reader has a place of its own and asks for what comes behind it. So one that is slow costs nothing, and
        one that comes back misses nothing; a wake-up carries no event and may be lost.
Rule 3: who may read what is judged anew with every batch.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, Generic, TypeVar

from haulier.core.access import Rights
from haulier.core.caller import Caller
from haulier.core.capsule import Capsule
from haulier.core.errors import AccessDenied, QuotaExceeded
from haulier.core.event import Event, EventKind, Position, Told, event_of, may_miss
from haulier.core.record import Record, RecordId
from haulier.core.session import SessionId
from haulier.core.upload import UploadDetails
from haulier.core.values import dataclass, replace
from haulier.engine.gate import require_known
from haulier.ports import AccessPolicy, Signals, Transaction, UnitOfWork

D = TypeVar("D")
T = TypeVar("T")

WORD: Final = SessionId("events")
"""What other processes are told when there are new events; no session has such an id."""
FORWARD: Final = "forward"
"""The fact of an event that says where the record goes on to."""
BATCH: Final = 100
"""Events that one read brings: what a reader holds at most, and a page of a person's list."""
UNSETTLED_S: Final = 0.1
"""How soon to look again for events that are committed but may still get one before them; as long as a process
takes to look for the commits of others on SQLite."""
MAX_READERS: Final = 1000
"""Streams of one process: with their connections they stay well below the descriptors that a process may have."""


async def tell(tx: Transaction[UploadDetails], kind: EventKind, record_id: RecordId, *, now: float) -> None:
    """Write an event about a record as it is now in this transaction; nothing when there is none."""
    record = await tx.records.load(record_id)
    if record is None:
        return
    capsule = await tx.capsules.load(record.capsule) if kind is EventKind.COMPLETED else None
    await tx.events.append(event_in(kind, record, capsule, now=now))


def event_in(kind: EventKind, record: Record, capsule: Capsule | None, *, now: float) -> Event:
    """Return what is told of a record that is in this capsule now; None: it has none, or that does not matter."""
    event = event_of(kind, record, now=now)
    if kind is not EventKind.COMPLETED or capsule is None or capsule.policy.forward is None:
        return event
    # Here, so that it is decided in the transaction in which the record completes, by what is set then.
    return replace(event, facts={**event.facts, FORWARD: capsule.policy.forward})


class TellingWork(Generic[D]):
    """A `UnitOfWork` that says when events were committed, whoever wrote them."""

    def __init__(self, work: UnitOfWork[D], told: Callable[[], None]) -> None:
        self._work = work
        self._told = told

    async def read(self, work: Callable[[Transaction[D]], Awaitable[T]]) -> T:
        """Run `work` on one consistent view."""
        return await self._work.read(work)

    async def write(
        self, work: Callable[[Transaction[D]], Awaitable[T]], *, durable: bool = False, frees: bool = False
    ) -> T:
        """Run `work` and commit before returning; then say so, if it wrote events."""
        wrote = False

        async def noting(tx: Transaction[D]) -> T:
            nonlocal wrote
            result = await work(tx)
            wrote = tx.events.written
            return result

        try:
            return await self._work.write(noting, durable=durable, frees=frees)
        finally:
            # After an error too: the answer to a commit may have been lost.
            if wrote:
                self._told()


@dataclass(frozen=True, slots=True)
class Step:
    """How far a reader has come, and perhaps what it found there."""

    position: Position
    event: Event | None = None
    missed: bool = False
    """Events behind the reader's place are gone: it has to look at everything anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    found: Sequence[Told]
    position: Position
    full: bool
    settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedQuery:
    """Whose events are wanted."""

    owner: str | None = None
    capsule: str | None = None


class Feed:
    """Events for whoever follows them, in this process; one of the process's `Ears`."""

    def __init__(self, work: UnitOfWork[UploadDetails], access: AccessPolicy, signals: Signals) -> None:
        self._work = work
        self._access = access
        self._signals = signals
        self._readers: dict[asyncio.Event, None] = {}
        self._awake = asyncio.Event()
        self._stopping = False

    def told(self) -> None:
        """Events were committed here: everybody may want to know."""
        self._wake()
        self._signals.tell(WORD)

    async def wanted(self) -> None:
        """Wait until somebody here reads."""
        while not self._readers:
            self._awake.clear()
            await self._awake.wait()

    async def hear(self, session_ids: Collection[SessionId] | None) -> None:
        """Another process has committed events, perhaps."""
        if session_ids is None or WORD in session_ids:
            self._wake()

    def stop(self) -> None:
        """Let every reader come to its end; harmless when repeated."""
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        for reader in self._readers:
            reader.set()

    async def follow(
        self, query: FeedQuery, *, caller: Caller, after: Position | None = None, wait: bool = True
    ) -> AsyncGenerator[Step, None]:
        """Yield what happens to records that the caller may read; close it to let go.

        The first step has no event: it says where the reader stands, and whether it has missed any.

        Args:
            query: which of them.
            caller: who reads.
            after: where it had come to; None: only what happens from now on.
            wait: whether to go on when there is nothing more; else it ends.

        Raises:
            AccessDenied: the credential is for one upload.
            CapsuleNotFound: no such capsule that the caller may know of.
            QuotaExceeded: too many read already.
        """
        if caller.upload is not None:
            raise AccessDenied("follow events")
        with self.reading() as woken:
            first = await self._work.read(partial(self._begin, query, caller, after))
            yield first
            position = first.position
            while not self._stopping:
                woken.clear()
                batch = await self._work.read(partial(self._read, query, caller, position))
                for told in batch.found:
                    yield Step(told.position, told.event)
                position = batch.position
                yield Step(position)
                if not (batch.full or wait):
                    return
                if not batch.full:
                    await self._next(woken, settled=batch.settled)

    @contextmanager
    def reading(self) -> Iterator[asyncio.Event]:
        """Return an event that is set when there may be something new; its reader clears it before it looks."""
        if len(self._readers) >= MAX_READERS:
            raise QuotaExceeded("event streams", MAX_READERS, "process")
        woken = asyncio.Event()
        self._readers[woken] = None
        self._awake.set()
        try:
            yield woken
        finally:
            del self._readers[woken]

    async def _next(self, woken: asyncio.Event, *, settled: bool) -> None:
        if self._stopping:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(None if settled else UNSETTLED_S):
                await woken.wait()

    async def _begin(
        self, query: FeedQuery, caller: Caller, after: Position | None, tx: Transaction[UploadDetails]
    ) -> Step:
        capsule = query.capsule or caller.capsule
        if capsule is not None:
            require_known(await self._access.rights(tx, caller, capsule), capsule)
        if after is None:
            return Step(await tx.events.last_settled())
        if may_miss(after, await tx.events.kept()):
            return Step(await tx.events.last_settled(), missed=True)
        return Step(after)

    async def _read(
        self, query: FeedQuery, caller: Caller, position: Position, tx: Transaction[UploadDetails]
    ) -> _Batch:
        rows, settled = await tx.events.after(position, limit=BATCH)
        judge = _Judge(tx, self._access, query, caller)
        found = [told for told in rows if await judge.shows(told.event)]
        return _Batch(
            found=found,
            position=rows[-1].position if rows else position,
            full=len(rows) == BATCH,
            settled=settled,
        )


class _Judge:
    """Which events of one batch a reader may see, and wants to."""

    def __init__(
        self, tx: Transaction[UploadDetails], access: AccessPolicy, query: FeedQuery, caller: Caller
    ) -> None:
        self._tx = tx
        self._access = access
        self._query = query
        self._caller = caller
        self._rights: dict[str, Rights | None] = {}

    async def shows(self, event: Event) -> bool:
        """Whether this one is shown."""
        if self._query.owner not in {None, event.owner} or self._query.capsule not in {None, event.capsule}:
            return False
        if event.capsule not in self._rights:
            self._rights[event.capsule] = await self._access.rights(self._tx, self._caller, event.capsule)
        rights = self._rights[event.capsule]
        return rights is not None and rights.reads(event.owner)
