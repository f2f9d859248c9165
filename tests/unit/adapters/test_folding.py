"""Names that differ only in case or composition are equal."""

import pytest

from haulier.adapters.folding import fold


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Report.PDF", "report.pdf"),
        ("GRÖSSE", "größe"),
        ("Größe", "Gro\u0308ße"),
        ("ΣΑΣ", "σας"),
        ("\u0345\u0301", "\u0301\u0345"),
    ],
)
def test_equal_names_fold_alike(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("o", "ö"), ("a", "b"), ("a", "a ")])
def test_different_names_stay_different(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def test_a_bare_letter_is_no_part_of_its_accented_sibling() -> None:
    assert fold("o") not in fold("Gro\u0308ße")
