"""`UnitOfWork` on SQLite: one writer that commits in groups, readers beside it.

Rule 1: one thread owns the only connection that writes; whatever waits when it becomes free is one transaction.
Rule 2: nobody is answered before COMMIT has returned.
Rule 3: within a group each job has a savepoint of its own, so that one which fails takes back only its own changes. What
        is needed for that stays in memory: SQLite would copy each page before it changes into a file, to drop it at once.
Rule 4: when the disk is full, what frees room gets the spare room, and is tried once more.
Rule 5: a transaction's work runs on the thread of its connection from beginning to end. Handing each statement to
        a thread and its answer back, as aiosqlite does, costs twenty times the statement.
Rule 6: a read of a few rows costs less than the way to a thread. It runs at once; a transaction that turns out long,
        by one statement or by many, or a lock that somebody holds, ends it, and it is done again in a thread.
"""

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, Self, TypeVar

from haulier.adapters.sql.compiled import Compiled
from haulier.adapters.sql.sqlite.connection import SqliteExecutor, drive
from haulier.adapters.sql.sqlite.migrate import is_current, migrate
from haulier.adapters.sql.sqlite.spare import Spare
from haulier.adapters.sql.stores import SqlTransaction
from haulier.adapters.sqlite_driver import connect, translated
from haulier.core.errors import StorageFull, StorageUnavailable
from haulier.core.values import dataclass
from haulier.logs import get_logger

T = TypeVar("T")
Work = Callable[[SqlTransaction], Awaitable[T]]

MAX_BATCH: Final = 128
"""Jobs in one transaction: enough to share the price of a commit, few enough to keep its first job's wait short."""
MAX_WAITING: Final = 10_000
"""Jobs that wait for the writer; each stands for a request, and nobody serves more at once."""
READERS: Final = 4
"""Connections that read. Reads are short and Python runs one thread at a time; more only wait for each other."""
HASTY_STEPS: Final = 20
"""What a read may take at once, about a millisecond: each statement is one step, for its own price, and so are every
`STEP` instructions of SQLite's virtual machine."""
STEP: Final = 1000
"""Few enough that many short statements add up to what one long one takes."""
_HASTE_ENDS: Final = frozenset(
    {"SQLITE_INTERRUPT", "SQLITE_BUSY", "SQLITE_BUSY_RECOVERY", "SQLITE_BUSY_SNAPSHOT"}
)
BUSY_TIMEOUT_S: Final = 10.0
"""How long another process may hold the lock: twice the driver's default, below what HTTP clients wait."""
LOCK_STEP_S: Final = 0.25
"""How long a wait for the lock takes no notice of anything: not felt by whoever stops the service, and some ten times as
long as the pauses in which SQLite asks."""


log = get_logger()


@dataclass(slots=True)
class _Job:
    """One caller's work, and what came of it; without work, a look at the commits of others."""

    work: Work[Any] | None
    future: asyncio.Future[Any]
    durable: bool = False
    frees: bool = False
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Tell the caller, unless it has gone."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class SqliteDatabase:
    """All rows in one SQLite file; `UnitOfWork` for uploads.

    Use it as an async context manager, or call `open` and `close`. A caller that is cancelled no longer hears of
    its transaction, which is committed or rolled back as if it were there.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """Take the place of the database; nothing is touched yet."""
        self.path: Final = path
        self._busy_timeout_s = busy_timeout_s
        self._writer = _Writer(self.path, busy_timeout_s)
        self._readers = _Readers(self.path, busy_timeout_s)

    async def is_current(self) -> bool:
        """Return whether `open` would find its tables as they are to be; changes nothing. Raises as `open`."""
        return self.path.exists() and await asyncio.to_thread(
            is_current, self.path, busy_timeout_s=self._busy_timeout_s
        )

    async def open(self) -> None:
        """Create or migrate the tables and start; the directory must exist.

        Raises:
            ConfigError: the database was written by a newer version.
            StorageUnavailable · StorageFull · StorageNotWritable
        """
        await asyncio.to_thread(migrate, self.path, lock_timeout_s=self._busy_timeout_s)
        await asyncio.to_thread(self._writer.open)
        self._readers.open()

    def hurry(self, patience_s: float) -> None:
        """Wait no longer than this for a lock, from now on, and after one that did not come no more: the process ends."""
        self._writer.hurry(patience_s)

    async def close(self) -> None:
        """Finish what waits, then let go; harmless when it is closed."""
        await asyncio.to_thread(self._writer.close)
        await asyncio.to_thread(self._readers.close)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one consistent view, which has everything that was committed before the call."""
        return await self._readers.run(work)

    async def write(self, work: Work[T], *, durable: bool = False, frees: bool = False) -> T:
        """Run `work` and commit before returning."""
        job = _Job(work, asyncio.get_running_loop().create_future(), durable, frees)
        self._writer.submit(job)
        result: T = await job.future
        return result

    async def commits_of_others(self) -> int:
        """Return a number that is another one after any other process has committed; never after we have."""
        job = _Job(None, asyncio.get_running_loop().create_future())
        self._writer.submit(job)
        result: int = await job.future
        return result


