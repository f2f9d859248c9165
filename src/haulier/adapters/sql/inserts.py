"""`INSERT ... ON CONFLICT DO NOTHING`, in the words that SQLite and PostgreSQL share.

SQLAlchemy has one such class for each database, and neither compiles for the other.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles


class InsertNew(sa.Insert):
    """An insert that leaves a row which is there already as it is; its row count is then 0."""

    inherit_cache = False

    def __init__(self, table: sa.Table, *key: sa.Column[Any]) -> None:
        """Insert into `table`. With a `key`, other conflicts than one of these columns stay errors."""
        super().__init__(table)
        self.key: Final = tuple(column.name for column in key)


@compiles(InsertNew)
def _compile(insert: InsertNew, compiler: Any, **options: Any) -> str:
    key = ", ".join(compiler.preparer.quote(name) for name in insert.key)
    target = f"({key}) " if key else ""
    return f"{compiler.visit_insert(insert, **options)} ON CONFLICT {target}DO NOTHING"
