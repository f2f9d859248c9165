"""The words by which a name is found."""

from haulier.core.words import words_of


def test_words_are_runs_of_letters_and_digits_without_case() -> None:
    assert words_of("01-A_Song (feat. B\u00c9) STRASSE stra\u00dfe") == [
        "01", "a", "song", "feat", "b\u00e9", "strasse", "strasse",
    ]  # fmt: skip


def test_signs_alone_are_no_word() -> None:
    assert words_of(" - %\\. ") == []
