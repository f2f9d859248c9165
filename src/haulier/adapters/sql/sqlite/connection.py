"""One SQLite connection: how our statements run on it. `sqlite_driver` opens it, and tells what its errors mean."""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from sqlalchemy.dialects.sqlite import dialect

from haulier.adapters.sql.compiled import Compiled, compiler
from haulier.adapters.sql.rows import Parameters, Row
from haulier.adapters.sql.sqlite.inserts import insert_of
from haulier.adapters.sql.statements import Statement
from haulier.adapters.sql.stores import SqlTransaction

T = TypeVar("T")

MAX_ROWS: Final = 32
"""Added by one statement. A statement has a price of its own, and where names are looked up by their letters (docs/adr/0097) it
writes a piece of their table: as much again as the row. More rows would be more forms of each statement than the driver keeps."""

# By place: the driver lets other threads run, and may wait long for its turn to go on, at each parameter that it has to
# find by name.
_compiled: Final = compiler(dialect(paramstyle="qmark"))


class SqliteExecutor:
    """Runs statements at once, on the thread that it is called on; nothing here ever waits.

    A connection has one, and with it one set of stores for all of its transactions: there are more of them than the few
    statements of a transaction are worth.
    """

    dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection: Final = connection
        self._stores = SqlTransaction(self)

    def begin(self, command: str = "BEGIN") -> SqlTransaction:
        """Begin a transaction, and return what it is made with; the one before it has ended."""
        self.connection.execute(command)
        self._stores.begin()
        return self._stores

    async def rows(self, statement: Statement, parameters: Parameters) -> Sequence[Row]:
        """Return all rows of the answer."""
        return self._run(statement, parameters).fetchall()

    async def row(self, statement: Statement, parameters: Parameters) -> Row | None:
        """Return the only row of the answer."""
        rows = self._run(statement, parameters).fetchall()
        assert len(rows) <= 1
        return rows[0] if rows else None

    async def count(self, statement: Statement, parameters: Parameters) -> int:
        """Return how many rows were changed."""
        return self._run(statement, parameters).rowcount

    async def count_all(self, statement: Statement, each: Sequence[Parameters]) -> int:
        """Run a statement with each of these, and return how many rows were changed."""
        compiled = _compiled(statement)
        self._admit(compiled)
        changed = 0
        for start in range(0, len(each), MAX_ROWS):
            text, values = insert_of(compiled, each[start : start + MAX_ROWS])
            changed += self.connection.execute(text, values).rowcount
        return changed

    async def exclude(self, name: str) -> None:
        """Do nothing: whoever writes is alone."""

    def _run(self, statement: Statement, parameters: Parameters) -> sqlite3.Cursor:
        compiled = _compiled(statement)
        self._admit(compiled)
        return self.connection.execute(compiled.text, compiled.fill(parameters))

    def _admit(self, compiled: Compiled) -> None:
        """Let a statement run; here any may."""


def drive(work: Callable[[SqlTransaction], Awaitable[T]], transaction: SqlTransaction) -> T:
    """Run `work` to its end on this thread.

    Its only awaits are our stores' methods, and those never wait; so one step is all it takes. What waits for
    anything else would hold up every other writer, and is refused.
    """
    steps = work(transaction).__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise AssertionError("a transaction's work may await nothing but the transaction's own methods")
