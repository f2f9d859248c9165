"""CSV that streams past: columns, quotes, and records that never end."""

import pytest

from haulier.bounded.csv_text import MAX_RECORD, CsvReader, choose_delimiter
from haulier.core.processing import MAX_PROBLEMS


def read(text: str, *, size: int = 1 << 18) -> CsvReader:
    reader = CsvReader()
    reader.read(text[start : start + size] for start in range(0, len(text), size))
    return reader


@pytest.mark.parametrize("size", [1, 2, 5, 1 << 18])
@pytest.mark.parametrize(
    ("text", "records"),
    [
        ("", 0),
        ("a", 1),
        ("a,b\n1,2\n", 2),
        ("a,b\n1,2", 2),
        ("a;b\n1,5;2\n", 2),
        ("a\tb\n1,2\t3\n", 2),
        ("a|b\n1|2\n", 2),
        ('a,b\n"x, y",2\n', 2),
        ('a,b\n"two\nlines",2\n3,4\n', 3),
        ('a,b\n"say ""hi""",2\n', 2),
        ("a,b\n\n1,2\n\n\n", 2),
        ("a,b\n,\n", 2),
        ('a,b\n5" pipe,2\n', 2),
        ("one\ntwo\nthree\n", 3),
    ],
)
def test_what_is_consistent_passes_however_it_is_cut(text: str, records: int, size: int) -> None:
    reader = read(text, size=max(size, text.find("\n") + 1))
    assert (reader.record_count, reader.problems) == (records, [])


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a,b\n1,2\n3\n", 3, 2, "1 fields where the first record has 2"),
        ("a,b\n1,2\n3", 3, 2, "1 fields where the first record has 2"),
        ("a,b\n1,2,3\n", 2, 5, "3 fields where the first record has 2"),
        ("a;b\n1;2;;\n", 2, 5, "4 fields"),
        ('a,b\n"x\ny",2\n3\n', 4, 2, "1 fields"),
        ('a,b\n"x\ny","2, ""2""",3\n', 3, 15, "3 fields"),
        ('a,b\n1,"open\n', 2, 3, "quotes are wrong"),
        ('a,b\n1,"half open""\n', 2, 3, "quotes are wrong"),
        ('a,b\n1,"closed"x\n', 2, 11, "quotes are wrong"),
        ('"a"x,b\n', 1, 4, "quotes are wrong"),
        ("a\n1,2\n", 2, 3, "2 fields"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, line: int, column: int, words: str) -> None:
    (problem,) = read(text).problems
    assert (problem.line, problem.column) == (line, column)
    assert words in problem.message


def test_a_line_that_never_ends_is_told_after_a_bounded_part() -> None:
    given = 0

    def endless() -> object:
        nonlocal given
        while True:
            given += 1 << 18
            yield "x" * (1 << 18)

    reader = CsvReader()
    reader.read(endless())  # type: ignore[arg-type]
    assert given <= MAX_RECORD + (1 << 18)
    assert "more than" in reader.problems[0].message
    assert (reader.problems[0].line, reader.problems[0].column) == (1, 1)


def test_a_quote_that_never_closes_is_told_after_a_bounded_part() -> None:
    reader = CsvReader()
    reader.read('"\n' if number == 0 else '","\n' * 1000 for number in range(10_000))
    assert "more than" in reader.problems[0].message
    assert reader.problems[0].line == 1


def test_only_the_first_problems_are_told() -> None:
    reader = read("a,b\n" + "1\n" * 100)
    assert len(reader.problems) == MAX_PROBLEMS
    assert reader.record_count == 101


@pytest.mark.parametrize(
    ("start", "delimiter"),
    [
        ("a,b;c,d", ","),
        ("a;b;c,d", ";"),
        ("a;b,c", ","),
        ('"a;b;c;d",e\n', ","),
        ('"a\n;b",c', ","),
        ("a\tb\n;;;;", "\t"),
        ("words", ","),
        ("", ","),
        ('"open;;;', ","),
    ],
)
def test_the_first_line_chooses_the_delimiter(start: str, delimiter: str) -> None:
    assert choose_delimiter(start) == delimiter
