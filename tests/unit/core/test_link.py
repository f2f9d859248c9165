"""What a link says, and that nobody else can say it."""

import pytest

from haulier.core.link import Disposition, Link, read_link
from haulier.core.record import AssetKind, RecordId

RECORD = RecordId("019aa0b4-5a3c-7c1e-9d43-0f6a5f3a2b11")
LINK = Link(record=RECORD, kind=AssetKind.DISPLAY, expires_at=1_700_000_000, disposition=Disposition.INLINE)
TEXT = LINK.signed(b"key")


def test_a_link_says_what_it_opens_and_until_when() -> None:
    assert TEXT.startswith(f"{RECORD}.display.1700000000.inline.")
    assert len(TEXT.rpartition(".")[2]) == 43
    assert read_link(TEXT, b"key") == LINK


def test_a_link_is_over_at_its_end_and_not_before() -> None:
    assert [LINK.expired(now) for now in (1_699_999_999.9, 1_700_000_000.0)] == [False, True]


@pytest.mark.parametrize(
    "text",
    [
        "",
        RECORD,
        TEXT[:-1],
        TEXT + "A",
        TEXT + "\n",
        TEXT.replace("1700000000", "1700000001"),
        TEXT.replace("1700000000", "01700000000"),
        TEXT.replace("display", "original"),
        TEXT.replace("display", "everything"),
        TEXT.replace("inline", "attachment"),
        TEXT.replace("inline", "outline"),
        TEXT.replace("019aa0b4", "019aa0b5"),
        TEXT.upper(),
        TEXT.replace("1", "\u0661"),
    ],
)
def test_what_we_did_not_sign_is_no_link(text: str) -> None:
    assert read_link(text, b"key") is None


def test_another_key_ends_all_links() -> None:
    assert read_link(TEXT, b"other") is None
