"""Inserts of several rows in one statement of SQLite, with as few parameters as there can be; see docs/adr/0130."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import compress, count
from operator import add, itemgetter
from typing import Any, Final

from haulier.adapters.sql.compiled import Compiled
from haulier.adapters.sql.rows import Parameters
from haulier.core.values import dataclass

INSERTS: Final = 128
"""Texts that are kept; as many fit among the statements that the driver keeps prepared."""
COMMON: Final = frozenset({
    "capsule", "owner", "protocol", "mode", "status", "kind", "asset_kind", "concat", "digest_algorithm", "digest_name",
    "chunk_size", "ttl_s", "min_size", "boot_id", "fence", "attempts",
})  # fmt: skip
"""Parameters that rows have in common which are added together, by what they are and not by chance: else each chance would be
another form of the statement."""


def insert_of(compiled: Compiled, each: Sequence[Parameters]) -> tuple[str, list[Any]]:
    """Return an insert of one row, whose parameters are by place, as one of these rows, and its parameters.

    What is NULL, true or false in all of them is part of the text: for such a parameter SQLite's driver looks for
    somebody who could turn it into something else, which takes several times what a number or a text takes. What they
    have in common otherwise is one parameter, and what is looked up by it is looked up once.
    """
    places = _places_of(compiled)
    rows = [places.fill(compiled.with_constants(one)) for one in each]
    words = tuple(map(_word, zip(*rows, strict=True), places.common))
    shared = [value for value, word in zip(rows[0], words, strict=True) if word is _SHARED]
    own = [word is None for word in words]
    values = shared + [value for row in rows for value in compress(row, own)]
    return _text_of(compiled.text, len(rows), words), values


@dataclass(frozen=True, slots=True)
class _Places:
    """Of the parameters of one statement."""

    fill: Callable[[Parameters], Sequence[Any]]
    """Puts the values of all names in the order of their places."""
    common: Sequence[bool]
    """Which of them are those of `COMMON`."""


@cache
def _places_of(compiled: Compiled) -> _Places:
    names = compiled.names
    assert names is not None, f"the parameters of this are not by place: {compiled.text}"
    return _Places(_in_order_of(names), [name in COMMON for name in names])


def _in_order_of(names: Sequence[str]) -> Callable[[Parameters], Sequence[Any]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]


def _word(column: Sequence[Any], common: bool) -> str | None:  # noqa: FBT001 - mapped over columns
    """Return how the statement says the value that all rows have; None: they have each their own."""
    first = column[0]
    plain = first is None or first is True or first is False
    if not (plain or (common and len(column) > 1)) or column.count(first) < len(column):
        return None
    return _PLAIN[first] if plain else _SHARED


_PLAIN: Final[Mapping[bool | None, str]] = {None: "NULL", True: "1", False: "0"}
_SHARED: Final = "?"
"""A parameter of the row that is made of each line of values: it stands before theirs."""


@lru_cache(maxsize=INSERTS)
def _text_of(text: str, rows: int, words: Sequence[str | None]) -> str:
    before, values, after = text.partition(" VALUES (")
    row, conflict, then = after.partition(" ON CONFLICT ")
    assert values, f"this adds no rows that are given: {text}"
    first, *parts = row.removesuffix(")").split("?")
    assert len(parts) == len(words), f"the parameters of this are not by place: {text}"
    if rows == 1:
        said = "".join(map(add, (word or "?" for word in words), parts))
        return f"{before} VALUES ({first}{said}){conflict}{then}"
    said = "".join(map(add, _terms(words), parts))
    own_values = f"({', '.join('?' for word in words if word is None)})"
    table = f"(VALUES {', '.join([own_values] * rows)})"
    # Without the condition SQLite would take what follows for that of a join.
    return f"{before} SELECT {first}{said} FROM {table} WHERE true{conflict}{then}"  # noqa: S608 - of our own words


def _terms(words: Sequence[str | None]) -> Iterator[str]:
    """Yield what stands for each parameter in the row that is made of each line of values."""
    own = count(1)
    for word in words:
        yield f"column{next(own)}" if word is None else word
