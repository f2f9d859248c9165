"""A small SQLite file of a store's own, used on one thread of its own: nothing of it runs on the event loop.

Rule 1: nothing is written, and nothing was, unless the open file still has its name: SQLite goes on with one that was removed
        or replaced, where nobody finds what it has told.
Rule 2: such a file is closed at once. Its log and the index of that keep their names, and whoever opens the new file opens
        them too: what is in the log is brought into the file that it belongs to first, so that it gets into no other.
        Source: sqlite.org/howtocorrupt.html#unlinking_or_renaming_a_database_file_while_in_use
"""

import asyncio
import errno
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from haulier.adapters.sqlite_driver import connect, translated
from haulier.core.errors import StorageUnavailable

T = TypeVar("T")

PRIVATE: Final = 0o600
BUSY_TIMEOUT_S: Final = 10.0
"""How long another process may hold the file: twice the driver's default."""
LET_GO_S: Final = 5.0
"""How long another process may take to see that it has a file open that has this name no more: many times the interval in
which the slowest looks."""
LET_GO_STEP_S: Final = 0.05


class SqliteFile:
    """What keeps rows in such a file: one connection and its thread.

    The file is its owner's alone (0600), and so is what SQLite puts beside it.

    Args:
        path: The file; made when it is not there.
        schema: Statements that make what is missing in it.
    """

    def __init__(self, path: Path, schema: str = "") -> None:
        self._path = path
        self._schema = schema
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"haulier-{path.stem}")
        self._connection: sqlite3.Connection | None = None
        self._file: os.stat_result | None = None
        """What the path led to when it was opened; no other file gets its inode before it is closed."""
        self._log_file: tuple[Path, os.stat_result] | None = None
        """Its write-ahead log, where file systems allow one; who has it open keeps it there."""
        self._replaced: Path | None = None
        """What is another file now than it was; until it is opened anew."""

    async def open(self) -> None:
        """Open the file. Raises StorageError."""
        await self._run(self._open)

    async def close(self) -> None:
        """Close it; a second call is harmless."""
        await self._run(self._close)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on one consistent view. Raises StorageError."""
        return await self._run(lambda: self._transact("BEGIN", work))

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` and commit before returning. Raises StorageError."""
        return await self._run(lambda: self._change(work))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    @property
    def _open_one(self) -> sqlite3.Connection:
        if self._replaced is not None:
            raise _replaced(self._replaced)
        if self._connection is None:
            raise StorageUnavailable(f"{self._path} is closed")
        return self._connection

    def _open(self) -> None:
        if self._connection is not None:
            return
        self._file = self._make()
        ends_at = time.monotonic() + LET_GO_S
        with translated(self._path):
            while (connection := self._connect(patient=time.monotonic() < ends_at)) is None:
                time.sleep(LET_GO_STEP_S)
        self._connection, self._replaced = connection, None
        self._log_file = None
        log = Path(f"{os.path.realpath(self._path)}-wal")
        with suppress(OSError):
            self._log_file = (log, log.stat())

    def _connect(self, *, patient: bool) -> sqlite3.Connection | None:
        """Return a connection; None when somebody has not let go yet of the index of another file that had the name."""
        assert self._file is not None
        connection = connect(self._path, busy_timeout_s=BUSY_TIMEOUT_S, read_only=False)
        try:
            self._prepare(connection)
            if not leads_to(self._path, self._file):
                raise _replaced(self._path)
        except BaseException as error:
            connection.close()
            # The index tells of a log that is not there: it is not the one of this file.
            if patient and getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHORT_READ":
                return None
            raise
        return connection

    def _make(self) -> os.stat_result:
        """Make the file, or find it; return which one it is. Raises OSError, also when it is a pipe or a device."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = os.open(self._path, flags, PRIVATE)
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if not stat.S_ISREG(status.st_mode):
            # An empty database, to SQLite: /dev/null would be closed to everybody else on this machine.
            raise OSError(errno.EINVAL, "Not a regular file", str(self._path))
        return status

    def _close_to_others(self) -> None:
        """Take what others may do with it, once it is known to be ours and before SQLite puts more beside it.

        A file that was named by mistake may be one that the whole machine reads.
        """
        assert self._file is not None
        if stat.S_IMODE(self._file.st_mode) == PRIVATE:
            return
        try:
            self._path.chmod(PRIVATE)
        except OSError as error:
            raise StorageUnavailable(f"{self._path}: {error.strerror}") from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make it what it is to be."""
        connection.execute("PRAGMA schema_version").fetchone()  # fails where it is no database
        self._close_to_others()
        connection.row_factory = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(self._schema)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._empty_log(connection)
            connection.close()

    def _empty_log(self, connection: sqlite3.Connection) -> None:
        """Rule 2: SQLite leaves the log of a file that was moved as it is."""
        assert self._file is not None
        with suppress(sqlite3.Error, StorageUnavailable):  # whoever still reads it does the same at the end
            if (
                self._log_file is not None
                and leads_to(*self._log_file)
                and not leads_to(self._path, self._file)
            ):
                connection.execute("PRAGMA busy_timeout = 0")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _require_file(self) -> sqlite3.Connection:
        """Return the connection, if all that is open has its name; else close it. Raises StorageUnavailable."""
        connection = self._open_one
        for path, opened in self._names():
            if not leads_to(path, opened):
                self._replaced = path
                self._close()
                raise _replaced(path)
        return connection

    def _names(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield what has to have which name."""
        assert self._file is not None
        yield self._path, self._file

    def _change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._require_file()
        result = self._transact("BEGIN IMMEDIATE", work)
        self._require_file()  # else it went where nobody will find it
        return result

    def _transact(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._open_one
        with translated(self._path):
            connection.execute(begin)
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return result


def leads_to(path: Path, opened: os.stat_result) -> bool:
    """Return whether a path still leads to a file that is open. Raises StorageUnavailable."""
    try:
        return os.path.samestat(path.stat(), opened)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # says nothing about the file
        raise StorageUnavailable(f"{path}: {error.strerror}") from error


def _replaced(path: Path) -> StorageUnavailable:
    return StorageUnavailable(f"{path} was removed or replaced while it was open", replaced=True)


def raw_of(text: str) -> bytes:
    """Return text as SQLite can hold it: names of files may have bytes in them that are no text."""
    return text.encode("utf-8", "surrogateescape")


def text_of(raw: bytes) -> str:
    """Return what `raw_of` was given."""
    return raw.decode("utf-8", "surrogateescape")
