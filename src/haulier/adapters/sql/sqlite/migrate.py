"""Bring a database to the schema of this version, safely when several processes start at once.

Rule 1: everything happens under an exclusive lock on a file beside the database, which the kernel frees when its
        holder dies; and in one transaction, so that a failure leaves the database as it was.
Rule 2: a database of a newer version is refused, never touched.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from haulier.adapters.sql.models import DEFAULT_CAPSULE, SCHEMA
from haulier.adapters.sqlite_driver import connect, translated
from haulier.core.errors import StorageUnavailable

LOCK_POLL_S: Final = 0.02
"""How often a start looks whether another one is done; no two starts are hurried enough to notice."""


def migrate(path: Path, *, lock_timeout_s: float) -> None:
    """Create or upgrade the tables at `path`, and the capsule `default`; blocking.

    Args:
        path: the file.
        lock_timeout_s: how long another start may take.

    Raises:
        ConfigError: the database was written by a newer version.
        StorageUnavailable: it cannot be opened, or another start takes too long.
    """
    with _locked(path.with_name(f"{path.name}.lock"), lock_timeout_s), translated(path):
        # Names and metadata are their owner's; SQLite gives its log the mode that the file has.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = connect(path, busy_timeout_s=lock_timeout_s, read_only=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            if not _is_current(connection):
                # Alembic takes longer to import than all the rest of a start takes; most starts do without.
                from haulier.adapters.sql.upgrade import upgrade_sqlite  # noqa: PLC0415 - see above

                upgrade_sqlite(connection, str(path))
        finally:
            connection.close()


def is_current(path: Path, *, busy_timeout_s: float) -> bool:
    """Return whether `migrate` would change nothing about a file that is there; blocking. Changes nothing itself.

    Raises:
        ConfigError: the database was written by a newer version.
        StorageUnavailable: it cannot be opened.
    """
    with translated(path):
        connection = connect(path, busy_timeout_s=busy_timeout_s, read_only=True)
        try:
            if _is_current(connection):
                return True
            from haulier.adapters.sql.upgrade import require_known_sqlite  # noqa: PLC0415 - see above

            require_known_sqlite(connection, str(path))
            return False
        finally:
            connection.close()


@contextmanager
def _locked(path: Path, timeout_s: float) -> Iterator[None]:
    deadline = time.monotonic() + timeout_s
    try:
        file = path.open("ab")
    except OSError as error:
        raise StorageUnavailable(f"{path}: {error.strerror}") from error
    with file:
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise StorageUnavailable(f"{path} is held by another start")
            time.sleep(LOCK_POLL_S)
        # Closing the file frees the lock; the file stays, for removing it would split later starts in two.
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_current(connection: sqlite3.Connection) -> bool:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"alembic_version", "capsules"} <= tables:
        return False
    revisions = [revision for (revision,) in connection.execute("SELECT version_num FROM alembic_version")]
    default = connection.execute("SELECT 1 FROM capsules WHERE name = ?", (DEFAULT_CAPSULE,)).fetchone()
    return revisions == [SCHEMA] and default is not None
