"""Connections that peers open to bring a file, and who waits for them.

Rule 1: a file comes from the peer's own address, or over a connection that we asked for.
Rule 2: whoever brings a connection keeps it until it is done with; one that nobody waits for any more is let go of.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from haulier.soulseek.bounds import Bounds
from haulier.soulseek.connection import Connection, ConnectionLost
from haulier.soulseek.server_link import ServerLink

_TOKEN_BYTES: Final = 4

Arrival = asyncio.Future[tuple[Connection, asyncio.Future[None]]]
"""The connection that brings a file, and what is resolved when it is done with."""


class Arrivals:
    """Connections that are to bring a file, by user and the user's token."""

    def __init__(self, link: ServerLink, bounds: Bounds) -> None:
        self._link = link
        self._bounds = bounds
        self._awaited: dict[tuple[str, int], Arrival] = {}

    @asynccontextmanager
    async def expecting(self, user: str, token: int) -> AsyncIterator["Expected"]:
        """Let a connection come."""
        expected = Expected(self._awaited, user, token, self._bounds.response_s)
        try:
            yield expected
        finally:
            expected.end()

    async def bring(self, user: str, connection: Connection, *, solicited: bool) -> None:
        """A peer has opened a connection for a file; returns when it is done with."""
        async with asyncio.timeout(self._bounds.handshake_s):
            token = int.from_bytes(await connection.read_exactly(_TOKEN_BYTES), "little")
        waiting = self._awaited.get((user, token))
        if waiting is None or waiting.done():
            raise ConnectionLost("nobody waits for this file")
        if not solicited and (await self._link.locate(user)).ip != connection.address:
            raise ConnectionLost("the file does not come from its owner's address")
        if waiting.done() or self._awaited.get((user, token)) is not waiting:
            raise ConnectionLost("the file came twice, or too late")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.set_result((connection, done))
        await done


class Expected:
    """A connection that is to come.

    Args:
        awaited: Where it is found by whoever brings it.
        user: Who brings it.
        token: By which it is known.
        within_s: How long it is waited for.
    """

    def __init__(
        self, awaited: dict[tuple[str, int], Arrival], user: str, token: int, within_s: float
    ) -> None:
        self.token = token
        self._awaited = awaited
        self._user = user
        self._within_s = within_s
        self._arrival: Arrival = asyncio.get_running_loop().create_future()
        awaited[user, token] = self._arrival

    def expect_instead(self, token: int) -> bool:
        """Wait for another token from now on, not longer; returns False when the connection is there already."""
        if self._arrival.done():
            return False
        self._leave()
        self.token = token
        self._awaited[self._user, token] = self._arrival
        return True

    async def wait(self) -> Connection:
        """Return it; raises TimeoutError."""
        async with asyncio.timeout(self._within_s):
            connection, _ = await asyncio.shield(self._arrival)
        return connection

    def end(self) -> None:
        """Wait no longer, and be done with what has come."""
        self._leave()
        turn_away(self._arrival)

    def _leave(self) -> None:
        if self._awaited.get((self._user, self.token)) is self._arrival:
            del self._awaited[self._user, self.token]


def turn_away(arrival: Arrival) -> None:
    """Be done with a connection, be it one that came in the moment in which nobody waited for it any more."""
    if not arrival.cancel() and not arrival.cancelled():
        _, done = arrival.result()
        if not done.done():  # who brought the connection may have been stopped
            done.set_result(None)
