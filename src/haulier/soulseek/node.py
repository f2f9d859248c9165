"""The node: one identity on one server, with its shares, uploads, downloads and searches.

Rule 1: this is where the parts meet: who says what is decided here, what follows from it in the parts.
Rule 2: starting and stopping may be repeated; what waits is kept in between.

One module although it is long: it is where every message finds its reader.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from haulier.core.errors import StorageError
from haulier.core.retry import RetryPolicy
from haulier.core.transfer import Direction
from haulier.ports import Clock, ShareIndex, TransferQueueStore
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.codec import MalformedMessage, Message
from haulier.soulseek.connection import Connection, ConnectionLost
from haulier.soulseek.download import RETRY, Downloads
from haulier.soulseek.ledger import Ledger
from haulier.soulseek.messages import (
    CannotConnectNotice,
    ConnectRequest,
    FileSearch,
    PrivilegedUsers,
    SearchRequest,
    UserSearch,
    UserStatus,
    WatchedUser,
)
from haulier.soulseek.names import check_text, check_user
from haulier.soulseek.offer import Offers
from haulier.soulseek.peer_messages import (
    SEARCH_ANSWER,
    SHARE_LIST,
    Folder,
    FolderAnswer,
    FolderContents,
    Found,
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
    UserInfo,
)
from haulier.soulseek.peers import ANYBODY, PeerLink, Peers, Tokens
from haulier.soulseek.server_link import RECONNECT, Identity, LinkDown, ServerLink
from haulier.soulseek.shares import Share, Shares
from haulier.soulseek.tasks import Tasks
from haulier.soulseek.upload import UploadRules, Uploads

SWEEP_S: Final = 900.0
"""How often what is idle or old is forgotten. Precedent: slskd sweeps every 15 minutes."""
RESCAN_S: Final = 3_600.0
"""How often the shares are looked at again by themselves."""
RETENTION_S: Final = 30 * 86_400.0
"""For which the results of transfers can be read."""
BROWSE_S: Final = 120.0
"""For a list of all that a peer shares, which may be 64 MiB from a slow line."""
_SEARCH_ANSWERS: Final = 100
"""Answers to one search of ours that wait to be read."""
_AT_A_TIME: Final = 2_000
"""Files of a list that are unpacked at a time: a list may have millions."""


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
        bounds = settings.bounds
        self.settings = settings
        self._clock = clock
        self._log = log
        self._tasks = Tasks(log)
        self._tokens = Tokens(secrets.randbelow)
        self.shares = Shares(settings.shares, index)
        self.link = ServerLink(
            settings.identity,
            bounds,
            {
                ConnectRequest: self._take_connect_request,
                CannotConnectNotice: self._take_failure,
                SearchRequest: self._take_search,
                UserStatus: self._take_status,
                WatchedUser: self._take_watched,
                PrivilegedUsers: self._take_privileged,
            },
            log,
            came_up=self._take_link,
            reconnect=settings.reconnect,
        )
        self.peers = Peers(
            settings.identity.user,
            self.link,
            bounds,
            spawn=self._tasks,
            listener=self,
            tokens=self._tokens,
            log=log,
        )
        self.ledger = Ledger(store, log)
        self._offers = Offers(self.peers, self.shares, bounds, clock, self._tokens)
        self.uploads = Uploads(
            peers=self.peers,
            link=self.link,
            shares=self.shares,
            offers=self._offers,
            ledger=self.ledger,
            bounds=bounds,
            clock=clock,
            spawn=self._tasks,
            rules=settings.rules,
            log=log,
        )
        self.downloads = Downloads(
            peers=self.peers,
            link=self.link,
            ledger=self.ledger,
            bounds=bounds,
            clock=clock,
            spawn=self._tasks,
            log=log,
            slots=settings.download_slots,
            retry=settings.download_retry,
        )
        self._searches: dict[int, asyncio.Queue[Found]] = {}
        self._browses: dict[str, list[asyncio.Future[ShareList]]] = {}
        self._sending_list = asyncio.Semaphore(1)
        """What we share is made into messages, and those into frames, for one peer at a time."""
        self._answering = asyncio.Semaphore(bounds.search_connections)
        self._answers_waiting = 0
        self._running = False
        self._privileged = self.link.privileged
        """Those who are favoured."""
        self.address = ("", 0)
        self.ended: asyncio.Future[None] | None = None

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
            await self.stop()
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
        """Answer a search, unless so many are being answered that its asker has long gone."""
        if (
            request.user != self.settings.identity.user
            and self._answers_waiting < 10 * self.settings.bounds.search_connections
        ):
            self._tasks(self._answer_search(request))

    async def _answer_search(self, request: SearchRequest) -> None:
        self._answers_waiting += 1
        try:
            async with self._answering:
                files = await self.shares.search(request.query, self.link.excluded_phrases)
                if not files:
                    return
                found = Found(
                    user=self.settings.identity.user,
                    token=request.token,
                    files=files,
                    slot_free=self.uploads.has_free_slot,
                    speed=0,
                    queue_length=self.uploads.waiting,
                )
                answer = await asyncio.to_thread(SearchAnswer.pack, found)
                await self.peers.ask_once(request.user, answer)
                self._log("search.answered", user=request.user, files=len(files))
        finally:
            self._answers_waiting -= 1

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
            case (
                TransferRequest(direction=TransferRequest.OFFERED)
                | UploadDenied()
                | UploadFailed()
                | PlaceInQueue()
            ):
                await self.downloads.take_answer(link, message)
            case GetShareList():
                async with self._sending_list:
                    await link.connection.send(await self.shares.list())
            case GetFolder():
                async with self._sending_list:
                    await self._send_folder(link, message)
            case GetUserInfo():
                await link.connection.send(self._info())
            case SearchAnswer():
                await self._take_found(message)
            case ShareList():
                self._take_list(link, message)
            case _:
                pass

    async def take_file(self, user: str, connection: Connection, *, solicited: bool) -> None:
        """A peer has opened a connection for a file."""
        await self.downloads.take_file(user, connection, solicited=solicited)

    def lose_link(self, link: PeerLink) -> None:
        """A message connection is no more."""
        self.downloads.lose_link(link)

    async def _send_folder(self, link: PeerLink, message: GetFolder) -> None:
        folders = await self.shares.folder(message.folder)
        contents = FolderContents(message.token, message.folder, folders)
        await link.connection.send(await asyncio.to_thread(FolderAnswer.pack, contents))

    def _info(self) -> UserInfo:
        slots = self.settings.rules.slots
        return UserInfo(
            self.settings.description, None, slots, self.uploads.waiting, self.uploads.has_free_slot
        )

    async def _take_found(self, answer: SearchAnswer) -> None:
        if not self._searches:
            return
        with suppress(MalformedMessage):
            found = await asyncio.to_thread(answer.unpack)
            waiting = self._searches.get(found.token)
            if waiting is not None and not waiting.full():
                waiting.put_nowait(found)

    def _take_list(self, link: PeerLink, answer: ShareList) -> None:
        for waiting in self._browses.pop(link.user, ()):
            if not waiting.done():
                waiting.set_result(answer)

    # --- what we ask ---------------------------------------------------------------------------------

    def search(self, query: str, *, wait_s: float, user: str | None = None) -> AsyncIterator[Found]:
        """Return what others find, as it comes, for a time.

        Args:
            query: Words, and words with a minus that may not be there.
            wait_s: How long answers are waited for.
            user: Ask only this one.

        Raises:
            InvalidRequest: it cannot be asked for.
            LinkDown: nobody can be asked.
        """
        check_text("words", query)
        if user is not None:
            check_user(user)
        if not self.link.up.is_set():
            raise LinkDown("the link to the server is down")
        return self._search(query, wait_s=wait_s, user=user)

    async def _search(self, query: str, *, wait_s: float, user: str | None) -> AsyncIterator[Found]:
        token = self._tokens.take()
        answers = self._searches[token] = asyncio.Queue(maxsize=_SEARCH_ANSWERS)
        try:
            with (
                self.peers.expecting(ANYBODY if user is None else user, SEARCH_ANSWER),
                suppress(TimeoutError),
            ):
                self.link.tell(FileSearch(token, query) if user is None else UserSearch(user, token, query))
                async with asyncio.timeout(wait_s):
                    while True:
                        yield await answers.get()
        finally:
            del self._searches[token]
            self._tokens.drop(token)

    async def browse(self, user: str) -> AsyncIterator[tuple[Folder, bool]]:
        """Return all folders of a user as they are unpacked, and which are private.

        Raises:
            InvalidRequest: no user has that name.
            PeerError: the user is not reached, or does not answer; while they come: it answers nonsense.
        """
        check_user(user)
        return _unpacked(await self._ask_list(user))

    async def _ask_list(self, user: str) -> ShareList:
        answer: asyncio.Future[ShareList] = asyncio.get_running_loop().create_future()
        waiting = self._browses.setdefault(user, [])
        waiting.append(answer)
        try:
            with self.peers.expecting(user, SHARE_LIST):
                await self.peers.ask(user, GetShareList())
                async with asyncio.timeout(BROWSE_S):
                    return await answer
        except TimeoutError as error:
            raise ConnectionLost("the user does not tell what it shares") from error
        finally:
            with suppress(ValueError):
                waiting.remove(answer)
            if not waiting and self._browses.get(user) is waiting:
                del self._browses[user]


async def _unpacked(packed: ShareList) -> AsyncIterator[tuple[Folder, bool]]:
    """Yield the folders of a list, some of them in memory at a time."""
    folders = packed.folders()
    while some := await asyncio.to_thread(_some, folders):
        for each in some:
            yield each


def _some(folders: Iterator[tuple[Folder, bool]]) -> list[tuple[Folder, bool]]:
    """Take the next folders, of not many more than so many files."""
    taken: list[tuple[Folder, bool]] = []
    room = _AT_A_TIME
    for folder, private in folders:
        taken.append((folder, private))
        room -= 1 + len(folder.files)
        if room <= 0:
            break
    return taken


def default_target(file: str, folder: Path) -> Path:
    """Return where a virtual path is saved when nobody says: under its base name, which is one name."""
    name = file.rpartition("\\")[2].replace("/", "_").replace("\0", "_")
    return folder / (name if name not in {"", ".", ".."} else "_")
