"""One download from a peer, and what peers say about it."""

import asyncio
import os
from dataclasses import field
from pathlib import Path
from typing import Final

from haulier.core.transfer import Phase, Step, Transfer, TransferId
from haulier.core.values import dataclass, replace
from haulier.ports import PeerTransfer
from haulier.soulseek.arrivals import Expected
from haulier.soulseek.inbox import Answer, Inbox, Lost
from haulier.soulseek.partfile import PartFile
from haulier.soulseek.peer_links import PeerLink
from haulier.soulseek.peer_messages import PlaceInQueue

LARGEST_FILE: Final = 2**63 - 1
"""Bytes. No file system has larger ones, and no row of a database has room for their size."""


_UNDER_WAY: Final = frozenset({Phase.REQUESTED, Phase.QUEUED_REMOTELY, Phase.INITIALIZING, Phase.IN_PROGRESS})
"""While the peer knows of an attempt."""
_TAKES_FIRST: Final = (
    Phase.QUEUED_REMOTELY,
    Phase.REQUESTED,
    Phase.QUEUED,
    Phase.WAITING_RETRY,
    Phase.INITIALIZING,
    Phase.IN_PROGRESS,
    Phase.PAUSED,
    Phase.ENDED,
)
"""Whom of those that want the same file its peer's words are for: first those that wait for some."""


@dataclass(eq=False)
class Download:
    """One that has not ended, or has just."""

    transfer: Transfer
    file: str
    target: Path
    sized: bool
    """Whether the size is what somebody has told us."""
    inbox: Inbox = field(default_factory=Inbox)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    came_back: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    wanted: Phase | None = None
    """What an operator wants instead of going on."""
    publishing: bool = False
    """Whether an earlier run has written down that it publishes the file."""
    place: int | None = None
    expected: Expected | None = None
    """What an offer that we have accepted is to bring."""
    waits_for_slot: bool = False
    broken_off: int = 0
    """Attempts that we have broken off, and of whose end the peer may still tell."""
    asked_over: PeerLink | None = None
    asked_at: float = 0.0
    """On the event loop's clock."""
    failures: int = 0
    retry_of: TransferId | None = None

    @classmethod
    def restored(cls, kept: PeerTransfer) -> "Download":
        """Return one that an earlier run has left; what ran then waits."""
        resting = kept.transfer.phase in {Phase.QUEUED, Phase.PAUSED}
        transfer = kept.transfer if resting else replace(kept.transfer.requeue(), speed=None)
        download = cls(transfer, kept.file, Path(kept.target), sized=kept.transfer.size > 0)
        download.retry_of = kept.retry_of
        download.broken_off = 1
        download.publishing = kept.transfer.step is Step.COMMITTING
        return download

    @property
    def id(self) -> TransferId:
        """Its id."""
        return self.transfer.id

    @property
    def user(self) -> str:
        """From whom it comes."""
        return self.transfer.line

    @property
    def part(self) -> PartFile:
        """What is there of it, beside its target."""
        return PartFile(self.target, user=self.user, file=self.file, size=self.transfer.size)

    @property
    def turn(self) -> int:
        """Of several that want the same file, the lowest is the one that its peer speaks of."""
        return _TAKES_FIRST.index(self.transfer.phase)

    def expects(self, token: int) -> bool:
        """Whether it has accepted the offer with that token, and the file has not come yet."""
        return self.expected is not None and self.expected.token == token

    def hear(self, answer: Answer | Lost) -> None:
        """Take what its peer says, but for offers."""
        if self.transfer.phase is not Phase.PAUSED:
            self.inbox.put(answer)
        elif not isinstance(answer, Lost):
            self.take_for_broken_off(answer)

    def break_off(self) -> None:
        """The attempt is not gone on with, and what its peer has said about it no longer matters."""
        self.broken_off += self.transfer.phase in _UNDER_WAY
        for answer in self.inbox.take_answers():
            if not isinstance(answer, Lost):
                self.take_for_broken_off(answer)

    def take_for_broken_off(self, answer: Answer) -> bool:
        """Take this for the end of an attempt that we have broken off, which says nothing about a later one, if one is open.

        Neither names an attempt; so of a peer's words about an end the first are taken for the older one's. Whoever
        meant the newer one says it again when asked again.
        """
        if isinstance(answer, PlaceInQueue) or not self.broken_off:
            return False
        self.broken_off -= 1
        return True

    def kept(self, *, now: float) -> PeerTransfer:
        """Return what is kept of it."""
        return PeerTransfer(
            transfer=replace(self.transfer, pace=None, speed=self.transfer.snapshot.speed),
            file=self.file,
            retry_of=self.retry_of,
            target=os.fspath(self.target),
            ended_at=now if self.transfer.phase is Phase.ENDED else None,
        )
