"""Statements as text: compiled once for a database, then handed to its driver as they are."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from sqlalchemy.engine import Dialect

from haulier.adapters.sql.executor import TAKES_LONG
from haulier.adapters.sql.rows import Parameters
from haulier.adapters.sql.statements import Statement
from haulier.core.values import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """A statement as text, with the parameters that SQLAlchemy made of its constants; one a statement, as itself."""

    text: str
    constants: Parameters
    names: Sequence[str] | None
    """The parameters in the order of their places; None where the driver finds them by name."""
    takes_long: bool

    def fill(self, parameters: Parameters) -> Parameters | Sequence[Any]:
        """Return all parameters of one execution, as the driver takes them."""
        values = self.with_constants(parameters)
        return values if self.names is None else [values[name] for name in self.names]

    def with_constants(self, parameters: Parameters) -> Parameters:
        """Return all parameters of one execution by their names."""
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
        return Compiled(
            compiled.string,
            constants,
            compiled.positiontup,
            takes_long=TAKES_LONG.items() <= statement.get_execution_options().items(),
        )

    return compile_for_dialect
