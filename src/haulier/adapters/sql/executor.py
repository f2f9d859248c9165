"""What the stores ask of a database's connection."""

from collections.abc import Sequence
from typing import Protocol

from haulier.adapters.sql.rows import Parameters, Row
from haulier.adapters.sql.statements import Statement


class Executor(Protocol):
    """Runs statements inside one transaction."""

    async def rows(self, statement: Statement, parameters: Parameters) -> Sequence[Row]:
        """Return all rows of the answer."""
        ...

    async def row(self, statement: Statement, parameters: Parameters) -> Row | None:
        """Return the only row of the answer."""
        ...

    async def count(self, statement: Statement, parameters: Parameters) -> int:
        """Return how many rows were changed."""
        ...

    async def exclude(self, name: str) -> None:
        """Wait until no other transaction has excluded this name; it is free again when this one ends."""
