"""Secrets do not show themselves, and tokens can be told from other texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulier.core.caller import Caller, Scope
from haulier.core.secret import TOKEN_LENGTH, Secret, hash_token, is_token, make_token
from haulier.core.token import Token


def test_a_secret_shows_only_what_is_asked_for() -> None:
    secret = Secret("hush")
    assert (repr(secret), str(secret), f"{secret}", f"{[secret]}") == ("***", "***", "***", "[***]")
    assert secret.reveal() == "hush"
    assert secret == Secret("hush")


def test_a_token_is_prefix_bytes_and_checksum() -> None:
    token = make_token(bytes(32)).reveal()
    assert token == "hl_" + "A" * 43 + "GQpVrQ"
    assert len(token) == TOKEN_LENGTH == 52


def test_a_token_takes_exactly_256_bits() -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        make_token(bytes(31))


@given(st.binary(min_size=32, max_size=32))
def test_every_token_that_is_made_is_known_as_one(chance: bytes) -> None:
    assert is_token(make_token(chance).reveal())


@given(st.binary(min_size=32, max_size=32), st.integers(3, 51), st.sampled_from("AZaz09-_.=/ \u00e9"))
def test_one_character_changed_is_no_token(chance: bytes, place: int, other: str) -> None:
    token = make_token(chance).reveal()
    changed = token[:place] + other + token[place + 1 :]
    assert is_token(changed) == (changed == token)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hl_",
        "x" * 52,
        "hl_" + "A" * 42 + "=GQpVrQ",
        "hl_" + "!" * 49,
        "HL_" + "A" * 43 + "GQpVrQ",
        "hl_" + "A" * 43 + "GQqVWw",
    ],
)
def test_other_texts_are_no_tokens(text: str) -> None:
    assert not is_token(text)


def test_a_token_is_stored_as_its_sha_256() -> None:
    assert hash_token("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert len(hash_token("\udc80")) == 32


def test_a_token_counts_until_its_end() -> None:
    token = Token(id="t", principal="user:x", scope=Scope.READ, capsule="c", created_at=0.0, expires_at=5.0)
    assert [token.expired(now) for now in (4.9, 5.0)] == [False, True]
    endless = Token(id="t", principal="user:x", scope=Scope.READ, created_at=0.0)
    assert not endless.expired(1e12)
    assert token.caller == Caller(owner="user:x", scope=Scope.READ, capsule="c")
