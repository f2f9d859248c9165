"""The moving average behind every progress line."""

from math import exp

import pytest

from haulier.core.speed import WINDOW_S, Speed


def test_nothing_yet_is_no_speed() -> None:
    assert Speed.start(100.0).at(100.0) == 0.0
    assert Speed.start(100.0).at(200.0) == 0.0


def test_a_steady_flow_shows_as_what_it_is_from_the_first_seconds() -> None:
    speed = Speed.start(0.0)
    for step in range(1, 2001):
        speed = speed.moved(100, now=step / 100)
        if step in {100, 500, 2000}:
            assert speed.at(step / 100) == pytest.approx(10_000, rel=0.01)


def test_a_stall_fades_by_a_factor_e_each_window() -> None:
    speed = Speed.start(0.0)
    for step in range(1, 10_001):
        speed = speed.moved(100, now=step / 100)
    assert speed.at(100.0 + WINDOW_S) == pytest.approx(speed.at(100.0) * exp(-1))
    assert speed.at(100.0 + 20 * WINDOW_S) < 1


def test_a_clock_that_steps_back_does_no_harm() -> None:
    speed = Speed.start(100.0).moved(1000, now=101.0)
    back = speed.moved(1000, now=50.0)
    assert back.at(50.0) > speed.at(101.0) > 0
    assert back.at(101.0) == pytest.approx(2 * speed.at(101.0))


def test_a_burst_in_the_first_instant_is_not_infinite() -> None:
    assert Speed.start(0.0).moved(1000, now=0.0).at(0.0) == pytest.approx(1000 / 0.1, rel=0.02)
