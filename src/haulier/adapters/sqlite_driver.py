"""SQLite by the standard library's driver: how a connection is opened, and what its errors mean.

Rule 1: the driver never begins or commits by itself (`isolation_level=None`).
Rule 2: a connection is used by one thread at a time.
Rule 3: errors of the driver leave through `translated` only.
Rule 4: nothing here needs more than the base package: commands that send files keep their journal with it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from haulier.core.errors import StorageError, StorageFull, StorageNotWritable, StorageUnavailable

PAGE: Final = 4096
"""Bytes; SQLite's default page, and the least that a write which found no room has needed."""
CACHED_STATEMENTS: Final = 256
"""All of ours stay prepared; the driver's default of 128 would do for the fixed ones only."""
MAX_WAL: Final = 64 * 1024 * 1024
"""Bytes that the write-ahead log keeps on disk after a checkpoint; a long reader may have let it grow."""


def connect(path: Path, *, busy_timeout_s: float, read_only: bool) -> sqlite3.Connection:
    """Open a connection.

    While another process holds the lock, SQLite asks again with growing pauses up to `busy_timeout_s`.
    """
    connection = sqlite3.connect(
        path,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=CACHED_STATEMENTS,
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {MAX_WAL}")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


_STAYS_LOUD: Final = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
    sqlite3.NotSupportedError,
)
"""Mistakes of ours, not of the machine."""
_NO_ROOM: Final = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"})
"""The second is how a full disk shows when the index of the write-ahead log cannot grow."""
_NOT_WRITABLE: Final = frozenset({"SQLITE_READONLY", "SQLITE_READONLY_DIRECTORY", "SQLITE_PERM"})


def translate(error: sqlite3.Error, path: Path) -> StorageError:
    """Return what a driver's error means to callers."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if name in _NO_ROOM:
        return StorageFull(PAGE)
    if name in _NOT_WRITABLE:
        return StorageNotWritable(str(path), f"{name}: {error}")
    return StorageUnavailable(f"{path}: {name}: {error}")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the driver's errors into ours; the one place where that happens."""
    try:
        yield
    except _STAYS_LOUD:
        raise
    except sqlite3.Error as error:
        raise translate(error, path) from error
