"""A bounded number of connections, each lent to one task at a time.

Rule 1: a connection comes back idle and whole, or it is closed: nobody inherits another's transaction.
Rule 2: connections are opened when they are needed, and kept.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from psycopg.pq import TransactionStatus

from haulier.adapters.sql.postgres.connection import Connection


class Pool:
    """Connections of one event loop. Whoever waits for one is served in order."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], *, size: int) -> None:
        self._connect = connect
        self._slots: Final = asyncio.Semaphore(size)
        self._idle: Final[list[Connection]] = []

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Connection]:
        """Lend a connection that is in no transaction."""
        async with self._slots:
            # The one that was used last: its statements are prepared, and the server's caches know it.
            connection = self._idle.pop() if self._idle else await self._connect()
            try:
                yield connection
            finally:
                await self._take_back(connection)

    async def _take_back(self, connection: Connection) -> None:
        if connection.info.transaction_status is TransactionStatus.IDLE:
            self._idle.append(connection)
        else:
            # The server rolls back what was open on it.
            await connection.close()

    async def drop_idle(self) -> None:
        """Close what waits to be lent: after one connection was lost, the others may be gone too."""
        idle, self._idle[:] = list(self._idle), []
        for connection in idle:
            await connection.close()
