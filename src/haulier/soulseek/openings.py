"""Connections that we open: directly and through the server at the same time.

Rule 1: the first wins, the other is closed. Neither's failure ends the other's attempt.
Rule 2: what is opened is counted, and counted out when it closes.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from haulier.soulseek.bounds import Bounds
from haulier.soulseek.connection import Connection, ConnectionLost, Leave, Limits, connect
from haulier.soulseek.messages import CannotConnectNotice, ConnectToPeer, PeerAddress, PeerInit
from haulier.soulseek.server_link import ServerLink
from haulier.soulseek.tasks import Spawn

_LARGEST: Final = 2**32 - 1


class Tokens:
    """Random numbers that are in use once."""

    def __init__(self, random: Callable[[int], int]) -> None:
        self._random = random
        self._used: set[int] = set()

    def take(self) -> int:
        """Return one that nobody has."""
        while True:
            token = self._random(_LARGEST) + 1
            if token not in self._used:
                self._used.add(token)
                return token

    def drop(self, token: int) -> None:
        """It is not waited for any more."""
        self._used.discard(token)


class Openings:
    """Opens connections.

    Args:
        user: Our own name.
        link: The server, which is asked to send peers to us.
        bounds: Limits in time.
        limits: What is counted.
        spawn: Starts a task that lives as long as the node.
        tokens: Where tokens come from.
    """

    def __init__(
        self, user: str, link: ServerLink, bounds: Bounds, *, limits: Limits, spawn: Spawn, tokens: Tokens
    ) -> None:
        self._user = user
        self._link = link
        self._bounds = bounds
        self._limits = limits
        self._spawn = spawn
        self._tokens = tokens
        self._awaited: dict[int, asyncio.Future[Connection]] = {}
        """Connections that users were asked to open, by token."""

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
        direct = self._spawn(self._directly(address, kind))
        try:
            async with asyncio.timeout(max(self._bounds.indirect_connect_s, self._bounds.direct_connect_s)):
                return await _first_of(direct, arrived)
        except TimeoutError as error:
            raise ConnectionLost(f"{address.user} is not reached in time") from error
        finally:
            self._awaited.pop(token, None)
            self._tokens.drop(token)

    async def _directly(self, address: PeerAddress, kind: str) -> Connection:
        connection = await self.connect(address.ip, address.port, self._limits.go_out())
        try:
            await connection.send(PeerInit(self._user, kind))
        except BaseException:
            connection.abort()
            raise
        return connection

    async def connect(self, ip: str, port: int, left: Leave | None) -> Connection:
        """Open a connection that is counted; None: that there is no room for. Raises ConnectionLost."""
        if left is None:
            raise ConnectionLost("there are too many connections")
        try:
            connection = await connect(ip, port, self._bounds)
        except BaseException:
            left()
            raise
        connection.left = left
        return connection

    def hand_on(self, connection: Connection, token: int) -> None:
        """A user has opened the connection that was asked for; raises ConnectionLost when none was."""
        awaited = self._awaited.pop(token, None)
        if awaited is None or awaited.done():
            raise ConnectionLost("nobody asked for this connection")
        awaited.set_result(connection)

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
