"""A small SQLite file of a store's own, used on one thread of its own: nothing of it runs on the event loop."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from haulier.adapters.sqlite_driver import connect, translated
from haulier.core.errors import StorageUnavailable

T = TypeVar("T")

BUSY_TIMEOUT_S: Final = 10.0
"""How long another process may hold the file: twice the driver's default."""


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
        return await self._run(lambda: self._transact("BEGIN IMMEDIATE", work))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    @property
    def _open_one(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageUnavailable(f"{self._path} is closed")
        return self._connection

    def _open(self) -> None:
        if self._connection is not None:
            return
        self._make()
        with translated(self._path):
            connection = connect(self._path, busy_timeout_s=BUSY_TIMEOUT_S, read_only=False)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        self._connection = connection

    def _make(self) -> None:
        """Make the file, or take what others may do with it. Raises OSError."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make it what it is to be."""
        connection.row_factory = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(self._schema)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

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


def raw_of(text: str) -> bytes:
    """Return text as SQLite can hold it: names of files may have bytes in them that are no text."""
    return text.encode("utf-8", "surrogateescape")


def text_of(raw: bytes) -> str:
    """Return what `raw_of` was given."""
    return raw.decode("utf-8", "surrogateescape")
