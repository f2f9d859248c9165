"""What a client may send with an upload: names, paths, media types, metadata, keys."""

import unicodedata
from collections.abc import Iterator, Mapping

import pytest

from haulier.core.digest import Digest, DigestName
from haulier.core.errors import FieldProblem, InvalidRequest
from haulier.core.record import RecordId
from haulier.core.upload import (
    BeginUpload,
    UploadDetails,
    check_content_type,
    check_filename,
    check_key,
    check_metadata,
    check_path,
    require_valid,
)
from haulier.core.values import replace

DETAILS = UploadDetails(
    capsule="default",
    protocol="native",
    filename="a.bin",
    digest_name=DigestName.SHA_256,
    record=RecordId("r1"),
)

# Names that people use; each is NFC, so that it is a path, too.
ORDINARY = [
    "a",
    "holiday.mp4",
    ".hidden",
    "...",
    "trailing.",
    " blanks around ",
    "no extension",
    "100% [final] (2) #1 & 'quoted' \"twice\".txt",
    "a:b|c?d*e<f>g",
    "über façade.txt",
    "Ελληνικά.pdf",
    "отчёт за год.xlsx",
    "報告書.docx",
    "한국어.hwp",
    "ไทย.txt",
    "हिन्दी.txt",
    "עברית\u200f.txt",
    "\u200fتقرير 2026\u200e.pdf",
    "می\u200cخواهم.txt",  # noqa: RUF001 - Persian has its own look-alikes
    "👩\u200d👩\u200d👧\u200d👦 family.jpg",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f.svg",
    "☃\ufe0f.png",
    "\u061cعربي",
    "non\u00a0breaking",
    "a" * 255,
    "ü" * 127,
]
# Characters that no name, path or header may carry.
FORBIDDEN = [
    "\x00",
    "\t",
    "\n",
    "\r",
    "\x1b",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\u202a",
    "\u202b",
    "\u202c",
    "\u202d",
    "\u202e",
    "\u2066",
    "\u2067",
    "\u2068",
    "\u2069",
    "\ud800",
    "\udfff",
]


def reasons(problems: Iterator[FieldProblem]) -> list[str]:
    return [problem.reason for problem in problems]


@pytest.mark.parametrize(
    ("record", "adds", "makes"), [("r1", False, True), ("r1", True, False), (None, False, False)]
)
def test_an_upload_makes_its_record_unless_it_was_there_or_comes_later(
    record: str | None, adds: bool, makes: bool
) -> None:
    details = replace(DETAILS, record=None if record is None else RecordId(record), adds_to_record=adds)
    assert details.makes_record is makes


def test_an_upload_is_bytes_until_told_otherwise() -> None:
    assert (DETAILS.content_type, DETAILS.asset, DETAILS.metadata) == (
        "application/octet-stream",
        "original",
        {},
    )
    assert (DETAILS.path, DETAILS.expected, DETAILS.digest) == (None, None, None)


# --- names and paths ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ORDINARY, ids=ascii)
def test_ordinary_names_are_taken(name: str) -> None:
    assert unicodedata.is_normalized("NFC", name)
    assert reasons(check_filename(name)) == []
    assert reasons(check_path(name)) == []
    assert reasons(check_path(f"2026/{name}/{name}")) == []


@pytest.mark.parametrize("character", FORBIDDEN, ids=ascii)
def test_dangerous_characters_are_refused_by_their_number(character: str) -> None:
    expected = [f"must not contain the character U+{ord(character):04X}"]
    for text in (character, f"a{character}b", f"a{character}{character}"):
        assert reasons(check_filename(text)) == expected
        assert reasons(check_path(text)) == expected


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_is_a_name(name: str) -> None:
    assert list(check_filename(name)) == [FieldProblem("filename", "must not be empty, '.' or '..'")]


@pytest.mark.parametrize("name", ["a/b", "/a", "a/", "../a", "a\\b", "C:\\a", "\\\\server\\share"])
def test_a_name_has_no_separators(name: str) -> None:
    assert reasons(check_filename(name)) == ["must not contain '/' or '\\'; folders go into 'path'"]


