"""Who of those that have not ended may start now, and when somebody else may.

Rule 1: of one target only the eldest stands in the queue; the next one stands there when that has ended. Where case does
        not matter, targets that differ in it alone are one; a remote is asked that only when two such are there.
Rule 2: a remote that has asked to wait is passed over, by everybody, until its time is over. Waiting holds no slot.
Rule 3: a clock that is set back lets nobody wait for longer than the longest delay.
"""

from collections.abc import Callable, Iterable
from heapq import heappop, heappush

from haulier.core.fairness import Entry, RankedQueue
from haulier.core.retry import is_due
from haulier.core.transfer import Phase, TransferId
from haulier.engine.slots import Lease, Slots
from haulier.sending_ports import Waiting


class SendOrder:
    """The live transfers of a journal that do not run.

    Args:
        slots: which of them take.
        now: seconds since the epoch.
        folds_case: whether the remote of that name takes targets that differ in case alone for one.
    """

    def __init__(self, slots: Slots, now: Callable[[], float], folds_case: Callable[[str], bool]) -> None:
        self._slots = slots
        self._now = now
        self._folds_case = folds_case
        self._queue: RankedQueue[TransferId] = RankedQueue()
        self._targets: dict[tuple[str, str], list[TransferId]] = {}
        """Whoever may have to go one after the other: of one remote, and of targets that are alike but for case."""
        self._behind: set[TransferId] = set()
        """Those of them that others go before."""
        self._known: dict[TransferId, Waiting] = {}
        self._due: list[tuple[float, int, TransferId]] = []
        self._due_at: dict[TransferId, float] = {}
        self._count = 0
        self._latest = 0.0
        self._holds: dict[str, float] = {}

    def __contains__(self, transfer_id: TransferId) -> bool:
        return transfer_id in self._known

    def place(self, transfer_id: TransferId) -> int | None:
        """Return 1 + how many would start before it; None when it does not wait for a slot."""
        return self._queue.place(transfer_id, now=self._now())

    def put(self, waiting: Waiting, *, due_at: float | None) -> None:
        """Let it stand where it belongs; whatever was known of it before is replaced.

        Args:
            waiting: what it is.
            due_at: when it has to be looked at again, if it has.
        """
        stands = waiting.id in self._queue or waiting.phase is not Phase.QUEUED
        if stands and self._known.get(waiting.id) == waiting and self._due_at.get(waiting.id) == due_at:
            return
        self._unqueue(waiting.id)
        self._known[waiting.id] = waiting
        line = self._targets.setdefault(_alike(waiting), [])
        if waiting.id not in line:
            line.append(waiting.id)
        if due_at is not None:
            self._wake_at(waiting.id, due_at)
        self._take_turn(waiting, line)

    def forget(self, transfer_id: TransferId) -> None:
        """It has ended, or is gone: the next one of its target has its turn."""
        self._unqueue(transfer_id)
        known = self._known.pop(transfer_id, None)
        if known is None:
            return
        self._behind.discard(transfer_id)
        line = self._targets[_alike(known)]
        line.remove(transfer_id)
        if not line:
            del self._targets[_alike(known)]
        for later in line:
            if later in self._behind:
                self._take_turn(self._known[later], line)

    def _take_turn(self, waiting: Waiting, line: list[TransferId]) -> None:
        """Let one stand in the queue if nobody goes before it."""
        elder = (self._known[other] for other in line[: line.index(waiting.id)])
        if any(other.target == waiting.target or self._folds_case(waiting.remote) for other in elder):
            self._behind.add(waiting.id)
        else:
            self._behind.discard(waiting.id)
            self._enqueue(waiting)

    def hold(self, remote: str, until: float) -> None:
        """Let the remote be, until then; never less long than was asked for before."""
        self._holds[remote] = max(until, self.held_until(remote) or 0.0)

    def held_until(self, remote: str) -> float | None:
        """Return until when the remote is let be; None when it is not."""
        until = self._holds.get(remote)
        if until is not None and is_due(until, now=self._now()):
            del self._holds[remote]
            return None
        return until

    def start_next(self) -> tuple[Entry[TransferId], Lease] | None:
        """Take out who starts now, with its slot; None when nobody can."""
        lines = [line for line in self._queue.lines if self.held_until(line) is None]
        entry = self._next(lines, small_only=False) or self._next(lines, small_only=True)
        if entry is None:
            return None
        lease = self._slots.acquire_nowait(entry.line, small=entry.small)
        assert lease is not None, entry
        self._queue.remove(entry.key)
        return entry, lease

    def _next(self, lines: Iterable[str], *, small_only: bool) -> Entry[TransferId] | None:
        free = [line for line in lines if self._slots.is_free(line, small=small_only)]
        return self._queue.next(free, now=self._now(), small_only=small_only)

    def take_due(self) -> list[TransferId]:
        """Take out those whose time has come."""
        now, due = self._now(), list[TransferId]()
        while self._due and self._due[0][0] <= now:
            at, _, transfer_id = heappop(self._due)
            if self._due_at.get(transfer_id) == at:
                del self._due_at[transfer_id]
                due.append(transfer_id)
        if now < self._latest:
            due += self._take_left_behind(now)
        self._latest = now
        return due

    def _take_left_behind(self, now: float) -> list[TransferId]:
        """The clock was set back: take out those that would wait for longer than they should, by the time that it showed before."""
        left = [name for name, at in self._due_at.items() if is_due(at, now=now)]
        for transfer_id in left:
            del self._due_at[transfer_id]
        return left

    def look_again(self, transfer_id: TransferId, at: float) -> None:
        """Let it be until then; nothing is known of it that could be relied on."""
        self._unqueue(transfer_id)
        self._wake_at(transfer_id, at)

    def next_due_at(self) -> float | None:
        """Return when somebody's time comes, or a remote may be asked again; None when nobody's does."""
        while self._due and self._due_at.get(self._due[0][2]) != self._due[0][0]:
            heappop(self._due)
        times = [self._due[0][0]] if self._due else []
        times += [until for line in list(self._queue.lines) if (until := self.held_until(line)) is not None]
        return min(times, default=None)

    def _wake_at(self, transfer_id: TransferId, at: float) -> None:
        self._count += 1
        self._due_at[transfer_id] = at
        heappush(self._due, (at, self._count, transfer_id))

    def _enqueue(self, waiting: Waiting) -> None:
        if waiting.phase is not Phase.QUEUED or waiting.id in self._queue:
            return
        self._queue.add(
            Entry(
                key=waiting.id,
                line=waiting.remote,
                priority=waiting.priority,
                size=waiting.size,
                arrived_at=waiting.queued_at,
            )
        )
        if waiting.bumped_at is not None:
            self._queue.bump(waiting.id)

    def _unqueue(self, transfer_id: TransferId) -> None:
        self._queue.remove(transfer_id)
        self._due_at.pop(transfer_id, None)


def _alike(waiting: Waiting) -> tuple[str, str]:
    return waiting.remote, waiting.target.casefold()
