"""How long a browser is known, by what, and where it is let in."""

import pytest

from haulier.core.access import rights_in
from haulier.core.caller import Caller
from haulier.core.capsule import Capsule, CapsulePolicy
from haulier.core.visitor import Visitor, read_visitor, sign_visitor

SIGNED = sign_visitor("v1", b"key")

FRESH = Visitor.begin("v1", now=100.0, ttl_s=30.0)


def test_a_new_visitor_lasts_for_its_time_from_now() -> None:
    assert Visitor(id="v1", created_at=100.0, last_seen_at=100.0, expires_at=130.0) == FRESH


def test_a_visitor_owns_by_its_id() -> None:
    assert FRESH.owner == "visitor:v1"


def test_a_visitor_ends_at_its_end_and_not_before() -> None:
    assert [FRESH.lives(now=at) for at in (100.0, 129.9, 130.0)] == [True, True, False]


def test_being_seen_moves_the_end() -> None:
    assert FRESH.seen(now=120.0, ttl_s=30.0) == Visitor(
        id="v1", created_at=100.0, last_seen_at=120.0, expires_at=150.0
    )


def test_an_ended_visitor_is_not_extended() -> None:
    assert FRESH.seen(now=130.0, ttl_s=30.0) == FRESH


def test_a_shorter_time_or_a_clock_that_went_back_never_brings_the_end_nearer() -> None:
    assert FRESH.seen(now=90.0, ttl_s=5.0) == FRESH


def test_a_browser_is_known_by_what_was_signed_for_it() -> None:
    assert SIGNED.startswith("v1.")
    assert len(SIGNED) == 3 + 64
    assert read_visitor(SIGNED, b"key") == "v1"


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "v1",
        "v1.",
        "v2" + SIGNED[2:],
        SIGNED[:-1],
        SIGNED + "0",
        SIGNED.upper(),
        "\ud800.é",
        sign_visitor("", b"key"),
    ],
)
def test_what_we_did_not_sign_names_nobody(value: str) -> None:
    assert read_visitor(value, b"key") is None


def test_a_signature_of_another_key_names_nobody() -> None:
    assert read_visitor(SIGNED, b"other") is None


@pytest.mark.parametrize(
    ("owner", "users", "visitors", "admitted"),
    [
        ("visitor:v1", False, True, True),
        ("visitor:v1", True, False, False),
        ("user:x", True, False, True),
        ("user:x", False, True, False),
        ("local", True, True, False),
    ],
)
def test_a_capsule_admits_users_and_visitors_apart(
    owner: str,
    users: bool,
    visitors: bool,
    admitted: bool,
) -> None:
    capsule = Capsule(
        name="c", owner="user:boss", policy=CapsulePolicy(admits_users=users, admits_visitors=visitors)
    )
    rights = rights_in(capsule, None, Caller(owner=owner), operator=False)
    assert rights is not None
    assert (rights.known, rights.writes, rights.reads(owner), rights.reads("user:boss"), rights.rules) == (
        admitted,
        admitted,
        admitted,
        False,
        False,
    )
