"""What Microsoft Graph's answers say, and what requests say to it."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulier.body.answers import Answer, Headers
from haulier.core.errors import PeerBusy, PeerUnreadable
from haulier.core.outgoing import Checksum, Stored
from haulier.core.quick_xor import QuickXor
from haulier.remotes.onedrive_names import why_forbidden
from haulier.remotes.onedrive_wire import (
    TIMES,
    Item,
    QuickXorSum,
    at,
    drive_of,
    is_taken,
    next_expected,
    numbered,
    time_text,
    told,
    upload_url,
)

DRIVE = "https://graph.example/v1.0/drives/d"
FILE = {
    "id": "i!1",
    "name": "Report.pdf",
    "size": 7,
    "eTag": "e1",
    "cTag": "c1",
    "file": {"hashes": {"quickXorHash": "aGFzaA=="}},
    "fileSystemInfo": {"lastModifiedDateTime": "2026-01-02T03:04:05.1234567Z"},
    "@microsoft.graph.downloadUrl": "https://down.example/x",
}
MADE_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


def said(document: object) -> Answer:
    text = document if isinstance(document, str) else json.dumps(document)
    return Answer(status_code=200, headers=Headers([]), content=text.encode())


class TestItem:
    def test_a_file_is_told_by_the_address_that_anybody_asks_it_at(self) -> None:
        assert Item.read(FILE, DRIVE, "in/report.pdf") == Item(
            stored=Stored(
                name="in/Report.pdf",
                id=f"{DRIVE}/items/i%211",
                size=7,
                etag="e1",
                checksum=Checksum("quickXorHash", "aGFzaA=="),
            ),
            is_file=True,
            mark="i!1 c1",
            modified_at=MADE_AT,
            download="https://down.example/x",
        )

    def test_a_folder_is_none_and_what_is_not_told_is_not_made_up(self) -> None:
        found = Item.read({"id": "f", "folder": {}}, DRIVE, "a/b")
        assert (found.is_file, found.mark, found.modified_at, found.download) == (False, "f ", None, None)
        assert found.stored == Stored(name="a/b", id=f"{DRIVE}/items/f", size=None, etag=None, checksum=None)

    def test_the_name_of_one_at_the_top_has_no_folder(self) -> None:
        assert Item.read(FILE, DRIVE, "report.pdf").stored.name == "Report.pdf"

    @pytest.mark.parametrize(
        ("change", "same"),
        [({"eTag": "e2"}, True), ({"cTag": "c2"}, False), ({"id": "other"}, False), ({"size": 8}, True)],
    )
    def test_another_content_or_item_has_another_mark(self, change: dict[str, object], same: bool) -> None:
        before, after = (Item.read({**FILE, **more}, DRIVE, "a").mark for more in ({}, change))
        assert (before == after) is same

    def test_where_no_ctag_is_told_the_etag_marks(self) -> None:
        plain = {name: value for name, value in FILE.items() if name != "cTag"}
        assert Item.read(plain, DRIVE, "a").mark == "i!1 e1"

    def test_one_without_an_id_cannot_be_read(self) -> None:
        with pytest.raises(KeyError):
            Item.read({"name": "a"}, DRIVE, "a")

    @pytest.mark.parametrize(
        ("off", "same"), [(0.0, True), (0.9, True), (-0.9, True), (1.1, False), (-1.1, False)]
    )
    def test_times_are_the_same_to_a_second(self, off: float, same: bool) -> None:
        assert Item.read(FILE, DRIVE, "a").has_time(MADE_AT + off) is same

    @pytest.mark.parametrize("text", [None, "yesterday", ""])
    def test_a_time_that_cannot_be_read_is_nobodys(self, text: str | None) -> None:
        found = Item.read({**FILE, "fileSystemInfo": {"lastModifiedDateTime": text}}, DRIVE, "a")
        assert not found.has_time(MADE_AT)


class TestTimes:
    @given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
    def test_every_time_can_be_written_and_is_known_again(self, seconds: float) -> None:
        text = time_text(seconds)
        document = {**FILE, "fileSystemInfo": {"lastModifiedDateTime": text}}
        assert Item.read(document, DRIVE, "a").has_time(seconds)

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0.0, "1970-01-01T00:00:00Z"),
            (-1e18, "1601-01-01T00:00:00Z"),
            (1e18, "9999-12-31T23:59:59Z"),
            (MADE_AT + 0.999, "2026-01-02T03:04:05Z"),
        ],
    )
    def test_times_beyond_what_it_knows_are_the_nearest(self, seconds: float, text: str) -> None:
        assert time_text(seconds) == text
        assert TIMES[0] < TIMES[1]


class TestExpected:
    @pytest.mark.parametrize(
        ("ranges", "expected"),
        [
            (["26-"], 26),
            (["26-99"], 26),
            (["100-199", "26-50"], 26),
            ([" 7- "], 7),
            (["26-", "nonsense"], 26),
            ([], None),
            (None, None),
            (["-5"], None),
            (["9" * 19 + "-"], None),
        ],
    )
    def test_the_first_missing_byte_is_read(self, ranges: list[str] | None, expected: int | None) -> None:
        assert next_expected(said({"nextExpectedRanges": ranges})) == expected

    @pytest.mark.parametrize("name", ["NextExpectedRanges", "nextexpectedranges"])
    def test_names_may_be_in_another_case(self, name: str) -> None:
        assert next_expected(said({name: ["5-"]})) == 5

    def test_nothing_says_nothing_and_a_page_is_no_answer(self) -> None:
        assert next_expected(said(" \r\n")) is None
        assert next_expected(said({})) is None
        with pytest.raises(PeerUnreadable):
            next_expected(said("<html>"))


def test_an_answer_may_describe_no_file() -> None:
    assert told(said("  "), DRIVE, "a") is None
    found = told(said(FILE), DRIVE, "a")
    assert found is not None
    assert found.id == f"{DRIVE}/items/i%211"


def test_an_address_of_a_session_is_text() -> None:
    assert upload_url({"UploadUrl": "https://up.example/1"}) == "https://up.example/1"
    with pytest.raises(KeyError):
        upload_url({})
    with pytest.raises(TypeError):
        upload_url({"uploadUrl": 5})


@pytest.mark.parametrize(
    ("status", "detail", "taken"),
    [
        (409, "there is one (nameAlreadyExists)", True),
        (409, "another session (conflict)", False),
        (503, "nameAlreadyExists", False),
    ],
)
def test_a_name_that_is_taken_is_told_from_other_conflicts(status: int, detail: str, taken: bool) -> None:
    assert is_taken(PeerBusy(status, detail)) is taken


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_path_is_one_whatever_is_in_it(name: str) -> None:
    address = at(DRIVE, name)
    assert address.startswith(f"{DRIVE}/root:/")
    assert not set(address[len(DRIVE) :]) & set("?#% ") - {"%"}
    assert address.isascii()


def test_the_drive_of_an_item_is_what_stands_before_it() -> None:
    assert drive_of(f"{DRIVE}/items/i%2Fitems%2F1") == DRIVE
    behind = "https://proxy.example/items/graph/drives/d"
    assert drive_of(f"{behind}/items/i") == behind


@pytest.mark.parametrize(
    ("name", "beside"),
    [("a/report.pdf", "a/report 3.pdf"), ("report", "report 3"), ("a.tar.gz", "a.tar 3.gz"), (".x", ".x 3")],
)
def test_a_number_stands_before_the_ending(name: str, beside: str) -> None:
    assert numbered(name, 3) == beside


@given(st.lists(st.binary(max_size=400), max_size=6))
def test_the_sum_is_of_all_bytes_in_their_order(pieces: list[bytes]) -> None:
    whole, parts = QuickXor(), QuickXorSum()
    whole.update(b"".join(pieces))
    for piece in pieces:
        parts.update(piece)
    assert parts.checksum() == Checksum("quickXorHash", whole.text())


class TestNames:
    @pytest.mark.parametrize(
        ("segment", "reason"),
        [
            ("", "empty"),
            (".", "empty"),
            ("..", "empty"),
            *((f"a{char}b", "it has") for char in '"*:<>?\\|\x00\x1f'),
            (" a", "begins or ends"),
            ("a ", "begins or ends"),
            ("a.", "begins or ends"),
            *(
                (name, "reserved")
                for name in ("CON", "prn", "com0", "LPT9", ".lock", "Desktop.ini", "~$a.docx")
            ),
            ("a_vti_b", "reserved"),
        ],
    )
    def test_what_it_refuses_is_refused_with_the_reason(self, segment: str, reason: str) -> None:
        assert reason in why_forbidden(segment)

    @pytest.mark.parametrize(
        "segment", ["a", "a b", ".hidden", "con.txt", "com10", "console", "a~$", "ü", "a.b.c", "vti_", "#%&"]
    )
    def test_what_it_takes_is_taken(self, segment: str) -> None:
        assert why_forbidden(segment) == ""
