"""A bounded number of connections, each lent to one task at a time.

Rule 1: a connection comes back idle and whole, or it is closed: nobody inherits another's transaction.
Rule 2: connections are opened when they are needed, and kept.
Rule 3: a server that gives no more of them is no error for who can have one that comes back: many are waited for as few.
"""

import asyncio
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
        self._returned = asyncio.Event()
        """Set when there is one less, whatever became of it; then another event takes its place."""

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
        if not self._idle:
            try:
                return await self._open()
            except psycopg.OperationalError:
                # When the server is gone, so are those that are out: they come back too, and none is kept.
                while self._out and not self._idle:
                    await self._returned.wait()
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
            self._one_less()
            raise

    def _one_less(self) -> None:
        self._out -= 1
        self._returned.set()
        self._returned = asyncio.Event()

    async def _take_back(self, connection: Connection) -> None:
        whole = connection.info.transaction_status is TransactionStatus.IDLE
        if whole:
            self._idle.append(connection)
        self._one_less()
        if not whole:
            # The server rolls back what was open on it.
            await connection.close()

    async def drop_idle(self) -> None:
        """Close what waits to be lent: after one connection was lost, the others may be gone too."""
        idle, self._idle[:] = list(self._idle), []
        for connection in idle:
            await connection.close()
