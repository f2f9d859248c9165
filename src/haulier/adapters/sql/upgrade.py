"""Migrations, by Alembic; imported only by a start that needs one."""

import sqlite3
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from haulier.adapters.sql.models import DEFAULT_CAPSULE, DEFAULT_CAPSULE_ID, DEFAULT_POLICY, capsules
from haulier.core.caller import LOCAL
from haulier.core.errors import ConfigError


def upgrade_sqlite(driver: sqlite3.Connection, place: str) -> None:
    """Create or upgrade the tables, and the capsule `default`, in one transaction.

    Raises:
        ConfigError: the database at `place` was written by a newer version.
        sqlite3.Error: as the driver raised it.
    """
    engine = _sqlite(driver)
    sa.event.listen(engine, "begin", _begin)
    _upgrade(engine, place)


def require_known_sqlite(driver: sqlite3.Connection, place: str) -> None:
    """Raise ConfigError when the database at `place` was written by a newer version."""
    with _sqlite(driver).connect() as connection:
        _refuse_newer(connection, place)


def upgrade_postgres(driver: object, place: str) -> None:
    """Do the same on PostgreSQL.

    Raises:
        ConfigError: the database at `place` was written by a newer version.
        psycopg.Error: as the driver, a `psycopg.Connection` that commits nothing by itself, raised it.
    """
    _upgrade(_postgres(driver), place)


def require_known_postgres(driver: object, place: str) -> None:
    """Raise ConfigError when the database at `place` was written by a newer version."""
    with _postgres(driver).connect() as connection:
        _refuse_newer(connection, place)


def _sqlite(driver: sqlite3.Connection) -> sa.Engine:
    return sa.create_engine("sqlite://", creator=lambda: driver, poolclass=sa.StaticPool)


def _postgres(driver: object) -> sa.Engine:
    return sa.create_engine("postgresql+psycopg://", creator=lambda: driver, poolclass=sa.StaticPool)


def _upgrade(engine: sa.Engine, place: str) -> None:
    try:
        with engine.begin() as connection:
            _refuse_newer(connection, place)
            command.upgrade(alembic_config(connection), "head")
            _ensure_default_capsule(connection)
    except sa.exc.DBAPIError as error:
        # What SQLAlchemy wraps is the driver's own error, which `translated` knows.
        raise error.orig or error from error


def _begin(connection: sa.Connection) -> None:
    # The driver begins nothing by itself; a migration must not lose against a process that writes already.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _refuse_newer(connection: sa.Connection, place: str) -> None:
    known: set[Any] = {script.revision for script in _scripts(connection).walk_revisions()}
    found = set(MigrationContext.configure(connection).get_current_heads())
    if found - known:
        expected = (
            f"its schema {', '.join(sorted(found - known))} is newer than this version of Haulier; upgrade it"
        )
        raise ConfigError("database_url", place, expected)


def _scripts(connection: sa.Connection) -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config(connection))


def _ensure_default_capsule(connection: sa.Connection) -> None:
    default = sa.select(capsules.c.id).where(capsules.c.name == DEFAULT_CAPSULE)
    if connection.execute(default).first() is None:
        connection.execute(
            sa.insert(capsules).values(
                id=DEFAULT_CAPSULE_ID,
                name=DEFAULT_CAPSULE,
                owner=LOCAL.owner,
                policy=DEFAULT_POLICY,
                used_bytes=0,
                reserved_bytes=0,
            )
        )


def alembic_config(connection: sa.Connection) -> Config:
    """Return Alembic's settings for our migrations on an open connection."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "haulier.adapters.sql:migrations")
    return config
