"""The policy of trying again: growth, jitter, budget, and what the other side asks for."""

import random

import pytest

from haulier.core.retry import MAX_RETRY_AFTER_S, Patience, RetryPolicy, parse_retry_after


def most() -> float:
    return 1.0


def least() -> float:
    return 0.0


def test_bounds_double_up_to_the_cap() -> None:
    policy = RetryPolicy(retries=6, base_s=0.5, cap_s=3.0)
    assert list(policy.delays(most)) == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]


def test_jitter_is_full_it_may_be_no_delay_at_all() -> None:
    assert list(RetryPolicy(retries=3).delays(least)) == [0.0, 0.0, 0.0]


def test_the_first_delay_obeys_the_cap_too() -> None:
    assert list(RetryPolicy(retries=1, base_s=9.0, cap_s=2.0).delays(most)) == [2.0]


def test_equal_seeds_give_equal_delays() -> None:
    policy = RetryPolicy()
    first = list(policy.delays(random.Random(7).random))
    assert first == list(policy.delays(random.Random(7).random))
    assert len(first) == 12


def test_no_retries_means_none() -> None:
    assert Patience(RetryPolicy(retries=0), most).next_delay() is None


def test_the_budget_ends_without_progress() -> None:
    patience = Patience(RetryPolicy(retries=2, base_s=1.0), most)
    assert [patience.next_delay() for _ in range(4)] == [1.0, 2.0, None, None]


def test_progress_starts_the_budget_anew() -> None:
    patience = Patience(RetryPolicy(retries=2, base_s=1.0), most)
    assert [patience.next_delay() for _ in range(3)] == [1.0, 2.0, None]
    patience.progress(10)
    assert [patience.next_delay() for _ in range(3)] == [1.0, 2.0, None]


def test_the_same_mark_again_is_no_progress() -> None:
    patience = Patience(RetryPolicy(retries=2, base_s=1.0), most)
    patience.progress(10)
    assert patience.next_delay() == 1.0
    patience.progress(10)
    assert patience.next_delay() == 2.0


def test_what_the_service_asks_for_is_a_lower_bound() -> None:
    patience = Patience(RetryPolicy(retries=3, base_s=1.0), most)
    assert patience.next_delay(at_least=7.0) == 7.0
    assert patience.next_delay(at_least=0.5) == 2.0


def test_what_the_service_asks_for_is_bounded() -> None:
    assert Patience(RetryPolicy(), most).next_delay(at_least=1e9) == MAX_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0.0),
        ("0", 0.0),
        ("17", 17.0),
        (" 17 ", 17.0),
        ("99999999999999999999", MAX_RETRY_AFTER_S),
        ("-5", 0.0),
        ("1.5", 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("\u0661\u0667", 0.0),
    ],
)
def test_seconds_are_read_and_nonsense_is_no_delay(text: str | None, seconds: float) -> None:
    assert parse_retry_after(text) == seconds


@pytest.mark.parametrize(
    ("text", "date", "seconds"),
    [
        ("Sun, 22 Nov 2026 10:00:30 GMT", "Sun, 22 Nov 2026 10:00:00 GMT", 30.0),
        ("Sun, 22 Nov 2026 09:00:00 GMT", "Sun, 22 Nov 2026 10:00:00 GMT", 0.0),
        ("Mon, 23 Nov 2026 10:00:00 GMT", "Sun, 22 Nov 2026 10:00:00 GMT", MAX_RETRY_AFTER_S),
        ("Sun, 22 Nov 2026 10:00:30 GMT", None, 0.0),
        ("Sun, 22 Nov 2026 10:00:30 GMT", "nonsense", 0.0),
        ("Sun, 22 Nov 99999999999999999999 10:00:30 GMT", "Sun, 22 Nov 2026 10:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2026 10:00:30 GMT", "Sun, 22 Nov 2026 10:00:00 +99999999999999999999", 0.0),
        ("Sun, 22 Nov 2026 10:00:30 -0000", "Sun, 22 Nov 2026 10:00:00 GMT", 0.0),
    ],
)
def test_a_date_counts_from_the_answers_own_date(text: str, date: str | None, seconds: float) -> None:
    assert parse_retry_after(text, date=date) == seconds
