"""Statements as text: compiled once for a database, then handed to its driver as they are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from sqlalchemy.engine import Dialect

from haulier.adapters.sql.rows import Parameters
from haulier.adapters.sql.statements import Statement


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement as text, with the parameters that SQLAlchemy made of its constants."""

    text: str
    constants: Parameters

    def fill(self, parameters: Parameters) -> Parameters:
        """Return all parameters of one execution."""
        return {**self.constants, **parameters} if self.constants else parameters


def compiler(dialect: Dialect) -> Callable[[Statement], Compiled]:
    """Return what compiles statements for one database, each only once.

    Statements are compared by identity, and there is a fixed number of them (see statements.py). Executing the
    text on the driver costs a quarter of what SQLAlchemy's own connection costs for each statement.
    """

    @cache
    def compile_for_dialect(statement: Statement) -> Compiled:
        compiled = statement.compile(dialect=dialect)
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        return Compiled(compiled.string, constants)

    return compile_for_dialect
