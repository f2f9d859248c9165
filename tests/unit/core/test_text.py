from haulier.core.text import escaped, is_storable


def test_what_no_encoding_carries_is_written_out() -> None:
    assert escaped("a\0b caf\udce9 \ud83d \udc00 \N{SNOWMAN}") == r"a\x00b caf\xe9 \ud83d \udc00 ☃"


def test_text_with_a_nul_or_half_a_pair_of_surrogates_is_not_stored() -> None:
    assert is_storable("caf\u00e9 \N{SNOWMAN}\n")
    assert not is_storable("a\0b")
    assert not is_storable("a\ud83d")
