"""Answers as values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulier.body.answers import Answer, Headers

NAME = st.text(alphabet="abcXYZ-", min_size=1, max_size=4)


@given(st.lists(st.tuples(NAME, st.text(max_size=5)), max_size=8))
def test_names_are_known_in_any_case_and_values_of_one_name_are_one_list(
    fields: list[tuple[str, str]],
) -> None:
    headers = Headers(fields)
    assert len(headers) == len({name.lower() for name, _ in fields}) == len(list(headers))
    for name, _ in fields:
        wanted = ", ".join(value for other, value in fields if other.lower() == name.lower())
        assert headers[name.upper()] == headers[name.lower()] == wanted
        assert name.swapcase() in headers


def test_one_that_is_not_there_is_missed() -> None:
    assert Headers([]).get("A", "none") == "none"
    with pytest.raises(KeyError):
        Headers([("A", "1")])["B"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_who_names_another_address_sends_us_on(status: int) -> None:
    there = Headers([("Location", "/x")])
    assert Answer(status_code=status, headers=there).is_redirect
    assert not Answer(status_code=status, headers=Headers([])).is_redirect


@pytest.mark.parametrize("status", [201, 300, 304, 404])
def test_others_do_not(status: int) -> None:
    assert not Answer(status_code=status, headers=Headers([("Location", "/x")])).is_redirect


def test_what_is_no_text_is_replaced() -> None:
    assert Answer(status_code=200, headers=Headers([]), content="ü".encode() + b"\xff").text == "ü\ufffd"
