"""What other processes tell, by NOTIFY, on a connection that comes back by itself.

Rule 1: a notice is a hint, never a fact: PostgreSQL keeps none for who is not there. So whoever listens is told when
        notices may have been missed, and then reads everything anew.
Source: PostgreSQL's manual, LISTEN and NOTIFY.
"""

from asyncio import sleep
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

import psycopg
from psycopg import sql

from haulier.adapters.sql.postgres.connection import Connection
from haulier.core.retry import Chance, RetryPolicy
from haulier.logs import get_logger

log = get_logger()

RECONNECT: Final = RetryPolicy(retries=10**9, base_s=0.05, cap_s=2.0)
"""For ever, and soon: until then whoever listens learns of everything late."""
MAX_PAYLOAD: Final = 7999
"""Bytes that PostgreSQL takes; it refuses 8000."""


async def listen(
    connect: Callable[[], Awaitable[Connection]], channel: str, chance: Chance
) -> AsyncGenerator[str | None]:
    """Yield each payload sent to `channel`, and None when some may have been missed.

    The first is None: from then on everything that is sent arrives. Close it (`contextlib.aclosing`) to give its
    connection up.
    """
    delays = RECONNECT.delays(chance)
    while True:
        try:
            async with _listening(connect, channel) as notices:
                delays = RECONNECT.delays(chance)
                yield None
                async for notice in notices:
                    yield notice.payload
        except psycopg.Error as error:  # a driver that finds its connection closed says InterfaceError
            await _pause(error, delays)


@asynccontextmanager
async def _listening(
    connect: Callable[[], Awaitable[Connection]], channel: str
) -> AsyncIterator[AsyncIterator[psycopg.Notify]]:
    connection = await connect()
    try:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        # It locks the connection while it is open.
        async with aclosing(connection.notifies()) as notices:
            yield notices
    finally:
        await connection.close()


async def _pause(error: psycopg.Error, delays: Iterator[float]) -> None:
    log.warning("database.listener_lost", error=type(error).__name__, sqlstate=error.sqlstate)
    await sleep(next(delays))
