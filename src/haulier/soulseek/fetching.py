"""One download from asking to its end.

Rule 1: bytes go into a part file beside the target, and go on where it ends; the target appears whole or not
        at all, and never takes the place of a file that is there.
Rule 2: waiting in another's queue holds no slot here. An offer for which there is none is put off, and asked
        for again when there is.
Rule 3: when the last byte is there, publishing is written down and then done, whoever cancels; a run that finds
        it written down comes to its end.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from random import SystemRandom
from typing import Final

from haulier.core.errors import HaulierError, PeerError, StorageError
from haulier.core.retry import Patience, RetryPolicy
from haulier.core.transfer import Outcome, Phase, Transfer
from haulier.core.values import dataclass, replace
from haulier.engine.background import finish_anyway
from haulier.engine.slots import Slots
from haulier.engine.tasks import in_thread
from haulier.soulseek.arrivals import Arrivals
from haulier.soulseek.connection import Connection
from haulier.soulseek.download import LARGEST_FILE, Download
from haulier.soulseek.inbox import Lost, Offered
from haulier.soulseek.offer import CANCELLED, COMPLETE, in_short
from haulier.soulseek.partfile import PartFile, TargetBusy, TargetTaken
from haulier.soulseek.peer_messages import (
    GetPlaceInQueue,
    PlaceInQueue,
    QueueUpload,
    UploadDenied,
    UploadFailed,
)
from haulier.soulseek.replies import Replies
from haulier.soulseek.streaming import Guard
from haulier.soulseek.surroundings import Surroundings

ASK_AGAIN_S: Final = 2.0
"""Before a question that was perhaps not read is put again; twice as long each time."""
_STEEPEST: Final = 8
"""Doublings of it: eight minutes."""
UNANSWERED_POLLS: Final = 3
"""Questions for the place after which the peer has forgotten us, and is asked for the file again."""
_LATER: Final = ("Queued", "Pending shutdown.", "Too many")
"""What a denial begins with that passes by itself."""


class Broken(PeerError):
    """The peer said that it failed, or it stopped in the middle."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class _End(HaulierError):
    outcome: Outcome
    reason: str | None = None

    def __str__(self) -> str:
        return self.reason or self.outcome.value


@dataclass(slots=True)
class _Polls:
    """When a peer in whose queue we wait is asked something, and what."""

    every_s: float
    unanswered: int = 0
    losses: int = 0
    lost: bool = False

    @property
    def wait_s(self) -> float:
        """How long it has to be silent before."""
        return min(ASK_AGAIN_S * 2**self.losses, self.every_s) if self.lost else self.every_s

    def lose(self) -> None:
        """The connection over which it was asked is gone."""
        self.losses = min(self.losses + 1, _STEEPEST)
        self.lost = True

    def hear(self) -> None:
        """It has said something."""
        self.unanswered, self.lost = 0, False

    def next_asks_anew(self) -> bool:
        """It has been silent: return whether to ask for the file again, or else for the place."""
        self.unanswered += 1
        lost, self.lost = self.lost, False
        return lost or self.unanswered % UNANSWERED_POLLS == 0


