"""One upload to a peer, and what an operator decides about uploads."""

import asyncio
from collections.abc import Callable
from dataclasses import field

from haulier.core.transfer import Outcome, Phase, Transfer, TransferId
from haulier.core.values import dataclass, replace
from haulier.engine.registry import Registration
from haulier.ports import PeerTransfer
from haulier.sending_ports import Throttle
from haulier.soulseek.queue import Request

UploadPolicy = Callable[[str, str], str | None]
"""Takes the user and the virtual path; returns the reason for a denial, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRules:
    """What an operator decides."""

    slots: int = 10
    slots_per_user: int = 1
    first_come: bool = False
    """Plain first come, first served, instead of turns of users."""
    buddies: frozenset[str] = frozenset()
    banned: frozenset[str] = frozenset()
    policy: UploadPolicy = lambda _user, _file: None
    throttles: Callable[[str], tuple[Throttle, ...]] = lambda _user: ()
    """Bounds on the rate by user; see `Lanes`."""


@dataclass(eq=False)
class Upload:
    """One that has not ended."""

    transfer: Transfer
    asked: str
    """The virtual path as the peer spells it; answers repeat it."""
    path: str
    """As the index spells it."""
    address: str
    trusted: bool
    registration: "Registration[Upload] | None" = None
    """Its id and its file, while it has not ended."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    cancelled: bool = False
    """By an operator, unlike a stop of the node."""
    unreached: int = 0
    """Tries in a row that came to no connection."""
    put_off: bool = False
    """Whether the peer wants it later."""
    moved_at: float = 0.0
    """When the peer last took something of it."""
    superseded: bool = False
    """By a newer request of the peer, which has lost the connection."""

    @classmethod
    def restored(cls, kept: PeerTransfer) -> "Upload":
        """Return one that an earlier run has left; it waits."""
        waits = kept.transfer.phase is Phase.QUEUED
        transfer = kept.transfer if waits else replace(kept.transfer.requeue(), speed=None)
        return cls(transfer, kept.file, kept.target, kept.address, kept.trusted)

    @property
    def id(self) -> TransferId:
        """Its id."""
        return self.transfer.id

    @property
    def user(self) -> str:
        """Whose it is."""
        return self.transfer.line

    @property
    def is_live(self) -> bool:
        """Whether it has not ended, and its node has not stopped."""
        return self.registration is not None and self.registration.active

    @property
    def blamed(self) -> str:
        """For whom a failure counts: for a name only if it is surely its owner who asked."""
        return self.user if self.trusted else f"{self.user}\n{self.address}"

    @property
    def request(self) -> Request:
        """What the queue knows of it."""
        return Request(
            id=self.id, user=self.user, address=self.address, size=self.transfer.size, trusted=self.trusted
        )

    def put_in_line(self) -> None:
        """Let it wait for its turn."""
        if self.transfer.phase is not Phase.QUEUED:
            self.transfer = self.transfer.requeue()

    def kept(self, *, now: float) -> PeerTransfer:
        """Return what is kept of it."""
        return PeerTransfer(
            transfer=replace(self.transfer, pace=None, speed=self.transfer.snapshot.speed),
            file=self.asked,
            address=self.address,
            trusted=self.trusted,
            target=self.path,
            ended_at=now if self.transfer.phase is Phase.ENDED else None,
        )


@dataclass(slots=True)
class Totals:
    """What has been since the start."""

    bytes_sent: int = 0
    ended: dict[Outcome, int] = field(default_factory=dict)