def test_all_that_is_wrong_with_a_name_is_told_at_once() -> None:
    assert reasons(check_filename("a/b\nc")) == [
        "must not contain '/' or '\\'; folders go into 'path'",
        "must not contain the character U+000A",
    ]


@pytest.mark.parametrize("name", ["a" * 256, "ü" * 128, "\ud800" * 86, "/" * 65_536, "\n" * 65_536])
def test_a_name_that_is_too_long_is_not_looked_at(name: str) -> None:
    assert list(check_filename(name)) == [FieldProblem("filename", "must be at most 255 bytes of UTF-8")]


@pytest.mark.parametrize("path", ["a" * 4097, "ü" * 2049, "/" * 65_536, "a/" * 40_000])
def test_a_path_that_is_too_long_is_not_looked_at(path: str) -> None:
    assert list(check_path(path)) == [FieldProblem("path", "must be at most 4096 bytes of UTF-8")]


def test_the_longest_path_is_taken() -> None:
    assert reasons(check_path("a" * 4096)) == []
    assert reasons(check_path("a/" * 2047 + "aa")) == []


@pytest.mark.parametrize("path", ["/a", "/a/b", "a\\b", "..\\a"])
def test_a_path_is_relative_and_uses_slashes(path: str) -> None:
    assert list(check_path(path)) == [FieldProblem("path", "must be relative and use '/'")]


@pytest.mark.parametrize("path", ["", ".", "..", "a/", "a//b", "./a", "a/.", "a/../b", "../a", "a/.."])
def test_a_path_has_no_empty_or_dot_components(path: str) -> None:
    assert list(check_path(path)) == [FieldProblem("path", "must not have empty, '.' or '..' components")]


@pytest.mark.parametrize("path", ["/", "//a", "/../etc"])
def test_an_absolute_path_with_bad_components_hears_both(path: str) -> None:
    assert reasons(check_path(path)) == [
        "must be relative and use '/'",
        "must not have empty, '.' or '..' components",
    ]


def test_a_path_is_in_normal_form_c() -> None:
    assert reasons(check_path("u\u0308ber/a")) == ["must be in Unicode normalisation form C"]
    assert reasons(check_filename("u\u0308ber")) == []


# --- media types -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "image/png",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "image/svg+xml",
        "Text/HTML; Charset=UTF-8",
        "text/plain;charset=utf-8",
        "text/plain ; a=b ;\tc=d",
        'text/plain; title="a; \\"b\\", \\\\ c"',
        'text/plain; title=""',
        "text/plain;",
        "text/plain; ;; charset=utf-8 ;",
        "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
        f"a/{'b' * 127}",
        "a/b;" + " " * 251,
    ],
)
def test_media_types_are_taken_with_their_parameters(text: str) -> None:
    assert list(check_content_type(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "text/",
        "/plain",
        "text/plain/x",
        "*/*",
        ".x/y",
        " text/plain",
        "text/plain ",
        "text /plain",
        "text/plain charset=utf-8",
        "text/plain; charset",
        "text/plain; charset=",
        "text/plain; charset = utf-8",
        "text/plain; a=b c",
        'text/plain; a="b',
        'text/plain; a="b"c',
        "text/plain, text/html",
        "text/plain\r\nX-Evil: 1",
        "text/plain; a=b\n",
        'text/plain; a="\n"',
        'text/plain; a="\x7f"',
        "text/plain; a=\xfc",
        "text/pl\u0430in",
        "text/plain\ud800",
        f"a/{'b' * 128}",
        "a/b;" + " " * 252,
        "a" * 65_536,
        "a/b" + " ;" * 125 + "\x01",
        "a/b" + "; " * 125 + "\x01",
        "a/b" + ";a=b" * 62 + "\x01",
        'a/b;a="' + "\\" * 247,
    ],
    ids=lambda text: ascii(text)[:40],
)  # fmt: skip
def test_what_is_no_media_type_is_refused(text: str) -> None:
    reason = "must be a media type like 'image/png', at most 255 characters"
    assert list(check_content_type(text)) == [FieldProblem("content_type", reason)]


