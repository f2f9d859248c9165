"""The node: one identity on one server, with its shares, uploads, downloads and searches.

Rule 1: this is where the parts meet: who says what is decided here, what follows from it in the parts.
Rule 2: starting and stopping may be repeated; what waits is kept in between.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from haulier.core.errors import StorageError
from haulier.core.retry import RetryPolicy
from haulier.core.transfer import Direction
from haulier.core.values import dataclass
from haulier.machine import Clock
from haulier.ports import ShareIndex, TransferQueueStore
from haulier.soulseek.answers import Answers
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.codec import Message
from haulier.soulseek.connection import Connection
from haulier.soulseek.downloads import RETRY, Downloads
from haulier.soulseek.inquiries import Inquiries
from haulier.soulseek.ledger import Ledger
from haulier.soulseek.messages import (
    CannotConnectNotice,
    ConnectRequest,
    PrivilegedUsers,
    SearchRequest,
    UserStatus,
    WatchedUser,
)
from haulier.soulseek.offer import Offers
from haulier.soulseek.openings import Tokens
from haulier.soulseek.peer_links import PeerLink
from haulier.soulseek.peer_messages import (
    GetFolder,
    GetPlaceInQueue,
    GetShareList,
    GetUserInfo,
    PlaceInQueue,
    QueueUpload,
    SearchAnswer,
    ShareList,
    TransferRequest,
    TransferResponse,
    UploadDenied,
    UploadFailed,
)
from haulier.soulseek.peers import Peers
from haulier.soulseek.server_link import RECONNECT, Identity, ServerLink
from haulier.soulseek.shares import Share, Shares
from haulier.soulseek.surroundings import Surroundings
from haulier.soulseek.tasks import Tasks
from haulier.soulseek.upload import UploadRules
from haulier.soulseek.uploads import Uploads

SWEEP_S: Final = 900.0
"""How often what is idle or old is forgotten. Precedent: slskd sweeps every 15 minutes."""
RESCAN_S: Final = 3_600.0
"""How often the shares are looked at again by themselves."""
RETENTION_S: Final = 30 * 86_400.0
"""For which the results of transfers can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """How a node is run."""

    identity: Identity
    host: str = "0.0.0.0"  # noqa: S104 - peers come from elsewhere; the command line says where to listen
    port: int = 2234
    advertise_port: int | None = None
    """What the server is told instead of the port that we listen on."""
    shares: Sequence[Share] = ()
    rules: UploadRules = field(default_factory=UploadRules)
    download_slots: int = 10
    bounds: Bounds = field(default_factory=Bounds)
    description: str = ""
    rescan_s: float = RESCAN_S
    reconnect: RetryPolicy = RECONNECT
    download_retry: RetryPolicy = RETRY


