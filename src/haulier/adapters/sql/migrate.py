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
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from haulier.adapters.sql.models import DEFAULT_CAPSULE, DEFAULT_CAPSULE_ID, capsules
from haulier.adapters.sql.sqlite import connect, translated
from haulier.core.errors import ConfigError, StorageUnavailable

LOCK_POLL_S: Final = 0.02
"""How often a start looks whether another one is done; no two starts are hurried enough to notice."""


def migrate(path: Path, url: str, *, lock_timeout_s: float) -> None:
    """Create or upgrade the tables at `path`, and the capsule `default`; blocking.

    Args:
        path: the file.
        url: what the operator wrote, for the error.
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
            _upgrade(connection, url)
        finally:
            connection.close()


def alembic_config(connection: sa.Connection) -> Config:
    """Return Alembic's settings for our migrations on an open connection."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "haulier.adapters.sql:migrations")
    return config


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


def _upgrade(driver: sqlite3.Connection, url: str) -> None:
    engine = sa.create_engine("sqlite://", creator=lambda: driver, poolclass=sa.StaticPool)
    sa.event.listen(engine, "begin", _begin)
    try:
        with engine.begin() as connection:
            _refuse_newer(connection, url)
            command.upgrade(alembic_config(connection), "head")
            _ensure_default_capsule(connection)
    except sa.exc.DBAPIError as error:
        # What SQLAlchemy wraps is the driver's own error, which `translated` knows.
        raise error.orig or error from error


def _begin(connection: sa.Connection) -> None:
    # The driver begins nothing by itself; a migration must not lose against a process that writes already.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _refuse_newer(connection: sa.Connection, url: str) -> None:
    known: set[Any] = {script.revision for script in _scripts(connection).walk_revisions()}
    found = set(MigrationContext.configure(connection).get_current_heads())
    if found - known:
        expected = (
            f"its schema {', '.join(sorted(found - known))} is newer than this version of Haulier; upgrade it"
        )
        raise ConfigError("database_url", url, expected)


def _scripts(connection: sa.Connection) -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config(connection))


def _ensure_default_capsule(connection: sa.Connection) -> None:
    default = sa.select(capsules.c.id).where(capsules.c.name == DEFAULT_CAPSULE)
    if connection.execute(default).first() is None:
        connection.execute(
            sa.insert(capsules).values(
                id=DEFAULT_CAPSULE_ID, name=DEFAULT_CAPSULE, used_bytes=0, reserved_bytes=0
            )
        )
