"""What the stores ask of a database's connection."""

from collections.abc import Sequence
from typing import Final, Protocol

from haulier.adapters.sql.rows import Parameters, Row
from haulier.adapters.sql.statements import Statement

TAKES_LONG: Final = {"takes_long": True}
"""An execution option of a statement that is not for an event loop, whatever else its transaction does."""


class Executor(Protocol):
    """Runs statements inside one transaction."""

    @property
    def dialect(self) -> str:
        """Which database it is, as SQLAlchemy calls it: `sqlite` or `postgresql`."""
        ...

    async def rows(self, statement: Statement, parameters: Parameters) -> Sequence[Row]:
        """Return all rows of the answer."""
        ...

    async def row(self, statement: Statement, parameters: Parameters) -> Row | None:
        """Return the only row of the answer."""
        ...

    async def count(self, statement: Statement, parameters: Parameters) -> int:
        """Return how many rows were changed."""
        ...

    async def count_all(self, statement: Statement, each: Sequence[Parameters]) -> int:
        """Run an insert of given values once with each of these, in order; return how many rows were added.

        As one step: at least one, and what one of them raises fails all.
        """
        ...

    async def exclude(self, name: str) -> None:
        """Wait until no other transaction has excluded this name; it is free again when this one ends."""
