"""What repairs the service by itself: redo, expiry, trash, retention and strays.

Rule 1: nothing is expired in the first interval after a start or a jump of the wall clock.
Rule 2: a step that fails is logged and counted; the others go on, and it is tried again next time.
Rule 3: what nobody names is set aside, never removed.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from functools import partial
from typing import Final, Protocol

from haulier.core.capsule import MAX_TTL_S
from haulier.core.defaults import (
    EVENTS_FOR_S,
    JANITOR_INTERVAL_S,
    RETENTION_S,
    SESSION_TTL_S,
    TRASH_FOR_S,
    VISITOR_TTL_S,
)
from haulier.core.errors import HaulierError
from haulier.core.session import SessionId
from haulier.core.token import SIGN_IN_S
from haulier.core.upload import Upload, UploadDetails
from haulier.core.values import dataclass
from haulier.engine.accounts import Accounts
from haulier.engine.processing import ProcessingService
from haulier.engine.records import RecordService
from haulier.engine.visitors import VisitorService
from haulier.logs import get_logger
from haulier.machine import Clock
from haulier.ports import ByteSink, Stray, Sweeping, Transaction, UnitOfWork

log = get_logger()

JUMP_S: Final = 5.0
"""A wall clock that differs this much from the monotonic one has been set, not slewed."""
STRAY_AGE_S: Final = 24 * 3600.0
"""Age at which something that nobody names is a stray and not a step between two rows."""
STRAY_INTERVAL_S: Final = 6 * 3600.0
"""How often all that is stored is compared with all rows; it reads every directory."""
STRAY_BATCH: Final = 500
EVENT_BATCH: Final = 1000
"""Events that one statement removes; keeps the write transaction short."""
FORM_AGE_S: Final = 3600.0
"""Age at which a finished file of a form is left over and not a step before its record: a hundred of them may take
half a minute each to be finished."""


class Repairs(Protocol):
    """The steps that a service of sessions offers; they return how many they dealt with."""

    async def keep(self) -> None:
        """Let other processes see what is held in this one."""

    async def redo(self) -> int:
        """Go on with what a dead worker left half finished."""
        ...

    async def expire(self, *, now: float | None = None, most_ttl_s: float = float("inf")) -> int:
        """End what nobody has touched for its time to live, if that is at most so many seconds."""
        ...

    async def purge(self, *, before: float) -> int:
        """Remove what is left of sessions that ended before then."""
        ...


class SweepingSink(ByteSink, Sweeping, Protocol):
    """A sink that can list what it holds."""


@dataclass(frozen=True, slots=True)
class People:
    """Who calls, and is forgotten after a time."""

    visitors: VisitorService
    accounts: Accounts


@dataclass(frozen=True, slots=True, kw_only=True)
class JanitorLimits:
    """Settings of the janitor, in seconds."""

    interval_s: float = JANITOR_INTERVAL_S
    ttl_s: float = SESSION_TTL_S
    """Time to live of a session for which its capsule says nothing else."""
    visitor_ttl_s: float = VISITOR_TTL_S
    trash_for_s: float = TRASH_FOR_S
    retention_s: float = RETENTION_S
    events_for_s: float = EVENTS_FOR_S

    @property
    def longest_s(self) -> float:
        """The highest age that anything is judged by."""
        return max(
            MAX_TTL_S,
            SIGN_IN_S,
            self.visitor_ttl_s,
            self.trash_for_s,
            self.retention_s,
            self.events_for_s,
            STRAY_AGE_S,
        )


class SweepForms(Protocol):
    """Frees what forms that were never recorded had finished before a time."""

    async def __call__(self, *, before: float) -> int:
        """Return how many files it freed."""
        ...


class JumpGuard:
    """Notices when the wall clock is set, and shifts what may be thought old."""

    def __init__(self, clock: Clock, *, longest_s: float) -> None:
        """`longest_s` is the highest age that is asked for."""
        self._clock = clock
        self._longest_s = longest_s
        self._wall, self._monotonic = clock.now(), clock.monotonic()
        self._shift = 0.0
        self._shifted_at = self._monotonic

    def look(self) -> bool:
        """Return whether the clock was set since the last look."""
        wall, monotonic = self._clock.now(), self._clock.monotonic()
        jump = (wall - self._wall) - (monotonic - self._monotonic)
        self._wall, self._monotonic = wall, monotonic
        if monotonic - self._shifted_at > self._longest_s:
            self._shift = 0.0
        if abs(jump) <= JUMP_S:
            return False
        # Forward: rows written before the jump look older than they are. Backward: they look younger,
        # which keeps them longer; only an earlier jump forward is taken back.
        self._shift = max(0.0, self._shift + jump)
        self._shifted_at = monotonic
        log.warning("clock.jumped", seconds=round(jump, 3))
        return True

    def now(self, age_s: float) -> float:
        """Return the time, at the last look, by which what is to reach that age may be judged.

        Not the clock's: that may have been set since the look. A jump misleads nobody any more when so much time has
        passed since: what was written before it has reached the age by then.
        """
        misleads = self._monotonic - self._shifted_at <= age_s
        return self._wall - (self._shift if misleads else 0.0)

    @property
    def over_s(self) -> float:
        """The highest age about which no jump misleads any more; infinite without a jump."""
        return math.nextafter(self._monotonic - self._shifted_at, 0.0) if self._shift else math.inf


class Janitor:
    """Runs beside the service."""

    def __init__(  # noqa: PLR0913 - one a collaborator
        self,
        sessions: Repairs,
        records: RecordService,
        people: People,
        *,
        sink: SweepingSink,
        work: UnitOfWork[UploadDetails],
        clock: Clock,
        limits: JanitorLimits,
        sweep_forms: SweepForms | None = None,
        swept: Callable[[str, int], None] = lambda _result, _count: None,
        processing: ProcessingService | None = None,
        file_clock: Clock | None = None,
    ) -> None:
        """`sweep_forms` is for a service that takes forms; `file_clock` tells the times of files, where `clock` does not.

        `swept` hears what each step did: its name, or its name and `-failed`, and how often.
        """
        self._sweep_forms = sweep_forms
        self._swept = swept
        self._processing = processing
        self._sessions = sessions
        self._records = records
        self._people = people
        self._sink = sink
        self._work = work
        self._clock = clock
        self._file_clock = file_clock or clock
        self._limits = limits
        self._jumps = JumpGuard(clock, longest_s=limits.longest_s)
        self._next_strays = clock.monotonic()

    async def run(self) -> None:
        """Sweep after every interval, for ever; cancel it to end it."""
        # Often enough that what is held here looks old to no other process.
        interval_s = min(self._limits.interval_s, self._limits.ttl_s / 3)
        while True:
            await self._clock.sleep(interval_s)
            await self.sweep()

    async def sweep(self) -> None:
        """Do every step once, but after a jump of the clock none that depends on age."""
        await self._step("keep", self._keep)
        await self._step("redo", self._sessions.redo)
        if self._processing is not None:
            await self._step("processing", self._processing.redo)
        if self._jumps.look():
            return
        visitors, accounts, jumps = self._people.visitors, self._people.accounts, self._jumps
        await self._step("visitors", lambda: visitors.purge(now=jumps.now(self._limits.visitor_ttl_s)))
        await self._step("sign-ins", lambda: accounts.purge_sign_ins(now=jumps.now(SIGN_IN_S)))
        await self._step("expire", self._expire)
        await self._step(
            "trash", lambda: self._records.purge(deleted_before=self._old(self._limits.trash_for_s))
        )
        await self._step(
            "retention", lambda: self._sessions.purge(before=self._old(self._limits.retention_s))
        )
        await self._step("erase", self._records.erase_rest)
        await self._step(
            "keys", lambda: self._records.forget_keys(before=self._old(self._limits.retention_s))
        )
        await self._step("events", self._prune_events)
        await self._step("forms", self._free_forms)
        if self._clock.monotonic() >= self._next_strays:
            self._next_strays = self._clock.monotonic() + STRAY_INTERVAL_S
            await self._step("parts", self._sweep_parts)
            await self._step("blobs", self._sweep_blobs)

    async def expire(self) -> int:
        """End at once what is overdue, by the same clock as a sweep; return how many."""
        self._jumps.look()
        return await self._expire()

    async def _expire(self) -> int:
        jumps = self._jumps
        # By the clock, whom no jump misleads about any more; all by what it would show without the jump.
        ended = await self._sessions.expire(now=jumps.now(jumps.over_s), most_ttl_s=jumps.over_s)
        if jumps.over_s < MAX_TTL_S:
            ended += await self._sessions.expire(now=jumps.now(MAX_TTL_S))
        return ended

    async def _free_forms(self) -> int:
        return 0 if self._sweep_forms is None else await self._sweep_forms(before=self._old(FORM_AGE_S))

    async def _keep(self) -> int:
        await self._sessions.keep()
        return 0

    async def _prune_events(self) -> int:
        total = 0
        prune = partial(_prune_events, self._old(self._limits.events_for_s))
        while count := await self._work.write(prune, frees=True):
            total += count
        return total

    def _old(self, age_s: float) -> float:
        return self._jumps.now(age_s) - age_s

    def _old_file(self) -> float:
        return min(self._jumps.now(STRAY_AGE_S), self._file_clock.now()) - STRAY_AGE_S

    async def _step(self, name: str, work: Callable[[], Awaitable[int]]) -> None:
        try:
            count = await work()
        except HaulierError as error:
            self._swept(f"{name}-failed", 1)
            log.warning("janitor.failed", step=name, error=str(error))
            return
        except Exception:
            # A mistake of ours in one step must not end the repair of everything else; it is counted too.
            self._swept(f"{name}-failed", 1)
            log.exception("janitor.crashed", step=name)
            return
        if count:
            self._swept(name, count)
            log.info("janitor.done", step=name, count=count)

    async def _sweep_parts(self) -> int:
        """Remove the parts of ended uploads; set aside old ones of no upload."""
        count = 0
        async for stray in self._sink.parts():
            key = SessionId(stray.key)
            session = await self._work.read(partial(_peek, key))
            if session is not None and not session.status.live:
                await self._sink.discard(stray.key)
            elif session is None and stray.modified_at < self._old_file():
                await self._sink.set_aside_part(stray.key)
            else:
                continue
            count += 1
        return count

    async def _sweep_blobs(self) -> int:
        """Set aside old blobs that no upload and no asset names, and that are not about to be removed."""
        count = 0
        async for batch in _batches(self._sink.blobs()):
            old = {stray.key for stray in batch if stray.modified_at < self._old_file()}
            for key in sorted(old - await self._named(old)):
                await self._sink.set_aside_blob(key)
                count += 1
        return count

    async def _named(self, keys: Collection[str]) -> set[str]:
        async def look(tx: Transaction[UploadDetails]) -> set[str]:
            named = await tx.sessions.blob_keys(keys) | await tx.records.blob_keys(keys)
            return named | await tx.doomed_blobs.named(keys)

        return await self._work.read(look)


async def _peek(key: SessionId, tx: Transaction[UploadDetails]) -> Upload | None:
    return await tx.sessions.peek(key)


async def _prune_events(before: float, tx: Transaction[UploadDetails]) -> int:
    return await tx.events.prune(before=before, limit=EVENT_BATCH)


async def _batches(strays: AsyncIterator[Stray]) -> AsyncIterator[list[Stray]]:
    batch: list[Stray] = []
    async for stray in strays:
        batch.append(stray)
        if len(batch) >= STRAY_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
