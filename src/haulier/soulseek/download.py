"""Downloads from peers: asking, waiting in their queues, and taking what they offer.

Rule 1: a peer offers when it is our turn there; offers come over trusted connections only, and the bytes from
        the peer's own address.
Rule 2: bytes go into a part file beside the target, and go on where it ends; the target appears whole or not
        at all, and never takes the place of a file that is there. The part stays for a later download of the
        same file, unless an operator cancels this one or its size is wrong.
Rule 3: waiting in another's queue holds no slot here. An offer for which there is none is put off, and asked
        for again when there is.
Rule 4: when the last byte is there, publishing is written down and then done, whoever cancels; a run that finds
        it written down comes to its end.

One module although it is long: a download asks, waits and takes in one story, and rests between its chapters.
"""

import asyncio
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import SystemRandom
from typing import Final

from haulier.core.errors import HaulierError, PeerError, StorageError
from haulier.core.retry import Patience, RetryPolicy
from haulier.core.transfer import Direction, Outcome, Phase, Step, Transfer, TransferId
from haulier.engine.background import finish_anyway
from haulier.engine.slots import SlotLimits, Slots, SlotStatistics
from haulier.engine.tasks import in_thread
from haulier.ports import Clock, PeerTransfer
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.connection import Connection, ConnectionLost
from haulier.soulseek.ledger import Ledger
from haulier.soulseek.messages import UserStatus
from haulier.soulseek.names import check_text, check_user
from haulier.soulseek.offer import QUEUED
from haulier.soulseek.partfile import PartFile, TargetBusy, TargetTaken
from haulier.soulseek.peer_messages import (
    GetPlaceInQueue,
    PlaceInQueue,
    QueueUpload,
    TransferRequest,
    TransferResponse,
    UploadDenied,
    UploadFailed,
)
from haulier.soulseek.peers import PeerLink, Peers, Spawn
from haulier.soulseek.server_link import ServerLink
from haulier.soulseek.streaming import Guard

RETRY: Final = RetryPolicy(retries=1_000, base_s=15.0, cap_s=900.0)
"""Peers are away for hours; what is wanted from them is still wanted then."""
PROMPT_S: Final = 5.0
"""A connection that breaks so soon after we asked over it may have been closed before anybody read the question."""
ASK_AGAIN_S: Final = 2.0
"""Before a question that was perhaps not read is put again; twice as long each time."""
_STEEPEST: Final = 8
"""Doublings of it: eight minutes."""
UNANSWERED_POLLS: Final = 3
"""Questions for the place after which the peer has forgotten us, and is asked for the file again."""
_TOKEN_BYTES: Final = 4
_LATER: Final = ("Queued", "Pending shutdown.", "Too many")
"""What a denial begins with that passes by itself."""


@dataclass(frozen=True, slots=True)
class _Lost:
    """Our question is gone: with its connection, or with another download that took its answer."""


Answer = TransferRequest | UploadDenied | UploadFailed | PlaceInQueue


