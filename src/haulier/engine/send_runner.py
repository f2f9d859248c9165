"""Runs a journal: starts transfers in their order, obeys what is wanted of them, and settles what becomes of each.

Rule 1: nothing here ticks. The runner sleeps until it is told of a change, or until the next time that somebody is due.
Rule 2: an attempt is a task inside a task: the inner one may be stopped, the outer one always settles, and gives back the
        one slot that it has.
Rule 3: no row, no remote and no mistake of ours stops the others.

One module although it is long: starting, stopping and settling hold the same rows in their hands.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import Any, Final, Protocol

from haulier.core.dispatch import Dispatch, Removed, Wanted
from haulier.core.errors import (
    HaulierError,
    PeerBlocked,
    PeerError,
    RemoteHeld,
    RemoteSessionLost,
    StorageError,
)
from haulier.core.outgoing import RemoteSession, VerifyPolicy
from haulier.core.retry import MAX_RETRY_AFTER_S, Chance, is_due
from haulier.core.transfer import Obstacle, Phase, Snapshot, TransferId
from haulier.core.values import dataclass, replace
from haulier.core.verdict import GIVE_UP_S, may_restart, settle, stumble, time_out
from haulier.engine.background import Background
from haulier.engine.send_attempt import Attempt, AttemptPorts
from haulier.engine.send_journal import SharedJournal
from haulier.engine.send_order import SendOrder
from haulier.engine.send_rows import Change, read_waiting, remove_if_wanted, save_row
from haulier.engine.send_stalls import Stalls
from haulier.engine.send_waiting import AGAIN_S, wait_or_sleep
from haulier.engine.slots import Lease, SlotLimits, Slots
from haulier.logs import get_logger
from haulier.machine import Clock
from haulier.sending_ports import JournalPage, JournalRows, LocalFiles, Remote, Remotes, Throttle, Waiting

log = get_logger()

BATCH: Final = 1000
"""Rows that one transaction of the journal brings or removes."""
DAY_S: Final = 24 * 3600.0
CLEAN_S: Final = 10.0
"""How long the remote may take to give up a session: longer than an answer takes, short enough for who waits."""

ANSWER_S: Final = 5.0
"""How long who cancels waits for the remote to tell what it has begun: several times an ordinary answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendLimits:
    """How many transfers run at once, and how long things are kept."""

    slots: SlotLimits = field(default_factory=lambda: SlotLimits(total=5, per_line=4, reserved=1))
    """With two or more in all, one is for small files alone."""
    bandwidth: float | None = None
    """Bytes per second of all that run here together; None is no bound."""
    give_up_s: float = GIVE_UP_S
    retention_s: float = 30 * DAY_S
    """How long a result can be read, and that a transfer was removed."""
    policies: Mapping[str, VerifyPolicy] = field(default_factory=dict)
    """How what a remote holds is compared; asked anew for each attempt. Strictly where nothing is said."""


class Audience(Protocol):
    """Who is told of changes in this process."""

    def changed(self, found: Dispatch | Removed) -> None:
        """A transfer is in another state."""

    def progressed(self, row: Dispatch) -> None:
        """A transfer is further on its way."""


