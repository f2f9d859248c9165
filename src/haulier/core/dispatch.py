"""A transfer to a remote as its journal keeps it, and what others may ask of it.

Rule 1: the journal's runner alone moves a transfer from phase to phase. Everybody else adds rows, or writes down what is
        wanted; the runner obeys.
Rule 2: of one target at most one transfer runs and one waits behind it. Newer content takes the place of both; the same
        content again is the same transfer.
Rule 3: past the point of no return nothing is obeyed: the transfer ends with what truly happened.
"""

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Final

from haulier.core.outgoing import Checksum, IfExists, Outgoing, RemoteSession, Stored
from haulier.core.transfer import Outcome, Phase, Priority, Transfer, TransferId
from haulier.core.values import dataclass, replace

MAX_ID: Final = 128
"""Characters of an id that a caller brings: room for a hash or two UUIDs."""


class Wanted(StrEnum):
    """What the owner wants of a transfer."""

    RUN = "run"
    PAUSE = "pause"
    """Also where an obstacle stopped it: it is not to run until somebody says so."""
    CANCEL = "cancel"
    REMOVE = "remove"
    """Cancel, then forget."""


class OnChange(StrEnum):
    """What happens when the local file changes while it is sent."""

    RESTART = "restart"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What tells one revision of a local file from another."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    edges: str
    """A hash of its first and last bytes, hex: some programs write without touching times."""


