"""The journal in one SQLite file, with its runner's lock beside it.

Rule 1: one thread owns the connection; a transaction's work runs on it from beginning to end.
Rule 2: state changes are on the device before anybody is told (`synchronous=FULL`); positions need not be, the remote
        knows them better.
Rule 3: the file holds secrets (sessions at remotes), so it is its owner's alone: 0600, and so is what SQLite puts beside it.
Rule 4: who holds `flock` on `JOURNAL.lock` is the runner; the kernel takes it from whoever dies.
Rule 5: nothing is read from a file that lost its name, either, and nobody runs it: whoever has the new one would wait for
        us. The same with a lock that lost its name: whoever makes it anew is the runner.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from haulier.adapters.journal_rows import (
    ADDED,
    ADDED_COLUMNS,
    APPLICATION_ID,
    TABLES,
    VERSION,
    SqliteJournalRows,
)
from haulier.adapters.lock_files import holder_of, try_lock
from haulier.adapters.sqlite_driver import translated
from haulier.adapters.sqlite_file import SqliteFile
from haulier.core.errors import ConfigError, StorageUnavailable
from haulier.machine import Clock

T = TypeVar("T")


class SqliteJournal(SqliteFile):
    """`Journal` in a file; contracts as in the port."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Take the place of the file; nothing is touched yet."""
        super().__init__(path)
        self._clock = clock
        self._lock: int | None = None
        """Touched on the thread alone: what nobody waits for any more is done, and undone, in its order there."""
        self._synchronous = ""

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._path

    async def close(self) -> None:
        """Let go of the file and of the runner's place."""
        await self.give_up()
        await super().close()

    async def read(self, work: Callable[[SqliteJournalRows], T]) -> T:
        """Run `work` on one consistent view."""
        return await self._run(lambda: self._read_rows(work))

    async def write(self, work: Callable[[SqliteJournalRows], T], *, durable: bool = True) -> T:
        """Run `work` and commit before returning."""
        return await self._run(lambda: self._write_rows(work, durable=durable))

    async def commits_of_others(self) -> int:
        """Return `PRAGMA data_version`: our own commits do not change it, whoever else's do."""
        return await self._run(self._data_version)

    async def take(self) -> bool:
        """Become the runner, if there is none."""
        return await self._run(self._take)

    async def give_up(self) -> None:
        """Be the runner no more."""
        await self._run(self._give_up)

    async def holder(self) -> str | None:
        """Return the process id of who runs it."""
        return await self._run(self._holder)

    @property
    def _lock_path(self) -> Path:
        # Beside the file itself: a link to it is another name of the same journal, which has one runner.
        return Path(f"{os.path.realpath(self._path)}.lock")

    def _names(self) -> Iterator[tuple[Path, os.stat_result]]:
        yield from super()._names()
        if self._lock is not None:
            yield self._lock_path, os.fstat(self._lock)

    def _make(self) -> os.stat_result:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return super()._make()
        except OSError as error:
            raise ConfigError(
                "journal", str(self._path), f"expected a file that can be made ({error.strerror})"
            ) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._synchronous = ""
        # Looked at before anything is changed: even a change of the journal mode would be one to another's file.
        self._is_made(connection)
        self._close_to_others()
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not self._is_made(connection):
                _make_tables(connection)
            _add_what_lacks(connection)
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
        return ConfigError("journal", str(self._path), expected)

    def _read_rows(self, work: Callable[[SqliteJournalRows], T]) -> T:
        self._require_file()
        return self._transact("BEGIN", lambda connection: work(SqliteJournalRows(connection, now=None)))

    def _write_rows(self, work: Callable[[SqliteJournalRows], T], *, durable: bool) -> T:
        level = "FULL" if durable else "NORMAL"
        if level != self._synchronous:
            with translated(self._path):
                self._open_one.execute(f"PRAGMA synchronous = {level}")
            self._synchronous = level
        return self._change(lambda connection: work(SqliteJournalRows(connection, now=self._clock.now)))

    def _data_version(self) -> int:
        connection = self._require_file()
        with translated(self._path):
            return int(connection.execute("PRAGMA data_version").fetchone()[0])

    def _take(self) -> bool:
        self._require_file()
        if self._lock is None:
            with self._of_lock():
                self._lock, _ = try_lock(self._lock_path, mode=0o600)
        return self._lock is not None

    def _give_up(self) -> None:
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)

    def _holder(self) -> str | None:
        if self._lock is not None:
            return str(os.getpid())
        with self._of_lock():
            return holder_of(self._lock_path)

    @contextmanager
    def _of_lock(self) -> Iterator[None]:
        """Turn the system's errors into ours."""
        try:
            yield
        except OSError as error:
            raise StorageUnavailable(f"{self._lock_path}: {error.strerror}") from error


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in TABLES.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _add_what_lacks(connection: sqlite3.Connection) -> None:
    there = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('transfers')")}
    for name, (kind, value) in ADDED_COLUMNS.items():
        if name not in there:
            connection.execute(f"ALTER TABLE transfers ADD COLUMN {name} {kind}")
            connection.execute(f"UPDATE transfers SET {name} = {value}")  # noqa: S608 - names of ours
    for statement in ADDED.split(";\n"):
        connection.execute(statement)