@dataclass(eq=False, slots=True)
class _Run:
    """A transfer that has a slot; the `Desk` of its attempt."""

    runner: "SendRunner"
    row: Dispatch
    inner: "asyncio.Task[None] | None" = None
    accepted: bool = False
    """Whether the remote has the file, though the row does not say so yet."""
    stopped: bool = False
    """Whether it was cut short. What its task knows of that is no use: of a group that fails it counts the group's own cancel."""
    noting: "asyncio.Task[None] | None" = None
    """Writes down how far it is, for other processes."""
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Parallel chunks are confirmed one after the other: each starts from what the one before it has saved."""

    def stop(self) -> None:
        """Cut it short, unless it is past the point of no return, or was stopped already: then it is cleaning up."""
        if not (self.stopped or self.accepted or self.row.transfer.past_return):
            self.halt()

    def halt(self) -> None:
        """Cut it short, wherever it is, and what it cleans up, too."""
        self.stopped = True
        if self.inner is not None:
            self.inner.cancel()

    async def save(self, change: Change, *, durable: bool = True) -> Dispatch:
        """Change the row, as an attempt does."""
        await self._write(change, durable=durable)
        # Whoever saves goes on: its remote has made an error of a stop, if there was one.
        self.stopped = False
        if self.row.to_be_stopped and self.row.live:
            self.stop()  # whoever wanted that may be another process, which we have not heard yet
        return self.row

    async def _write(self, change: Change, *, durable: bool) -> None:
        async with self.saving:
            saved = await self.runner.save(self.row, change, durable=durable)
            self.row = replace(saved, transfer=saved.transfer.keep_up(self.row.transfer))

    def progress(self, sent: int) -> None:
        """Take in how far it is, and write it down with each sample of the speed: once a second at most."""
        before = self.row.transfer
        if before.pace is None:
            return  # it has ended meanwhile, and its attempt does not know yet
        transfer = before.move(sent, now=self.runner.now())
        self.row = replace(self.row, transfer=transfer)
        self.runner.audience.progressed(self.row)
        if transfer.pace is not before.pace and (self.noting is None or self.noting.done()):
            self.noting = self.runner.start(self._note(), name=f"send.note.{self.row.id}")

    async def _note(self) -> None:
        # That a journal cannot be written is told there, and only what others are shown is older then.
        with contextlib.suppress(StorageError):
            await self._write(lambda row: row, durable=False)

    async def wait_noted(self) -> None:
        """Wait until nothing of it is being written that whoever has the row next would not know of."""
        if self.noting is not None:
            await asyncio.wait({self.noting})

    def accept(self) -> None:
        """It is not to be stopped any more."""
        self.accepted = True

    def answer_s(self) -> float:
        """Return how long it waits for the answer to its begin."""
        return 0.0 if self.runner.stopping else ANSWER_S

    def require_free(self) -> None:
        """Raise RemoteHeld when its remote is to be let be."""
        if self.runner.order.held_until(self.row.remote) is not None:
            raise RemoteHeld


class SendRunner:
    """The one runner of a journal, in the process that holds its lock."""

    def __init__(
        self,
        journal: SharedJournal,
        remotes: Remotes,
        *,
        files: LocalFiles,
        clock: Clock,
        chance: Chance,
        throttle: Throttle,
        limits: SendLimits,
        audience: Audience,
    ) -> None:
        self.audience = audience
        self.slots = Slots(limits.slots, clock.monotonic)
        self.order = SendOrder(self.slots, clock.now, self._folds_case)
        self._journal = journal
        self._remotes = remotes
        self._files = files
        self._clock = clock
        self._chance = chance
        self._throttle = throttle
        self._limits = limits
        self._stalls = Stalls(clock)
        self._background = Background()
        self._runs: dict[TransferId, _Run] = {}
        self._starting: dict[TransferId, bool] = {}
        """Those that have a slot and whose rows are being read, and whether they are to be looked at after that."""
        self._touched: dict[TransferId, None] = {}
        self._kicked = asyncio.Event()
        self._prune_at = 0.0
        self._leftovers: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether it has been told to end."""
        return self._stopping.is_set()

    def now(self) -> float:
        """Return the time: seconds since the epoch."""
        return self._clock.now()

    def touch(self, transfer_id: TransferId) -> None:
        """Look at this transfer: something has changed."""
        self._touched[transfer_id] = None
        self._kicked.set()

    def snapshot(self, transfer_id: TransferId) -> Snapshot | None:
        """Return how far a transfer is that runs; None when it does not."""
        run = self._runs.get(transfer_id)
        return None if run is None else run.row.transfer.snapshot

    def change_slots(self, limits: SlotLimits) -> None:
        """Set how many may run; those that do already go on."""
        self.slots.change(limits)
        self._kicked.set()

    async def run(self) -> None:
        """Run until cancelled; then call `stop`."""
        await self._persist(self._load)
        while True:
            self._kicked.clear()
            await self._persist(self._step)
            await wait_or_sleep(self._kicked, self._clock, self._sleep_s())

    async def _persist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it; while the journal cannot be used, try again and again."""
        while True:
            try:
                await work()
            except StorageError as error:
                log.warning("send.journal_failed", error=str(error))
                await self._clock.sleep(AGAIN_S)
            else:
                return

    async def stop(self, *, grace_s: float) -> None:
        """Let nobody start any more, let who is past the point of no return come to its end, and save the others."""
        self._stopping.set()
        if self._leftovers is not None:
            self._leftovers.cancel()  # the next start tries all of them again
        for run in list(self._runs.values()):
            run.stop()
        if self._runs:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    while self._runs:
                        self._kicked.clear()
                        await self._kicked.wait()
        for run in list(self._runs.values()):
            run.halt()
        await self._background.stop(grace_s=CLEAN_S)
        self.slots.close()

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> "asyncio.Task[None]":
        """Run work of a transfer beside its attempt."""
        return self._background.start(work, name=name)

    async def save(self, mine: Dispatch, change: Change, *, durable: bool = True) -> Dispatch:
        """Change a row that nobody else moves; what others want of it meanwhile is kept.

        Raises:
            StorageError
        """
        row, found = await self._journal.write(
            partial(save_row, mine, change, self._clock.now()), durable=durable
        )
        if row.transfer.phase is not mine.transfer.phase or row.transfer.step is not mine.transfer.step:
            self.audience.changed(found)
        return row

    async def _load(self) -> None:
        """Let all that has not ended stand where it belongs."""
        after: int | None = None
        # Not merely read: what cannot be is put aside, also where nobody could ever ask for it.
        while batch := await self._journal.write(partial(read_waiting, after, BATCH)):
            for waiting in batch:
                if waiting.phase not in _AT_REST:
                    # Its runner died in the middle of it: it stands first of its target, and is looked at.
                    waiting = replace(waiting, phase=Phase.PAUSED)  # noqa: PLW2901
                self.order.put(waiting, due_at=None)
                if waiting.phase is not Phase.QUEUED or waiting.wanted is not Wanted.RUN:
                    self._touched[waiting.id] = None
            after = batch[-1].number

    async def _step(self) -> None:
        for transfer_id in self.order.take_due():
            self._touched[transfer_id] = None
        while self._touched and not self._stopping.is_set():
            # Taken out first: what changes while we look has to be looked at again.
            transfer_id = next(iter(self._touched))
            del self._touched[transfer_id]
            try:
                await self._look(transfer_id)
            except StorageError:
                self._touched[transfer_id] = None
                raise
            except Exception as error:  # noqa: BLE001 - rule 3; it is logged there
                await self._stumble(transfer_id, error)
        await self._prune()
        while not self._stopping.is_set() and (found := self.order.start_next()) is not None:
            entry, lease = found
            self._starting[entry.key] = False
            self._background.start(self._run(entry.key, lease), name=f"send.{entry.key}")

    def _sleep_s(self) -> float:
        due_at = self.order.next_due_at()
        times = [self._prune_at] if due_at is None else [due_at, self._prune_at]
        # A wall clock that was set back must not let anybody wait for longer than any delay.
        return min(max(0.0, min(times) - self._clock.now()), MAX_RETRY_AFTER_S)

    async def _look(self, transfer_id: TransferId) -> None:
        """Obey what is wanted of a transfer, and let it stand where it belongs."""
        if transfer_id in self._starting:
            # It does not stand in the queue any more, and has no run yet: put back, it would be sent twice at once.
            self._starting[transfer_id] = True
            return
        run = self._runs.get(transfer_id)
        if run is not None:
            found = await self._journal.read(lambda rows: rows.find(transfer_id))
            if isinstance(found, Dispatch):
                run.row = run.row.merged(found)  # what is told of its progress says what is wanted of it, too
            if not isinstance(found, Dispatch) or found.to_be_stopped:
                run.stop()
            return
        found, changed = await self._journal.write(partial(self._obey, transfer_id))
        if found is not None and changed:
            self.audience.changed(found)
        self._stand(transfer_id, found)

    def _obey(self, transfer_id: TransferId, rows: JournalRows) -> tuple[Dispatch | Removed | None, bool]:
        """Return what has become of a transfer that does not run, and whether it is another than it was."""
        row = rows.find(transfer_id)
        if not isinstance(row, Dispatch) or row.id != transfer_id:
            return (row if isinstance(row, Removed) else None), transfer_id in self.order
        now = self._clock.now()
        new = (
            row
            if row.transfer.phase in _AT_REST or not row.live
            else row.moved(row.transfer.requeue(), now=now)
        )
        new = new.obey(now=now)
        transfer = new.transfer
        if (
            transfer.phase is Phase.WAITING_RETRY
            and transfer.retry_at is not None
            and is_due(transfer.retry_at, now=now)
        ):
            new = new.moved(transfer.requeue(), now=now)
        elif transfer.phase is Phase.BLOCKED and self._stalls.seconds(new) >= self._limits.give_up_s:
            new = time_out(new, now=now, give_up_s=self._limits.give_up_s)
        if new is not row:
            rows.put(new)
        found = remove_if_wanted(rows, new, now=now)
        return found, found is not row

    def _stand(self, transfer_id: TransferId, found: Dispatch | Removed | None) -> None:
        """Let it stand where it belongs."""
        if not isinstance(found, Dispatch) or not found.live:
            self.order.forget(transfer_id)
            self._stalls.forget(transfer_id)
            if isinstance(found, Removed) or (found is not None and found.leftovers):
                self._background.start(self._clean_of(transfer_id), name=f"send.clean.{transfer_id}")
            return
        due_at, stalled_s = found.transfer.retry_at, self._stalls.seconds(found)
        if found.transfer.phase is Phase.BLOCKED:
            due_at = self._clock.now() + self._limits.give_up_s - stalled_s
        self.order.put(Waiting.of(found), due_at=due_at)

    async def _stumble(self, transfer_id: TransferId, error: Exception) -> None:
        """A mistake of ours: let this transfer rest, and the others go on."""
        log.error("send.mistake", transfer=transfer_id, exc_info=error)
        try:
            found = await self._journal.write(partial(self._let_rest, transfer_id, error))
            if found is not None:
                self.audience.changed(found)
            self._stand(transfer_id, found)
        except Exception as another:
            log.error("send.mistake", transfer=transfer_id, exc_info=another)
            self.order.look_again(transfer_id, self._clock.now() + AGAIN_S)

    def _let_rest(
        self, transfer_id: TransferId, error: Exception, rows: JournalRows
    ) -> Dispatch | Removed | None:
        row, now = rows.find(transfer_id), self._clock.now()
        if not isinstance(row, Dispatch) or row.id != transfer_id:
            return row if isinstance(row, Removed) else None
        new = self._verdict(stumble, row, error)
        if new is not row:
            rows.put(new)
        return remove_if_wanted(rows, new, now=now)

    def _folds_case(self, name: str) -> bool:
        remote = self._remotes.get(name)
        return remote is not None and remote.limits.folds_case

    def _verdict(self, verdict: Callable[..., Dispatch], row: Dispatch, error: BaseException) -> Dispatch:
        """Return what becomes of a row after an error, as this run counts and allows."""
        return verdict(
            row,
            error,
            now=self._clock.now(),
            chance=self._chance,
            stalled_s=self._stalls.seconds(row),
            give_up_s=self._limits.give_up_s,
        )

    async def _run(self, transfer_id: TransferId, lease: Lease) -> None:
        try:
            with lease:
                await self._run_one(transfer_id)
        except StorageError as error:
            # What the journal last took is what the row says; it is gone on with from there.
            log.warning("send.journal_failed", transfer=transfer_id, error=str(error))
            self._kicked.set()  # its slot is free by now
            await wait_or_sleep(self._stopping, self._clock, AGAIN_S)
        except Exception as error:  # noqa: BLE001 - rule 3; it is logged there
            await self._stumble(transfer_id, error)
        finally:
            self._starting.pop(transfer_id, None)
            self._runs.pop(transfer_id, None)
            self.touch(transfer_id)

    async def _run_one(self, transfer_id: TransferId) -> None:
        row = await self._journal.write(lambda rows: rows.find(transfer_id))
        if not isinstance(row, Dispatch) or not _may_run(row):
            return
        run = self._runs[transfer_id] = _Run(self, row)
        if self._starting.pop(transfer_id):
            self.touch(transfer_id)
        remote = self._remotes.get(row.remote)
        if remote is None:
            missing = f"there is no remote {row.remote!r} here; set it up, and resume this"
            await self._settle(run, None, PeerBlocked(Obstacle.CONFLICT, missing))
            return
        attempt = Attempt(row, run, self._ports_for(row, remote))
        # Owned here: it has ended when this method goes on.
        run.inner = asyncio.get_running_loop().create_task(
            self._attempt(run, remote, attempt), name=f"send.attempt.{transfer_id}"
        )
        if self._stopping.is_set():
            run.halt()
        await asyncio.wait({run.inner})
        await run.wait_noted()
        await self._after(run, remote, attempt)

    async def _attempt(self, run: _Run, remote: Remote, attempt: Attempt) -> None:
        if run.row.session is None and run.row.left:
            # Before another is begun: some remotes have room for one of a name only.
            run.row = run.row.without(await self._give_up(remote, run.row, run.row.left))
        await attempt.run()

    def _ports_for(self, row: Dispatch, remote: Remote) -> AttemptPorts:
        return AttemptPorts(
            remote=remote,
            policy=self._limits.policies.get(row.remote, VerifyPolicy()),
            files=self._files,
            clock=self._clock,
            throttle=self._throttle,
        )

    async def _after(self, run: _Run, remote: Remote, attempt: Attempt) -> None:
        assert run.inner is not None
        if run.inner.cancelled():
            if run.inner.cancelling():
                await self._halted(run, remote)
            else:
                # Something was cancelled that it shares with others. Made again at once, that may go on for ever.
                unasked = asyncio.CancelledError("nobody has stopped it")
                await run.save(lambda row: self._verdict(stumble, row, unasked))
            return
        error = run.inner.exception()
        if isinstance(error, RemoteHeld):
            until = self.order.held_until(run.row.remote) or self._clock.now()
            await run.save(
                lambda row: row.moved(row.transfer.wait_until(until, str(error)), now=self._clock.now())
            )
        elif error is not None:
            if attempt.chunk is not None and isinstance(error, PeerError) and error.too_slow:
                halved = attempt.chunk.halve().size
                run.row = replace(run.row, pace=halved)
            await self._settle(run, remote, error)

    async def _halted(self, run: _Run, remote: Remote) -> None:
        """Its attempt was stopped: because of what is wanted of it, or because we end."""
        row = await run.save(lambda row: row, durable=False)
        # Past the point of no return it goes on, later: the session may have made the file, and tells of it.
        if row.given_up and not row.transfer.past_return and row.session is not None:
            run.row = run.row.without(await self._give_up(remote, row, [row.session]))
        await run.save(lambda row: row.halt(now=self._clock.now()))

    async def _settle(self, run: _Run, remote: Remote | None, error: BaseException) -> None:
        row, now = run.row, self._clock.now()
        log.info(
            "send.attempt_failed",
            transfer=row.id,
            remote=row.remote,
            error=str(error),
            kind=type(error).__name__,
        )
        if isinstance(error, PeerError) and error.retry_after_s > 0:
            self.order.hold(row.remote, now + min(error.retry_after_s, MAX_RETRY_AFTER_S))
        if remote is not None and may_restart(row, error):
            await self._restart(run, remote, error)
            return
        await run.save(lambda row: self._verdict(settle, row, error))

    async def _restart(self, run: _Run, remote: Remote, error: BaseException) -> None:
        """The file has changed: give up what was begun with the old one, and queue the new one."""
        now = self._clock.now()
        try:
            source = await self._files.look(run.row.path)
        except (OSError, HaulierError) as found:
            gone: Exception = found
            await run.save(lambda row: self._verdict(settle, row, gone))
            return
        if run.row.session is not None:
            run.row = run.row.without(await self._give_up(remote, run.row, [run.row.session]))
        await run.save(
            lambda row: replace(
                row.moved(row.transfer.wait_until(now + 1.0, str(error)), now=now).restart(source),
                error=str(error),
            )
        )

    async def _give_up(
        self, remote: Remote, row: Dispatch, sessions: Sequence[RemoteSession]
    ) -> Collection[RemoteSession]:
        """Return which of these sessions the remote has given up; a remote that fails is not asked for the others."""
        given_up: list[RemoteSession] = []
        for session in sessions:
            outgoing = row.outgoing
            if session in row.left:
                # What the remote remembers of this transfer is of the session that came after this one.
                outgoing = replace(outgoing, id=TransferId(f"{row.id}, earlier"))
            try:
                async with asyncio.timeout(CLEAN_S):
                    await remote.cancel(outgoing, session)
            except RemoteSessionLost:
                given_up.append(session)  # begun where this remote is no more: nobody can
            except (HaulierError, TimeoutError) as error:
                log.info("send.session_left", transfer=row.id, remote=row.remote, error=str(error))
                if not isinstance(error, HaulierError) or error.retryable:
                    break
            except Exception:
                log.exception("send.session_left", transfer=row.id, remote=row.remote)
                break
            else:
                given_up.append(session)
        return given_up

    async def _clean_leftovers(self) -> None:
        """Cancel the sessions of transfers that ended while nobody could."""
        after: int | None = None
        while True:
            page = await self._journal.read(partial(_read_leftovers, after, BATCH))
            for _, row in page.rows:
                await self._clean(row)
            if page.next is None:
                return
            after = page.next

    async def _clean_of(self, transfer_id: TransferId) -> None:
        row = await self._journal.read(lambda rows: rows.leftover(transfer_id))
        if row is not None:
            await self._clean(row)

    async def _clean(self, row: Dispatch) -> None:
        remote = self._remotes.get(row.remote)
        if remote is not None and (given_up := await self._give_up(remote, row, row.leftovers)):
            await self._journal.write(lambda rows: rows.forget_sessions(row.id, given_up))

    async def _prune(self) -> None:
        """Once a day: forget what is old, and try again to give up what was left at remotes."""
        now = self._clock.now()
        if now < self._prune_at <= now + DAY_S:  # further away: the clock was set back
            return
        if self._leftovers is None or self._leftovers.done():
            self._leftovers = self._background.start(self._clean_leftovers(), name="send.leftovers")
        before = now - self._limits.retention_s
        while await self._journal.write(lambda rows: rows.prune(before=before, limit=BATCH)) == BATCH:
            pass
        self._prune_at = now + DAY_S  # last: while the journal cannot be used, this is done again


_AT_REST: Final = frozenset({Phase.QUEUED, Phase.WAITING_RETRY, Phase.PAUSED, Phase.BLOCKED})


def _may_run(row: Dispatch) -> bool:
    """Whether it runs; also when it is not wanted any more, if nobody knows yet what became of it."""
    return row.transfer.phase is Phase.QUEUED and (row.wanted is Wanted.RUN or row.transfer.past_return)


def _read_leftovers(after: int | None, limit: int, rows: JournalRows) -> JournalPage:
    return rows.leftovers(after=after, limit=limit)
