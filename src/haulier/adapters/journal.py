"""The journal in one SQLite file, with its runner's lock beside it.

Rule 1: one thread owns the connection; a transaction's work runs on it from beginning to end.
Rule 2: state changes are on the device before anybody is told (`synchronous=FULL`); positions need not be, the remote
        knows them better.
Rule 3: the file holds secrets (sessions at remotes), so it is its owner's alone: 0600, and so is what SQLite puts beside it.
Rule 4: who holds `flock` on `JOURNAL.lock` is the runner; the kernel takes it from whoever dies.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from haulier.adapters.journal_rows import APPLICATION_ID, TABLES, VERSION, SqliteJournalRows
from haulier.core.errors import ConfigError, StorageFull, StorageNotWritable, StorageUnavailable
from haulier.ports import Clock

T = TypeVar("T")

BUSY_TIMEOUT_S: Final = 10.0
"""How long another process may hold the file: twice the driver's default."""
PAGE: Final = 4096
"""Bytes that a write which found no room has needed at least."""


class SqliteJournal:
    """`Journal` in a file; contracts as in the port."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Take the place of the file; nothing is touched yet."""
        self.path: Final = path
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="haulier-journal")
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._synchronous = ""

    async def open(self) -> None:
        """Make the file, with its folder, or find it usable."""
        await self._run(self._open)

    async def close(self) -> None:
        """Let go of the file and of the runner's place."""
        await self.give_up()
        await self._run(self._close)

    async def read(self, work: Callable[[SqliteJournalRows], T]) -> T:
        """Run `work` on one consistent view."""
        return await self._run(self._transact, "BEGIN", work, None)

    async def write(self, work: Callable[[SqliteJournalRows], T], *, durable: bool = True) -> T:
        """Run `work` and commit before returning."""
        return await self._run(self._write, work, durable)

    async def commits_of_others(self) -> int:
        """Return `PRAGMA data_version`: our own commits do not change it, whoever else's do."""
        return await self._run(lambda: int(self._open_one.execute("PRAGMA data_version").fetchone()[0]))

    async def take(self) -> bool:
        """Become the runner, if there is none."""
        if self._lock is None:
            self._lock = await self._run(self._take)
        return self._lock is not None

    async def give_up(self) -> None:
        """Be the runner no more."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)

    async def holder(self) -> str | None:
        """Return the process id of who runs it."""
        return await self._run(self._holder)

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    @property
    def _open_one(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageUnavailable(f"{self.path} is closed")
        return self._connection

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    def _open(self) -> None:
        if self._connection is not None:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_private()
        except OSError as error:
            raise ConfigError(
                "journal", str(self.path), f"expected a file that can be made ({error.strerror})"
            ) from error
        with self._translated():
            connection = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection, self._synchronous = connection, ""

    def _make_private(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Looked at before anything is changed: even a change of the journal mode would be one to another's file.
        self._is_made(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not self._is_made(connection):
                _make_tables(connection)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _is_made(self, connection: sqlite3.Connection) -> bool:
        """Return whether the tables are there; else the file is empty."""
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorname", "") != "SQLITE_NOTADB":
                raise
            raise self._unfit("expected a journal; this is another kind of file") from error
        if owner == APPLICATION_ID and version > VERSION:
            raise self._unfit(f"expected version {VERSION} at most; a newer Haulier wrote {version}")
        if tables and owner != APPLICATION_ID:
            raise self._unfit("expected a journal; this is another program's database")
        return bool(tables)

    def _unfit(self, expected: str) -> ConfigError:
        return ConfigError("journal", str(self.path), expected)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, work: Callable[[SqliteJournalRows], T], durable: bool) -> T:  # noqa: FBT001 - through an executor
        level = "FULL" if durable else "NORMAL"
        if level != self._synchronous:
            with self._translated():
                self._open_one.execute(f"PRAGMA synchronous = {level}")
            self._synchronous = level
        return self._transact("BEGIN IMMEDIATE", work, self._clock.now)

    def _transact(
        self, begin: str, work: Callable[[SqliteJournalRows], T], now: Callable[[], float] | None
    ) -> T:
        connection = self._open_one
        with self._translated():
            connection.execute(begin)
            try:
                result = work(SqliteJournalRows(connection, now=now))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return result

    def _take(self) -> int | None:
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        return descriptor

    def _holder(self) -> str | None:
        if self._lock is not None:
            return str(os.getpid())
        try:
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            # A shared lock: everybody who asks at once gets the same answer.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        finally:
            os.close(descriptor)
        return None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the driver's errors into ours; mistakes of ours stay loud."""
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError):
            raise
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            if name in {"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"}:
                raise StorageFull(PAGE) from error
            if name.startswith(("SQLITE_READONLY", "SQLITE_PERM")):
                raise StorageNotWritable(str(self.path), f"{name}: {error}") from error
            raise StorageUnavailable(f"{self.path}: {name}: {error}") from error


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in TABLES.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
