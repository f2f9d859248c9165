"""One attempt to upload a file whose turn it is, and what follows from how it goes.

Rule 1: whatever happens the attempt ends, and then the upload has ended, waits again, or backs off; no slot is held
        meanwhile by any of these.
Rule 2: what a peer is told about an end is told from a task of its own, so that a cancel cannot swallow it.
Rule 3: what is our own fault counts for nobody. The link to the server and the index of shares end no upload; a file
        that did not stay what was offered does.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from haulier.core.errors import HaulierError, PeerError, SourceChanged, StorageError
from haulier.core.transfer import Outcome
from haulier.soulseek.messages import SendUploadSpeed
from haulier.soulseek.offer import (
    CANCELLED,
    NOT_SHARED,
    Denied,
    NotNow,
    Offer,
    Offers,
    Settled,
    Unreached,
)
from haulier.soulseek.peer_messages import UploadDenied, UploadFailed
from haulier.soulseek.queue import Failures, Hold, UploadQueue
from haulier.soulseek.roster import Roster
from haulier.soulseek.server_link import LinkDown, PeerOffline
from haulier.soulseek.shares import Shares
from haulier.soulseek.streaming import TooSlow
from haulier.soulseek.surroundings import Surroundings
from haulier.soulseek.upload import Upload, UploadRules

UNCONFIRMED: Final = "unconfirmed"
_STEEPEST: Final = 6
"""Doublings of the back-off: ten minutes."""
_LARGEST_SPEED: Final = 2**32 - 1


class Attempts:
    """Makes attempts.

    Args:
        around: The node.
        roster: What has not ended.
        queue: Where back-off and absence hold a user.
        failures: Told of what was a peer's fault.
        shares: Where files are found.
        offers: Makes the offers.
        rules: What an operator decides.
        again: Called when somebody can have a turn who could not before.
    """

    def __init__(
        self,
        around: Surroundings,
        roster: Roster,
        queue: UploadQueue,
        failures: Failures,
        *,
        shares: Shares,
        offers: Offers,
        rules: UploadRules,
        again: Callable[[], None],
    ) -> None:
        self._around = around
        self._roster = roster
        self._queue = queue
        self._failures = failures
        self._shares = shares
        self._offers = offers
        self._rules = rules
        self._again = again

    async def make(self, upload: Upload) -> None:
        """Make one attempt and see to what follows from it."""
        try:
            await self._offer(upload)
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
            self._around.log("task.failed", error=repr(error), exc_info=error)
            self._break_off(upload, Outcome.ERRORED, "an error of ours")

    def cancel(self, upload: Upload) -> None:
        """End an upload of which no attempt is made, and tell its peer not to ask again."""
        self._roster.end(upload, Outcome.CANCELLED, CANCELLED)
        self._tell(upload, UploadDenied(upload.asked, CANCELLED))

    def supersede(self, upload: Upload) -> None:
        """End an upload in favour of a newer request for the same file."""
        self._roster.end(upload, Outcome.SUPERSEDED, "the peer asked again")

    async def _offer(self, upload: Upload) -> None:
        file = await self._shares.find(upload.path)
        if file is None:
            raise Denied(NOT_SHARED)
        offer = Offer(
            user=upload.user,
            asked=upload.asked,
            file=file,
            transfer=upload.transfer,
            changed=partial(self._roster.become, upload),
            throttles=self._rules.throttles(upload.user),
        )
        confirmed = await self._offers.make(offer)
        self._roster.end(upload, Outcome.SUCCEEDED, None if confirmed else UNCONFIRMED)
        speed = upload.transfer.speed or 0
        self._around.link.tell(SendUploadSpeed(min(int(speed), _LARGEST_SPEED)))

    def _ended_by_a_wish(self, upload: Upload) -> bool:
        """End a cancelled upload as it was meant; returns whether it was more than a stop of the node."""
        if upload.superseded:
            self.supersede(upload)
        elif upload.cancelled:
            self.cancel(upload)
        else:
            upload.put_in_line()
        return upload.superseded or upload.cancelled

    def _take_error(self, upload: Upload, error: HaulierError) -> None:
        match error:
            case Settled():
                self._roster.end(upload, error.outcome, error.reason)
            case Denied():
                self._roster.end(upload, Outcome.ERRORED, error.reason)
                self._tell(upload, UploadDenied(upload.asked, error.reason))
            case NotNow():
                upload.put_off = True
                upload.unreached = 0
                self._back_off(upload, str(error), tries=upload.transfer.attempts)
            case LinkDown() | PeerOffline() | Unreached():
                self._try_later(upload, error)
            case StorageError():
                self._around.log("upload.put_off", user=upload.user, transfer=upload.id, reason=str(error))
                self._back_off(upload, str(error))
            case SourceChanged():
                self._break_off(upload, Outcome.ERRORED, str(error))
            case _:
                outcome = Outcome.TIMED_OUT if isinstance(error, TooSlow) else Outcome.ERRORED
                self._fail(upload, outcome, str(error))

    def _fail(self, upload: Upload, outcome: Outcome, reason: str) -> None:
        self._failures.note(upload.blamed)
        self._break_off(upload, outcome, reason)

    def _break_off(self, upload: Upload, outcome: Outcome, reason: str) -> None:
        self._roster.end(upload, outcome, reason)
        self._tell(upload, UploadFailed(upload.asked))

    def _try_later(self, upload: Upload, error: PeerError) -> None:
        """The user was not reached: wait for the server to tell that it is back, or back off a few times."""
        if isinstance(error, PeerOffline):
            self._requeue(upload)
            self._roster.note_absence(upload.user)
        elif isinstance(error, LinkDown) and not self._around.link.up.is_set():
            self._requeue(upload)  # all begin again when the link is up
        elif isinstance(error, LinkDown):
            self._back_off(upload, str(error))
        else:
            self._not_reached(upload, error)

    def _not_reached(self, upload: Upload, error: PeerError) -> None:
        upload.unreached += 1
        if upload.unreached < self._around.bounds.connect_tries:
            self._back_off(upload, str(error), tries=upload.unreached)
        else:
            self._fail(upload, Outcome.ERRORED, str(error))

    def _back_off(self, upload: Upload, reason: str, *, tries: int = 1) -> None:
        delay = self._around.bounds.retry_base_s * 2 ** min(tries, _STEEPEST)
        upload.put_in_line()
        until = self._around.clock.now() + delay
        upload.transfer = upload.transfer.wait_until(until, reason).requeue()
        self._roster.keep(upload)
        self._queue.hold(upload.user, Hold.BACKING_OFF)
        asyncio.get_running_loop().call_later(delay, self._end_back_off, upload.user)

    def _end_back_off(self, user: str) -> None:
        self._queue.let_go(user, Hold.BACKING_OFF)
        self._again()

    def _requeue(self, upload: Upload) -> None:
        upload.put_in_line()
        self._roster.keep(upload)

    def _tell(self, upload: Upload, message: UploadDenied | UploadFailed) -> None:
        async def tell() -> None:
            with suppress(PeerError):
                await self._around.peers.ask(upload.user, message)

        self._around.spawn(tell())
