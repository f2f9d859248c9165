"""One download from a peer, and what peers say about it."""

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from haulier.core.transfer import Phase, Step, Transfer, TransferId
from haulier.ports import PeerTransfer
from haulier.soulseek.partfile import PartFile
from haulier.soulseek.peer_links import PeerLink
from haulier.soulseek.peer_messages import PlaceInQueue, TransferRequest, UploadDenied, UploadFailed

LARGEST_FILE: Final = 2**63 - 1
"""Bytes. No file system has larger ones, and no row of a database has room for their size."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Our question is gone: with its connection, or with another download that took its answer."""


Answer = TransferRequest | UploadDenied | UploadFailed | PlaceInQueue


@dataclass(eq=False)
class Download:
    """One that has not ended, or has just."""

    transfer: Transfer
    file: str
    target: Path
    sized: bool
    """Whether the size is what somebody has told us."""
    answers: "asyncio.Queue[Answer | Lost]" = field(default_factory=lambda: asyncio.Queue(maxsize=16))
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    came_back: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    wanted: Phase | None = None
    """What an operator wants instead of going on."""
    publishing: bool = False
    """Whether an earlier run has written down that it publishes the file."""
    place: int | None = None
    offered_over: PeerLink | None = None
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

    def hear(self, answer: "Answer | Lost") -> None:
        """Take what its peer says; one that says more than we can take says nothing new."""
        with suppress(asyncio.QueueFull):
            self.answers.put_nowait(answer)

    def kept(self, *, now: float) -> PeerTransfer:
        """Return what is kept of it."""
        return PeerTransfer(
            transfer=replace(self.transfer, pace=None, speed=self.transfer.snapshot.speed),
            file=self.file,
            retry_of=self.retry_of,
            target=os.fspath(self.target),
            ended_at=now if self.transfer.phase is Phase.ENDED else None,
        )
