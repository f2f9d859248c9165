"""Names between the disk and the wire."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulier.core.errors import ConfigError, InvalidRequest
from haulier.soulseek.codec import text_of
from haulier.soulseek.names import can_be_user, check_share_name, check_text, check_user, escape, spellings


def unescape(part: str) -> str:
    """Return the local name that `escape` made this part of."""
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes.fromhex(match[1].decode()), part.encode())
    return os.fsdecode(raw)


@pytest.mark.parametrize(
    ("local", "virtual"),
    [
        ("plain name.mp3", "plain name.mp3"),
        ("f\u00fcr.mp3", "f\u00fcr.mp3"),
        ("100 % sure.mp3", "100 % sure.mp3"),
        ("back\\slash", "back%5Cslash"),
        ("50%\\", "50%25%5C"),
        (os.fsdecode(b"f\xfcr.mp3"), "f%FCr.mp3"),
        (os.fsdecode(b"100% f\xfcr.mp3"), "100%25 f%FCr.mp3"),
        ("looks%5Clike", "looks%255Clike"),
    ],
)
def test_a_local_name_has_one_virtual_one_and_back(local: str, virtual: str) -> None:
    assert escape(local) == virtual
    assert unescape(virtual) == local


LOCAL = (
    st.binary(min_size=1, max_size=12)
    .filter(lambda raw: b"/" not in raw and b"\0" not in raw)
    .map(os.fsdecode)
)


@given(LOCAL, LOCAL)
def test_no_two_names_become_one(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@given(LOCAL)
def test_a_virtual_name_is_text_without_separators(local: str) -> None:
    escape(local).encode("utf-8")
    assert "\\" not in escape(local)
    assert unescape(escape(local)) == local


def test_a_peer_may_spell_in_the_encoding_of_its_time() -> None:
    assert list(spellings("f\u00fcr")) == ["f\u00fcr", "f\u00c3\u00bcr"]
    assert list(spellings(text_of("f\u00fcr \u20ac".encode("cp1252")))) == [
        "f\u00fcr \u20ac",
        "f\u00fcr \u0080",
    ]
    assert list(spellings(text_of(b"a\x81"))) == ["a\x81"]
    assert list(spellings("plain")) == ["plain"]


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", ".", ".."])
def test_a_share_has_a_name_that_is_one_part_of_a_path(name: str) -> None:
    with pytest.raises(ConfigError):
        check_share_name(name)
    assert check_share_name("Music 2") == "Music 2"


@pytest.mark.parametrize("name", ["", "n" * 257, "\u00fc" * 129, "\ud800"])
def test_what_no_frame_can_carry_is_no_name(name: str) -> None:
    with pytest.raises(InvalidRequest, match="user"):
        check_user(name, own="alice")


def test_nobody_asks_himself() -> None:
    with pytest.raises(InvalidRequest, match="this node itself"):
        check_user("alice", own="alice")


def test_nobody_is_called_nothing_or_has_a_name_of_control_characters() -> None:
    assert [can_be_user(name) for name in ("", "a\n", "\0", "\x7f")] == 4 * [False]
    assert [can_be_user(name) for name in ("a b", "f\u00fcr", "f\udcfcr")] == 3 * [True]


def test_a_name_in_any_encoding_is_one() -> None:
    assert check_user("\u00fc" * 128, own="alice") == "\u00fc" * 128
    assert check_text("file", "f\udcfcr") == "f\udcfcr"
