"""Whether acknowledged bytes come fast enough: the rules, on a clock of the test."""

import pytest

from haulier.soulseek.bounds import Bounds
from haulier.soulseek.streaming import Guard, TooSlow

BOUNDS = Bounds(stall_s=60.0, rate_window_s=60.0, minimum_rate=1024)


def test_a_peer_that_takes_nothing_is_left_after_the_bound() -> None:
    guard = Guard(BOUNDS, 1000.0)
    guard.check(0, now=1059.9)
    with pytest.raises(TooSlow, match="no byte moved for 60 s"):
        guard.check(0, now=1060.0)


def test_every_byte_begins_the_bound_anew() -> None:
    guard = Guard(BOUNDS, 0.0)
    guard.check(1_000_000, now=50.0)
    guard.check(1_000_000, now=109.9)
    with pytest.raises(TooSlow, match="no byte"):
        guard.check(1_000_000, now=110.0)


def test_a_trickle_is_left_after_the_window() -> None:
    guard = Guard(BOUNDS, 0.0)
    for second in range(1, 60):
        guard.check(second, now=float(second))
    with pytest.raises(TooSlow, match="less than 1024 bytes a second"):
        guard.check(60, now=60.0)


def test_just_the_minimum_is_enough_for_ever() -> None:
    guard = Guard(BOUNDS, 0.0)
    for second in range(1, 1000):
        guard.check(second * 1024, now=float(second))


def test_a_fast_beginning_does_not_pay_for_a_trickle_later() -> None:
    guard = Guard(BOUNDS, 0.0)
    guard.check(10**9, now=1.0)
    for second in range(2, 61):
        guard.check(10**9 + second, now=float(second))
    with pytest.raises(TooSlow, match="less than"):
        guard.check(10**9 + 62, now=62.0)


def test_how_long_we_kept_the_peer_waiting_is_not_its_slowness() -> None:
    guard = Guard(BOUNDS, 0.0)
    guard.check(1_000_000, now=1.0)
    guard.forgive(3_600.0)
    guard.check(1_000_000, now=3_601.0)
    guard.check(1_000_000, now=3_660.9)
    with pytest.raises(TooSlow, match="no byte moved"):
        guard.check(1_000_000, now=3_661.0)


def test_looking_often_costs_no_memory() -> None:
    guard = Guard(BOUNDS, 0.0)
    for look in range(1, 100_000):
        guard.check(look * 10_000, now=look / 100)
    assert len(guard._samples) < 200


def test_the_bounds_of_every_day_are_those_of_the_design() -> None:
    bounds = Bounds()
    assert (bounds.direct_connect_s, bounds.indirect_connect_s, bounds.response_s, bounds.offset_s) == (
        10,
        20,
        30,
        30,
    )
    assert (bounds.handshake_s, bounds.message_write_s, bounds.stall_s, bounds.linger_s) == (10, 5, 60, 5)
    assert (bounds.minimum_rate, bounds.rate_window_s, bounds.replaced_s) == (1024, 60, 10)
    assert (bounds.connections, bounds.connections_per_address, bounds.messages_per_s) == (1_000, 20, 50)
    assert (bounds.unsent, bounds.unexpected, bounds.search_connections) == (1024 * 1024, 64 * 1024, 20)
    assert (bounds.queued_files_per_user, bounds.queued_bytes_per_user) == (100, 10_000 * 1_000_000)
    assert (bounds.queued_files, bounds.failures_per_day, bounds.offline_s) == (200_000, 10, 7 * 86_400)
    assert (bounds.connect_tries, bounds.ping_s) == (3, 60)