class Fetching:
    """Carries downloads to their end.

    Args:
        around: The node.
        arrivals: Where the connections come that bring files.
        slots: How many may come at a time.
        retry: How long, and how often, one is tried.
        ended: Told of each that has ended.
    """

    def __init__(
        self,
        around: Surroundings,
        arrivals: Arrivals,
        *,
        slots: Slots,
        retry: RetryPolicy,
        ended: Callable[[Download], None],
    ) -> None:
        self._around = around
        self._arrivals = arrivals
        self._slots = slots
        self._retry = retry
        self._ended = ended
        self.replies = Replies(around)
        self.bytes_received = 0

    async def run(self, download: Download) -> None:
        """Try until it ends."""
        patience = Patience(self._retry, SystemRandom().random)
        try:
            while download.transfer.phase is not Phase.ENDED:
                patience.progress(download.transfer.done)
                try:
                    await self._attempt(download)
                except (PeerError, TimeoutError) as error:
                    await self._rest(download, patience, error)
        except asyncio.CancelledError:
            self._halted(download)
            raise
        except _End as end:
            await self.end(download, end.outcome, end.reason)
        except (TargetTaken, TargetBusy) as error:
            await self.end(download, Outcome.ERRORED, str(error))
        except OSError as error:
            await self.end(download, Outcome.ERRORED, f"the file cannot be written: {error.strerror}")
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not leave it alive for ever
            self._around.log("task.failed", error=repr(error), exc_info=error)
            await self.end(download, Outcome.ERRORED, "an error of ours")

    def _halted(self, download: Download) -> None:
        settled = download.transfer.phase in {Phase.QUEUED, Phase.ENDED}
        if not settled and not download.transfer.past_return and download.wanted is None:
            self.become(download, download.transfer.requeue())

    async def _rest(self, download: Download, patience: Patience, error: Exception) -> None:
        """Wait before the next try, or until the user is back or offers the file."""
        delay = patience.next_delay()
        if delay is None:
            raise _End(Outcome.ERRORED, str(error)) from error
        reason = str(error) or "the peer did not answer in time"
        self.become(download, download.transfer.wait_until(self._around.clock.now() + delay, reason))
        download.came_back.clear()
        if not download.inbox.has_offer:
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await download.came_back.wait()
        self.become(download, download.transfer.requeue())

    async def _attempt(self, download: Download) -> None:
        """Ask, wait for an offer, and take it."""
        if download.publishing and await finish_anyway(self._conclude_again(download)):
            return
        download.publishing = False
        if await in_thread(os.path.lexists, download.target):
            raise TargetTaken(download.target)
        self._read_late_answers(download)
        self.become(download, download.transfer.request())
        if not download.inbox.has_offer:
            await self._ask_for(download)
        self.become(download, download.transfer.queue_remotely())
        while True:
            offer = await self._wait_offer(download)
            lease = self._slots.acquire_nowait(download.user)
            if lease is not None:
                break
            await self._wait_slot(download, offer)
            self._read_late_answers(download)
            await self._ask_for(download)
        with lease:
            await self._take_offer(download, offer)

    async def _wait_slot(self, download: Download, offer: Offered) -> None:
        """Put an offer off until a slot may be free."""
        download.waits_for_slot = True
        try:
            await self.replies.put_off(download.user, offer)
            (await self._slots.acquire(download.user)).release()
        finally:
            download.waits_for_slot = False

    def _read_late_answers(self, download: Download) -> None:
        """A denial may come after the connection that it explains has broken; all else is out of date."""
        for answer in download.inbox.take_answers():
            if isinstance(answer, Lost) or download.take_for_broken_off(answer):
                continue
            if isinstance(answer, UploadDenied):
                self._denied(answer.reason)

    async def _ask_for(self, download: Download) -> None:
        """Ask for the file."""
        link = await self._around.peers.ask(download.user, QueueUpload(download.file))
        download.asked_over, download.asked_at = link, asyncio.get_running_loop().time()
        if link.connection.closing:
            download.hear(Lost())

    async def _wait_offer(self, download: Download) -> Offered:
        """Return the offer that comes when it is our turn, asking for the place now and then."""
        polls = _Polls(self._around.bounds.place_poll_s)
        if download.broken_off:
            # The peer may not know yet that we have, and have taken the question for one about that attempt.
            polls.lose()
        while True:
            try:
                async with asyncio.timeout(polls.wait_s):
                    answer = await download.inbox.wait()
            except TimeoutError:
                await self._poll(download, polls)
                continue
            match answer:
                case Lost():
                    polls.lose()
                    continue
                case Offered():
                    return answer
                case UploadDenied() | UploadFailed() if download.take_for_broken_off(answer):
                    await self._ask_for(download)
                case PlaceInQueue(place=place):
                    download.place = place
                case UploadDenied(reason=reason):
                    self._denied(reason)
                case UploadFailed():
                    self._failed(download)
            polls.hear()

    async def _poll(self, download: Download, polls: _Polls) -> None:
        if polls.next_asks_anew():
            await self._ask_for(download)
        else:
            await self._around.peers.ask(download.user, GetPlaceInQueue(download.file))

    @staticmethod
    def _denied(reason: str) -> None:
        reason = in_short(reason)
        if reason.startswith(_LATER):
            raise Broken(reason)
        raise _End(Outcome.CANCELLED if reason == "Cancelled" else Outcome.REJECTED, reason)

    @staticmethod
    def _failed(download: Download) -> None:
        download.failures += 1
        if download.failures > 1:
            raise _End(Outcome.ERRORED, "the peer could not send the file")
        raise Broken("the peer could not send the file")

    async def _take_offer(self, download: Download, offer: Offered) -> None:
        try:
            size = self._judge_size(download, offer.request.size or 0)
        except _End:  # the peer need not wait for an answer with a slot in its hand
            await self.replies.refuse(offer, CANCELLED)
            raise
        download.place = None
        download.transfer = download.transfer.resized(size)
        self.become(download, download.transfer.initialize())
        async with self._arrivals.expecting(download.user, offer.request.token) as expected:
            download.expected = expected
            try:
                await self.replies.accept(download.user, offer)
                await self._receive(download, await expected.wait())
            finally:
                download.expected = None

    @staticmethod
    def _judge_size(download: Download, announced: int) -> int:
        """Return the size that counts; raises _End when the file is not the one that was wanted."""
        known = download.transfer.size
        if announced > LARGEST_FILE:
            raise _End(Outcome.ABORTED, f"no file has {announced} bytes")
        if not download.sized or announced == known:
            download.sized = True
            return announced
        if announced == 0:
            return known
        raise _End(Outcome.ABORTED, f"the file has {announced} bytes, not {known}")

    async def _receive(self, download: Download, connection: Connection) -> None:
        async with download.part as part:
            offset = min(part.size, download.transfer.size)
            self.become(download, download.transfer.begin(offset, now=self._around.clock.now()))
            await connection.send_raw(offset.to_bytes(8, "little"))
            await self._take_bytes(download, connection, part, offset)
            connection.close()
            if part.size != download.transfer.size:
                raise _End(Outcome.ABORTED, f"{part.size} bytes were written, not {download.transfer.size}")
            await self._publish(download, part)

    async def _take_bytes(
        self, download: Download, connection: Connection, part: PartFile, offset: int
    ) -> None:
        """Write what comes, as long as it comes fast enough; raises TooSlow, TimeoutError, ConnectionLost."""
        loop = asyncio.get_running_loop()
        guard = Guard(self._around.bounds, loop.time())
        done = offset
        while done < download.transfer.size:
            async with asyncio.timeout(self._around.bounds.stall_s):
                piece = await connection.read_some()
            if not piece:
                raise Broken(f"the peer stopped after {done} of {download.transfer.size} bytes")
            piece = piece[: download.transfer.size - done]
            download.broken_off = download.failures = 0  # what is said from now on is about this attempt
            part.write(piece, at=done)
            done += len(piece)
            self.bytes_received += len(piece)
            self._progress(download, done)
            guard.check(done - offset, now=loop.time())

    async def _publish(self, download: Download, part: PartFile) -> None:
        """Give the file its name: from here on a cancel comes too late."""
        self.become(download, download.transfer.advance())
        await finish_anyway(self._conclude(download, part))

    async def _conclude(self, download: Download, part: PartFile) -> None:
        # Without room for that, a crash in the next moment is told as a file that is there already.
        with suppress(StorageError):
            await self._around.ledger.flush()
        await part.finish()
        await self.end(download, Outcome.SUCCEEDED, None)

    async def _conclude_again(self, download: Download) -> bool:
        """Come to the end of what an earlier run has written down; returns whether there was anything to end."""
        recovered = await download.part.recover(download.transfer.size)
        if recovered:
            await self.end(download, Outcome.SUCCEEDED, None)
        return recovered

    def _progress(self, download: Download, done: int) -> None:
        before = download.transfer
        download.transfer = before.confirm(done, now=self._around.clock.now())
        if download.transfer.pace is not before.pace:
            self.keep(download, moved=True)

    def become(self, download: Download, transfer: Transfer) -> None:
        """Take the next value of its transfer, and keep it."""
        download.transfer = transfer
        self.keep(download)

    def keep(self, download: Download, *, moved: bool = False) -> None:
        """Keep how it stands; `moved` when only its progress is new."""
        self._around.ledger.put(download.kept(now=self._around.clock.now()), moved=moved)

    async def end(self, download: Download, outcome: Outcome, reason: str | None) -> None:
        """End it; what is there of it stays, unless it is of another size than the file."""
        transfer = download.transfer
        if outcome is Outcome.ABORTED:
            await download.part.remove()
        if outcome is Outcome.SUCCEEDED:
            transfer = replace(transfer, done=transfer.size)
        self.become(download, transfer.end(outcome, now=self._around.clock.now(), reason=reason))
        self._ended(download)
        download.ended.set()
        self.replies.refuse_unread(download, COMPLETE if outcome is Outcome.SUCCEEDED else CANCELLED)
        self._around.log(
            "download.ended", user=download.user, file=download.file, outcome=outcome.value, reason=reason
        )
