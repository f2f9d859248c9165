"""How operators' commands tell times."""

from haulier.cli.administration import moment


def test_a_time_is_told_in_utc() -> None:
    assert moment(1795343867.9, otherwise="never") == "2026-11-22T10:37:47Z"
    assert moment(None, otherwise="never") == "never"


def test_a_time_that_no_calendar_has_is_told_as_none() -> None:
    for seconds in (1e300, float("inf"), 1e12, -1e300):
        assert moment(seconds, otherwise="never") == "never"
