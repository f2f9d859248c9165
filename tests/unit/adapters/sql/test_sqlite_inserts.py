"""Inserts of several rows in one statement of SQLite."""

import sqlite3
from typing import Any

import pytest
from sqlalchemy.dialects.sqlite import dialect

from haulier.adapters.sql.compiled import Compiled, compiler
from haulier.adapters.sql.event_store import APPEND
from haulier.adapters.sql.models import uploads
from haulier.adapters.sql.sqlite.connection import MAX_ROWS
from haulier.adapters.sql.sqlite.inserts import COMMON, insert_of
from haulier.adapters.sql.statements import INSERT_ASSET, INSERT_COMMITTED, INSERT_RECORD

ROW = "INSERT INTO a (b, c, d) VALUES (?, ?, ?)"


OWN = ("b", "c", "d")
SHARED = ("b", "owner", "kind")
"""Of these the last two are what rows have in common."""


def compiled(text: str = ROW, *, names: tuple[str, ...] = OWN) -> Compiled:
    return Compiled(text, {}, names, takes_long=False)


def rows(*values: tuple[Any, ...], names: tuple[str, ...] = OWN) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in values]


def test_an_insert_of_one_row_is_as_it_was() -> None:
    one = rows(("x", 1, 2.5))
    assert insert_of(compiled(), one) == (ROW, ["x", 1, 2.5])
    shared = rows(("x", 1, 2.5), names=SHARED)
    assert insert_of(compiled(names=SHARED), shared) == (ROW, ["x", 1, 2.5])


def test_an_insert_of_one_row_becomes_one_of_several() -> None:
    assert insert_of(compiled(), rows(("x", 1, 2.5), ("y", 2, 2.5))) == (
        "INSERT INTO a (b, c, d) SELECT column1, column2, column3 FROM (VALUES (?, ?, ?), (?, ?, ?)) WHERE true",
        ["x", 1, 2.5, "y", 2, 2.5],
    )


def test_what_rows_have_in_common_is_one_parameter() -> None:
    text = "INSERT INTO a (b, c, d) VALUES (?, (SELECT e FROM f WHERE g = ?), ?)"
    statement = compiled(text, names=SHARED)
    select = "INSERT INTO a (b, c, d) SELECT column1, (SELECT e FROM f WHERE g = "
    assert insert_of(statement, rows((1, "x", 8), (2, "x", 8), names=SHARED)) == (
        f"{select}?), ? FROM (VALUES (?), (?)) WHERE true",
        ["x", 8, 1, 2],
    )
    assert insert_of(statement, rows((1, "x", 8), (2, "y", 8), names=SHARED)) == (
        f"{select}column2), ? FROM (VALUES (?, ?), (?, ?)) WHERE true",
        [8, 1, "x", 2, "y"],
    )


def test_what_rows_have_in_common_are_parameters_of_what_is_inserted_so() -> None:
    compile_statement = compiler(dialect(paramstyle="qmark"))
    statements = (INSERT_COMMITTED, INSERT_RECORD, INSERT_ASSET, APPEND)
    names = {name for statement in statements for name in compile_statement(statement).names or ()}
    assert names >= COMMON


@pytest.mark.parametrize(
    ("values", "row", "parameters"),
    [
        ([(None, True, 5)], "VALUES (NULL, 1, ?)", [5]),
        ([(None, "", 0), (None, "", 0)], "SELECT NULL, column1, column2 FROM", ["", 0, "", 0]),
        ([(None, True, "x"), ("y", True, False)], "SELECT column1, 1, column2 FROM", [None, "x", "y", False]),
        (
            [(True, 1, 0.0), (False, 1, 0.0)],
            "SELECT column1, column2, column3 FROM",
            [True, 1, 0.0, False, 1, 0.0],
        ),
    ],
)
def test_what_is_null_or_true_or_false_in_all_rows_is_no_parameter(
    values: list[tuple[Any, ...]], row: str, parameters: list[Any]
) -> None:
    text, given = insert_of(compiled(), rows(*values))
    assert text.startswith(f"INSERT INTO a (b, c, d) {row}")
    assert given == parameters


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("same", [False, True])
def test_the_rows_arrive_in_their_order_and_only_those_that_are_new(count: int, same: bool) -> None:
    names = ("b", "owner", "d")
    statement = compiled(f"{ROW} ON CONFLICT (b) DO NOTHING", names=names)
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE a (b INTEGER UNIQUE, c TEXT, d)")
    database.execute("INSERT INTO a VALUES (0, 'first', 0)")
    values = [(number, "same" if same else f"{number}", None) for number in range(count)]
    assert database.execute(*insert_of(statement, rows(*values, names=names))).rowcount == count - 1
    found = database.execute("SELECT * FROM a ORDER BY rowid").fetchall()
    database.close()
    assert found == [(0, "first", 0), *values[1:]]


@pytest.mark.parametrize("text", ["INSERT INTO a (b) SELECT ?", "INSERT INTO a (b) VALUES (:b)"])
def test_what_adds_no_rows_that_are_given_by_place_is_a_mistake(text: str) -> None:
    with pytest.raises(AssertionError):
        insert_of(compiled(text, names=("b",)), rows((1,), (2,), names=("b",)))


def test_as_many_of_the_widest_rows_need_no_more_parameters_than_sqlite_takes_since_it_looks_up_three_letters() -> (
    None
):
    assert MAX_ROWS * len(uploads.columns) <= 32_766
