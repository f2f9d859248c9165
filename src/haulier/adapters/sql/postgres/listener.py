"""What other processes tell, by NOTIFY, on a connection that comes back by itself.

Rule 1: a notice is a hint, never a fact: PostgreSQL keeps none for who is not there. So whoever listens is told when
        notices may have been missed, and then reads everything anew.
Source: PostgreSQL's manual, LISTEN and NOTIFY.
"""

from asyncio import sleep
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

import psycopg
from psycopg import sql

from haulier.adapters.sql.postgres.connection import Connection, words_of
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
    delays, reason = RECONNECT.delays(chance), None
    while True:
        try:
            async with _listening(connect, channel) as notices:
                if reason is not None:
                    log.info("database.listener_back")
                delays, reason = RECONNECT.delays(chance), None
                yield None
                async for notice in notices:
                    yield notice.payload
        except psycopg.Error as error:  # a driver that finds its connection closed says InterfaceError
            if (words := words_of(error)) != reason:
                log.warning("database.listener_lost", error=words)
            reason = words
            await sleep(next(delays))


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
