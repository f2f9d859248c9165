"""Uploads to peers: what is asked for, whose turn it is, and what operators want.

Rule 1: a peer's request waits until it is its user's turn; nothing is uploaded out of turn.
Rule 2: a slot is given back whatever happens; back-off, absence and a taken slot hold a line, never a slot.
Rule 3: an upload that this process stops goes back to the head of its line; it is offered after a restart.
"""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final

from haulier.core.transfer import Direction, Outcome, Phase, Transfer, TransferId
from haulier.engine.slots import Lease, SlotLimits, Slots, SlotStatistics
from haulier.ports import PeerTransfer, SharedFile
from haulier.soulseek.attempt import Attempts
from haulier.soulseek.messages import UserStatus
from haulier.soulseek.offer import NOT_SHARED, QUEUED, Offers
from haulier.soulseek.peer_links import PeerLink
from haulier.soulseek.peer_messages import (
    PlaceInQueue,
    QueueUpload,
    TransferRequest,
    TransferResponse,
    UploadDenied,
)
from haulier.soulseek.queue import TOO_MANY_FILES, Failures, Hold, UploadQueue
from haulier.soulseek.roster import Roster
from haulier.soulseek.shares import Shares
from haulier.soulseek.surroundings import Surroundings
from haulier.soulseek.upload import Totals, Upload, UploadRules

BANNED: Final = "Banned"
SHUTDOWN: Final = "Pending shutdown."
STUCK_S: Final = 5.0
"""For which an upload must have moved nothing before a new request takes its place: the peer's machine has gone and
come back, and its old connection would only be given up after a minute."""


