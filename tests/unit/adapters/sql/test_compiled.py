"""Inserts of several rows in one statement of SQLite."""

import pytest

from haulier.adapters.sql.compiled import insert_of
from haulier.adapters.sql.models import uploads
from haulier.adapters.sql.sqlite.connection import MAX_ROWS, _shares


def test_an_insert_of_one_row_becomes_one_of_several() -> None:
    assert insert_of("INSERT INTO a (b) VALUES (?)", 1) == "INSERT INTO a (b) VALUES (?)"
    assert insert_of("INSERT INTO a (b) VALUES (?)", 3) == "INSERT INTO a (b) VALUES (?), (?), (?)"


def test_what_it_does_about_conflicts_is_for_all_rows() -> None:
    text = "INSERT INTO a (b) VALUES ((SELECT ?)) ON CONFLICT DO NOTHING"
    assert insert_of(text, 2) == "INSERT INTO a (b) VALUES ((SELECT ?)), ((SELECT ?)) ON CONFLICT DO NOTHING"


def test_what_adds_no_given_rows_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        insert_of("INSERT INTO a (b) SELECT ?", 2)


@pytest.mark.parametrize(
    ("count", "shares"),
    [(1, [1]), (3, [2, 1]), (16, [16]), (29, [16, 8, 4, 1]), (64, [16, 16, 16, 16])],
)
def test_rows_are_added_by_statements_of_few_sizes(count: int, shares: list[int]) -> None:
    assert list(_shares(count)) == shares


def test_as_many_of_the_widest_rows_need_no_more_parameters_than_an_older_sqlite_takes() -> None:
    assert MAX_ROWS * len(uploads.columns) <= 999
