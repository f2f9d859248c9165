"""Uploads to peers: what is asked for, whose turn it is, and what becomes of it.

Rule 1: a peer's request waits until it is its user's turn; nothing is uploaded out of turn.
Rule 2: a slot is given back whatever happens; back-off, absence and a taken slot hold a line, never a slot.
Rule 3: what a peer is told about an end is told from a task of its own, so that a cancel cannot swallow it.
Rule 4: an upload that this process stops goes back to the head of its line; it is offered after a restart.
Rule 5: what is our own fault (the link to the server, the index of shares) ends no upload and counts for nobody.

One module although it is long: what is asked, whose turn it is and how it ends are one state.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from haulier.core.errors import HaulierError, PeerError, StorageError
from haulier.core.transfer import Direction, Outcome, Phase, Transfer, TransferId
from haulier.engine.registry import Registration, Registry
from haulier.engine.slots import Lease, SlotLimits, Slots, SlotStatistics
from haulier.ports import Clock, PeerTransfer, SharedFile, Throttle
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.ledger import Ledger
from haulier.soulseek.messages import SendUploadSpeed, UserStatus
from haulier.soulseek.offer import (
    CANCELLED,
    NOT_SHARED,
    QUEUED,
    Denied,
    NotNow,
    Offer,
    Offers,
    Settled,
    Unreached,
)
from haulier.soulseek.peer_messages import (
    PlaceInQueue,
    QueueUpload,
    TransferRequest,
    TransferResponse,
    UploadDenied,
    UploadFailed,
)
from haulier.soulseek.peers import PeerLink, Peers, Spawn
from haulier.soulseek.queue import TOO_MANY_FILES, Hold, Request, UploadQueue
from haulier.soulseek.server_link import LinkDown, PeerOffline, ServerLink
from haulier.soulseek.shares import Shares
from haulier.soulseek.streaming import TooSlow

BANNED: Final = "Banned"
SHUTDOWN: Final = "Pending shutdown."
DAY_S: Final = 86_400.0
UNCONFIRMED: Final = "unconfirmed"
STUCK_S: Final = 5.0
"""For which an upload must have moved nothing before a new request takes its place: the peer's machine has gone and
come back, and its old connection would only be given up after a minute."""
_STEEPEST: Final = 6
"""Doublings of the back-off: ten minutes."""
_LARGEST_SPEED: Final = 2**32 - 1

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

    @property
    def id(self) -> TransferId:
        """Its id."""
        return self.transfer.id

    @property
    def user(self) -> str:
        """Whose it is."""
        return self.transfer.line


@dataclass(slots=True)
class Totals:
    """What has been since the start."""

    bytes_sent: int = 0
    ended: dict[Outcome, int] = field(default_factory=dict)


class Uploads:
    """All uploads of a node."""

    def __init__(  # noqa: PLR0913 - each is a part of the node
        self,
        *,
        peers: Peers,
        link: ServerLink,
        shares: Shares,
        offers: Offers,
        ledger: Ledger,
        bounds: Bounds,
        clock: Clock,
        spawn: Spawn,
        rules: UploadRules,
        log: Callable[..., None],
    ) -> None:
        self._peers = peers
        self._link = link
        self._shares = shares
        self._offers = offers
        self._ledger = ledger
        self._bounds = bounds
        self._clock = clock
        self._spawn = spawn
        self._rules = rules
        self._log = log
        self._queue = UploadQueue(bounds, first_come=rules.first_come)
        self._slots = Slots(SlotLimits(total=rules.slots, per_line=rules.slots_per_user), clock.monotonic)
        self._registry: Registry[Upload] = Registry()
        self._failures: dict[str, list[float]] = {}
        """When uploads failed, by who is to blame."""
        self._absent_since: dict[str, float] = {}
        self._turns: set[asyncio.Task[None]] = set()
        self._started = False
        self.totals = Totals()

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
        return list(self._registry)

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
        trusted = await self._peers.is_trusted(link)
        known = self._of_file(link.user, file.path)
        if known is not None and trusted and self._is_stuck(known):
            await self._supersede(known)
            known = self._of_file(link.user, file.path)  # of another request that waited for the same end
        if known is not None:
            known.asked = asked
            return True, None
        return False, self._enqueue(link, asked, file, trusted=trusted)

    def _of_file(self, user: str, path: str) -> Upload | None:
        return self._registry.find(_file_key(user, path))

    def _is_stuck(self, upload: Upload) -> bool:
        """Whether it is under way, but the peer takes nothing of it."""
        active = upload.transfer.phase is Phase.IN_PROGRESS
        return active and self._clock.monotonic() - upload.moved_at >= STUCK_S

    async def _supersede(self, upload: Upload) -> None:
        """End an upload in favour of a newer request for the same file."""
        upload.superseded = True
        if upload.task is not None:
            upload.task.cancel()
            await asyncio.wait({upload.task})

    def _enqueue(self, link: PeerLink, asked: str, file: SharedFile, *, trusted: bool) -> str | None:
        upload = Upload(
            self._transfer_of(link.user, file), asked, file.path, link.connection.address, trusted
        )
        reason = self._rules.policy(link.user, file.path) or self._queue.excess(_request_of(upload))
        if reason is None and self._has_failed_often(_blamed(upload)):
            reason = TOO_MANY_FILES
        if reason is None:
            self._take_in(upload, at_head=False)
            self._keep(upload)
            self._log("upload.queued", user=upload.user, file=upload.path, transfer=upload.id)
            self.pump()
        return reason

    def _transfer_of(self, user: str, file: SharedFile) -> Transfer:
        return Transfer(
            id=TransferId(secrets.token_hex(8)),
            direction=Direction.UPLOAD,
            line=user,
            size=file.size,
            queued_at=self._clock.now(),
        )

    def _take_in(self, upload: Upload, *, at_head: bool) -> None:
        keys = (_id_key(upload.id), _file_key(upload.user, upload.path))
        upload.registration = self._registry.register(upload, *keys)
        assert upload.registration is not None, "one file is uploaded to a user once at a time"
        self._queue.add(_request_of(upload), at_head=at_head)
        self._link.watch(upload.user, self)

    def _forget(self, upload: Upload) -> None:
        assert upload.registration is not None
        upload.registration.end()
        self._queue.forget(upload.id)
        if not self._queue.has(upload.user):
            self._link.unwatch(upload.user, self)
            self._absent_since.pop(upload.user, None)
            self._queue.let_go(upload.user, Hold.ABSENT)

    def _has_failed_often(self, blamed: str) -> bool:
        since = self._clock.now() - DAY_S
        recent = [at for at in self._failures.get(blamed, ()) if at > since]
        if recent:
            self._failures[blamed] = recent
        else:
            self._failures.pop(blamed, None)
        return len(recent) >= self._bounds.failures_per_day

    async def tell_place(self, link: PeerLink, asked: str) -> None:
        """Tell a peer the place of its file, if it waits."""
        file = await self._shares.find(asked)
        upload = None if file is None else self._of_file(link.user, file.path)
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
                self._take_in(_restored(it), at_head=False)
        for it in reversed(active):
            self._take_in(_restored(it), at_head=True)
        self.pump()

    async def stop(self) -> None:
        """Cancel what runs and forget what waits, which is kept for the next `start`. A second call is harmless."""
        self._started = False
        for upload in self._registry:
            if upload.task is not None:
                upload.task.cancel()
        if self._turns:
            await asyncio.wait(set(self._turns))
        for upload in self.live:
            self._forget(upload)

    def favour(self) -> None:
        """Let privileged users and buddies go first."""
        self._queue.favour(self._link.privileged | self._rules.buddies)

    def pump(self) -> None:
        """Start whoever can be started now; nobody is found while the link is down."""
        while self._started and self._link.up.is_set() and self._slots.is_free(""):
            bundle = [self._waiting_one(id_) for id_ in self._queue.take()]
            if not bundle:
                return
            user = bundle[0].user
            lease = self._slots.acquire_nowait(user)
            assert lease is not None, "a user without a free slot is held"
            if not self._slots.is_free(user):
                self._queue.hold(user, Hold.TURN)
            turn = self._spawn(self._take_turn(user, bundle, lease))
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
                if self._is_live(upload):
                    upload.task = self._spawn(self._upload(upload))
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

    @staticmethod
    def _is_live(upload: Upload) -> bool:
        return upload.registration is not None and upload.registration.active

    def _put_back(self, bundle: list[Upload]) -> None:
        """Let what is left of a bundle wait again, in its order; one that was put off goes last."""
        for upload in reversed(bundle):
            if self._is_live(upload):
                self._queue.wait(upload.id, at_head=not upload.put_off)
                upload.put_off = False

    async def _upload(self, upload: Upload) -> None:
        """Make one attempt and see to what follows from it."""
        try:
            await self._attempt(upload)
        except asyncio.CancelledError:
            if not self._ended_by_a_wish(upload):
                raise
        except HaulierError as error:
            self._take_error(upload, error)
        except TimeoutError:
            self._fail(upload, Outcome.TIMED_OUT, "the peer did not answer in time")
        except OSError as error:
            self._fail(upload, Outcome.ERRORED, str(error))
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not come again with each turn
            self._log("task.failed", error=repr(error), exc_info=error)
            self._end(upload, Outcome.ERRORED, "an error of ours")
            self._tell(upload, UploadFailed(upload.asked))

    def _ended_by_a_wish(self, upload: Upload) -> bool:
        """End a cancelled upload as it was meant; returns whether it was more than a stop of the node."""
        if upload.superseded:
            self._end(upload, Outcome.SUPERSEDED, "the peer asked again")
        elif upload.cancelled:
            self._end(upload, Outcome.CANCELLED, CANCELLED)
            self._tell(upload, UploadDenied(upload.asked, CANCELLED))
        else:  # what is kept still says that it ran, so that it goes first next time
            self._put_in_line(upload)
        return upload.superseded or upload.cancelled

    def _take_error(self, upload: Upload, error: HaulierError) -> None:
        match error:
            case Settled():
                self._end(upload, error.outcome, error.reason)
            case Denied():
                self._end(upload, Outcome.ERRORED, error.reason)
                self._tell(upload, UploadDenied(upload.asked, error.reason))
            case NotNow():
                upload.put_off = True
                upload.unreached = 0
                self._back_off(upload, str(error), tries=upload.transfer.attempts)
            case LinkDown() | PeerOffline() | Unreached():
                self._try_later(upload, error)
            case StorageError():
                self._log("upload.put_off", user=upload.user, transfer=upload.id, reason=str(error))
                self._back_off(upload, str(error))
            case _:
                outcome = Outcome.TIMED_OUT if isinstance(error, TooSlow) else Outcome.ERRORED
                self._fail(upload, outcome, str(error))

    async def _attempt(self, upload: Upload) -> None:
        file = await self._shares.find(upload.path)
        if file is None:
            raise Denied(NOT_SHARED)

        def change(transfer: Transfer) -> None:
            before, upload.transfer = upload.transfer, transfer
            self._count(before, transfer)
            if transfer.done != before.done or transfer.phase is not before.phase:
                upload.moved_at = self._clock.monotonic()
            self._keep(upload, moved=transfer.phase is before.phase is Phase.IN_PROGRESS)

        offer = Offer(
            user=upload.user,
            asked=upload.asked,
            file=file,
            transfer=upload.transfer,
            changed=change,
            throttles=self._rules.throttles(upload.user),
        )
        confirmed = await self._offers.make(offer)
        self._end(upload, Outcome.SUCCEEDED, None if confirmed else UNCONFIRMED)
        speed = upload.transfer.speed or 0
        self._link.tell(SendUploadSpeed(min(int(speed), _LARGEST_SPEED)))

    def _count(self, before: Transfer, after: Transfer) -> None:
        if before.phase is after.phase is Phase.IN_PROGRESS:
            self.totals.bytes_sent += max(0, after.done - before.done)

    def _end(self, upload: Upload, outcome: Outcome, reason: str | None) -> None:
        if upload.transfer.phase is Phase.ENDED:
            return
        upload.transfer = upload.transfer.end(outcome, now=self._clock.now(), reason=reason)
        self._keep(upload)
        self._forget(upload)
        upload.ended.set()
        self.totals.ended[outcome] = self.totals.ended.get(outcome, 0) + 1
        self._log(
            "upload.ended",
            user=upload.user,
            file=upload.path,
            transfer=upload.id,
            outcome=outcome.value,
            reason=reason,
        )

    def _fail(self, upload: Upload, outcome: Outcome, reason: str) -> None:
        self._failures.setdefault(_blamed(upload), []).append(self._clock.now())
        self._end(upload, outcome, reason)
        self._tell(upload, UploadFailed(upload.asked))

    def _try_later(self, upload: Upload, error: PeerError) -> None:
        """The user was not reached: wait for the server to tell that it is back, or back off a few times."""
        if isinstance(error, PeerOffline):
            self._requeue(upload)
            self._absent_since.setdefault(upload.user, self._clock.now())
            self._queue.hold(upload.user, Hold.ABSENT)
        elif isinstance(error, LinkDown) and not self._link.up.is_set():
            self._requeue(upload)  # all begin again when the link is up
        elif isinstance(error, LinkDown):
            self._back_off(upload, str(error))
        else:
            self._not_reached(upload, error)

    def _not_reached(self, upload: Upload, error: PeerError) -> None:
        upload.unreached += 1
        if upload.unreached < self._bounds.connect_tries:
            self._back_off(upload, str(error), tries=upload.unreached)
        else:
            self._fail(upload, Outcome.ERRORED, str(error))

    def _back_off(self, upload: Upload, reason: str, *, tries: int = 1) -> None:
        delay = self._bounds.retry_base_s * 2 ** min(tries, _STEEPEST)
        self._put_in_line(upload)
        upload.transfer = upload.transfer.wait_until(self._clock.now() + delay, reason).requeue()
        self._keep(upload)
        self._queue.hold(upload.user, Hold.BACKING_OFF)
        asyncio.get_running_loop().call_later(delay, self._end_back_off, upload.user)

    def _end_back_off(self, user: str) -> None:
        self._queue.let_go(user, Hold.BACKING_OFF)
        self.pump()

    def _requeue(self, upload: Upload) -> None:
        self._put_in_line(upload)
        self._keep(upload)

    @staticmethod
    def _put_in_line(upload: Upload) -> None:
        if upload.transfer.phase is not Phase.QUEUED:
            upload.transfer = upload.transfer.requeue()

    def _keep(self, upload: Upload, *, moved: bool = False) -> None:
        ended_at = self._clock.now() if upload.transfer.phase is Phase.ENDED else None
        self._ledger.put(
            PeerTransfer(
                transfer=replace(upload.transfer, pace=None, speed=upload.transfer.snapshot.speed),
                file=upload.asked,
                address=upload.address,
                trusted=upload.trusted,
                target=upload.path,
                ended_at=ended_at,
            ),
            moved=moved,
        )

    def _tell(self, upload: Upload, message: UploadDenied | UploadFailed) -> None:
        async def tell() -> None:
            with suppress(PeerError):
                await self._peers.ask(upload.user, message)

        self._spawn(tell())

    # --- what operators and the server say -----------------------------------------------------------

    def find(self, transfer: TransferId) -> Upload | None:
        """Return one that has not ended."""
        return self._registry.find(_id_key(transfer))

    async def cancel(self, upload: Upload) -> None:
        """End an upload, and tell its peer not to ask again."""
        upload.cancelled = True
        if upload.task is not None:
            upload.task.cancel()
            await asyncio.wait({upload.task})
        elif upload.transfer.phase is not Phase.ENDED:
            self._end(upload, Outcome.CANCELLED, CANCELLED)
            self._tell(upload, UploadDenied(upload.asked, CANCELLED))
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
            self._absent_since.pop(status.user, None)
            self._queue.let_go(status.user, Hold.ABSENT)
            self.pump()
        else:
            self._absent_since.setdefault(status.user, self._clock.now())
            self._queue.hold(status.user, Hold.ABSENT)

    def sweep(self) -> None:
        """Forget what users who are gone for days have queued, idle users' slots, and failures of other days."""
        self._slots.sweep()
        for blamed in list(self._failures):
            self._has_failed_often(blamed)  # it forgets what is old
        gone = {
            u
            for u, since in self._absent_since.items()
            if since <= self._clock.now() - self._bounds.offline_s
        }
        for upload in self.live:
            if upload.user in gone and upload.task is None:
                self._end(upload, Outcome.TIMED_OUT, "the user was away for too long")


def _blamed(upload: Upload) -> str:
    """Return for whom a failure counts: for a name only if it is surely its owner who asked."""
    return upload.user if upload.trusted else f"{upload.user}\n{upload.address}"


def _id_key(transfer: TransferId) -> tuple[str, str]:
    return ("id", transfer)


def _file_key(user: str, path: str) -> tuple[str, str, str]:
    return ("file", user, path)


def _request_of(upload: Upload) -> Request:
    return Request(
        id=upload.id,
        user=upload.user,
        address=upload.address,
        size=upload.transfer.size,
        trusted=upload.trusted,
    )


def _restored(kept: PeerTransfer) -> Upload:
    waits = kept.transfer.phase is Phase.QUEUED
    transfer = kept.transfer if waits else replace(kept.transfer.requeue(), speed=None)
    return Upload(transfer, kept.file, kept.target, kept.address, kept.trusted)
