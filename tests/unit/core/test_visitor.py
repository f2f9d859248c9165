"""How long a browser is known."""

from haulier.core.visitor import Visitor

FRESH = Visitor.begin("v1", now=100.0, ttl_s=30.0)


def test_a_new_visitor_lasts_for_its_time_from_now() -> None:
    assert Visitor(id="v1", created_at=100.0, last_seen_at=100.0, expires_at=130.0, principal=None) == FRESH


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
