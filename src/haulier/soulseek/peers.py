"""Connections between peers: for messages (P), and for the bytes of files (F).

Rule 1: the name in a `PeerInit` is a claim. A connection is trusted when we opened it towards the address that
        the server gives for the user, when we asked the server for it, or when it comes from that address.
        Our own messages go over trusted ones only; over any other go nothing but answers.
Rule 2: one message connection a user and address, made once however many want it, with one reader. One that a
        newer one replaces is read a little longer, since what was on its way still counts.
Rule 3: the direct way and the way through the server are tried at the same time; the first wins, the other is
        closed. Neither's failure ends the other's attempt.

One module although it is long: every way in which two peers come to talk is a case of the three rules.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from haulier.core.errors import PeerError
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.codec import Message
from haulier.soulseek.connection import Connection, ConnectionLost, Limits, connect
from haulier.soulseek.messages import (
    FILE,
    PEER,
    CannotConnect,
    CannotConnectNotice,
    ConnectRequest,
    ConnectToPeer,
    PeerAddress,
    PeerInit,
    PierceFireWall,
)
from haulier.soulseek.peer_messages import FOLDER_ANSWER, SEARCH_ANSWER, SHARE_LIST, TO_PEER
from haulier.soulseek.protocol import Unreadable
from haulier.soulseek.server_link import LinkDown, ServerLink

COMPRESSED: Final = (SHARE_LIST, SEARCH_ANSWER, FOLDER_ANSWER)
ANYBODY: Final = ""
RESTS_AFTER_S: Final = 1.0
"""Of silence; then a connection makes room for another one from its address. What was asked has been read long ago."""
UNASKED: Final = 64 * 1024
"""Bytes of a compressed answer that nobody has asked for; it is not looked at."""


T = TypeVar("T")


class Spawn(Protocol):
    """Starts a task that lives no longer than the node."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> asyncio.Task[T]:
        """Return the task."""
        ...


@dataclass(eq=False)
class PeerLink:
    """A message connection of a user."""

    user: str
    connection: Connection
    solicited: bool
    """We opened it towards the server's address, or asked the server for it."""
    heard_at: float
    """When something last came over it, on the event loop's clock."""
    trusted: bool | None = None
    """Once it was asked for."""
    lasting: bool = False
    """Whether it is kept for more: the user has opened it or said something over it, or we have asked over it."""
    older: "PeerLink | None" = None
    """The one that it has replaced."""
    closing: asyncio.TimerHandle | None = None
    """Closes it, when it was replaced."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    users: int = 0
    """How many are about to send something over it, or to answer."""

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let it be closed for nothing less than its own end."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1

    def trusted_by(self, address: PeerAddress) -> bool:
        """Whether it is the user's, given the address that the server tells."""
        return self.solicited or self.connection.address == address.ip


class PeerListener(Protocol):
    """What the node does about what peers say."""

    async def take_message(self, link: PeerLink, message: Message) -> None:
        """A peer has said something; raises ConnectionLost."""
        ...

    async def take_file(self, user: str, connection: Connection, *, solicited: bool) -> None:
        """A peer has opened a connection for a file; it ends when this returns."""
        ...

    def lose_link(self, link: PeerLink) -> None:
        """A message connection is no more."""


class Tokens:
    """Random numbers that are in use once."""

    def __init__(self, random: Callable[[int], int]) -> None:
        self._random = random
        self._used: set[int] = set()

    def take(self) -> int:
        """Return one that nobody has."""
        while True:
            token = self._random(2**32 - 1) + 1
            if token not in self._used:
                self._used.add(token)
                return token

    def drop(self, token: int) -> None:
        """It is not waited for any more."""
        self._used.discard(token)


