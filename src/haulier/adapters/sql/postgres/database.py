"""`UnitOfWork` on PostgreSQL: transactions side by side, each on a connection of its own.

Rule 1: writes are READ COMMITTED; what their statements rely on is locked (see statements.py). Reads have one
        snapshot: that of their only statement, or of a transaction. Code that has asked for more than one begins one
        from then on; the first time, what it has read without is read again.
Rule 2: nobody is answered before COMMIT has returned, and what was answered is on the database's disk.
Rule 3: what failed before its COMMIT was sent left nothing, so it is tried again while that may help. When the
        connection is lost during COMMIT nobody knows; that is told, never repeated.
Rule 4: a transaction runs in a task of its own, so that a caller who is cancelled does not interrupt it.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Self, TypeVar

import psycopg

from haulier.adapters.sql.postgres.connection import (
    CLASHES,
    AsksMore,
    Connection,
    OneSelect,
    PostgresExecutor,
    connect,
    may_pass,
    options_of,
    place_of,
    translated,
)
from haulier.adapters.sql.postgres.listener import listen
from haulier.adapters.sql.postgres.migrate import is_current, migrate
from haulier.adapters.sql.postgres.pool import Pool
from haulier.adapters.sql.stores import SqlTransaction
from haulier.core.errors import StorageUnavailable
from haulier.core.retry import Chance, RetryPolicy
from haulier.logs import get_logger

T = TypeVar("T")
Work = Callable[[SqlTransaction], Awaitable[T]]

log = get_logger()

CONNECTIONS: Final = 8
"""A process's connections that serve requests; PostgreSQL allows 100 in all by default, and is busiest with a few for
each of its cores."""
MAX_WAITING: Final = 10_000
"""Transactions at once, of which most wait for a connection; each stands for a request, as on SQLite."""
PATIENCE_S: Final = 10.0
"""How long a transaction is tried: a restart of the database fits in, and HTTP clients wait longer."""
LOCK_SHARE: Final = 0.3
"""Part of the patience that one wait for a row may take, so that a deadlock or a stuck holder leaves time for more."""
POLITE_S: Final = 0.2
"""For a transaction that is given up to end with its connection whole; a server that is there takes less."""
RETRIES: Final = RetryPolicy(retries=100, base_s=0.02, cap_s=1.0)
"""Bounded by the patience; the first is soon, for most transient failures are over at once."""

BEGIN_READ: Final = b"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
BEGIN_WRITE: Final = (b"BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE",)
"""On this database's disk, without waiting for its replicas; see `connection._SETTINGS`."""
BEGIN_DURABLE: Final = (
    *BEGIN_WRITE,
    b"SELECT set_config('synchronous_commit', current_setting('haulier.durable'), true)",
)

_NOW: Final = b"SELECT extract(epoch FROM clock_timestamp())::float8 AS now"
_NOTIFY: Final = b"SELECT pg_notify(%(channel)s::text, %(payload)s::text)"


