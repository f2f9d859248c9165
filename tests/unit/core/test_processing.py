"""What becomes of work on a file, as values."""

from haulier.core.processing import ProcessingFailure


def test_every_failure_has_words_of_its_own_for_people() -> None:
    words = [failure.words for failure in ProcessingFailure]
    assert len(set(words)) == len(words) == 10
    assert all(each.endswith(".") and "_" not in each for each in words)
