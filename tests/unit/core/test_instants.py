"""A point in time is told as datetime tells it."""

from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from haulier.core.instants import iso_time, iso_time_finely


def test_a_time_is_told_in_milliseconds_of_utc() -> None:
    assert iso_time(1_795_975_200.0) == "2026-11-29T18:00:00.000Z"


@given(st.floats(min_value=-6e10, max_value=2.5e11))
@example(-5e10)
@example(4132747831.2179995)
@example(1.9999999)
@example(-0.0005)
@example(1e-7)
def test_it_is_cut_where_datetime_cuts_it(seconds: float) -> None:
    expected = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    assert iso_time(seconds) == expected.replace("+00:00", "Z")
    finely = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
    assert iso_time_finely(seconds) == finely.replace("+00:00", "Z")
