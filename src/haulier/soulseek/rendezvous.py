"""A small server of our own, for private networks and tests: who is there, where, and searches.

Rule 1: nobody waits for anybody: what a client does not take in time costs it its own connection.
        So nobody can have others sent more than they take: what is passed on is short.
Rule 2: a name has one client. A newer login with the password ends the older one, which is told so.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from haulier.core.values import dataclass
from haulier.soulseek.accounts import Accounts, refusal_of
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.codec import Message
from haulier.soulseek.connection import Connection, ConnectionLost, Limits, stop_listening
from haulier.soulseek.messages import (
    FROM_SERVER,
    OFFLINE_ADDRESS,
    TO_SERVER,
    CannotConnect,
    CannotConnectNotice,
    CheckPrivileges,
    ConnectRequest,
    ConnectToPeer,
    ExcludedPhrases,
    FileSearch,
    GetPeerAddress,
    GetRoomList,
    GetUserStats,
    GetUserStatus,
    Login,
    LoginAnswer,
    ParentMinimumSpeed,
    ParentSpeedRatio,
    PeerAddress,
    PrivilegedUsers,
    PrivilegesLeft,
    Relogged,
    RoomList,
    SearchRequest,
    SendUploadSpeed,
    SetStatus,
    SetWaitPort,
    SharedCounts,
    UnwatchUser,
    UserSearch,
    UserStats,
    UserStatus,
    WatchedUser,
    WatchUser,
    WishlistInterval,
    WishlistSearch,
    md5_of,
)
from haulier.soulseek.names import QUERY_CHARACTERS
from haulier.soulseek.tasks import Tasks

OFFLINE: Final = 0
ONLINE: Final = 2
WISHLIST_S: Final = 120
"""How often a wish may be searched for: often enough for a small network, and no load."""
WATCHED: Final = 10_000
"""Users that one client may watch."""
_SERVER_BOUNDS: Final = Bounds(connections=10_000, connections_per_address=1_000, messages_per_s=200.0)
"""A private network may sit behind one address. A node that comes back watches all who have something waiting: a thousand
are told of in seconds."""
_LARGEST: Final = 2**32 - 1


@dataclass(eq=False)
class _Client:
    name: str
    link: Connection
    port: int = 0
    status: int = ONLINE
    speed: int = 0
    uploads: int = 0
    folders: int = 0
    files: int = 0
    ready: bool = False
    """Whether it has told what it shares, and so can be searched."""
    watches: set[str] = field(default_factory=set)

    def tell(self, message: Message) -> None:
        self.link.send_nowait(message)


class Rendezvous:
    """The server.

    Args:
        data_dir: Where accounts are kept; None keeps them in memory.
        report_ports: By name, the port that others are told instead of the announced one, which makes the
            user look as if behind a firewall.
        bounds: Its limits.
        phrases: What no answer to a search may hold.
        wishlist_s: How often a wish may be searched for.
        log: Takes events with their fields.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        report_ports: Mapping[str, int] | None = None,
        bounds: Bounds = _SERVER_BOUNDS,
        phrases: tuple[str, ...] = (),
        wishlist_s: int = WISHLIST_S,
        log: Callable[..., None] = lambda *_, **__: None,
    ) -> None:
        self._accounts = Accounts(data_dir / "accounts.jsonl" if data_dir is not None else None)
        self._data_dir = data_dir
        self._report_ports = report_ports or {}
        self._bounds = bounds
        self._phrases = phrases
        self._wishlist_s = wishlist_s
        self._limits = Limits(bounds)
        self._clients: dict[str, _Client] = {}
        self._watchers: dict[str, set[_Client]] = {}
        self._tasks = Tasks(log)
        self._server: asyncio.Server | None = None
        # The other messages are read and passed over.
        self._handlers: Mapping[type[Any], Callable[[_Client, Any], None]] = {
            SetWaitPort: self._set_port,
            GetPeerAddress: self._tell_address,
            WatchUser: self._watch,
            UnwatchUser: self._unwatch,
            GetUserStatus: self._tell_status,
            ConnectToPeer: self._relay_connect,
            CannotConnect: self._relay_failure,
            FileSearch: self._search,
            WishlistSearch: self._search,
            UserSearch: self._search_user,
            SetStatus: self._set_status,
            SharedCounts: self._set_counts,
            GetUserStats: self._tell_stats,
            GetRoomList: self._tell_rooms,
            CheckPrivileges: self._tell_privileges,
            SendUploadSpeed: self._take_speed,
        }

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns where."""
        if self._data_dir is not None:
            self._data_dir.mkdir(parents=True, exist_ok=True)
        await self._accounts.load()
        self._server = await asyncio.start_server(
            self._accept, host, port, limit=64 * 1024, family=socket.AF_INET
        )
        name: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return name

    async def stop(self) -> None:
        """End all connections; a second call is harmless."""
        server, self._server = self._server, None
        if server is not None:
            await stop_listening(server)
        await self._tasks.stop()

    @property
    def users(self) -> list[str]:
        """Who is logged in."""
        return sorted(self._clients)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Connection(reader, writer, self._bounds)
        link.switch(TO_SERVER, FROM_SERVER)
        if self._server is None:  # it was taken just before the end
            link.abort()
            return
        link.left = self._limits.enter(link.address)
        if link.left is None:
            link.send_nowait(LoginAnswer(False, "SVRFULL"))
            link.close()
        else:
            self._tasks(self._own(link))

    async def _own(self, link: Connection) -> None:
        try:
            await self._serve(link)
        except (ConnectionLost, TimeoutError):
            pass
        finally:
            link.close()

    async def _serve(self, link: Connection) -> None:
        async with asyncio.timeout(self._bounds.handshake_s):
            client = await self._log_in(link)
        if client is None:
            return
        try:
            while True:
                message = await link.receive()
                handler = self._handlers.get(type(message))
                if handler is not None:
                    handler(client, message)
        finally:
            self._leave(client)

    async def _log_in(self, link: Connection) -> _Client | None:
        login = await link.receive()
        if not isinstance(login, Login):
            return None
        refusal = refusal_of(login)
        if refusal is None and not self._accounts.has_room_for(login.user):
            refusal = "SVRFULL"
        if refusal is None and not await self._accounts.admit(login.user, login.password):
            refusal = "INVALIDPASS"
        if refusal is not None:
            await link.send(LoginAnswer(False, refusal))
            return None
        client = _Client(login.user, link)
        self._enter(client, md5_of(login.password))
        return client

    def _enter(self, client: _Client, digest: str) -> None:
        older = self._clients.pop(client.name, None)
        if older is not None:
            older.tell(Relogged())
            older.link.close()
        self._clients[client.name] = client
        client.tell(LoginAnswer(True, "", ip=client.link.address, digest=digest))
        for message in (
            RoomList(),
            PrivilegedUsers(()),
            ParentMinimumSpeed(1),
            ParentSpeedRatio(50),
            WishlistInterval(self._wishlist_s),
            ExcludedPhrases(self._phrases),
            UserStatus(client.name, ONLINE),
        ):
            client.tell(message)
        self._announce(client.name)

    def _leave(self, client: _Client) -> None:
        for name in client.watches:
            self._forget_watcher(name, client)
        if self._clients.get(client.name) is client:
            del self._clients[client.name]
            self._announce(client.name)

    def _announce(self, name: str) -> None:
        for watcher in self._watchers.get(name, ()):
            watcher.tell(self._status_of(name))

    def _status_of(self, name: str) -> UserStatus:
        client = self._clients.get(name)
        return UserStatus(name, OFFLINE if client is None else client.status)

    def _forget_watcher(self, name: str, client: _Client) -> None:
        watchers = self._watchers.get(name, set())
        watchers.discard(client)
        if not watchers:
            self._watchers.pop(name, None)

    def _port_of(self, client: _Client) -> int:
        return self._report_ports.get(client.name, client.port)

    # --- what clients say ----------------------------------------------------------------------------

    def _set_port(self, client: _Client, message: SetWaitPort) -> None:
        client.port = message.port

    def _tell_address(self, client: _Client, message: GetPeerAddress) -> None:
        peer = self._clients.get(message.user)
        ip, port = (OFFLINE_ADDRESS, 0) if peer is None else (peer.link.address, self._port_of(peer))
        client.tell(PeerAddress(message.user, ip, port))

    def _watch(self, client: _Client, message: WatchUser) -> None:
        if len(client.watches) < WATCHED:
            client.watches.add(message.user)
            self._watchers.setdefault(message.user, set()).add(client)
        peer = self._clients.get(message.user)
        known = self._accounts.knows(message.user)
        if peer is not None:
            stats = (peer.status, peer.speed, peer.uploads, 0, peer.files, peer.folders)
            client.tell(WatchedUser(message.user, True, *stats, ""))
        else:
            client.tell(WatchedUser(message.user, known, OFFLINE if known else None))

    def _unwatch(self, client: _Client, message: UnwatchUser) -> None:
        client.watches.discard(message.user)
        self._forget_watcher(message.user, client)

    def _tell_status(self, client: _Client, message: GetUserStatus) -> None:
        client.tell(self._status_of(message.user))

    def _relay_connect(self, client: _Client, message: ConnectToPeer) -> None:
        peer = self._clients.get(message.user)
        if peer is None:
            client.tell(CannotConnectNotice(message.token))
            return
        where = (client.link.address, self._port_of(client))
        peer.tell(ConnectRequest(client.name, message.type, *where, message.token))

    def _relay_failure(self, client: _Client, message: CannotConnect) -> None:  # noqa: ARG002 - one shape for all
        peer = self._clients.get(message.user)
        if peer is not None:
            peer.tell(CannotConnectNotice(message.token))

    def _search(self, client: _Client, message: FileSearch | WishlistSearch) -> None:
        for peer in self._clients.values():
            if peer is not client:
                self._pass_on(client, message, peer)

    def _search_user(self, client: _Client, message: UserSearch) -> None:
        peer = self._clients.get(message.user)
        if peer is not None:
            self._pass_on(client, message, peer)

    @staticmethod
    def _pass_on(client: _Client, search: FileSearch | WishlistSearch | UserSearch, peer: _Client) -> None:
        if peer.ready and len(search.query) <= QUERY_CHARACTERS:
            peer.tell(SearchRequest(client.name, search.token, search.query))

    def _set_status(self, client: _Client, message: SetStatus) -> None:
        if message.status in {1, ONLINE} and message.status != client.status:
            client.status = message.status
            self._announce(client.name)

    def _set_counts(self, client: _Client, message: SharedCounts) -> None:
        client.folders, client.files, client.ready = message.folders, message.files, True

    def _tell_stats(self, client: _Client, message: GetUserStats) -> None:
        peer = self._clients.get(message.user)
        stats = (0, 0, 0, 0, 0) if peer is None else (peer.speed, peer.uploads, 0, peer.files, peer.folders)
        client.tell(UserStats(message.user, *stats))

    def _tell_rooms(self, client: _Client, message: GetRoomList) -> None:  # noqa: ARG002 - one shape for all
        client.tell(RoomList())

    def _tell_privileges(self, client: _Client, message: CheckPrivileges) -> None:  # noqa: ARG002 - one shape for all
        client.tell(PrivilegesLeft(0))

    def _take_speed(self, client: _Client, message: SendUploadSpeed) -> None:
        """The average over all its uploads."""
        client.uploads = min(_LARGEST, client.uploads + 1)
        client.speed += (message.speed - client.speed) // client.uploads