class Node:
    """A node that runs between `start` and `stop`.

    Args:
        settings: Who and how.
        index: Where scans go.
        store: Where transfers are kept.
        clock: The time.
        log: Takes events with their fields.
    """

    def __init__(
        self,
        settings: NodeSettings,
        *,
        index: ShareIndex,
        store: TransferQueueStore,
        clock: Clock,
        log: Callable[..., None],
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._log = log
        self._tasks = Tasks(log)
        user, bounds, tokens = settings.identity.user, settings.bounds, Tokens(secrets.randbelow)
        self.shares = Shares(settings.shares, index)
        self.ledger = Ledger(store, log)
        self.link = ServerLink(
            settings.identity,
            bounds,
            self._said_by_server(),
            log,
            came_up=self._take_link,
            reconnect=settings.reconnect,
        )
        self.peers = Peers(user, self.link, bounds, spawn=self._tasks, listener=self, tokens=tokens, log=log)
        self._offers = Offers(self.peers, self.shares, bounds, clock, tokens)
        around = Surroundings(
            peers=self.peers,
            link=self.link,
            ledger=self.ledger,
            bounds=bounds,
            clock=clock,
            spawn=self._tasks,
            log=log,
        )
        self.uploads = Uploads(around, shares=self.shares, offers=self._offers, rules=settings.rules)
        self.downloads = Downloads(around, slots=settings.download_slots, retry=settings.download_retry)
        self.inquiries = Inquiries(self.peers, self.link, tokens)
        self._answers = Answers(
            around,
            shares=self.shares,
            uploads=self.uploads,
            slots=settings.rules.slots,
            description=settings.description,
        )
        self._running = False
        self._privileged = self.link.privileged
        """Those who are favoured."""
        self.address = ("", 0)
        self.ended: asyncio.Future[None] | None = None

    def _said_by_server(self) -> Mapping[type[Message], Callable[[Any], None]]:
        return {
            ConnectRequest: self._take_connect_request,
            CannotConnectNotice: self._take_failure,
            SearchRequest: self._take_search,
            UserStatus: self._take_status,
            WatchedUser: self._take_watched,
            PrivilegedUsers: self._take_privileged,
        }

    # --- running -------------------------------------------------------------------------------------

    async def start(self, *, restore: bool = True) -> None:
        """Scan, listen, log in, and go on with what waits, unless it is not to be restored. May be repeated.

        Raises:
            LoginRefused: the server does not let us in.
            ServerUnreachable: it was tried as often as the settings say.
            StorageError: what is kept cannot be read.
            OSError: the address cannot be listened on.
        """
        if self._running:
            return
        self._running = True
        try:
            await self._start(restore=restore)
        except BaseException:
            await self.stop()
            raise

    async def _start(self, *, restore: bool) -> None:
        await self.shares.scan()
        self.address = await self.peers.listen(self.settings.host, self.settings.port)
        self.link.wait_port = self.settings.advertise_port or self.address[1]
        self.link.share(self.shares.folders, self.shares.files)
        self._tasks(self.ledger.run())
        serving = self._tasks(self.link.run())
        self.ended = serving
        up = self._tasks(self._wait_up())
        await asyncio.wait({serving, up}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        self.uploads.start(await self.ledger.live(Direction.UPLOAD) if restore else ())
        self.downloads.start(await self.ledger.live(Direction.DOWNLOAD) if restore else ())
        self._tasks(self._repeat(self._sweep, SWEEP_S))
        self._tasks(self._repeat(self.rescan, self.settings.rescan_s))

    async def _wait_up(self) -> None:
        await self.link.up.wait()

    async def stop(self) -> None:
        """End everything; what waits is kept. A second call is harmless."""
        self._running = False
        await self.uploads.stop()
        await self.downloads.stop()
        await self.peers.stop()
        await self._tasks.stop()
        await self.ledger.flush()

    async def wait_ended(self) -> None:
        """Wait until the server lets us go for good, and raise why."""
        assert self.ended is not None, "start it first"
        await asyncio.shield(self.ended)

    async def _sweep(self) -> None:
        self.uploads.sweep()
        await self.ledger.forget(ended_before=self._clock.now() - RETENTION_S)

    async def _repeat(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        """Do something again and again; a disk or database that fails now may not the next time."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await work()
            except (StorageError, OSError) as error:
                self._log("upkeep.failed", work=work.__name__, reason=str(error))

    async def rescan(self) -> None:
        """Look at the shares again, and tell the server."""
        await self.shares.scan()
        self.link.share(self.shares.folders, self.shares.files)

    # --- what the server says ------------------------------------------------------------------------

    def _take_connect_request(self, request: ConnectRequest) -> None:
        self.peers.answer(request)

    def _take_failure(self, notice: CannotConnectNotice) -> None:
        self.peers.take_failure(notice)

    def _take_status(self, status: UserStatus) -> None:
        if self.link.privileged is not self._privileged:
            self._favour()
        self.uploads.take_status(status)
        self.downloads.take_status(status)

    def _take_watched(self, user: WatchedUser) -> None:
        """A user is watched from now on, or again after a login: what was known of it may be out of date."""
        self._take_status(UserStatus(user.user, user.status or 0))

    def _take_link(self) -> None:
        self.uploads.pump()

    def _take_privileged(self, users: PrivilegedUsers) -> None:  # noqa: ARG002 - the link keeps them
        self._favour()

    def _favour(self) -> None:
        self._privileged = self.link.privileged
        self.uploads.favour()

    def _take_search(self, request: SearchRequest) -> None:
        self._tasks(self._answers.answer_search(request))

    # --- what peers say ------------------------------------------------------------------------------

    async def take_message(self, link: PeerLink, message: Message) -> None:  # noqa: C901, PLR0912 - one case a message
        """A peer has said something."""
        match message:
            case QueueUpload():
                await self.uploads.take_queue_upload(link, message)
            case TransferRequest(direction=TransferRequest.ASKED):
                await self.uploads.take_transfer_request(link, message)
            case TransferResponse():
                self._offers.take_answer(link, message)
            case GetPlaceInQueue():
                await self.uploads.tell_place(link, message.file)
            case TransferRequest(direction=TransferRequest.OFFERED):
                await self.downloads.take_offer(link, message)
            case UploadDenied() | UploadFailed() | PlaceInQueue():
                await self.downloads.take_answer(link, message)
            case GetShareList():
                await self._answers.tell_list(link)
            case GetFolder():
                await self._answers.tell_folder(link, message)
            case GetUserInfo():
                await self._answers.tell_info(link)
            case SearchAnswer():
                await self.inquiries.take_found(message)
            case ShareList():
                self.inquiries.take_list(link, message)
            case _:
                pass

    async def take_file(self, user: str, connection: Connection, *, solicited: bool) -> None:
        """A peer has opened a connection for a file."""
        await self.downloads.take_file(user, connection, solicited=solicited)

    def lose_link(self, link: PeerLink) -> None:
        """A message connection is no more."""
        self.downloads.lose_link(link)


def default_target(file: str, folder: Path) -> Path:
    """Return where a virtual path is saved when nobody says: under its base name, which is one name."""
    name = file.rpartition("\\")[2].replace("/", "_").replace("\0", "_")
    return folder / (name if name not in {"", ".", ".."} else "_")
