"""Connections between peers: for messages (P), and for the bytes of files (F).

Rule 1: the name in a `PeerInit` is a claim. A connection is trusted when we opened it towards the address that
        the server gives for the user, when we asked the server for it, or when it comes from that address.
        Our own messages go over trusted ones only; over any other go nothing but answers.
Rule 2: a message connection is made once however many want it, and has one reader.
Rule 3: a connection that a stranger has us open counts for its address as one that comes from there does.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Protocol

from haulier.core.errors import PeerError
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.codec import Message
from haulier.soulseek.connection import Connection, ConnectionLost, Leave, Limits, stop_listening
from haulier.soulseek.messages import (
    FILE,
    PEER,
    CannotConnect,
    CannotConnectNotice,
    ConnectRequest,
    PeerAddress,
    PeerInit,
    PierceFireWall,
)
from haulier.soulseek.names import can_be_user
from haulier.soulseek.openings import Openings, Tokens
from haulier.soulseek.peer_links import PeerLink, PeerLinks
from haulier.soulseek.protocol import Unreadable
from haulier.soulseek.server_link import LinkDown, ServerLink
from haulier.soulseek.tasks import Spawn


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
        self._log = log
        self._limits = Limits(bounds)
        self._links = PeerLinks(bounds)
        self._openings = Openings(user, link, bounds, limits=self._limits, spawn=spawn, tokens=tokens)
        self._reaching: dict[str, asyncio.Future[PeerLink]] = {}
        self._server: asyncio.Server | None = None

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
            await stop_listening(server)
        for link in self._links:
            link.connection.close()

    # --- connections that come -----------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, self._bounds)
        if self._server is not None:  # one that was taken just before the end is told of after it
            connection.left = self._count_in(connection.address)
        if connection.left is None:
            connection.abort()
        else:
            self._spawn(self._owned(connection, self._greet(connection)))

    def _count_in(self, address: str, *, asked: bool = False) -> Leave | None:
        left = self._limits.enter(address, asked=asked)
        if left is None and self._links.make_room(address, solicited=asked):
            left = self._limits.enter(address, asked=asked)
        return left

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
                self._openings.hand_on(connection, token)
                return True
            case PeerInit(user=user, type=kind) if self._may_be(user):
                return await self._serve(user, kind, connection, solicited=False)
            case _:
                raise ConnectionLost("the connection does not begin as one should")

    def _may_be(self, user: str) -> bool:
        """Whether a peer can have the name that it tells."""
        return can_be_user(user) and user != self._user

    async def _serve(self, user: str, kind: str, connection: Connection, *, solicited: bool) -> bool:
        if kind == PEER:
            link = self._links.take_in(user, connection, solicited=solicited)
            link.lasting = True
            with self._links.replaceable(link):
                await self._read_messages(link)
        elif kind == FILE:
            await self._listener.take_file(user, connection, solicited=solicited)
        return False

    def answer(self, request: ConnectRequest) -> None:
        """A user asks, through the server, that we connect."""
        if self._may_be(request.user) and request.type in {PEER, FILE}:
            self._spawn(self._connect_back(request))

    async def _connect_back(self, request: ConnectRequest) -> None:
        try:
            left = self._count_in(request.ip, asked=True)
            connection = await self._openings.connect(request.ip, request.port, left)
        except ConnectionLost as error:
            self._log("peer.unreachable", user=request.user, reason=error.reason)
            self._link.tell(CannotConnect(request.token, request.user))
            return
        await self._owned(connection, self._pierce(request, connection))

    async def _pierce(self, request: ConnectRequest, connection: Connection) -> bool:
        await connection.send(PierceFireWall(request.token))
        return await self._serve(request.user, request.type, connection, solicited=True)

    def expecting(self, user: str, code: int) -> AbstractContextManager[None]:
        """Let compressed answers of that code be long, from that user; `ANYBODY` for all."""
        return self._links.expecting(user, code)

    def take_failure(self, notice: CannotConnectNotice) -> None:
        """A user says that it cannot reach us."""
        self._openings.take_failure(notice)

    # --- message connections -------------------------------------------------------------------------

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
            self._links.drop(link)
            link.gone.set()
            self._listener.lose_link(link)

    async def reach(self, user: str) -> PeerLink:
        """Return a trusted message connection of the user; those who ask at a time share one attempt.

        Raises:
            LinkDown: the server cannot be asked.
            PeerOffline: the server does not know where the user is.
            ConnectionLost: the user is reached neither directly nor through the server.
        """
        address = await self._link.locate(user)
        link = self._links.of(user, address)
        if link is not None:
            return link
        opening = self._reaching.get(user)
        if opening is None:
            opening = self._reaching[user] = asyncio.get_running_loop().create_future()
            self._spawn(self._reach_anew(address, opening))
        return await asyncio.shield(opening)

    async def _reach_anew(self, address: PeerAddress, opening: "asyncio.Future[PeerLink]") -> None:
        try:
            connection = await self._openings.open(address, PEER)
        except asyncio.CancelledError:
            opening.cancel()
            raise
        except PeerError as error:
            if not opening.done():
                opening.set_exception(error)
                opening.exception()  # whoever asked may have gone
            return
        finally:
            del self._reaching[address.user]
        link = self._links.take_in(address.user, connection, solicited=True)
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

    async def open_file(self, user: str) -> Connection:
        """Open a connection for the bytes of a file; the caller closes it. Raises as `reach` does."""
        return await self._openings.open(await self._link.locate(user), FILE)
