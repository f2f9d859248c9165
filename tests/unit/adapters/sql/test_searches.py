"""What leads to a name: letters that few of the newest names have."""

from typing import Final

from haulier.adapters.sql.searches import LEAST_GRAMS, MAX_GRAMS, grams_of

PHOTOGRAPHS: Final = [f"img_2026_{number:04}.jpg" for number in range(9000, 9100)]


def test_what_nearly_all_names_have_leads_nowhere() -> None:
    """Neither the year, though it is a number, nor the extension."""
    assert grams_of("2026_0417.jpg", PHOTOGRAPHS) == ["417", "6_0", "_04", "041", "17.", "7.j"]


def test_the_rarest_lead_where_nothing_is_rare() -> None:
    names = ["abcde"] * 3 + ["abcd"] * 4 + ["abc"] * 3
    assert grams_of("abcde", names) == ["cde", "bcd", "abc"]
    assert len(grams_of("abcde", names)) == LEAST_GRAMS


def test_no_more_lead_than_exclude_anything() -> None:
    assert (
        grams_of("a long name of many letters", ["photo.jpg"])
        == sorted({"a long name of many letters"[start : start + 3] for start in range(25)})[:MAX_GRAMS]
    )


def test_names_are_folded_and_short_ones_lead_nowhere() -> None:
    assert grams_of("GRÖ", []) == ["grö"]
    assert list(grams_of("ab", ["ab"])) == []
    assert list(grams_of("a\0b", ["a"])) == []