class _Writer:
    """The thread that owns the writing connection."""

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._gate = threading.Lock()
        self._executor: SqliteExecutor | None = None
        self._synchronous = ""
        self._file: os.stat_result | None = None
        """What the path led to when it was opened."""
        self._spare = Spare(path)
        self._hurry_s: float | None = None
        """How long to wait for a lock, since the stop began; None: it has not."""

    def open(self) -> None:
        """Connect and start the thread."""
        self._hurry_s = None
        with translated(self._path):
            self._connect()
        self._file = self._path.stat()
        self._keep_spare()
        self._thread = threading.Thread(target=self._run, name="haulier-sql-writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Refuse new jobs, run those that wait, and end the thread."""
        with self._gate:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._waiting.put(None)
        if thread is not None:
            thread.join()

    def hurry(self, patience_s: float) -> None:
        """Let transactions wait no longer than this; one that has waited for longer already ends with its step."""
        self._hurry_s = patience_s

    def submit(self, job: _Job) -> None:
        """Queue a job; it is settled on its own event loop."""
        with self._gate:
            if self._thread is None:
                raise StorageUnavailable(f"{self._path} is closed")
            if self._waiting.qsize() >= MAX_WAITING:
                raise StorageUnavailable(f"{MAX_WAITING} transactions are waiting for {self._path}")
            self._waiting.put(job)

    def _connect(self) -> SqliteExecutor:
        if self._executor is None:
            self._synchronous = ""
            step_s = min(LOCK_STEP_S, self._busy_timeout_s)
            connection = connect(self._path, busy_timeout_s=step_s, read_only=False)
            connection.execute("PRAGMA temp_store = MEMORY")
            self._executor = SqliteExecutor(connection)
        return self._executor

    def _run(self) -> None:
        going = True
        while going:
            batch, going = self._next_batch()
            if batch:
                self._run_batch(batch)
                self._help_free(batch)
                _settle(batch)
                self._keep_spare()
        if self._executor is not None:
            self._executor.connection.close()
            self._executor = None

    def _next_batch(self) -> tuple[list[_Job], bool]:
        batch: list[_Job] = []
        while not batch or (len(batch) < MAX_BATCH and not self._waiting.empty()):
            job = self._waiting.get()
            if job is None:
                return batch, False
            batch.append(job)
        return batch, True

    def _run_batch(self, batch: Sequence[_Job]) -> None:
        try:
            with translated(self._path):
                jobs = [(job, job.work) for job in batch if job.work is not None]
                if jobs:
                    self._require_file()
                executor = self._connect()
                if jobs:
                    self._run_jobs(executor, jobs)
                if len(jobs) < len(batch):
                    _look(executor.connection, batch)
        except BaseException as error:  # noqa: BLE001 - every caller is told; the thread lives on for the others
            if self._executor is not None and not _is_usable(self._executor.connection):
                self._executor = None
            if self._hurry_s is not None:
                self._hurry_s = 0.0  # whoever has the lock keeps it, it seems
            for job in batch:
                job.error = error

    def _require_file(self) -> None:
        """Check that rows still go into the file that has the name.

        SQLite goes on with one that was removed or replaced, and all that was answered since is gone at the next start.

        Raises:
            StorageUnavailable
        """
        assert self._file is not None
        with contextlib.suppress(OSError):
            if os.path.samestat(self._path.stat(), self._file):
                return
        raise StorageUnavailable(
            f"{self._path} was removed or replaced while it was open; put it back, or restart the service"
        )

    def _run_jobs(self, executor: SqliteExecutor, jobs: Sequence[tuple[_Job, Work[Any]]]) -> None:
        connection = executor.connection
        self._set_synchronous(connection, "FULL" if any(job.durable for job, _ in jobs) else "NORMAL")
        if self._hurry_s is not None:
            connection.execute(f"PRAGMA busy_timeout = {min(LOCK_STEP_S, self._hurry_s) * 1000:.0f}")
        transaction = self._begin(executor)
        if len(jobs) == 1:
            [(job, work)] = jobs
            self._run_job(connection, transaction, job, work, take_back="ROLLBACK")
            if job.error is not None:
                return
        else:
            for job, work in jobs:
                connection.execute("SAVEPOINT job")
                self._run_job(connection, transaction, job, work, take_back="ROLLBACK TO job")
                connection.execute("RELEASE job")
        connection.execute("COMMIT")

    def _begin(self, executor: SqliteExecutor) -> SqlTransaction:
        """Begin a transaction that may write. The lock is waited for in steps: SQLite cannot be told meanwhile to hurry."""
        began = time.monotonic()
        while True:
            try:
                return executor.begin("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                patience_s = self._busy_timeout_s if self._hurry_s is None else self._hurry_s
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() - began >= patience_s:
                    raise

    def _run_job(
        self,
        connection: sqlite3.Connection,
        transaction: SqlTransaction,
        job: _Job,
        work: Work[Any],
        *,
        take_back: str,
    ) -> None:
        try:
            with translated(self._path):
                job.result = drive(work, transaction)
        except BaseException as error:  # whatever work raises belongs to its caller
            if not connection.in_transaction:
                # SQLite itself has rolled back everything, the jobs before this one too.
                raise
            job.error = error
            connection.execute(take_back)

    def _help_free(self, batch: Sequence[_Job]) -> None:
        """Try those that free room again, with the room that was kept for them."""
        refused = [job for job in batch if job.frees and isinstance(job.error, StorageFull)]
        if not refused:
            return
        self._spare.give_up()
        for job in refused:
            job.error = None
        self._restart_log()
        self._run_batch(refused)

    def _restart_log(self) -> None:
        """Let the log be written from its beginning again, over room that it has already."""
        with contextlib.suppress(sqlite3.Error):  # then it grows into the spare room
            if self._executor is not None:
                self._executor.connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def _keep_spare(self) -> None:
        try:
            self._spare.keep()
        except OSError as error:
            log.warning("storage.spare_not_kept", path=str(self._path), error=str(error))

    def _set_synchronous(self, connection: sqlite3.Connection, level: str) -> None:
        if level != self._synchronous:
            connection.execute(f"PRAGMA synchronous = {level}")
            self._synchronous = level


def _look(connection: sqlite3.Connection, batch: Sequence[_Job]) -> None:
    """Answer those who ask for the commits of others."""
    # On the connection that writes: its own commits do not count. Source: sqlite.org/pragma.html#pragma_data_version
    version = connection.execute("PRAGMA data_version").fetchone()[0]
    for job in batch:
        if job.work is None:
            job.result = version


class _TakesLong(Exception):
    """A read that is not for the event loop."""


class _Hasty(SqliteExecutor):
    """Runs the statements of a read on the event loop, until they have taken too much together."""

    def __init__(self, path: Path) -> None:
        super().__init__(connect(path, busy_timeout_s=0, read_only=True))
        self._left = 0
        self.connection.set_progress_handler(self._spend, STEP)

    def begin(self, command: str = "BEGIN") -> SqlTransaction:
        """Begin a transaction, with all the steps it may take."""
        self._left = HASTY_STEPS
        return super().begin(command)

    def _spend(self) -> bool:
        self._left -= 1
        return self._left < 0

    def _admit(self, compiled: Compiled) -> None:
        if self._spend() or compiled.takes_long:
            raise _TakesLong


def _is_usable(connection: sqlite3.Connection) -> bool:
    """End the transaction, if there is one; a connection that cannot even do that is closed and not usable."""
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error:
        # Whatever is wrong has been raised by the transaction itself. A fresh connection replaces this one, and
        # what it had not committed is rolled back with it.
        connection.close()
        return False
    return True


def _settle(batch: Sequence[_Job]) -> None:
    loops = {job.future.get_loop() for job in batch}
    for loop in loops:
        answered = [job for job in batch if job.future.get_loop() is loop]
        try:
            loop.call_soon_threadsafe(_settle_all, answered)
        except RuntimeError:
            # The loop was closed under its callers: nobody is left to be told.
            continue


def _settle_all(batch: Sequence[_Job]) -> None:
    for job in batch:
        job.settle()


@dataclass(slots=True)
class _Readers:
    """Reads, at once or in a few threads (Rule 6), each transaction on a connection that nobody else uses."""

    path: Path
    busy_timeout_s: float
    _idle: deque[SqliteExecutor] = field(default_factory=deque)
    _hasty: deque[_Hasty] = field(default_factory=deque)
    """Connections that neither wait for a lock nor let a transaction run for long."""
    _threads: ThreadPoolExecutor | None = None

    async def run(self, work: Work[T]) -> T:
        """Run `work` on one consistent view."""
        if self._threads is None:
            raise StorageUnavailable(f"{self.path} is closed")
        with translated(self.path), contextlib.suppress(_TakesLong):
            return self._read_at_once(work)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, work)

    def open(self) -> None:
        """Start the threads; they connect when they are needed."""
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="haulier-sql-reader")

    def close(self) -> None:
        """Wait for what runs and close the connections."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown()
        while self._idle:
            self._idle.pop().connection.close()
        while self._hasty:
            self._hasty.pop().connection.close()

    def _read_at_once(self, work: Work[T]) -> T:
        hasty = self._hasty.pop() if self._hasty else _Hasty(self.path)
        try:
            return drive(work, hasty.begin())
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname in _HASTE_ENDS:
                raise _TakesLong from error
            raise
        finally:
            if _is_usable(hasty.connection):
                self._hasty.append(hasty)

    def _read(self, work: Work[T]) -> T:
        with translated(self.path):
            reader = self._reader()
            try:
                return drive(work, reader.begin())
            finally:
                if _is_usable(reader.connection):
                    self._idle.append(reader)

    def _reader(self) -> SqliteExecutor:
        try:
            return self._idle.pop()
        except IndexError:
            return SqliteExecutor(connect(self.path, busy_timeout_s=self.busy_timeout_s, read_only=True))