@dataclass(eq=False)
class Broken(PeerError):
    """The peer said that it failed, or it stopped in the middle."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(eq=False)
class _End(HaulierError):
    outcome: Outcome
    reason: str | None = None

    def __str__(self) -> str:
        return self.reason or self.outcome.value


@dataclass(eq=False)
class Download:
    """One that has not ended, or has just."""

    transfer: Transfer
    file: str
    target: Path
    sized: bool
    """Whether the size is what somebody has told us."""
    answers: "asyncio.Queue[Answer | _Lost]" = field(default_factory=lambda: asyncio.Queue(maxsize=16))
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

    @property
    def id(self) -> TransferId:
        """Its id."""
        return self.transfer.id

    @property
    def user(self) -> str:
        """From whom it comes."""
        return self.transfer.line


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


Arrival = asyncio.Future[tuple[Connection, asyncio.Future[None]]]
"""The connection that brings a file, and what is resolved when it is done with."""


class Downloads:
    """All downloads of a node."""

    def __init__(  # noqa: PLR0913 - each is a part of the node
        self,
        *,
        peers: Peers,
        link: ServerLink,
        ledger: Ledger,
        bounds: Bounds,
        clock: Clock,
        spawn: Spawn,
        log: Callable[..., None],
        slots: int = 10,
        retry: RetryPolicy = RETRY,
    ) -> None:
        self._peers = peers
        self._link = link
        self._ledger = ledger
        self._bounds = bounds
        self._clock = clock
        self._spawn = spawn
        self._log = log
        self._retry = retry
        self._slots = Slots(SlotLimits(total=slots, per_line=0), clock.monotonic)
        self._downloads: dict[TransferId, Download] = {}
        self._admitting = asyncio.Lock()
        self._awaited: dict[tuple[str, int], Arrival] = {}
        """Connections that are to bring a file, by user and the user's token."""
        self.bytes_received = 0

    @property
    def slots(self) -> SlotStatistics:
        """What is in use."""
        return self._slots.statistics

    @property
    def live(self) -> list[Download]:
        """Those that have not ended."""
        return list(self._downloads.values())

    def find(self, transfer: TransferId) -> Download | None:
        """Return one that has not ended."""
        return self._downloads.get(transfer)

    # --- what operators want -------------------------------------------------------------------------

    async def fetch(
        self,
        user: str,
        file: str,
        target: Path,
        size: int | None = None,
        *,
        retry_of: TransferId | None = None,
    ) -> Download:
        """Begin to download a file, once that is written down; the same one to the same place is the one that runs.

        Raises:
            InvalidRequest: no peer can be asked for it.
            StorageError: it cannot be written down; then nothing is begun.
        """
        check_user(user)
        check_text("file", file)
        async with self._admitting:
            known = self._running(user, file, target)
            if known is not None:
                return known
            download = self._new(user, file, target, size, retry_of=retry_of)
            await self._write_down(download)
            self._begin(download)
            return download

    def _new(
        self, user: str, file: str, target: Path, size: int | None, *, retry_of: TransferId | None
    ) -> Download:
        transfer = Transfer(
            id=TransferId(secrets.token_hex(8)),
            direction=Direction.DOWNLOAD,
            line=user,
            size=size or 0,
            queued_at=self._clock.now(),
        )
        return Download(transfer, file, target, sized=bool(size), retry_of=retry_of)

    async def _write_down(self, download: Download) -> None:
        self._keep(download)
        try:
            await self._ledger.flush()
        except BaseException:
            self._ledger.take_back(download.id)
            raise

    def _running(self, user: str, file: str, target: Path) -> Download | None:
        wanted = (user, file, target)
        return next((it for it in self.live if (it.user, it.file, it.target) == wanted), None)

    def start(self, kept: Sequence[PeerTransfer]) -> None:
        """Go on with what an earlier run has left."""
        for it in kept:
            resting = it.transfer.phase in {Phase.QUEUED, Phase.PAUSED}
            transfer = it.transfer if resting else replace(it.transfer.requeue(), speed=None)
            download = Download(transfer, it.file, Path(it.target), sized=it.transfer.size > 0)
            download.retry_of = it.retry_of
            download.publishing = it.transfer.step is Step.COMMITTING
            self._downloads[download.id] = download
            if transfer.phase is Phase.QUEUED:
                self._begin(download)

    async def stop(self) -> None:
        """Stop what runs and forget it; it is kept for the next `start`. A second call is harmless."""
        running = {download.task for download in self.live if download.task is not None}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        for download in self.live:
            self._link.unwatch(download.user, self)
        self._downloads.clear()

    def _begin(self, download: Download) -> None:
        self._downloads[download.id] = download
        download.wanted = None
        self._link.watch(download.user, self)
        download.task = self._spawn(self._run(download))

    async def cancel(self, download: Download) -> None:
        """End a download and remove its part; too late when it is being published."""
        await self._halt(download, Phase.ENDED)
        if download.transfer.phase is not Phase.ENDED:
            await self._end(download, Outcome.CANCELLED, None)
            await self._part_of(download).remove()

    async def discard(self, ended: PeerTransfer) -> None:
        """Remove the part that an ended download has left, unless another one of the same file needs it."""
        if self._running(ended.transfer.line, ended.file, Path(ended.target)) is None:
            part = PartFile(
                Path(ended.target), user=ended.transfer.line, file=ended.file, size=ended.transfer.size
            )
            await part.remove()

    async def pause(self, download: Download) -> None:
        """Rest until resumed; what is there of it stays."""
        await self._halt(download, Phase.PAUSED)
        if download.transfer.phase not in {Phase.PAUSED, Phase.ENDED}:
            self._become(download, download.transfer.pause())

    def resume(self, download: Download) -> None:
        """Go on after a pause, or now instead of later."""
        if download.transfer.phase is Phase.PAUSED:
            self._become(download, download.transfer.requeue())
            self._begin(download)
        else:
            download.came_back.set()

    async def _halt(self, download: Download, wanted: Phase) -> None:
        download.wanted = wanted
        if download.task is not None:
            if not download.transfer.past_return:
                download.task.cancel()
            await asyncio.wait({download.task})

    # --- what peers and the server say ---------------------------------------------------------------

    async def take_answer(self, link: PeerLink, message: Answer) -> None:
        """A peer says something about a file that it may have."""
        of_file = [it for it in self.live if (it.user, it.file) == (link.user, message.file)]
        waiting = (it for it in of_file if it.transfer.phase is Phase.QUEUED_REMOTELY)
        download = next(waiting, of_file[0] if of_file else None)
        if download is None or not await self._peers.is_trusted(link):
            if isinstance(message, TransferRequest):
                await link.connection.send(TransferResponse(message.token, allowed=False, reason="Cancelled"))
            return
        if download.transfer.phase is Phase.PAUSED and isinstance(message, TransferRequest):
            await link.connection.send(TransferResponse(message.token, allowed=False, reason="Cancelled"))
            return
        if isinstance(message, TransferRequest):
            download.offered_over = link
        with suppress(asyncio.QueueFull):  # a peer that says more than we can take says nothing new
            download.answers.put_nowait(message)

    async def take_file(self, user: str, connection: Connection, *, solicited: bool) -> None:
        """A peer has opened a connection for a file; returns when it is done with."""
        async with asyncio.timeout(self._bounds.handshake_s):
            token = int.from_bytes(await connection.read_exactly(_TOKEN_BYTES), "little")
        waiting = self._awaited.get((user, token))
        if waiting is None or waiting.done():
            raise ConnectionLost("nobody waits for this file")
        if not solicited and (await self._link.locate(user)).ip != connection.address:
            raise ConnectionLost("the file does not come from its owner's address")
        if waiting.done():
            raise ConnectionLost("the file came twice")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.set_result((connection, done))
        await done

    def lose_link(self, link: PeerLink) -> None:
        """A message connection is no more: whoever has just asked over it may not have been heard."""
        since = asyncio.get_running_loop().time() - PROMPT_S
        for download in self.live:
            if download.asked_over is link and download.asked_at > since:
                with suppress(asyncio.QueueFull):
                    download.answers.put_nowait(_Lost())

    def take_status(self, status: UserStatus) -> None:
        """The server tells that a user has come or gone."""
        if status.status:
            for download in self.live:
                if download.user == status.user:
                    download.came_back.set()

    # --- one download --------------------------------------------------------------------------------

    async def _run(self, download: Download) -> None:
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
            await self._end(download, end.outcome, end.reason)
        except (TargetTaken, TargetBusy) as error:
            await self._end(download, Outcome.ERRORED, str(error))
        except OSError as error:
            await self._end(download, Outcome.ERRORED, f"the file cannot be written: {error.strerror}")
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not leave it alive for ever
            self._log("task.failed", error=repr(error), exc_info=error)
            await self._end(download, Outcome.ERRORED, "an error of ours")

    def _halted(self, download: Download) -> None:
        settled = download.transfer.phase in {Phase.QUEUED, Phase.ENDED}
        if not settled and not download.transfer.past_return and download.wanted is None:
            self._become(download, download.transfer.requeue())

    async def _rest(self, download: Download, patience: Patience, error: Exception) -> None:
        """Wait before the next try, or until the user is back."""
        delay = patience.next_delay()
        if delay is None:
            raise _End(Outcome.ERRORED, str(error)) from error
        reason = str(error) or "the peer did not answer in time"
        self._become(download, download.transfer.wait_until(self._clock.now() + delay, reason))
        download.came_back.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await download.came_back.wait()
        self._become(download, download.transfer.requeue())

    async def _attempt(self, download: Download) -> None:
        """Ask, wait for an offer, and take it."""
        if download.publishing and await finish_anyway(self._conclude_again(download)):
            return
        download.publishing = False
        if await in_thread(os.path.lexists, download.target):
            raise TargetTaken(download.target)
        self._read_late_answers(download)
        self._become(download, download.transfer.request())
        await self._ask_for(download)
        self._become(download, download.transfer.queue_remotely())
        while True:
            offer = await self._wait_offer(download)
            lease = self._slots.acquire_nowait(download.user)
            if lease is not None:
                break
            await self._reply(download, TransferResponse(offer.token, allowed=False, reason=QUEUED))
            (await self._slots.acquire(download.user)).release()
            await self._ask_for(download)
        with lease:
            await self._take_offer(download, offer)

    def _read_late_answers(self, download: Download) -> None:
        """A denial may come after the connection that it explains has broken; all else is out of date."""
        while not download.answers.empty():
            answer = download.answers.get_nowait()
            if isinstance(answer, UploadDenied):
                self._denied(answer.reason)

    async def _ask_for(self, download: Download) -> None:
        """Ask for the file."""
        link = await self._peers.ask(download.user, QueueUpload(download.file))
        download.asked_over, download.asked_at = link, asyncio.get_running_loop().time()
        if link.connection.closing:
            self.lose_link(link)

    async def _wait_offer(self, download: Download) -> TransferRequest:
        """Return the offer that comes when it is our turn, asking for the place now and then."""
        polls = _Polls(self._bounds.place_poll_s)
        while True:
            try:
                async with asyncio.timeout(polls.wait_s):
                    answer = await download.answers.get()
            except TimeoutError:
                if polls.next_asks_anew():
                    await self._ask_for(download)
                else:
                    await self._peers.ask(download.user, GetPlaceInQueue(download.file))
                continue
            match answer:
                case _Lost():
                    polls.lose()
                    continue
                case TransferRequest():
                    return answer
                case PlaceInQueue(place=place):
                    download.place = place
                case UploadDenied(reason=reason):
                    self._denied(reason)
                case UploadFailed():
                    self._failed(download)
            polls.hear()

    async def _reply(self, download: Download, response: TransferResponse) -> None:
        """Answer an offer where it came from, or over another connection if that is gone."""
        link = download.offered_over
        if link is not None and not link.connection.closing:
            with suppress(ConnectionLost):
                await link.connection.send(response)
                return
        await self._peers.ask(download.user, response)

    @staticmethod
    def _denied(reason: str) -> None:
        if reason.startswith(_LATER):
            raise Broken(reason)
        raise _End(Outcome.CANCELLED if reason == "Cancelled" else Outcome.REJECTED, reason)

    @staticmethod
    def _failed(download: Download) -> None:
        download.failures += 1
        if download.failures > 1:
            raise _End(Outcome.ERRORED, "the peer could not send the file")
        raise Broken("the peer could not send the file")

    async def _take_offer(self, download: Download, offer: TransferRequest) -> None:
        size = self._judge_size(download, offer.size or 0)
        download.place = None
        download.transfer = download.transfer.resized(size)
        self._become(download, download.transfer.initialize())
        key = (download.user, offer.token)
        arrived = self._awaited[key] = asyncio.get_running_loop().create_future()
        try:
            await self._reply(download, TransferResponse(offer.token, allowed=True))
            async with asyncio.timeout(self._bounds.response_s):
                connection, done = await asyncio.shield(arrived)
        except BaseException:
            _turn_away(arrived)
            raise
        finally:
            del self._awaited[key]
        try:
            await self._receive(download, connection)
        finally:
            if not done.done():  # who brought the connection may have been stopped
                done.set_result(None)

    @staticmethod
    def _judge_size(download: Download, announced: int) -> int:
        """Return the size that counts; raises _End when the file is not the one that was wanted."""
        known = download.transfer.size
        if not download.sized or announced == known:
            download.sized = True
            return announced
        if announced == 0:
            return known
        raise _End(Outcome.ABORTED, f"the file has {announced} bytes, not {known}")

    @staticmethod
    def _part_of(download: Download) -> PartFile:
        return PartFile(download.target, user=download.user, file=download.file, size=download.transfer.size)

    async def _receive(self, download: Download, connection: Connection) -> None:
        async with self._part_of(download) as part:
            offset = min(part.size, download.transfer.size)
            self._become(download, download.transfer.begin(offset, now=self._clock.now()))
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
        guard = Guard(self._bounds, loop.time())
        done = offset
        while done < download.transfer.size:
            async with asyncio.timeout(self._bounds.stall_s):
                piece = await connection.read_some()
            if not piece:
                raise Broken(f"the peer stopped after {done} of {download.transfer.size} bytes")
            piece = piece[: download.transfer.size - done]
            part.write(piece, at=done)
            done += len(piece)
            self.bytes_received += len(piece)
            self._progress(download, done)
            guard.check(done - offset, now=loop.time())

    async def _publish(self, download: Download, part: PartFile) -> None:
        """Give the file its name: from here on a cancel comes too late."""
        self._become(download, download.transfer.advance())
        await finish_anyway(self._conclude(download, part))

    async def _conclude(self, download: Download, part: PartFile) -> None:
        with suppress(
            StorageError
        ):  # then a crash in the next moment is told as a file that is there already
            await self._ledger.flush()
        await part.finish()
        await self._end(download, Outcome.SUCCEEDED, None)

    async def _conclude_again(self, download: Download) -> bool:
        """Come to the end of what an earlier run has written down; returns whether there was anything to end."""
        recovered = await self._part_of(download).recover(download.transfer.size)
        if recovered:
            await self._end(download, Outcome.SUCCEEDED, None)
        return recovered

    def _progress(self, download: Download, done: int) -> None:
        before = download.transfer
        download.transfer = before.confirm(done, now=self._clock.now())
        if download.transfer.pace is not before.pace:
            self._keep(download, moved=True)

    def _become(self, download: Download, transfer: Transfer) -> None:
        download.transfer = transfer
        self._keep(download)

    async def _end(self, download: Download, outcome: Outcome, reason: str | None) -> None:
        transfer = download.transfer
        if outcome is Outcome.ABORTED:
            await self._part_of(download).remove()
        if outcome is Outcome.SUCCEEDED:
            transfer = replace(transfer, done=transfer.size)
        download.transfer = transfer.end(outcome, now=self._clock.now(), reason=reason)
        self._keep(download)
        self._downloads.pop(download.id, None)
        self._let_others_ask(download)
        if not any(it.user == download.user for it in self.live):
            self._link.unwatch(download.user, self)
        download.ended.set()
        self._log(
            "download.ended", user=download.user, file=download.file, outcome=outcome.value, reason=reason
        )

    def _let_others_ask(self, ended: Download) -> None:
        """Let those ask anew who want the same file at another place: their peer has offered it once for all of them."""
        for other in self.live:
            if (other.user, other.file) == (ended.user, ended.file):
                with suppress(asyncio.QueueFull):
                    other.answers.put_nowait(_Lost())

    def _keep(self, download: Download, *, moved: bool = False) -> None:
        self._ledger.put(
            PeerTransfer(
                transfer=replace(download.transfer, pace=None, speed=download.transfer.snapshot.speed),
                file=download.file,
                retry_of=download.retry_of,
                target=os.fspath(download.target),
                ended_at=self._clock.now() if download.transfer.phase is Phase.ENDED else None,
            ),
            moved=moved,
        )


def _turn_away(arrival: Arrival) -> None:
    """Let go of a connection that may have come in the moment in which nobody waited for it any more."""
    if not arrival.cancel() and not arrival.cancelled():
        _, done = arrival.result()
        done.set_result(None)
