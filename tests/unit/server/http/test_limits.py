"""Heads are counted whether the parser reports them or not."""

import pytest

from haulier.core.errors import InvalidRequest
from haulier.server.errors import HeadTooLarge, TargetTooLong
from haulier.server.http.limits import BodyMeter, ConnectionLimits, HeadMeter

LIMITS = ConnectionLimits(head_bytes=10, head_fields=2)


def test_fields_and_bytes_are_limited() -> None:
    meter = HeadMeter(LIMITS)
    meter.begin()
    meter.count(5, fields=1)
    meter.count(5, fields=1)
    with pytest.raises(HeadTooLarge):
        meter.count(1)
    meter.begin()
    meter.count(1, fields=2)
    with pytest.raises(HeadTooLarge):
        meter.count(1, fields=1)


def test_a_target_is_limited_by_itself_in_however_many_pieces_it_comes() -> None:
    meter = HeadMeter(ConnectionLimits(target_bytes=20))
    meter.begin()
    meter.count_target(b"/api/uploads", b"?a=45678")
    with pytest.raises(TargetTooLong) as raised:
        meter.count_target(b"/api/uploads?a=45678", b"9")
    assert raised.value.limit == 20
    for before, piece in ((b"", b"/api/files/123456789012"), (b"/api/files/1234567", b"890")):
        with pytest.raises(InvalidRequest) as invalid:
            meter.count_target(before, piece)
        (problem,) = invalid.value.errors
        assert (problem.field, "255 bytes" in problem.reason, "20 bytes" in problem.reason) == (
            "filename",
            True,
            True,
        )


def test_what_is_never_reported_is_limited() -> None:
    meter = HeadMeter(LIMITS)
    meter.fed(10)
    with pytest.raises(HeadTooLarge):
        meter.fed(1)


def test_a_report_starts_the_count_anew() -> None:
    meter = HeadMeter(LIMITS)
    for _ in range(5):
        meter.fed(10)
        meter.reported()
        meter.fed(1000)


def test_a_body_is_judged_by_what_came_in_a_window() -> None:
    meter = BodyMeter(ConnectionLimits(body_speed=10, body_window_s=60))
    meter.begin(100.0, held_s=0.0)
    meter.count(600)
    assert not meter.too_slow(159.9, held_s=0.0)
    assert not meter.too_slow(160.0, held_s=0.0)
    meter.count(599)
    assert not meter.too_slow(219.9, held_s=0.0)
    assert meter.too_slow(220.0, held_s=0.0)


def test_a_long_look_asks_for_as_much_more() -> None:
    meter = BodyMeter(ConnectionLimits(body_speed=10, body_window_s=60))
    meter.begin(0.0, held_s=0.0)
    meter.count(899)
    assert meter.too_slow(90.0, held_s=0.0)


def test_what_we_hold_up_is_not_the_senders_fault() -> None:
    meter = BodyMeter(ConnectionLimits(body_speed=10, body_window_s=60))
    meter.begin(0.0, held_s=5.0)
    assert not meter.too_slow(1000.0, held_s=950.0)
    meter.count(600)
    assert not meter.too_slow(1005.0, held_s=950.0)


def test_no_speed_is_no_limit() -> None:
    meter = BodyMeter(ConnectionLimits(body_speed=0))
    meter.begin(0.0, held_s=0.0)
    assert not meter.too_slow(1e9, held_s=0.0)
