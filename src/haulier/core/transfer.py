"""One outgoing or peer-to-peer attempt: its phases, and the one outcome it ends with.

Rule 1: a transfer ends once. Whatever asks an ended one to end again gets the outcome that it has.
Rule 2: after the point of no return (the other side may hold the file as complete) a cancel is too late:
        the attempt runs to its end and tells what truly happened.
Rule 3: what is shown of the progress is derived from bytes and times; nothing is decided by it.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Final, NewType

from haulier.core.values import dataclass, replace

TransferId = NewType("TransferId", str)
"""Never changes; what the other side calls the same thing is another field."""

SMOOTHING: Final = 0.2
"""Weight of the newest sample in the shown speed. Precedent: what Soulseek clients show."""
SAMPLE_S: Final = 1.0
"""Seconds that a sample of the speed covers at least."""


class Direction(StrEnum):
    """Which way the bytes go, seen from here."""

    UPLOAD = "upload"
    DOWNLOAD = "download"


class Priority(IntEnum):
    """How urgent its owner finds it; ageing adds to it, see `core/fairness.py`."""

    LOW = -1
    NORMAL = 0
    HIGH = 1


class Phase(StrEnum):
    """Where an attempt is."""

    QUEUED = "queued"
    """Waits for a slot of ours."""
    REQUESTED = "requested"
    QUEUED_REMOTELY = "queued_remotely"
    """Waits for a slot of the other side."""
    INITIALIZING = "initializing"
    IN_PROGRESS = "in_progress"
    WAITING_RETRY = "waiting_retry"
    """Backs off, without a slot, until a time and for a reason."""
    PAUSED = "paused"
    BLOCKED = "blocked"
    """Somebody has to do something first: see `Obstacle`."""
    ENDED = "ended"


class Step(StrEnum):
    """What an attempt in progress is doing."""

    UPLOADING = "uploading"
    COMMITTING = "committing"
    VERIFYING = "verifying"


class Obstacle(StrEnum):
    """What keeps a blocked transfer from going on."""

    QUOTA = "quota"
    AUTH = "auth"
    CONFLICT = "conflict"


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"
    """By us or by the peer."""
    SUPERSEDED = "superseded"
    """Newer content for the same target has taken its place."""
    TIMED_OUT = "timed_out"
    REJECTED = "rejected"
    """The other side refuses."""
    ABORTED = "aborted"
    """The sizes differ."""
    ERRORED = "errored"


_RESTING: Final = frozenset({Phase.WAITING_RETRY, Phase.PAUSED, Phase.BLOCKED})
_FROM_ANY_ACTIVE: Final = _RESTING | {Phase.QUEUED, Phase.ENDED}
"""An attempt that is cut, by a stop of ours too, goes back to the queue."""

TRANSITIONS: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.QUEUED: _RESTING | {Phase.REQUESTED, Phase.ENDED},
    Phase.REQUESTED: _FROM_ANY_ACTIVE | {Phase.QUEUED_REMOTELY, Phase.INITIALIZING},
    Phase.QUEUED_REMOTELY: _FROM_ANY_ACTIVE | {Phase.REQUESTED, Phase.INITIALIZING},
    Phase.INITIALIZING: _FROM_ANY_ACTIVE | {Phase.IN_PROGRESS},
    Phase.IN_PROGRESS: _FROM_ANY_ACTIVE,
    Phase.WAITING_RETRY: frozenset({Phase.QUEUED, Phase.PAUSED, Phase.BLOCKED, Phase.ENDED}),
    Phase.PAUSED: frozenset({Phase.QUEUED, Phase.ENDED}),
    Phase.BLOCKED: frozenset({Phase.QUEUED, Phase.PAUSED, Phase.ENDED}),
    Phase.ENDED: frozenset(),
}
"""Each phase and what may follow it; the first one is where a transfer begins."""

_NEXT_STEP: Final[Mapping[Step | None, Step]] = {
    Step.UPLOADING: Step.COMMITTING,
    Step.COMMITTING: Step.VERIFYING,
}

_LABELS: Final[Mapping[Phase | Outcome, str]] = {
    Phase.QUEUED: "Queued, Locally",
    Phase.REQUESTED: "Requested",
    Phase.QUEUED_REMOTELY: "Queued, Remotely",
    Phase.INITIALIZING: "Initializing",
    Phase.IN_PROGRESS: "InProgress",
    Phase.WAITING_RETRY: "Waiting, Retry",
    Phase.PAUSED: "Paused",
    Phase.BLOCKED: "Blocked",
    Outcome.SUCCEEDED: "Completed, Succeeded",
    Outcome.CANCELLED: "Completed, Cancelled",
    Outcome.SUPERSEDED: "Completed, Superseded",
    Outcome.TIMED_OUT: "Completed, TimedOut",
    Outcome.REJECTED: "Completed, Rejected",
    Outcome.ABORTED: "Completed, Aborted",
    Outcome.ERRORED: "Completed, Errored",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Bytes per second of one attempt: a moving average over samples of at least a second each.

    Times are seconds of any one clock; one that steps back gives no sample.
    """

    began_at: float
    began_with: int
    """Bytes that were there before: a resumed attempt is not credited with them."""
    sampled_at: float
    sampled: int
    speed: float | None = None
    """None before the first sample."""

    @classmethod
    def start(cls, offset: int, *, now: float) -> "Pace":
        """Return the pace of an attempt that begins at `offset`."""
        return cls(began_at=now, began_with=offset, sampled_at=now, sampled=offset)

    def moved_to(self, done: int, *, now: float) -> "Pace":
        """`done` bytes are there; a second after the last sample they make the next one."""
        elapsed = now - self.sampled_at
        if elapsed < SAMPLE_S:
            return self
        # The other side may hold less than it said before; bytes that are sent again are no speed below 0.
        sample = max(0, done - self.sampled) / elapsed
        speed = sample if self.speed is None else self.speed + SMOOTHING * (sample - self.speed)
        return replace(self, sampled_at=now, sampled=done, speed=speed)

    def overall(self, done: int, *, now: float) -> float | None:
        """Return the average over the whole attempt; None when no time has passed."""
        elapsed = now - self.began_at
        return max(0, done - self.began_with) / elapsed if elapsed > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How far a transfer is, as people are shown it."""

    done: int
    size: int
    percent: float
    """0 to 100; 0 for an empty file, which is never on its way."""
    speed: float | None
    """Bytes per second; None while unknown."""
    eta_s: float | None
    """Seconds to go; None without a speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One attempt; a change returns the next value."""

    id: TransferId
    direction: Direction
    line: str
    """Whose turn it takes: a remote's name, a peer's."""
    size: int
    queued_at: float
    priority: Priority = Priority.NORMAL
    phase: Phase = Phase.QUEUED
    step: Step | None = None
    """Set exactly while in progress."""
    done: int = 0
    """Bytes that the receiving side has confirmed."""
    sent: int = 0
    """Bytes that have gone, those on their way included, as far as they were noted; fewer than `done` where nobody counts them.

    Kept by rests: what the other side has of them it tells when the next attempt begins. Nothing goes on from there. Not kept by
    an obstacle: they were refused.
    """
    past_return: bool = False
    """Whether the other side may hold the file as complete; kept by rests, until it surely does not."""
    attempts: int = 0
    pace: Pace | None = None
    retry_at: float | None = None
    """Set exactly while waiting to retry."""
    obstacle: Obstacle | None = None
    """Set exactly while blocked."""
    reason: str | None = None
    """Why it rests or how it failed, in words."""
    outcome: Outcome | None = None
    """Set exactly when it has ended."""
    speed: float | None = None
    """Bytes per second of the attempt that runs, as far as it is known; at the end the average of the one that ended it.

    A field of its own beside `pace`, so that who reads the row elsewhere is shown it, too.
    """

    @property
    def label(self) -> str:
        """The compound name of phase and outcome."""
        return _LABELS[self.outcome or self.phase]

    @property
    def snapshot(self) -> Snapshot:
        """How far it is."""
        speed, far = self.speed, min(self.size, max(self.done, self.sent))
        return Snapshot(
            done=far,
            size=self.size,
            percent=100 * far / self.size if self.size else 0.0,
            speed=speed,
            eta_s=(self.size - far) / speed if speed and self.phase is Phase.IN_PROGRESS else None,
        )

    def resized(self, size: int) -> "Transfer":
        """Take the size that the source has now; to be said before bytes flow."""
        assert self.pace is None, self.phase
        return replace(self, size=size, done=min(self.done, size))

    def request(self) -> "Transfer":
        """Ask the other side; from the queue this is what an attempt begins with."""
        began = self.phase is Phase.QUEUED
        return replace(self._enter(Phase.REQUESTED), attempts=self.attempts + began)

    def queue_remotely(self) -> "Transfer":
        """The other side has put it into its own queue."""
        return self._enter(Phase.QUEUED_REMOTELY)

    def initialize(self) -> "Transfer":
        """The other side agrees; the session or connection is being made."""
        return self._enter(Phase.INITIALIZING)

    def begin(self, offset: int, *, now: float, undecided: bool = False) -> "Transfer":
        """Bytes flow from `offset` on, which is what the other side says that it holds of an open session.

        Undecided: a request that went before may make the file of it yet, so that one that was past the point of no return
        still is.
        """
        assert 0 <= offset <= self.size, (offset, self.size)
        entered = self._enter(Phase.IN_PROGRESS)
        pace = Pace.start(offset, now=now)
        past_return = self.past_return and undecided
        return replace(entered, step=Step.UPLOADING, done=offset, sent=0, pace=pace, past_return=past_return)

    def start_over(self) -> "Transfer":
        """Stand before the point of no return: another session is begun, of which nothing went yet."""
        assert self.phase is Phase.INITIALIZING, self.phase
        return replace(self, past_return=False)

    def confirm(self, done: int, *, now: float) -> "Transfer":
        """The receiving side holds `done` bytes; fewer than before when it has lost some."""
        assert 0 <= done <= self.size, (done, self.size)
        return self._count(done, self.sent, now=now)

    def move(self, sent: int, *, now: float) -> "Transfer":
        """`sent` bytes have gone; fewer than before when some go again."""
        return self._count(self.done, sent, now=now)

    def keep_up(self, other: "Transfer") -> "Transfer":
        """Return this one with what has been counted in `other` meanwhile, as long as bytes flow in both."""
        if self.pace is None or other.pace is None:
            return self
        return replace(self, sent=other.sent, pace=other.pace, speed=other.speed)

    def _count(self, done: int, sent: int, *, now: float) -> "Transfer":
        assert self.pace is not None, self.phase
        counted = replace(self, done=done, sent=sent)
        pace = self.pace.moved_to(counted.snapshot.done, now=now)
        return counted if pace is self.pace else replace(counted, pace=pace, speed=pace.speed)

    def advance(self) -> "Transfer":
        """Go on to commit, which is the point of no return, then to verify."""
        assert self.step in _NEXT_STEP, self.step
        return replace(self, step=_NEXT_STEP[self.step], past_return=True)

    def turn_back(self) -> "Transfer":
        """Stand before the point of no return again: the request that was to pass it was never sent."""
        assert self.step is Step.COMMITTING, self.step
        return replace(self, step=Step.UPLOADING, past_return=False)

    def wait_until(self, retry_at: float, reason: str) -> "Transfer":
        """Back off after a failure that can pass by itself."""
        return replace(self._enter(Phase.WAITING_RETRY), retry_at=retry_at, reason=reason)

    def pause(self) -> "Transfer":
        """Rest until resumed; nothing changes past the point of no return, at rest already, or at the end."""
        if self.past_return or self.phase in {Phase.PAUSED, Phase.ENDED}:
            return self
        return self._enter(Phase.PAUSED)

    def block(self, obstacle: Obstacle, reason: str) -> "Transfer":
        """Rest until somebody has removed the obstacle."""
        return replace(self._enter(Phase.BLOCKED), obstacle=obstacle, reason=reason, sent=0)

    def requeue(self) -> "Transfer":
        """Wait for a slot again, after a rest or because the attempt was cut."""
        return self._enter(Phase.QUEUED)

    def cancel(self, *, now: float) -> "Transfer":
        """End as cancelled, unless it has ended or is past the point of no return."""
        return self if self.past_return else self.end(Outcome.CANCELLED, now=now)

    def supersede(self, *, now: float) -> "Transfer":
        """End because newer content takes its place; too late where `cancel` is."""
        return self if self.past_return else self.end(Outcome.SUPERSEDED, now=now)

    def end(self, outcome: Outcome, *, now: float, reason: str | None = None) -> "Transfer":
        """End with what happened; one that has ended stays as it is."""
        if self.phase is Phase.ENDED:
            return self
        speed = None if self.pace is None else self.pace.overall(self.done, now=now)
        return replace(self._enter(Phase.ENDED), outcome=outcome, reason=reason, speed=speed, sent=0)

    def _enter(self, phase: Phase) -> "Transfer":
        """Return the value in `phase`, without what belonged to the phase before."""
        assert phase in TRANSITIONS[self.phase], f"{self.phase} -> {phase}"
        return replace(
            self, phase=phase, step=None, pace=None, speed=None, retry_at=None, obstacle=None, reason=None
        )
