"""Heads are counted whether the parser reports them or not."""

import pytest

from haulier.server.http.limits import ConnectionLimits, HeadMeter, HeadTooLarge

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
