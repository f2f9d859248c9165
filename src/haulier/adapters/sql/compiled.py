"""Statements as text: compiled once for a database, then handed to its driver as they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy.engine import Dialect

from haulier.adapters.sql.executor import TAKES_LONG
from haulier.adapters.sql.rows import Parameters
from haulier.adapters.sql.statements import Statement


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement as text, with the parameters that SQLAlchemy made of its constants."""

    text: str
    constants: Parameters
    positions: tuple[str, ...] | None
    """The parameters in the order of their places; None where the driver finds them by name."""
    takes_long: bool

    def fill(self, parameters: Parameters) -> Parameters | Sequence[Any]:
        """Return all parameters of one execution, as the driver takes them."""
        values = {**self.constants, **parameters} if self.constants else parameters
        return values if self.positions is None else [values[name] for name in self.positions]


@cache
def insert_of(text: str, rows: int) -> str:
    """Return an insert of one row as one of so many, whose parameters are by place."""
    before, values, after = text.partition(" VALUES ")
    row, conflict, then = after.partition(" ON CONFLICT ")
    assert values, f"this adds no rows that are given: {text}"
    return f"{before}{values}{', '.join([row] * rows)}{conflict}{then}"


def compiler(dialect: Dialect) -> Callable[[Statement], Compiled]:
    """Return what compiles statements for one database, each only once.

    Statements are compared by identity, and there is a fixed number of them (see statements.py). Executing the
    text on the driver costs a quarter of what SQLAlchemy's own connection costs for each statement.
    """

    @cache
    def compile_for_dialect(statement: Statement) -> Compiled:
        compiled = statement.compile(dialect=dialect)
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        positions = compiled.positiontup
        return Compiled(
            compiled.string,
            constants,
            None if positions is None else tuple(positions),
            takes_long=TAKES_LONG.items() <= statement.get_execution_options().items(),
        )

    return compile_for_dialect