# --- metadata and keys -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"caption": "Two\nlines, and a \u202e", "": "", "ключ": "значение"},
        {str(number): "" for number in range(64)},
        {"k": "v" * (16 * 1024 - 1)},
        {"k": "ü" * ((16 * 1024 - 1) // 2)},
    ],
    ids=["none", "free text", "64 keys", "16 KiB", "16 KiB of umlauts"],
)
def test_metadata_is_free_text(metadata: Mapping[str, str]) -> None:
    assert list(check_metadata(metadata)) == []


def test_metadata_has_at_most_64_keys() -> None:
    metadata = {str(number): "" for number in range(65)}
    assert list(check_metadata(metadata)) == [FieldProblem("metadata", "must have at most 64 keys")]


@pytest.mark.parametrize(
    "metadata", [{"k": "v" * 16 * 1024}, {"k" * 16 * 1024: "v"}, {"a": "ü" * 4096, "b": "ü" * 4096}]
)
def test_metadata_takes_at_most_16_kib(metadata: Mapping[str, str]) -> None:
    expected = [FieldProblem("metadata", "must be at most 16384 bytes of UTF-8 in all")]
    assert list(check_metadata(metadata)) == expected


@pytest.mark.parametrize("metadata", [{"a": "\0"}, {"\0": "a"}, {"a": "\ud800"}, {"\udfff": "a"}])
def test_metadata_holds_only_what_can_be_stored(metadata: Mapping[str, str]) -> None:
    expected = [FieldProblem("metadata", "must not contain NUL or lone surrogates")]
    assert list(check_metadata(metadata)) == expected


@pytest.mark.parametrize(
    "key", ["a", "0b8a3c1e-6c0f-4d55-9f0e-3d8f0f1c2a77", "with blank", '"quoted"', "a" * 255]
)
def test_a_key_is_printable_ascii(key: str) -> None:
    assert list(check_key(key)) == []


@pytest.mark.parametrize("key", ["", "a" * 256, "a\tb", "a\n", "\x7f", "ü", "\ud800"], ids=ascii)
def test_any_other_key_is_refused(key: str) -> None:
    expected = [FieldProblem("Idempotency-Key", "must be 1 to 255 printable ASCII characters")]
    assert list(check_key(key)) == expected


def test_valid_fields_pass() -> None:
    require_valid(check_filename("a"))


def test_all_problems_are_raised_together() -> None:
    with pytest.raises(InvalidRequest) as caught:
        require_valid(check_path("/../a"))
    assert caught.value.errors == (
        FieldProblem("path", "must be relative and use '/'"),
        FieldProblem("path", "must not have empty, '.' or '..' components"),
    )


@pytest.mark.parametrize(
    ("width", "height", "fields"),
    [
        (None, None, []),
        (1, 2**31 - 1, []),
        (1, None, ["width"]),
        (None, 1, ["width"]),
        (0, 1, ["width"]),
        (1, 2**31, ["height"]),
    ],
)
def test_dimensions_come_together_and_can_be_those_of_a_picture(
    width: int | None, height: int | None, fields: list[str]
) -> None:
    asked = BeginUpload(filename="a.png", size=1, width=width, height=height)
    assert [problem.field for problem in asked.problems()] == fields


def test_what_is_asked_for_beyond_the_usual_makes_another_request() -> None:
    usual = BeginUpload(filename="a.png", size=1)
    others = [
        replace(usual, derivatives=False),
        replace(usual, width=1, height=1),
        replace(usual, expected=Digest(DigestName.MD5, b"a" * 16)),
        replace(usual, expected=Digest(DigestName.MD5, b"b" * 16)),
    ]
    assert len({asked.fingerprint() for asked in (usual, *others)}) == 5
    # As it was before there were such members: uploads under way go on after an upgrade.
    assert usual.fingerprint() == "5ef88d0dbe210f55a86f248954a4074c0753492fa51348b31faf7c84967cde3f"
