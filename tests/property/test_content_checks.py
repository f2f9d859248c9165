"""Checks of content give the verdict of readers that have the whole text, however it is cut."""

import csv
import io
import json
import os
import tempfile
from itertools import pairwise
from typing import Any, NoReturn

from hypothesis import example, given
from hypothesis import strategies as st

from haulier.bounded.content import inspect
from haulier.bounded.csv_text import CsvReader, choose_delimiter
from haulier.bounded.formats import binary_type
from haulier.bounded.json_text import JsonInvalid, JsonScanner

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30
)
NEARLY_JSON = st.text('{}[]",:0123456789.-+eEtrufalsn\\/ \t\n\r\x00é', max_size=40)


def refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({min(place, len(text)) for place in (0, *places, len(text))})
    return [text[start:stop] for start, stop in pairwise(edges)]


def scan(pieces: list[str]) -> int | None:
    """Return the record count; None when it is no JSON."""
    scanner = JsonScanner()
    try:
        for piece in pieces:
            scanner.feed(piece)
        scanner.finish()
    except JsonInvalid:
        return None
    return scanner.record_count


PLACES = st.lists(st.integers(0, 400), max_size=12)


@given(VALUES, PLACES, st.sampled_from([None, 1]), st.booleans())
def test_every_json_passes_with_its_count(
    value: Any, places: list[int], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert scan(cut(text, places)) == (len(value) if isinstance(value, list) else 1)


@given(VALUES, PLACES, st.integers(0, 400), st.text(max_size=2), st.integers(0, 2))
def test_a_spoiled_json_is_judged_as_python_judges_it(
    value: Any, places: list[int], where: int, put: str, taken: int
) -> None:
    text = json.dumps(value)
    where = min(where, len(text))
    spoiled = text[:where] + put + text[where + taken :]
    assert (scan(cut(spoiled, places)) is not None) is is_json(spoiled)


@given(NEARLY_JSON, PLACES)
def test_what_looks_like_json_is_judged_as_python_judges_it(text: str, places: list[int]) -> None:
    assert (scan(cut(text, places)) is not None) is is_json(text)


@given(NEARLY_JSON | VALUES.map(json.dumps), PLACES)
def test_a_fault_has_one_place_however_the_text_is_cut(text: str, places: list[int]) -> None:
    found = set()
    for pieces in ([text], cut(text, places), list(text)):
        scanner = JsonScanner()
        try:
            for piece in pieces:
                scanner.feed(piece)
            scanner.finish()
        except JsonInvalid as error:
            found.add((error.line, error.column, str(error)))
    assert len(found) <= 1


FIELDS = st.text('ab ",;\n', max_size=6)


@given(st.lists(st.lists(FIELDS, min_size=3, max_size=3), min_size=1, max_size=8), PLACES)
def test_every_csv_passes_with_its_count(rows: list[list[str]], places: list[int]) -> None:
    written = io.StringIO()
    writer = csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([["one", "two", "three"], *rows])
    text = written.getvalue()
    reader = CsvReader()
    reader.read(cut(text, [len('"one","two","three"\n'), *(20 + place for place in places)]))
    assert (reader.record_count, reader.problems) == (len(rows) + 1, [])


@given(st.text('ab",\n', max_size=40), PLACES)
def test_a_csv_is_judged_as_one_that_is_read_whole(text: str, places: list[int]) -> None:
    first_line = text.find("\n") + 1 or len(text)
    reader = CsvReader()
    reader.read(cut(text, [first_line, *(first_line + place for place in places)]))
    try:
        delimiter = choose_delimiter(text)
        whole = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True) if row]
        consistent = len({len(row) for row in whole}) <= 1
    except csv.Error:
        consistent = False
    assert (not reader.problems) is consistent


@example(b"\xef", ".json", None)
@given(
    st.binary(max_size=300),
    st.sampled_from(["", ".json", ".csv", ".txt", ".png"]),
    st.none() | st.text(max_size=9),
)
def test_any_bytes_are_judged(data: bytes, extension: str, charset: str | None) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        found = inspect(file.fileno(), extension=extension, charset=charset)
        assert os.fstat(file.fileno()).st_size == len(data)
    if binary_type(data) is None and found.encoding == "utf-8":
        text = data.decode("utf-8-sig")
        assert (found.preview or "") == io.StringIO(text, newline=None).read()[:500]
        assert found.valid_json is not True or is_json(text)