class Uploads:
    """All uploads of a node.

    Args:
        around: The node.
        shares: Where files are found.
        offers: Makes the offers.
        rules: What an operator decides.
    """

    def __init__(self, around: Surroundings, *, shares: Shares, offers: Offers, rules: UploadRules) -> None:
        self._around = around
        self._shares = shares
        self._rules = rules
        self._queue = UploadQueue(around.bounds, first_come=rules.first_come)
        self._slots = Slots(
            SlotLimits(total=rules.slots, per_line=rules.slots_per_user), around.clock.monotonic
        )
        self._failures = Failures(around.bounds, around.clock)
        self._roster = Roster(around, self._queue)
        self._attempts = Attempts(
            around,
            self._roster,
            self._queue,
            self._failures,
            shares=shares,
            offers=offers,
            rules=rules,
            again=self.pump,
        )
        self._turns: set[asyncio.Task[None]] = set()
        self._started = False

    @property
    def slots(self) -> SlotStatistics:
        """What is in use."""
        return self._slots.statistics

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._queue)

    @property
    def has_free_slot(self) -> bool:
        """Whether one could start at once."""
        return self._slots.is_free("") and not self._queue

    @property
    def live(self) -> list[Upload]:
        """Those that have not ended."""
        return list(self._roster)

    @property
    def totals(self) -> Totals:
        """What has been since the start."""
        return self._roster.totals

    # --- what is asked -------------------------------------------------------------------------------

    async def take_queue_upload(self, link: PeerLink, message: QueueUpload) -> None:
        """A peer asks for a file. Asked again for one that waits, it is told the place."""
        repeated, reason = await self._admit(link, message.file)
        if reason is not None:
            await link.connection.send(UploadDenied(message.file, reason))
        elif repeated:
            await self.tell_place(link, message.file)

    async def take_transfer_request(self, link: PeerLink, message: TransferRequest) -> None:
        """A peer asks in the way of old clients: it is never allowed at once."""
        _, reason = await self._admit(link, message.file)
        await link.connection.send(TransferResponse(message.token, allowed=False, reason=reason or QUEUED))

    async def _admit(self, link: PeerLink, asked: str) -> tuple[bool, str | None]:
        """Queue the file; returns whether it was already, and the reason why it is not."""
        if not self._started:
            return False, SHUTDOWN
        if link.user in self._rules.banned:
            return False, BANNED
        file = await self._shares.find(asked)
        if file is None:
            return False, NOT_SHARED
        trusted = await self._around.peers.is_trusted(link)
        known = self._roster.of_file(link.user, file.path)
        if known is not None and trusted and (self._is_stuck(known) or self._is_anothers(known)):
            await self._supersede(known)
            # Of another request that waited for the same end.
            known = self._roster.of_file(link.user, file.path)
        if known is not None:
            if trusted or not known.trusted:  # whoever borrows the name must not spell the file for its owner
                known.asked = asked
            return True, None
        return False, self._enqueue(link, asked, file, trusted=trusted)

    def _is_stuck(self, upload: Upload) -> bool:
        """Whether it is under way, but the peer takes nothing of it."""
        active = upload.transfer.phase is Phase.IN_PROGRESS
        return active and self._around.clock.monotonic() - upload.moved_at >= STUCK_S

    @staticmethod
    def _is_anothers(upload: Upload) -> bool:
        """Whether it waits because somebody asked for it in a name that was not surely his own."""
        return not upload.trusted and upload.task is None

    async def _supersede(self, upload: Upload) -> None:
        """End an upload in favour of a newer request for the same file."""
        if upload.task is None:
            self._attempts.supersede(upload)
            return
        upload.superseded = True
        upload.task.cancel()
        await asyncio.wait({upload.task})

    def _enqueue(self, link: PeerLink, asked: str, file: SharedFile, *, trusted: bool) -> str | None:
        upload = Upload(
            self._transfer_of(link.user, file), asked, file.path, link.connection.address, trusted
        )
        reason = self._rules.policy(link.user, file.path) or self._queue.excess(upload.request)
        if not self._started:  # any more
            reason = SHUTDOWN
        if reason is None and self._failures.are_many(upload.blamed):
            reason = TOO_MANY_FILES
        if reason is None:
            self._roster.take_in(upload)
            self._roster.keep(upload)
            self._around.log("upload.queued", user=upload.user, file=upload.path, transfer=upload.id)
            self.pump()
        return reason

    def _transfer_of(self, user: str, file: SharedFile) -> Transfer:
        return Transfer(
            id=TransferId(secrets.token_hex(8)),
            direction=Direction.UPLOAD,
            line=user,
            size=file.size,
            queued_at=self._around.clock.now(),
        )

    async def tell_place(self, link: PeerLink, asked: str) -> None:
        """Tell a peer the place of its file, if it waits."""
        file = await self._shares.find(asked)
        upload = None if file is None else self._roster.of_file(link.user, file.path)
        place = None if upload is None else self._queue.place(upload.id)
        if place is not None:
            await link.connection.send(PlaceInQueue(asked, place))

    # --- turns ---------------------------------------------------------------------------------------

    def start(self, kept: Sequence[PeerTransfer] = ()) -> None:
        """Begin, with what an earlier run has left: what was in progress then goes first."""
        self._started = True
        self.favour()
        active = [it for it in kept if it.transfer.phase is not Phase.QUEUED]
        for it in kept:
            if it.transfer.phase is Phase.QUEUED:
                self._roster.take_in(Upload.restored(it))
        for it in reversed(active):
            self._roster.take_in(Upload.restored(it), at_head=True)
        self.pump()

    async def stop(self) -> None:
        """Cancel what runs and forget what waits, which is kept for the next `start`. A second call is harmless."""
        self._started = False
        for upload in self._roster:
            if upload.task is not None:
                upload.task.cancel()
        if self._turns:
            await asyncio.wait(set(self._turns))
        for upload in self._roster:
            self._roster.forget(upload)

    def favour(self) -> None:
        """Let privileged users and buddies go first."""
        self._queue.favour(self._around.link.privileged | self._rules.buddies)

    def pump(self) -> None:
        """Start whoever can be started now; nobody is found while the link is down."""
        while self._started and self._around.link.up.is_set() and self._slots.is_free(""):
            bundle = [self._waiting_one(id_) for id_ in self._queue.take()]
            if not bundle:
                return
            user = bundle[0].user
            lease = self._slots.acquire_nowait(user)
            assert lease is not None, "a user without a free slot is held"
            if not self._slots.is_free(user):
                self._queue.hold(user, Hold.TURN)
            turn = self._around.spawn(self._take_turn(user, bundle, lease))
            self._turns.add(turn)
            turn.add_done_callback(self._turns.discard)

    def _waiting_one(self, transfer: TransferId) -> Upload:
        upload = self.find(transfer)
        assert upload is not None, "what has ended does not wait"
        return upload

    async def _take_turn(self, user: str, bundle: list[Upload], lease: Lease) -> None:
        """Upload a bundle, one after the other, in one slot."""
        left = list(bundle)
        try:
            while left and self._started:
                upload = left[0]
                if upload.is_live:
                    upload.task = self._around.spawn(self._attempts.make(upload))
                    await asyncio.wait({upload.task})
                    upload.task = None
                if upload.transfer.phase is not Phase.ENDED:
                    break  # the user is away or backs off
                del left[0]
        finally:
            lease.release()
            self._put_back(left)
            self._queue.let_go(user, Hold.TURN)
            self.pump()

    def _put_back(self, bundle: list[Upload]) -> None:
        """Let what is left of a bundle wait again, in its order; one that was put off goes last."""
        for upload in reversed(bundle):
            if upload.is_live:
                self._queue.wait(upload.id, at_head=not upload.put_off)
                upload.put_off = False

    # --- what operators and the server say -----------------------------------------------------------

    def find(self, transfer: TransferId) -> Upload | None:
        """Return one that has not ended."""
        return self._roster.find(transfer)

    async def cancel(self, upload: Upload) -> None:
        """End an upload, and tell its peer not to ask again."""
        upload.cancelled = True
        if upload.task is not None:
            upload.task.cancel()
            await asyncio.wait({upload.task})
        if upload.transfer.phase is not Phase.ENDED:  # no attempt was made, or it was stopped before it began
            self._attempts.cancel(upload)
            self.pump()

    def bump(self, upload: Upload) -> None:
        """Make an upload the next one of its user."""
        self._queue.bump(upload.id)

    def place(self, upload: Upload) -> int | None:
        """Return its place; None when it has its turn."""
        return self._queue.place(upload.id)

    def take_status(self, status: UserStatus) -> None:
        """The server tells that a user has come or gone."""
        if not self._queue.has(status.user):
            return
        if status.status:
            self._roster.note_return(status.user)
            self.pump()
        else:
            self._roster.note_absence(status.user)

    def sweep(self) -> None:
        """Forget what users who are gone for days have queued, idle users' slots, and failures of other days."""
        self._slots.sweep()
        self._failures.sweep()
        gone = self._roster.away_since(self._around.clock.now() - self._around.bounds.offline_s)
        for upload in self._roster:
            if upload.user in gone and upload.task is None:
                self._roster.end(upload, Outcome.TIMED_OUT, "the user was away for too long")
