"""Where a database is, in the words of SQLAlchemy, for tests that look at its tables themselves."""

from pathlib import Path

import sqlalchemy as sa


def alchemy_url(place: Path | str) -> sa.URL:
    """Return the URL of a file of SQLite, or of a PostgreSQL database whose URL is given."""
    if isinstance(place, Path):
        return sa.URL.create("sqlite", database=str(place))
    return sa.make_url(place).set(drivername="postgresql+psycopg")