class PostgresDatabase:
    """All rows in one PostgreSQL database; `UnitOfWork` for uploads.

    Use it as an async context manager, or call `open` and `close`, from one event loop. A caller that is cancelled
    no longer hears of its transaction, which is committed or rolled back as if it were there.
    """

    def __init__(
        self,
        url: str,
        *,
        patience_s: float = PATIENCE_S,
        connections: int = CONNECTIONS,
        chance: Chance = random.random,
    ) -> None:
        """Take the place of the database; nothing is touched yet.

        Args:
            url: as libpq reads it; what it leaves out comes from libpq's own places (PGPASSWORD, ~/.pgpass).
            patience_s: how long a transaction, or the wait for another start's migrations, may take.
            connections: how many transactions run at a time.
            chance: draws the pauses between tries.

        Raises:
            ConfigError: `url` is no URL of a PostgreSQL database.
        """
        self._options = options_of(url)
        self.place: Final = place_of(url)
        self._patience_s = patience_s
        self._chance = chance
        self._pool = Pool(self._connect, size=connections)
        self._running: set[asyncio.Task[Any]] = set()
        self._open = False
        self._asks_more: set[object] = set()
        """Code that has read by more than one statement; as much as there is."""
        self._hurry_s: float | None = None
        """How long a transaction may take, since the stop began; None: it has not."""
        self._lost = False
        self._ending: asyncio.Task[None] | None = None
        """Kept until it ends."""

    async def is_current(self) -> bool:
        """Return whether `open` would find its tables as they are to be; changes nothing. Raises as `open`."""
        return await asyncio.to_thread(is_current, self._options, self.place)

    async def open(self) -> None:
        """Create or migrate the tables and start.

        Raises:
            ConfigError: the database was written by a newer version, or has another encoding than UTF8.
            StorageUnavailable · StorageNotWritable
        """
        await asyncio.to_thread(migrate, self._options, self.place, lock_timeout_s=self._patience_s)
        self._open = True

    def hurry(self, patience_s: float) -> None:
        """Let no transaction take longer than this, from now on: the process is to end.

        The first one that does tells that the database is lost: then all fail at once, and whoever waits for rows can
        still end in time. Those that run already have as long.
        """
        self._hurry_s = patience_s
        if self._running:
            watch = self._watch(set(self._running), patience_s)
            self._ending = asyncio.get_running_loop().create_task(watch)

    async def _watch(self, running: set[asyncio.Task[Any]], patience_s: float) -> None:
        _, late = await asyncio.wait(running, timeout=patience_s)
        if late:
            await self._give_up()

    async def _give_up(self) -> None:
        """End what runs, and let nothing begin any more."""
        self._lost = True
        while self._running:
            # The driver takes its time to end a statement politely, and a transaction to be rolled back; told again
            # it closes the connection.
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running, timeout=POLITE_S)

    async def close(self) -> None:
        """Finish what runs, then let go; harmless when it is closed."""
        self._open = False
        if self._running and not self._lost:
            patience_s = self._patience_s if self._hurry_s is None else self._hurry_s
            await asyncio.wait(self._running, timeout=patience_s)
        await self._give_up()
        await self._pool.drop_idle()
        self._lost, self._hurry_s = False, None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one consistent view, which has everything that was committed before the call."""
        return await self._run_task(self._persist(lambda: self._read(work)))

    async def write(self, work: Work[T], *, durable: bool = False, frees: bool = False) -> T:  # noqa: ARG002 - the server's disk is its own
        """Run `work` and commit before returning.

        Raises:
            StorageUnavailable: nothing was changed; or, when the connection was lost during COMMIT, nobody knows.
                The caller may do the same again either way, for every statement is conditional.
        """
        begin = BEGIN_DURABLE if durable else BEGIN_WRITE
        return await self._run_task(self._persist(lambda: self._write(work, begin)))

    async def now(self) -> float:
        """Return the server's wall time, in seconds since the epoch.

        Raises:
            StorageUnavailable
        """
        return await self._run_task(self._persist(self._now))

    async def _now(self) -> float:
        async with self._pool.lend() as connection:
            row = await (await connection.execute(_NOW, prepare=True, binary=True)).fetchone()
            assert row is not None
            return float(row["now"])

    def listen(self, channel: str) -> AsyncGenerator[str | None]:
        """Yield each payload sent to `channel`, on a connection that comes back by itself.

        None comes first, and again whenever notices may have been missed: read everything then. Close the iterator
        (`contextlib.aclosing`) to give its connection up. Needs a session of its own on the server, which a pooler in
        transaction mode does not give.
        """
        return listen(self._connect, channel, self._chance)

    async def notify(self, channel: str, payload: str = "") -> None:
        """Tell everybody who listens to `channel`, in any process; a hint, which is lost on who is not there.

        Call it after the commit that it is about. Within a transaction, NOTIFY would make all commits of the
        database wait for each other.

        Args:
            channel: up to 63 bytes.
            payload: up to `listener.MAX_PAYLOAD` bytes.

        Raises:
            StorageUnavailable: it was not told, or nobody knows.
        """
        await self._run_task(self._persist(lambda: self._notify(channel, payload)))

    async def _notify(self, channel: str, payload: str) -> None:
        async with self._pool.lend() as connection:
            parameters = {"channel": channel, "payload": payload}
            await connection.execute(_NOTIFY, parameters, prepare=True)

    async def _connect(self) -> Connection:
        return await connect(
            self._options,
            lock_timeout_s=self._patience_s * LOCK_SHARE,
            statement_timeout_s=self._patience_s,
        )

    async def _run_task(self, transaction: Coroutine[Any, Any, T]) -> T:
        """Run a transaction to its end, or until patience is over; its task is kept until it ends."""
        task = self._start(transaction)
        # Twice: a commit that was sent in time is waited for.
        patience_s = 2 * self._patience_s if self._hurry_s is None else self._hurry_s
        done, _ = await asyncio.wait({task}, timeout=patience_s)
        if not done:
            task.cancel()
            if self._hurry_s is not None:
                self._ending = asyncio.get_running_loop().create_task(self._give_up())
        if not done or task.cancelled():
            raise StorageUnavailable(f"{self.place} does not answer")
        return task.result()

    def _start(self, transaction: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        refusal = None if self._open else f"{self.place} is closed"
        if self._lost:
            refusal = f"{self.place} does not answer"
        if len(self._running) >= MAX_WAITING:
            refusal = f"{MAX_WAITING} transactions are waiting for {self.place}"
        if refusal is not None:
            transaction.close()
            raise StorageUnavailable(refusal)
        task = asyncio.get_running_loop().create_task(transaction)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Its caller may be gone; then nobody else looks at what it raised.
            task.exception()

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it succeeds, fails for good, or patience is over."""
        deadline = asyncio.get_running_loop().time() + self._patience_s
        with translated(self.place):
            for delay in RETRIES.delays(self._chance):
                try:
                    return await attempt()
                except psycopg.Error as error:
                    if not may_pass(error) or asyncio.get_running_loop().time() + delay > deadline:
                        raise
                    log.info("database.retried", error=type(error).__name__, sqlstate=error.sqlstate)
                    if error.sqlstate not in CLASHES:
                        await self._pool.drop_idle()
                    await asyncio.sleep(delay)
            return await attempt()

    async def _read(self, work: Work[T]) -> T:
        code = _code_of(work)
        async with self._pool.lend() as connection:
            if code not in self._asks_more:
                with suppress(AsksMore):
                    return await work(SqlTransaction(OneSelect(connection)))
                self._asks_more.add(code)
            await connection.execute(BEGIN_READ, prepare=False)
            try:
                return await work(SqlTransaction(PostgresExecutor(connection)))
            finally:
                # Not ROLLBACK, after which the driver prepares every statement anew.
                await _end(connection, b"COMMIT")

    async def _write(self, work: Work[T], begin: Sequence[bytes]) -> T:
        async with self._pool.lend() as connection:
            executor = PostgresExecutor(connection, begin)
            try:
                result = await work(SqlTransaction(executor))
            except BaseException:
                if executor.begun:
                    await _end(connection, b"ROLLBACK")
                raise
            if executor.begun:
                await self._commit(connection)
            return result

    async def _commit(self, connection: Connection) -> None:
        try:
            cursor = await connection.execute(b"COMMIT", prepare=False)
        except psycopg.OperationalError as error:
            if connection.closed:
                message = f"{self.place} was lost during a commit: it may have been committed or not"
                raise StorageUnavailable(message) from error
            raise
        # PostgreSQL answers the COMMIT of a failed transaction with success: that of its ROLLBACK.
        assert cursor.statusmessage == "COMMIT", "work must not go on after one of its statements has failed"


def _code_of(work: Callable[..., Any]) -> object:
    """Return what is the same for all transactions that run the same code."""
    while isinstance(work, partial):
        work = work.func
    return getattr(work, "__code__", type(work))


async def _end(connection: Connection, command: bytes) -> None:
    """End a transaction that has nothing to keep; a connection that cannot even do that is closed, which ends it too."""
    try:
        await connection.execute(command, prepare=False)
    except psycopg.Error:
        # Whatever is wrong has been raised by the transaction itself, or does not matter to a read.
        await connection.close()
