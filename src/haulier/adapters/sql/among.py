"""`column IN (many values)`, as one statement with one parameter, in the words of SQLite and of PostgreSQL.

The values come as one text, a JSON array: the number of placeholders would otherwise be part of the statement, and each
number a statement of its own to compile and prepare.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles


class Members(sa.ColumnElement[Any]):
    """The members of the JSON array of texts that is in a parameter."""

    inherit_cache = False
    type = sa.Text()

    def __init__(self, name: str) -> None:
        """Take them from the parameter `name`."""
        self.parameter: Final = sa.bindparam(name, type_=sa.Text)


def among(column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[bool]:
    """Return the condition that the column is one of the values in the parameter `name`; see `array`."""
    return column.op("IN", is_comparison=True)(Members(name))


def array(values: Iterable[str]) -> str:
    """Return the values as such a parameter."""
    # Strangers make ids up. PostgreSQL takes no text with a NUL, so no row has one; the others are still asked for.
    return json.dumps([value for value in values if "\0" not in value])


@compiles(Members, "sqlite")
def _on_sqlite(members: Members, compiler: Any, **options: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(members.parameter, **options)}))"  # noqa: S608 - a placeholder


@compiles(Members, "postgresql")
def _on_postgresql(members: Members, compiler: Any, **options: Any) -> str:
    array = compiler.process(members.parameter, **options)
    return f"(SELECT json_array_elements_text(CAST({array} AS json)))"