class Peers:
    """All connections to and from peers.

    Args:
        user: Our own name.
        link: The server, which knows where others are.
        bounds: Limits.
        spawn: Starts a task that lives as long as the node.
        listener: Told what peers say.
        tokens: Where tokens come from.
        log: Takes events with their fields.
    """

    def __init__(
        self,
        user: str,
        link: ServerLink,
        bounds: Bounds,
        *,
        spawn: Spawn,
        listener: PeerListener,
        tokens: Tokens,
        log: Callable[..., None],
    ) -> None:
        self._user = user
        self._link = link
        self._bounds = bounds
        self._spawn = spawn
        self._listener = listener
        self._tokens = tokens
        self._log = log
        self._limits = Limits(bounds)
        self._links: dict[str, dict[str, PeerLink]] = {}
        """By user and address."""
        self._came: dict[str, set[PeerLink]] = {}
        """Those that peers have opened, by address."""
        self._opening: dict[str, asyncio.Future[PeerLink]] = {}
        self._awaited: dict[int, asyncio.Future[Connection]] = {}
        """Connections that users were asked to open, by token."""
        self._server: asyncio.Server | None = None
        self._expected: dict[tuple[str, int], int] = {}
        """How many wait for a compressed answer of that user and code."""

    @property
    def count(self) -> int:
        """Connections that are open."""
        return self._limits.total

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Take connections; returns where."""
        self._server = await asyncio.start_server(self._accept, host, port, family=socket.AF_INET)
        name: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return name

    async def stop(self) -> None:
        """Take no more connections and close all for messages."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for links in list(self._links.values()):
            for link in list(links.values()):
                link.connection.close()

    # --- connections that come -----------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, self._bounds)
        connection.left = self._limits.enter(connection.address)
        if connection.left is None and self._make_room(connection.address):
            connection.left = self._limits.enter(connection.address)
        if connection.left is None:
            connection.abort()
        else:
            self._spawn(self._owned(connection, self._greet(connection)))

    def _make_room(self, address: str) -> bool:
        """Close the message connection from an address that has been silent the longest; returns whether there is one.

        Many peers may share an address, and one that waits in the queue needs no connection meanwhile.
        """
        before = asyncio.get_running_loop().time() - RESTS_AFTER_S
        resting = [link for link in self._came.get(address, ()) if link.heard_at <= before and not link.users]
        if resting:
            min(resting, key=lambda link: link.heard_at).connection.close()
        return bool(resting)

    async def _owned(self, connection: Connection, work: Awaitable[bool]) -> None:
        """Do the work, then see the connection closed, unless it was handed on."""
        handed_on = False
        try:
            handed_on = await work
        except (PeerError, TimeoutError) as error:
            self._log("peer.lost", address=connection.address, reason=str(error) or "nothing came in time")
        finally:
            if not handed_on:
                connection.close()

    async def _greet(self, connection: Connection) -> bool:
        async with asyncio.timeout(self._bounds.handshake_s):
            message = await connection.receive()
        match message:
            case PierceFireWall(token=token):
                return self._hand_on(connection, token)
            case PeerInit(user=user, type=kind) if user != self._user:
                return await self._serve(user, kind, connection, solicited=False)
            case _:
                raise ConnectionLost("the connection does not begin as one should")

    def _hand_on(self, connection: Connection, token: int) -> bool:
        awaited = self._awaited.pop(token, None)
        if awaited is None or awaited.done():
            raise ConnectionLost("nobody asked for this connection")
        awaited.set_result(connection)
        return True

    async def _serve(self, user: str, kind: str, connection: Connection, *, solicited: bool) -> bool:
        if kind == PEER:
            link = self._take_in(user, connection, solicited=solicited)
            link.lasting = True
            with self._replaceable(link) if not solicited else nullcontext():
                await self._read_messages(link)
        elif kind == FILE:
            await self._listener.take_file(user, connection, solicited=solicited)
        return False

    @contextmanager
    def _replaceable(self, link: PeerLink) -> Iterator[None]:
        """Let a connection that came make room, when it rests, for another one from its address."""
        here = self._came.setdefault(link.connection.address, set())
        here.add(link)
        try:
            yield
        finally:
            here.discard(link)
            if not here:
                self._came.pop(link.connection.address, None)

    def answer(self, request: ConnectRequest) -> None:
        """A user asks, through the server, that we connect."""
        if request.user != self._user and request.type in {PEER, FILE}:
            self._spawn(self._connect_back(request))

    async def _connect_back(self, request: ConnectRequest) -> None:
        try:
            connection = await self._connect(request.ip, request.port)
        except ConnectionLost as error:
            self._log("peer.unreachable", user=request.user, reason=error.reason)
            self._link.tell(CannotConnect(request.token, request.user))
            return
        await self._owned(connection, self._pierce(request, connection))

    async def _pierce(self, request: ConnectRequest, connection: Connection) -> bool:
        await connection.send(PierceFireWall(request.token))
        return await self._serve(request.user, request.type, connection, solicited=True)

    async def _connect(self, ip: str, port: int) -> Connection:
        """Open a connection that is counted; raises ConnectionLost."""
        left = self._limits.go_out()
        if left is None:
            raise ConnectionLost("there are too many connections")
        try:
            connection = await connect(ip, port, self._bounds)
        except BaseException:
            left()
            raise
        connection.left = left
        return connection

    @contextmanager
    def expecting(self, user: str, code: int) -> Iterator[None]:
        """Let compressed answers of that code be long, from that user; `ANYBODY` for all."""
        key = (user, code)
        self._expected[key] = self._expected.get(key, 0) + 1
        self._expect_all()
        try:
            yield
        finally:
            self._expected[key] -= 1
            if not self._expected[key]:
                del self._expected[key]
            self._expect_all()

    def _expect_all(self) -> None:
        for links in self._links.values():
            for link in links.values():
                self._expect(link)

    def _expect(self, link: PeerLink) -> None:
        for code in COMPRESSED:
            asked = (link.user, code) in self._expected or (ANYBODY, code) in self._expected
            link.connection.frames.limit(code, None if asked else UNASKED)

    # --- message connections -------------------------------------------------------------------------

    def _take_in(self, user: str, connection: Connection, *, solicited: bool) -> PeerLink:
        connection.switch(TO_PEER, TO_PEER)
        link = PeerLink(user, connection, solicited, heard_at=asyncio.get_running_loop().time())
        links = self._links.setdefault(user, {})
        older = links.get(connection.address)
        if older is not None:
            loop = asyncio.get_running_loop()
            older.closing = loop.call_later(self._bounds.replaced_s, older.connection.close)
            link.older = older
        links[connection.address] = link
        self._expect(link)
        return link

    async def _read_messages(self, link: PeerLink) -> None:
        try:
            while True:
                async with asyncio.timeout(self._bounds.peer_idle_s):
                    message = await link.connection.receive()
                link.lasting = True
                link.heard_at = asyncio.get_running_loop().time()
                if not isinstance(message, Unreadable):
                    with link.in_use():
                        await self._listener.take_message(link, message)
        finally:
            self._drop(link)
            link.gone.set()
            self._listener.lose_link(link)

    def _drop(self, link: PeerLink) -> None:
        """Forget a connection that is gone; the one that it has replaced is as good as before, if it is there."""
        links = self._links.get(link.user, {})
        older, link.older = link.older, None
        if links.get(link.connection.address) is link:
            del links[link.connection.address]
            if older is not None and older.closing is not None and not older.connection.closing:
                older.closing.cancel()
                links[link.connection.address] = older
        if not links:
            self._links.pop(link.user, None)

    async def reach(self, user: str) -> PeerLink:
        """Return a trusted message connection of the user; those who ask at a time share one attempt.

        Raises:
            LinkDown: the server cannot be asked.
            PeerOffline: the server does not know where the user is.
            ConnectionLost: the user is reached neither directly nor through the server.
        """
        address = await self._link.locate(user)
        link = self._trusted(user, address)
        if link is not None:
            return link
        opening = self._opening.get(user)
        if opening is None:
            opening = self._opening[user] = asyncio.get_running_loop().create_future()
            self._spawn(self._reach_anew(address, opening))
        return await asyncio.shield(opening)

    def _trusted(self, user: str, address: PeerAddress) -> PeerLink | None:
        links = [
            link
            for link in self._links.get(user, {}).values()
            if link.trusted_by(address) and not link.connection.closing
        ]
        return links[-1] if links else None

    async def _reach_anew(self, address: PeerAddress, opening: "asyncio.Future[PeerLink]") -> None:
        try:
            connection = await self.open(address, PEER)
        except asyncio.CancelledError:
            opening.cancel()
            raise
        except PeerError as error:
            if not opening.done():
                opening.set_exception(error)
                opening.exception()  # whoever asked may have gone
            return
        finally:
            del self._opening[address.user]
        link = self._take_in(address.user, connection, solicited=True)
        if not opening.done():
            opening.set_result(link)
        await self._owned(connection, self._read_on(link))

    async def _read_on(self, link: PeerLink) -> bool:
        await self._read_messages(link)
        return False

    async def is_trusted(self, link: PeerLink) -> bool:
        """Whether the connection is its user's, as far as the server's address can tell; once it tells, that is kept."""
        if link.trusted is None:
            try:
                link.trusted = link.solicited or link.trusted_by(await self._link.locate(link.user))
            except LinkDown:
                return False  # which says nothing about the user
            except PeerError:
                link.trusted = False
        return link.trusted

    async def ask(self, user: str, *messages: Message) -> PeerLink:
        """Send messages of our own to a user; returns over which connection. Raises as `reach` does."""
        link = await self.reach(user)
        link.lasting = True
        await link.connection.send(*messages)
        return link

    async def ask_once(self, user: str, message: Message) -> None:
        """Send one message, and close the connection if it was made for nothing else; raises as `reach` does.

        Answers to searches go to many who never say anything more.
        """
        link = await self.reach(user)
        try:
            with link.in_use():
                await link.connection.send(message)
        finally:
            if not link.lasting and not link.users:
                link.connection.close()

    # --- connections that we open --------------------------------------------------------------------

    async def open_file(self, user: str) -> Connection:
        """Open a connection for the bytes of a file; the caller closes it. Raises as `reach` does."""
        return await self.open(await self._link.locate(user), FILE)

    async def open(self, address: PeerAddress, kind: str) -> Connection:
        """Open a connection, directly or through the server, whichever comes first.

        Raises:
            ConnectionLost: neither came in time.
        """
        loop = asyncio.get_running_loop()
        token = self._tokens.take()
        arrived: asyncio.Future[Connection] = loop.create_future()
        self._awaited[token] = arrived
        self._link.tell(ConnectToPeer(token, address.user, kind))
        direct = self._spawn(self._open_directly(address, kind))
        try:
            async with asyncio.timeout(max(self._bounds.indirect_connect_s, self._bounds.direct_connect_s)):
                return await _first_of(direct, arrived)
        except TimeoutError as error:
            raise ConnectionLost(f"{address.user} is not reached in time") from error
        finally:
            self._awaited.pop(token, None)
            self._tokens.drop(token)

    async def _open_directly(self, address: PeerAddress, kind: str) -> Connection:
        connection = await self._connect(address.ip, address.port)
        try:
            await connection.send(PeerInit(self._user, kind))
        except BaseException:
            connection.abort()
            raise
        return connection

    def take_failure(self, notice: CannotConnectNotice) -> None:
        """The user says that it cannot reach us; a direct attempt goes on."""
        arrived = self._awaited.pop(notice.token, None)
        if arrived is not None and not arrived.done():
            arrived.set_exception(ConnectionLost("the peer cannot reach us"))


async def _first_of(*attempts: "asyncio.Future[Connection]") -> Connection:
    """Return the first connection that comes about, and close those that come later.

    Raises:
        ConnectionLost: none does; the error of the last to fail.
    """
    pending = set(attempts)
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            won = [attempt for attempt in done if attempt.exception() is None]
            if won:
                pending |= set(won[1:])
                return won[0].result()
            if not pending:
                raise next(iter(done)).exception() or ConnectionLost("no attempt was made")
        raise AssertionError("there is always one that is done last")
    finally:
        for attempt in pending:
            attempt.add_done_callback(_close_late)
            attempt.cancel()


def _close_late(attempt: "asyncio.Future[Connection]") -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
