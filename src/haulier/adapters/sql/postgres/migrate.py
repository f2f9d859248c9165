"""Bring a PostgreSQL database to the schema of this version, safely when several services start at once.

Rule 1: everything happens in one transaction under an advisory lock, which PostgreSQL frees with its holder; so a
        failure leaves the database as it was.
Rule 2: a database of a newer version is refused, never touched.
"""

from collections.abc import Mapping
from typing import Any, Final

import psycopg

from haulier.adapters.sql.models import DEFAULT_CAPSULE, SCHEMA
from haulier.adapters.sql.postgres.connection import advisory_key, translated
from haulier.core.errors import ConfigError

_LOCK: Final = advisory_key("migrations")


def migrate(options: Mapping[str, Any], place: str, *, lock_timeout_s: float) -> None:
    """Create or upgrade the tables, and the capsule `default`; blocking.

    Args:
        options: of the connection.
        place: where that is, for errors.
        lock_timeout_s: how long another start may take.

    Raises:
        ConfigError: the database was written by a newer version, or cannot hold every text.
        StorageUnavailable · StorageNotWritable: it cannot be reached or changed, or another start takes too long.
    """
    with translated(place), psycopg.connect(**options, autocommit=True) as connection:
        _require_utf8(connection, place)
        if _is_current(connection):
            return
        connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{lock_timeout_s * 1000:.0f}ms"])
        # The session's, not a transaction's: SQLAlchemy ends one to look at the server before ours begins.
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        connection.autocommit = False
        # Alembic takes longer to import than all the rest of a start takes; most starts do without.
        from haulier.adapters.sql.upgrade import upgrade_postgres  # noqa: PLC0415 - see above

        upgrade_postgres(connection, place)


def is_current(options: Mapping[str, Any], place: str) -> bool:
    """Return whether `migrate` would change nothing; blocking. Changes nothing itself. Raises as `migrate`."""
    with translated(place), psycopg.connect(**options, autocommit=True) as connection:
        _require_utf8(connection, place)
        if _is_current(connection):
            return True
        connection.autocommit = False
        from haulier.adapters.sql.upgrade import require_known_postgres  # noqa: PLC0415 - see above

        require_known_postgres(connection, place)
        return False


def _require_utf8(connection: psycopg.Connection[Any], place: str) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigError("database_url", place, f"expected a database with encoding UTF8, not {encoding}")


def _is_current(connection: psycopg.Connection[Any]) -> bool:
    found = connection.execute("SELECT to_regclass('alembic_version'), to_regclass('capsules')").fetchone()
    if found is None or None in found:
        return False
    revisions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    default = connection.execute("SELECT 1 FROM capsules WHERE name = %s", [DEFAULT_CAPSULE]).fetchone()
    return revisions == [(SCHEMA,)] and default is not None
