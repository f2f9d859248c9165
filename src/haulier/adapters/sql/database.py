"""Which database a URL names."""

from typing import TYPE_CHECKING, Union

from haulier.adapters.sql.sqlite.database import SqliteDatabase
from haulier.core.errors import ConfigError

if TYPE_CHECKING:
    from haulier.adapters.sql.postgres.database import PostgresDatabase

SqlDatabase = Union[SqliteDatabase, "PostgresDatabase"]
"""Either of them: a `UnitOfWork` for uploads that is opened and closed."""


def open_database(url: str) -> SqlDatabase:
    """Return the database of a URL, not opened yet: an async context manager.

    Args:
        url: `sqlite:///PATH` or `postgresql://...`.

    Raises:
        ConfigError: no such URL, or PostgreSQL without the extra `postgres`.
    """
    if not url.startswith("postgresql:"):
        return SqliteDatabase(url)
    try:
        from haulier.adapters.sql.postgres.database import PostgresDatabase  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        cure = "install PostgreSQL's driver with: pip install 'haulier[postgres]'"
        raise ConfigError("database_url", "postgresql:...", cure) from error
    return PostgresDatabase(url)
