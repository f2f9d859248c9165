"""What files hold: every kind, and every way not to be one."""

import os
from pathlib import Path

import pytest

from haulier.bounded.content import inspect
from haulier.bounded.text import PIECE
from haulier.core.processing import ContentFault, ContentProblem, FileMetadata


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def look(directory: Path, data: bytes, extension: str = "", charset: str | None = None) -> FileMetadata:
    path = directory / "file"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return inspect(descriptor, extension=extension, charset=charset)
    finally:
        os.close(descriptor)


def test_json_is_read_through(directory: Path) -> None:
    assert look(directory, b'[{"a": 1},\n {"a": 2}]\n', ".json") == FileMetadata(
        media_type="application/json",
        encoding="utf-8",
        line_count=2,
        record_count=2,
        preview='[{"a": 1},\n {"a": 2}]\n',
        valid_json=True,
    )


def test_csv_is_read_through(directory: Path) -> None:
    assert look(directory, b"name,age\r\nAda,36\r\n", ".csv") == FileMetadata(
        media_type="text/csv",
        encoding="utf-8",
        line_count=2,
        record_count=2,
        preview="name,age\nAda,36\n",
        valid_csv=True,
    )


def test_text_is_read_through(directory: Path) -> None:
    assert look(directory, "one\rtwo\r\nthrée".encode(), ".txt") == FileMetadata(
        media_type="text/plain", encoding="utf-8", line_count=3, preview="one\ntwo\nthrée"
    )


def test_faults_have_line_and_column(directory: Path) -> None:
    found = look(directory, b'{\n "a": 1,\n "b": oops\n}\n', ".json")
    assert found.valid_json is False
    assert found.media_type == "text/plain"
    assert found.line_count == 4
    assert found.errors == (
        ContentProblem(ContentFault.JSON_INVALID, "a value is expected here", line=3, column=7),
    )
    found = look(directory, b"a,b\n1,2\n3\n", ".csv")
    assert found.valid_csv is False
    assert found.record_count == 3
    assert [(problem.fault, problem.line) for problem in found.errors] == [(ContentFault.CSV_INVALID, 3)]


@pytest.mark.parametrize(
    ("data", "charset", "encoding", "text"),
    [
        ("héllo".encode(), None, "utf-8", "héllo"),
        ("héllo".encode("utf-8-sig"), None, "utf-8", "héllo"),
        ("héllo".encode("utf-16"), None, "utf-16", "héllo"),
        (b"\xfe\xff" + "héllo".encode("utf-16-be"), "utf-8", "utf-16", "héllo"),
        ("héllo".encode("utf-32"), None, "utf-32", "héllo"),
        ("héllo".encode("latin-1"), "ISO-8859-1", "iso8859-1", "héllo"),
        ("héllo".encode("cp1252"), "windows-1252", "cp1252", "héllo"),
        ("日本".encode("shift_jis"), "Shift_JIS", "shift_jis", "日本"),
        ("日本".encode("utf-16-le"), "utf-16le", "utf-16-le", "日本"),
    ],
)
def test_a_mark_then_a_declaration_decides_the_encoding(
    directory: Path, data: bytes, charset: str | None, encoding: str, text: str
) -> None:
    found = look(directory, data, ".txt", charset)
    assert (found.encoding, found.preview, found.errors) == (encoding, text, ())


@pytest.mark.parametrize(
    "charset", ["zlib_codec", "unicode_escape", "utf-7", "punycode", "no such", "a\0b", ""]
)
def test_encodings_that_do_more_than_decode_are_not_known(directory: Path, charset: str) -> None:
    found = look(directory, b"words", ".txt", charset)
    assert found.encoding is None
    assert [problem.fault for problem in found.errors] == [ContentFault.UNDECODABLE]


