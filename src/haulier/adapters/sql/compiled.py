"""Statements as text: compiled once for a database, then handed to its driver as they are."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import compress
from operator import itemgetter
from typing import Any, Final

from sqlalchemy.engine import Dialect

from haulier.adapters.sql.executor import TAKES_LONG
from haulier.adapters.sql.rows import Parameters
from haulier.adapters.sql.statements import Statement
from haulier.core.values import dataclass

INSERTS: Final = 128
"""Inserts of several rows that are kept as text; as many fit among the statements that the driver keeps prepared."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement as text, with the parameters that SQLAlchemy made of its constants."""

    text: str
    constants: Parameters
    place: Callable[[Parameters], Sequence[Any]] | None
    """Puts the parameters in the order of their places; None where the driver finds them by name."""
    takes_long: bool

    def fill(self, parameters: Parameters) -> Parameters | Sequence[Any]:
        """Return all parameters of one execution, as the driver takes them."""
        return self._all(parameters) if self.place is None else self.place(self._all(parameters))

    def fill_by_place(self, parameters: Parameters) -> Sequence[Any]:
        """Return them for a driver that takes them by place."""
        assert self.place is not None
        return self.place(self._all(parameters))

    def _all(self, parameters: Parameters) -> Parameters:
        return {**self.constants, **parameters} if self.constants else parameters


def insert_of(text: str, rows: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
    """Return an insert of one row, whose parameters are by place, as one of these rows, and its parameters.

    What is NULL, true or false in all of them is part of the text: for such a parameter SQLite's driver looks for
    somebody who could turn it into something else, which takes several times what a number or a text takes.
    """
    words = tuple(_word(column) for column in zip(*rows, strict=True))
    given = [word is None for word in words]
    return _text_of_insert(text, len(rows), words), [value for row in rows for value in compress(row, given)]


def _word(column: Sequence[Any]) -> str | None:
    """Return how SQL says the value that all rows have, if it is one of few."""
    first = column[0]
    if first is not None and first is not True and first is not False:
        return None
    return _WORDS[first] if column.count(first) == len(column) else None


_WORDS: Final[Mapping[bool | None, str]] = {None: "NULL", True: "1", False: "0"}


@lru_cache(maxsize=INSERTS)
def _text_of_insert(text: str, rows: int, words: Sequence[str | None]) -> str:
    before, values, after = text.partition(" VALUES ")
    row, conflict, then = after.partition(" ON CONFLICT ")
    assert values, f"this adds no rows that are given: {text}"
    first, *parts = row.split("?")
    assert len(parts) == len(words), f"the parameters of this are not by place: {text}"
    row = first + "".join(f"{word or '?'}{part}" for word, part in zip(words, parts, strict=True))
    return f"{before}{values}{', '.join([row] * rows)}{conflict}{then}"


def _in_order_of(names: Sequence[str]) -> Callable[[Parameters], Sequence[Any]]:
    """Return what takes the values of these names, one or none of them too, as a sequence."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]


def compiler(dialect: Dialect) -> Callable[[Statement], Compiled]:
    """Return what compiles statements for one database, each only once.

    Statements are compared by identity, and there is a fixed number of them (see statements.py). Executing the
    text on the driver costs a quarter of what SQLAlchemy's own connection costs for each statement.
    """

    @cache
    def compile_for_dialect(statement: Statement) -> Compiled:
        compiled = statement.compile(dialect=dialect)
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        names = compiled.positiontup
        return Compiled(
            compiled.string,
            constants,
            None if names is None else _in_order_of(names),
            takes_long=TAKES_LONG.items() <= statement.get_execution_options().items(),
        )

    return compile_for_dialect
