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
        arrival: Arrival = asyncio.get_running_loop().create_future()
        self._awaited[user, token] = arrival
        try:
            yield Expected(arrival, self._bounds.response_s)
        finally:
            if self._awaited.get((user, token)) is arrival:
                del self._awaited[user, token]
            turn_away(arrival)

    async def bring(self, user: str, connection: Connection, *, solicited: bool) -> None:
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


class Expected:
    """A connection that is to come."""

    def __init__(self, arrival: Arrival, within_s: float) -> None:
        self._arrival = arrival
        self._within_s = within_s

    async def wait(self) -> Connection:
        """Return it; raises TimeoutError."""
        async with asyncio.timeout(self._within_s):
            connection, _ = await asyncio.shield(self._arrival)
        return connection


def turn_away(arrival: Arrival) -> None:
    """Be done with a connection, be it one that came in the moment in which nobody waited for it any more."""
    if not arrival.cancel() and not arrival.cancelled():
        _, done = arrival.result()
        if not done.done():  # who brought the connection may have been stopped
            done.set_result(None)