@pytest.mark.parametrize("extension", [".txt", ".json", ".csv", ".log", ""])
@pytest.mark.parametrize("before", [b'"a\n', b"1\n" * PIECE], ids=["at once", "pieces later"])
def test_what_does_not_decode_is_told_with_its_place(directory: Path, extension: str, before: bytes) -> None:
    found = look(directory, before + b"ab\xffc", extension)
    assert found.media_type == "application/octet-stream"
    assert found.encoding is None
    if extension == ".json" and before != b'"a\n':
        return  # judged before: a second value
    problem = found.errors[0]
    assert (problem.fault, problem.line, problem.column) == (
        ContentFault.UNDECODABLE,
        before.count(b"\n") + 1,
        3,
    )


def test_characters_cut_by_a_piece_are_whole(directory: Path) -> None:
    found = look(directory, b"x" + "é".encode() * PIECE, ".txt")
    assert found.errors == ()
    assert found.line_count == 1
    assert look(directory, ("x" * (PIECE - 1) + "\r\nlast").encode(), ".txt").line_count == 2


def test_a_character_cut_by_the_end_does_not_decode(directory: Path) -> None:
    found = look(directory, b"ab\xc3", ".txt")
    assert [(problem.line, problem.column) for problem in found.errors] == [(1, 3)]


def test_nul_is_binary(directory: Path) -> None:
    found = look(directory, b"a\nb\0c", ".txt")
    assert found.media_type == "application/octet-stream"
    assert found.errors[0].fault is ContentFault.BINARY
    assert (found.errors[0].line, found.errors[0].column) == (2, 2)


def test_json_is_utf_8_whatever_is_declared(directory: Path) -> None:
    for data in ('"é"'.encode("latin-1"), '"é"'.encode("utf-16")):
        found = look(directory, data, ".json", "latin-1")
        assert found.valid_json is False
        assert found.errors[0].fault is ContentFault.UNDECODABLE
    assert look(directory, '"é"'.encode("utf-8-sig"), ".json", "latin-1").valid_json is True


PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.mark.parametrize(
    ("data", "extension", "found"),
    [
        (PNG, ".json", "image/png"),
        (PNG, ".csv", "image/png"),
        (PNG, ".jpg", "image/png"),
        (PNG, ".txt", "image/png"),
        (b"%PDF-1.7", ".txt", "application/pdf"),
        (b"PK\x03\x04", ".json", "application/zip"),
        (b"words", ".png", "text/plain"),
        (b"<html><body>", ".csv", "text/html"),
        (b"<svg xmlns='x'>", ".png", "image/svg+xml"),
        (b"<?xml version='1.0'?>\n<!-- a --><svg >", ".jpg", "image/svg+xml"),
        (b"words", ".svg", "text/plain"),
        (b'{"a":1}', ".pdf", "text/plain"),
    ],
)
def test_a_name_that_says_something_else_is_told(
    directory: Path, data: bytes, extension: str, found: str
) -> None:
    metadata = look(directory, data, extension)
    assert metadata.media_type == found
    assert ContentFault.TYPE_MISMATCH in [problem.fault for problem in metadata.errors]


@pytest.mark.parametrize(
    ("data", "extension", "found"),
    [
        (PNG, ".png", "image/png"),
        (PNG, "", "image/png"),
        (PNG, ".docx", "image/png"),
        (b"\x7fELF", "", "application/x-elf"),
        (b'{"a":1}', "", "application/json"),
        (b"[1,2]", ".txt", "application/json"),
        (b"[not json", ".txt", "text/plain"),
        (b"<!DOCTYPE html><p>", ".txt", "text/html"),
        (b"<?xml version='1.0'?><a/>", "", "application/xml"),
        (b"<svg>", ".svg", "image/svg+xml"),
        (b"", ".txt", "text/plain"),
        (b"", ".csv", "text/csv"),
    ],
)
def test_a_name_that_fits_or_says_nothing_is_no_fault(
    directory: Path, data: bytes, extension: str, found: str
) -> None:
    metadata = look(directory, data, extension)
    assert (metadata.media_type, metadata.errors) == (found, ())


def test_an_empty_file_is_no_json(directory: Path) -> None:
    found = look(directory, b"", ".json")
    assert (found.valid_json, found.line_count, found.preview) == (False, 0, "")


def test_the_preview_has_500_characters(directory: Path) -> None:
    assert look(directory, "é".encode() * 2000, ".txt").preview == "é" * 500
