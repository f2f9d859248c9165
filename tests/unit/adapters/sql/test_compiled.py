"""Inserts of several rows in one statement of SQLite."""

from typing import Any

import pytest

from haulier.adapters.sql.compiled import insert_of
from haulier.adapters.sql.models import uploads
from haulier.adapters.sql.sqlite.connection import MAX_ROWS


def test_an_insert_of_one_row_becomes_one_of_several() -> None:
    text = "INSERT INTO a (b, c) VALUES (?, ?)"
    assert insert_of(text, [("x", 1)]) == (text, ["x", 1])
    assert insert_of(text, [("x", 1), ("y", 2)]) == (
        "INSERT INTO a (b, c) VALUES (?, ?), (?, ?)",
        ["x", 1, "y", 2],
    )


def test_what_it_does_about_conflicts_is_for_all_rows() -> None:
    text = "INSERT INTO a (b) VALUES ((SELECT ?)) ON CONFLICT DO NOTHING"
    several = "INSERT INTO a (b) VALUES ((SELECT ?)), ((SELECT ?)) ON CONFLICT DO NOTHING"
    assert insert_of(text, [(1,), (2,)]) == (several, [1, 2])


@pytest.mark.parametrize(
    ("rows", "values", "parameters"),
    [
        ([(None, True, False)], "(NULL, 1, 0)", []),
        ([(None, "", 0), (None, "", 0)], "(NULL, ?, ?), (NULL, ?, ?)", ["", 0, "", 0]),
        ([(None, True, "x"), ("y", True, None)], "(?, 1, ?), (?, 1, ?)", [None, "x", "y", None]),
        ([(True, 1, 0.0), (False, 1, 0.0)], "(?, ?, ?), (?, ?, ?)", [True, 1, 0.0, False, 1, 0.0]),
    ],
)
def test_what_is_null_or_true_or_false_in_all_rows_is_no_parameter(
    rows: list[tuple[Any, ...]], values: str, parameters: list[Any]
) -> None:
    text = "INSERT INTO a (b, c, d) VALUES (?, ?, ?)"
    assert insert_of(text, rows) == (f"INSERT INTO a (b, c, d) VALUES {values}", parameters)


@pytest.mark.parametrize("text", ["INSERT INTO a (b) SELECT ?", "INSERT INTO a (b) VALUES (:b)"])
def test_what_adds_no_rows_that_are_given_by_place_is_a_mistake(text: str) -> None:
    with pytest.raises(AssertionError):
        insert_of(text, [(1,), (2,)])


def test_as_many_of_the_widest_rows_need_no_more_parameters_than_an_older_sqlite_takes() -> None:
    assert MAX_ROWS * len(uploads.columns) <= 999
