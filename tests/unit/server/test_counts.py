"""Numbers that one process counts, or several."""

from pathlib import Path

import pytest

from haulier.server.counts import ROOM, Counts, SharedCounts, prepare_counts


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Files for two."""
    prepare_counts(tmp_path / "counts", 2)
    return tmp_path / "counts"


def sums(counts: Counts) -> dict[tuple[str, ...], list[float]]:
    return {name: list(numbers) for name, numbers in counts.sums().items()}


def test_a_name_has_its_numbers_from_zero_and_keeps_them() -> None:
    counts = Counts()
    numbers = counts.of(("a", "x"), 2)
    numbers[1] += 2.5
    assert counts.of(("a", "x"), 2) is numbers
    assert sums(counts) == {("a", "x"): [0.0, 2.5]}


def test_each_finds_the_sums_of_all_at_once(directory: Path) -> None:
    one, two = SharedCounts(directory, 0), SharedCounts(directory, 1)
    both, alone = ("both", "ä\n"), ("alone",)
    one.of(both)[0] += 1
    two.of(alone, 3)[2] += 0.1
    two.of(both)[0] += 2
    one.of(both)[0] += 1
    for each in (one, two):
        assert sums(each) == {both: [4.0], alone: [0.0, 0.0, 0.1]}


def test_the_next_one_in_a_place_goes_on_there(directory: Path) -> None:
    SharedCounts(directory, 0).of(("a",))[0] += 1
    later = SharedCounts(directory, 0)
    later.of(("b",))[0] += 1
    later.of(("a",))[0] += 1
    assert sums(later) == sums(SharedCounts(directory, 1)) == {("a",): [2.0], ("b",): [1.0]}


def test_what_does_not_fit_is_counted_for_this_one_only(directory: Path) -> None:
    one, two = SharedCounts(directory, 0), SharedCounts(directory, 1)
    one.of(("large",), ROOM // 8)[0] += 1
    one.of(("small",))[0] += 1
    assert sums(one)["large",][0] == 1.0
    assert sums(two) == {("small",): [1.0]}
    assert (directory / "0").stat().st_size == ROOM
