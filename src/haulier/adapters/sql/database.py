"""Which database a place names."""

from pathlib import Path
from typing import TYPE_CHECKING, Union

from haulier.adapters.sql.sqlite.database import SqliteDatabase
from haulier.core.errors import ConfigError

if TYPE_CHECKING:
    from haulier.adapters.sql.postgres.database import PostgresDatabase

SqlDatabase = Union[SqliteDatabase, "PostgresDatabase"]
"""Either of them: a `UnitOfWork` for uploads that is opened and closed."""


def open_database(place: Path | str) -> SqlDatabase:
    """Return the database at a place, not opened yet: an async context manager.

    Args:
        place: a file of SQLite, or `postgresql://...`.

    Raises:
        ConfigError: no such URL, or PostgreSQL without the extra `postgres`.
    """
    if isinstance(place, Path):
        return SqliteDatabase(place)
    try:
        from haulier.adapters.sql.postgres.database import PostgresDatabase  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        cure = "install PostgreSQL's driver with: pip install 'haulier[postgres]'"
        raise ConfigError("database_url", "postgresql:...", cure) from error
    return PostgresDatabase(place)
