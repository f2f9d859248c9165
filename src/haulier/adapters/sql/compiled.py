"""Statements as text: compiled once for a database, then handed to its driver as they are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import compress, count
from operator import add, itemgetter
from typing import Any, Final

from sqlalchemy.engine import Dialect

from haulier.adapters.sql.executor import TAKES_LONG
from haulier.adapters.sql.rows import Parameters
from haulier.adapters.sql.statements import Statement
from haulier.core.values import dataclass

INSERTS: Final = 128
"""Inserts of several rows that are kept as text; as many fit among the statements that the driver keeps prepared."""
COMMON: Final = frozenset({
    "capsule", "owner", "protocol", "mode", "status", "kind", "asset_kind", "concat", "digest_algorithm", "digest_name",
    "chunk_size", "ttl_s", "min_size", "boot_id", "fence", "attempts",
})  # fmt: skip
"""Columns that rows have in common which are added together, by what they are and not by chance: else each chance would be
another form of the statement."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement as text, with the parameters that SQLAlchemy made of its constants."""

    text: str
    constants: Parameters
    place: Callable[[Parameters], Sequence[Any]] | None
    """Puts the parameters in the order of their places; None where the driver finds them by name."""
    common: Sequence[bool]
    """Which of its places are those of `COMMON`."""
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


def insert_of(compiled: Compiled, each: Sequence[Parameters]) -> tuple[str, list[Any]]:
    """Return an insert of one row, whose parameters are by place, as one of these rows, and its parameters.

    What is NULL, true or false in all of them is part of the text: for such a parameter SQLite's driver looks for
    somebody who could turn it into something else, which takes several times what a number or a text takes. What they
    have in common otherwise is one parameter, and what is looked up by it is looked up once.
    """
    rows = [compiled.fill_by_place(one) for one in each]
    words = tuple(map(_word, zip(*rows, strict=True), compiled.common))
    shared = [value for value, word in zip(rows[0], words, strict=True) if word is _SHARED]
    own = [word is None for word in words]
    values = shared + [value for row in rows for value in compress(row, own)]
    return _text_of_insert(compiled.text, len(rows), words), values


def _word(column: Sequence[Any], common: bool) -> str | None:  # noqa: FBT001 - mapped over columns
    """Return how the statement says the value that all rows have; None: they have each their own."""
    first = column[0]
    plain = first is None or first is True or first is False
    if not (plain or (common and len(column) > 1)) or column.count(first) < len(column):
        return None
    return _PLAIN[first] if plain else _SHARED


_PLAIN: Final[Mapping[bool | None, str]] = {None: "NULL", True: "1", False: "0"}
_SHARED: Final = "?"


@lru_cache(maxsize=INSERTS)
def _text_of_insert(text: str, rows: int, words: Sequence[str | None]) -> str:
    before, values, after = text.partition(" VALUES (")
    row, conflict, then = after.partition(" ON CONFLICT ")
    assert values, f"this adds no rows that are given: {text}"
    first, *parts = row.removesuffix(")").split("?")
    assert len(parts) == len(words), f"the parameters of this are not by place: {text}"
    if rows == 1:
        said = "".join(map(add, (word or "?" for word in words), parts))
        return f"{before} VALUES ({first}{said}){conflict}{then}"
    shared, own = count(1), count(1)
    said = "".join(map(add, (_term(word, shared, own) for word in words), parts))
    own_values = f"({', '.join('?' for word in words if word is None)})"
    table = f"(VALUES {', '.join([own_values] * rows)})"
    # Without the condition SQLite would take what follows for that of a join.
    return f"{before} SELECT {first}{said} FROM {table} WHERE true{conflict}{then}"  # noqa: S608 - of our own words


def _term(word: str | None, shared: Iterator[int], own: Iterator[int]) -> str:
    """Return what stands for a parameter in the row that is made of each line of values."""
    if word is None:
        return f"column{next(own)}"
    return f"?{next(shared)}" if word is _SHARED else word


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
            [name in COMMON for name in names or ()],
            takes_long=TAKES_LONG.items() <= statement.get_execution_options().items(),
        )

    return compile_for_dialect
