"""Downloads from peers: what operators want of them, and what peers and the server say.

Rule 1: a peer offers when it is our turn there; offers come over trusted connections only, and the bytes from
        the peer's own address.
Rule 2: nothing is begun that is not written down. The part of a file stays for a later download of the same file,
        unless an operator cancels this one or its size is wrong.
"""

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from haulier.core.retry import RetryPolicy
from haulier.core.transfer import Direction, Outcome, Phase, Transfer, TransferId
from haulier.engine.slots import SlotLimits, Slots, SlotStatistics
from haulier.ports import PeerTransfer
from haulier.soulseek.arrivals import Arrivals
from haulier.soulseek.connection import Connection
from haulier.soulseek.download import Download
from haulier.soulseek.fetching import Fetching
from haulier.soulseek.inbox import Answer, Lost, Offered
from haulier.soulseek.messages import UserStatus
from haulier.soulseek.names import check_text, check_user
from haulier.soulseek.offer import CANCELLED, QUEUED
from haulier.soulseek.partfile import PartFile
from haulier.soulseek.peer_links import PeerLink
from haulier.soulseek.peer_messages import TransferRequest
from haulier.soulseek.replies import refuse
from haulier.soulseek.surroundings import Surroundings

RETRY: Final = RetryPolicy(retries=1_000, base_s=15.0, cap_s=900.0)
"""Peers are away for hours; what is wanted from them is still wanted then."""
PROMPT_S: Final = 5.0
"""A connection that breaks so soon after we asked over it may have been closed before anybody read the question."""


class Downloads:
    """All downloads of a node.

    Args:
        around: The node.
        slots: How many come at a time.
        retry: How long, and how often, one is tried.
    """

    def __init__(self, around: Surroundings, *, slots: int = 10, retry: RetryPolicy = RETRY) -> None:
        self._around = around
        self._slots = Slots(SlotLimits(total=slots, per_line=0), around.clock.monotonic)
        self._arrivals = Arrivals(around.link, around.bounds)
        self._fetching = Fetching(around, self._arrivals, slots=self._slots, retry=retry, ended=self._forget)
        self._downloads: dict[TransferId, Download] = {}
        self._admitting = asyncio.Lock()

    @property
    def bytes_received(self) -> int:
        """What has come since the start."""
        return self._fetching.bytes_received

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
        check_user(user, own=self._around.link.identity.user)
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
            queued_at=self._around.clock.now(),
        )
        return Download(transfer, file, target, sized=bool(size), retry_of=retry_of)

    async def _write_down(self, download: Download) -> None:
        self._fetching.keep(download)
        try:
            await self._around.ledger.flush()
        except BaseException:
            self._around.ledger.take_back(download.id)
            raise

    def _running(self, user: str, file: str, target: Path) -> Download | None:
        wanted = (user, file, target)
        return next((it for it in self.live if (it.user, it.file, it.target) == wanted), None)

    def start(self, kept: Sequence[PeerTransfer]) -> None:
        """Go on with what an earlier run has left."""
        for it in kept:
            download = Download.restored(it)
            self._downloads[download.id] = download
            if download.transfer.phase is Phase.QUEUED:
                self._begin(download)

    async def stop(self) -> None:
        """Stop what runs and forget it; it is kept for the next `start`. A second call is harmless."""
        running = {download.task for download in self.live if download.task is not None}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        for download in self.live:
            self._around.link.unwatch(download.user, self)
        self._downloads.clear()

    def _begin(self, download: Download) -> None:
        self._downloads[download.id] = download
        download.wanted = None
        self._around.link.watch(download.user, self)
        download.task = self._around.spawn(self._fetching.run(download))

    async def cancel(self, download: Download) -> None:
        """End a download and remove its part; too late when it is being published."""
        await self._halt(download, Phase.ENDED)
        if download.transfer.phase is not Phase.ENDED:
            await self._fetching.end(download, Outcome.CANCELLED, None)
            await download.part.remove()

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
            download.break_off()
            self._fetching.replies.refuse_unread(download, CANCELLED)
            self._fetching.become(download, download.transfer.pause())

    def resume(self, download: Download) -> None:
        """Go on after a pause, or now instead of later."""
        if download.transfer.phase is Phase.PAUSED:
            self._fetching.become(download, download.transfer.requeue())
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
        if self._concerned(link.user, message.file) and await self._around.peers.is_trusted(link):
            download = self._concerned(link.user, message.file)
            if download is not None:
                download.hear(message)

    async def take_offer(self, link: PeerLink, request: TransferRequest) -> None:
        """A peer offers a file: it is answered in any case."""
        if self._concerned(link.user, request.file) is None or await self._around.peers.is_trusted(link):
            download = self._concerned(link.user, request.file, request.token)
            if download is None:
                await refuse(link, request, CANCELLED)
            else:
                await self._fetching.replies.take_offer(download, Offered(request, link))
        else:
            # Who it is cannot be told while the server is away; it may ask again.
            await refuse(link, request, QUEUED if link.trusted is None else CANCELLED)

    def _concerned(self, user: str, file: str, token: int | None = None) -> Download | None:
        """Return the download that a peer speaks of."""
        of_file = [it for it in self.live if (it.user, it.file) == (user, file)]
        accepted = [it for it in of_file if token is not None and it.expects(token)]
        return min(accepted or of_file, key=lambda it: it.turn, default=None)

    async def take_file(self, user: str, connection: Connection, *, solicited: bool) -> None:
        """A peer has opened a connection for a file; returns when it is done with."""
        await self._arrivals.bring(user, connection, solicited=solicited)

    def lose_link(self, link: PeerLink) -> None:
        """A message connection is no more: whoever has just asked over it may not have been heard."""
        since = asyncio.get_running_loop().time() - PROMPT_S
        for download in self.live:
            if download.asked_over is link and download.asked_at > since:
                download.hear(Lost())

    def take_status(self, status: UserStatus) -> None:
        """The server tells that a user has come or gone."""
        if status.status:
            for download in self.live:
                if download.user == status.user:
                    download.came_back.set()

    def _forget(self, ended: Download) -> None:
        """Let go of one that has ended.

        Those who want the same file at another place ask anew: their peer has offered it once for all of them.
        """
        self._downloads.pop(ended.id, None)
        for other in self.live:
            if (other.user, other.file) == (ended.user, ended.file):
                other.hear(Lost())
        if not any(it.user == ended.user for it in self.live):
            self._around.link.unwatch(ended.user, self)
