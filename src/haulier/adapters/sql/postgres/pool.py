"""A bounded number of connections, each lent to one task at a time.

Rule 1: a connection comes back idle and whole, or it is closed: nobody inherits another's transaction.
Rule 2: connections are opened when they are needed, and kept.
Rule 3: a server that gives no more of them is no error for who can have one that comes back: many are waited for as few.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import psycopg
from psycopg.pq import TransactionStatus

from haulier.adapters.sql.postgres.connection import Connection


class Pool:
    """Connections of one event loop. Whoever waits for one is served in order."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], *, size: int) -> None:
        self._connect = connect
        self._slots: Final = asyncio.Semaphore(size)
        self._idle: Final[list[Connection]] = []
        self._out = 0
        """Connections that are lent, or are being opened to be lent."""
        self._line: Final[deque[asyncio.Future[Connection | None]]] = deque()
        """Of those to whom the server gave none. Nothing is idle while somebody waits: it went to the first."""

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Connection]:
        """Lend a connection that is in no transaction."""
        async with self._slots:
            connection = await self._obtain()
            try:
                yield connection
            finally:
                await self._take_back(connection)

    async def _obtain(self) -> Connection:
        waited = False
        while not self._idle:
            try:
                return await self._open()
            except psycopg.OperationalError:
                if self._out and not self._idle:
                    handed = await self._stand_in_line()
                    if handed is not None:
                        return handed
                    if not waited:
                        # It was refused long ago: those that were lost since have left room.
                        waited = True
                        continue
                # When the server is gone, so are those that were out: they came back too, and none was kept.
                if not self._idle:
                    raise
        self._out += 1
        # The one that was used last: its statements are prepared, and the server's caches know it.
        return self._idle.pop()

    async def _open(self) -> Connection:
        self._out += 1
        try:
            return await self._connect()
        except BaseException:
            self._hand_on(None)
            raise

    async def _stand_in_line(self) -> Connection | None:
        """Wait for one that comes back; return none when all that were out were lost."""
        place: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if not place.cancelled() and (handed := place.result()) is not None:
                self._hand_on(handed)
            raise

    def _hand_on(self, connection: Connection | None) -> None:
        """Give one that was out to who waits longest, or keep it; nothing came of it where it is none."""
        self._out -= 1
        if connection is None:
            while not self._out and (first := self._first()) is not None:
                first.set_result(None)
        elif (first := self._first()) is not None:
            self._out += 1
            first.set_result(connection)
        else:
            self._idle.append(connection)

    def _first(self) -> asyncio.Future[Connection | None] | None:
        """Take the first out of the line that still waits."""
        while self._line:
            place = self._line.popleft()
            if not place.done():  # a cancelled one is
                return place
        return None

    async def _take_back(self, connection: Connection) -> None:
        if connection.info.transaction_status is TransactionStatus.IDLE:
            self._hand_on(connection)
            return
        try:
            # The server rolls back what was open on it, and has room for another.
            await connection.close()
        finally:
            self._hand_on(None)

    async def drop_idle(self) -> None:
        """Close what waits to be lent: after one connection was lost, the others may be gone too."""
        idle, self._idle[:] = list(self._idle), []
        for connection in idle:
            await connection.close()