UNSEEN: Final = Fingerprint(device=0, inode=0, size=0, mtime_ns=0, ctime_ns=0, edges="")
"""Of a file that could not be looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """One row of the journal; a change returns the next value. Times are seconds since the epoch, UTC."""

    transfer: Transfer
    target: str
    path: str
    """Of the local file, absolute."""
    source: Fingerprint
    if_exists: IfExists = IfExists.REPLACE
    on_change: OnChange = OnChange.RESTART
    wanted: Wanted = Wanted.RUN
    superseded_by: TransferId | None = None
    retry_of: TransferId | None = None
    bumped_at: float | None = None
    intended_at: float | None = None
    """When the first attempt began: whatever lies about at the remote from since then may be ours."""
    session: RemoteSession | None = None
    left: tuple[RemoteSession, ...] = ()
    """Sessions of earlier revisions of the file that the remote has not given up."""
    pace: int | None = None
    """Bytes of the next chunk, where the remote leaves them to us."""
    restarts: int = 0
    """How often it began anew because the file had changed."""
    furthest: int = 0
    """Bytes of this revision that the remote has confirmed at its best, whichever session that was."""
    failures: int = 0
    """In a row, without confirmed progress."""
    stalled_at: float | None = None
    """When the first of them was."""
    sum: Checksum | None = None
    """Of the bytes that were sent, in the words of the remote."""
    stored: Stored | None = None
    """What the remote holds, once it does."""
    error: str | None = None
    """The last failure, in words; a success forgets it."""
    ended_at: float | None = None

    @property
    def id(self) -> TransferId:
        """Never changes."""
        return self.transfer.id

    @property
    def remote(self) -> str:
        """The name of the remote; its line in the queue."""
        return self.transfer.line

    @property
    def outgoing(self) -> Outgoing:
        """What the remote is asked for."""
        return Outgoing(
            id=self.id,
            name=self.target,
            size=self.source.size,
            modified_at=self.source.mtime_ns / 1e9,
            intended_at=self.transfer.queued_at if self.intended_at is None else self.intended_at,
            if_exists=self.if_exists,
        )

    @property
    def leftovers(self) -> tuple[RemoteSession, ...]:
        """What lies at the remote and is of no use any more."""
        ours = () if self.live or self.session is None else (self.session,)
        return (*self.left, *ours)

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.transfer.phase is not Phase.ENDED

    @property
    def given_up(self) -> bool:
        """Whether its owner wants it no more."""
        return self.wanted in {Wanted.CANCEL, Wanted.REMOVE}

    @property
    def to_be_stopped(self) -> bool:
        """Whether it runs although it is not to."""
        return self.wanted is not Wanted.RUN and not self.transfer.past_return

    def want(self, wanted: Wanted) -> "Dispatch":
        """Write down what is wanted. One that ended, or was given up, stays so; removing comes after cancelling."""
        if not self.live or self.wanted is Wanted.REMOVE:
            return self
        if self.wanted is Wanted.CANCEL and wanted is not Wanted.REMOVE:
            return self
        return replace(self, wanted=wanted)

    def supersede(self, by: TransferId) -> "Dispatch":
        """Give it up for newer content, unless it was given up for something else already."""
        return self if self.given_up else replace(self, wanted=Wanted.CANCEL, superseded_by=by)

    def prioritize(self, priority: Priority) -> "Dispatch":
        """Set the priority; a bump is one within the old one."""
        if priority == self.transfer.priority or not self.live:
            return self
        return replace(self, transfer=replace(self.transfer, priority=priority), bumped_at=None)

    def bump(self, *, now: float) -> "Dispatch":
        """Make it the first of its priority."""
        return replace(self, bumped_at=now) if self.live else self

    def obey(self, *, now: float) -> "Dispatch":
        """Return what becomes of one that does not run, by what is wanted of it."""
        if self.given_up:
            return self._give_up(now=now)
        if self.wanted is Wanted.PAUSE:
            rests = self.transfer.phase is Phase.BLOCKED
            return self if rests else self.moved(self.transfer.pause(), now=now)
        if self.transfer.phase in {Phase.PAUSED, Phase.BLOCKED}:
            return self.moved(self.transfer.requeue(), now=now)
        return self

    def _give_up(self, *, now: float) -> "Dispatch":
        end = Transfer.cancel if self.superseded_by is None else Transfer.supersede
        ended = end(self.transfer, now=now)
        if ended is self.transfer and ended.phase is Phase.BLOCKED:
            # Nobody will ever ask the remote what became of it.
            ended = ended.end(Outcome.ERRORED, now=now, reason=f"given up while unfinished: {ended.reason}")
        return self.moved(ended, now=now)

    def moved(self, transfer: Transfer, *, now: float) -> "Dispatch":
        """Return the row with the next value of its transfer; itself where that is the one it has."""
        if transfer is self.transfer:
            return self
        ended = transfer.phase is Phase.ENDED and self.live
        return replace(
            self,
            transfer=transfer,
            error=None if transfer.outcome is Outcome.SUCCEEDED else self.error,
            ended_at=now if ended else self.ended_at,
        )

    def confirmed(self, transfer: Transfer, *, now: float) -> "Dispatch":
        """Return the row after the remote has confirmed bytes: progress forgives the failures before it.

        Bytes that were there before are none: a remote that loses every session would be sent to without end.
        """
        if transfer.done <= self.furthest:
            return self.moved(transfer, now=now)
        return replace(self.moved(transfer, now=now), furthest=transfer.done, failures=0, stalled_at=None)

    def only_moved_from(self, before: "Dispatch") -> bool:
        """Return whether nothing but how far it is differs from what it was."""
        figures = {"pace": before.pace, "furthest": before.furthest}
        return replace(self, transfer=_uncounted(self.transfer), **figures) == replace(
            before, transfer=_uncounted(before.transfer)
        )

    def restart(self, source: Fingerprint) -> "Dispatch":
        """Begin anew with the file as it is now; one session never gets bytes of two revisions, and is left where it lies."""
        transfer = replace(self.transfer, size=source.size, done=0, sent=0, past_return=False)
        return replace(
            self,
            transfer=transfer,
            source=source,
            session=None,
            left=self.left if self.session is None else (*self.left, self.session),
            furthest=0,
            sum=None,
            stored=None,
            restarts=self.restarts + 1,
        )

    def without(self, given_up: Collection[RemoteSession]) -> "Dispatch":
        """Return the row after the remote has given up these sessions."""
        left = tuple(each for each in self.left if each not in given_up)
        return replace(self, session=None if self.session in given_up else self.session, left=left)

    def merged(self, other: "Dispatch") -> "Dispatch":
        """Return the runner's row with what everybody else may have written into it meanwhile."""
        return replace(
            self,
            transfer=replace(self.transfer, priority=other.transfer.priority),
            wanted=other.wanted,
            superseded_by=other.superseded_by,
            bumped_at=other.bumped_at,
        )

    def halt(self, *, now: float) -> "Dispatch":
        """Return the row after its attempt was stopped: by what is wanted of it, or because its runner ends."""
        begun = self.transfer.phase is not Phase.QUEUED
        return (self.moved(self.transfer.requeue(), now=now) if begun else self).obey(now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What is left of a row that is gone, for the retention time."""

    id: TransferId
    removed_at: float
    reason: str = "it was removed"


def enqueue(new: Dispatch, live: Sequence[Dispatch]) -> tuple[TransferId, list[Dispatch]]:
    """Return the id under which `new` is sent, and the rows that change with it.

    One that an obstacle stopped is tried again when it is asked for again: perhaps the obstacle is gone. One that somebody paused
    rests on.

    Args:
        new: What is asked for.
        live: The transfers to the same target that have not ended, the oldest first.
    """
    last = live[-1] if live else None
    if last is not None and not last.given_up and _same(last, new):
        joined = last.prioritize(max(last.transfer.priority, new.transfer.priority))
        if joined.transfer.phase is Phase.BLOCKED:
            joined = joined.want(Wanted.RUN)
        return last.id, [joined] if joined is not last else []
    given_up = [row.supersede(new.id) for row in live]
    return new.id, [row for row, old in zip(given_up, live, strict=True) if row is not old] + [new]


def is_repeat(new: Dispatch, known: Dispatch) -> bool:
    """Return whether `new` asks for what is known under its id already: the same content for the same target.

    Where a file is on a disk says nothing about that: perhaps it was moved, or its file system is another device since a restart.
    """
    if (new.remote, new.target) != (known.remote, known.target):
        return False
    return known.source == UNSEEN or _content(new) == _content(known)


def _uncounted(transfer: Transfer) -> Transfer:
    return replace(transfer, done=0, sent=0, pace=None, speed=None)


def _content(row: Dispatch) -> tuple[int, int, str]:
    return row.source.size, row.source.mtime_ns, row.source.edges


def _same(one: Dispatch, other: Dispatch) -> bool:
    return (one.path, one.source, one.if_exists) == (other.path, other.source, other.if_exists)


def again(row: Dispatch, new_id: TransferId, source: Fingerprint, *, now: float) -> Dispatch:
    """Return a new transfer of the same file to the same place, as the file is now."""
    transfer = Transfer(
        id=new_id,
        direction=row.transfer.direction,
        line=row.remote,
        size=source.size,
        queued_at=now,
        priority=row.transfer.priority,
    )
    return Dispatch(
        transfer=transfer,
        target=row.target,
        path=row.path,
        source=source,
        if_exists=row.if_exists,
        on_change=row.on_change,
        retry_of=row.id,
    )
