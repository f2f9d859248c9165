import pytest

from haulier.core.text import escaped, is_field_name, is_field_value, is_storable


def test_what_no_encoding_carries_is_written_out() -> None:
    assert escaped("a\0b caf\udce9 \ud83d \udc00 \N{SNOWMAN}") == r"a\x00b caf\xe9 \ud83d \udc00 ☃"


def test_text_with_a_nul_or_half_a_pair_of_surrogates_is_not_stored() -> None:
    assert is_storable("caf\u00e9 \N{SNOWMAN}\n")
    assert not is_storable("a\0b")
    assert not is_storable("a\ud83d")


@pytest.mark.parametrize("text", ["Authorization", "X-Key_1", "a"])
def test_what_can_be_the_name_of_a_header(text: str) -> None:
    assert is_field_name(text)


@pytest.mark.parametrize("text", ["", "a b", "a:", "a\n", "ü"])
def test_what_cannot_be_the_name_of_a_header(text: str) -> None:
    assert not is_field_name(text)


@pytest.mark.parametrize("text", ["a", "Basic YTpi", "~!"])
def test_what_a_header_can_say(text: str) -> None:
    assert is_field_value(text)


@pytest.mark.parametrize("text", ["", " a", "a ", "a\n", "a\r\nb: c", "a\tb", "ü", "a\0"])
def test_what_no_header_can_say(text: str) -> None:
    assert not is_field_value(text)
