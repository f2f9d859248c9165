"""The set of received bytes: built, grown, cut, asked."""

import pytest

from haulier.core.ranges import Ranges

GAPPED = Ranges(((0, 10), (20, 30), (40, 50)))


@pytest.mark.parametrize(
    "pairs",
    [
        ((5, 5),),
        ((5, 4),),
        ((-1, 4),),
        ((0, 5), (5, 9)),
        ((0, 5), (4, 9)),
        ((5, 9), (0, 4)),
    ],
    ids=["empty", "backwards", "negative", "touching", "overlapping", "unsorted"],
)
def test_only_sorted_disjoint_ranges_can_be_built(pairs: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="sorted, disjoint and non-empty"):
        Ranges(pairs)


def test_of_takes_any_order_and_merges_what_touches() -> None:
    assert Ranges.of([(20, 30), (0, 5), (5, 10), (8, 12), (25, 26), (7, 7)]).pairs == ((0, 12), (20, 30))


def test_of_nothing_is_empty() -> None:
    assert Ranges.of([]) == Ranges() == Ranges.of([(3, 3), (9, 2)])


def test_it_iterates_over_its_pairs() -> None:
    assert list(GAPPED) == [(0, 10), (20, 30), (40, 50)]


def test_only_the_empty_set_is_false() -> None:
    assert not Ranges()
    assert Ranges(((0, 1),))


def test_equal_sets_are_equal_and_hash_alike() -> None:
    assert Ranges().add(0, 4).add(4, 8) == Ranges(((0, 8),))
    assert len({Ranges().add(0, 8), Ranges.of([(0, 8)])}) == 1


@pytest.mark.parametrize(
    ("pairs", "total", "prefix"),
    [((), 0, 0), (((0, 10),), 10, 10), (((5, 10),), 5, 0), (((0, 10), (20, 30)), 20, 10)],
)
def test_total_counts_bytes_and_prefix_ends_the_first_run(
    pairs: tuple[tuple[int, int], ...], total: int, prefix: int
) -> None:
    ranges = Ranges(pairs)
    assert (ranges.total, ranges.prefix) == (total, prefix)


@pytest.mark.parametrize(
    ("start", "stop", "pairs"),
    [
        (12, 15, ((0, 10), (12, 15), (20, 30), (40, 50))),
        (60, 70, ((0, 10), (20, 30), (40, 50), (60, 70))),
        (10, 15, ((0, 15), (20, 30), (40, 50))),
        (15, 20, ((0, 10), (15, 30), (40, 50))),
        (10, 20, ((0, 30), (40, 50))),
        (5, 45, ((0, 50),)),
        (22, 28, ((0, 10), (20, 30), (40, 50))),
        (0, 99, ((0, 99),)),
    ],
    ids=[
        "apart",
        "behind",
        "touching before",
        "touching after",
        "closing a gap",
        "across",
        "inside",
        "over all",
    ],
)
def test_adding_merges_exactly_what_it_touches(
    start: int, stop: int, pairs: tuple[tuple[int, int], ...]
) -> None:
    assert GAPPED.add(start, stop).pairs == pairs


def test_adding_changes_no_earlier_value() -> None:
    before = Ranges(((0, 4),))
    before.add(4, 8)
    assert before.pairs == ((0, 4),)


@pytest.mark.parametrize(
    ("start", "stop", "pairs"),
    [
        (12, 18, ((0, 10), (20, 30), (40, 50))),
        (22, 28, ((0, 10), (20, 22), (28, 30), (40, 50))),
        (20, 30, ((0, 10), (40, 50))),
        (5, 45, ((0, 5), (45, 50))),
        (0, 50, ()),
        (29, 99, ((0, 10), (20, 29))),
    ],
    ids=["a gap", "inside", "one exactly", "across", "all", "to the end"],
)
def test_removing_cuts_exactly_that(start: int, stop: int, pairs: tuple[tuple[int, int], ...]) -> None:
    assert GAPPED.remove(start, stop).pairs == pairs


@pytest.mark.parametrize(("start", "stop"), [(5, 5), (6, 5), (-1, 5), (25, 25)])
def test_what_is_no_range_is_neither_added_nor_removed(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="not a range"):
        GAPPED.add(start, stop)
    with pytest.raises(ValueError, match="not a range"):
        GAPPED.remove(start, stop)


@pytest.mark.parametrize(
    ("start", "stop", "covered"),
    [
        (0, 10, True),
        (3, 7, True),
        (20, 30, True),
        (0, 11, False),
        (5, 25, False),
        (10, 20, False),
        (19, 30, False),
        (49, 51, False),
        (15, 15, True),
        (16, 15, True),
    ],
)
def test_a_range_is_covered_when_all_of_it_is_there(start: int, stop: int, covered: bool) -> None:
    assert GAPPED.covers(start, stop) is covered


def test_the_empty_set_covers_only_the_empty_range() -> None:
    assert not Ranges().covers(0, 1)
    assert Ranges().covers(0, 0)


@pytest.mark.parametrize(
    ("size", "gaps"),
    [
        (60, ((10, 20), (30, 40), (50, 60))),
        (50, ((10, 20), (30, 40))),
        (45, ((10, 20), (30, 40))),
        (35, ((10, 20), (30, 35))),
        (15, ((10, 15),)),
        (10, ()),
        (0, ()),
    ],
)
def test_missing_are_the_gaps_below_the_size(size: int, gaps: tuple[tuple[int, int], ...]) -> None:
    assert GAPPED.missing(size) == gaps


def test_of_nothing_all_is_missing() -> None:
    assert Ranges().missing(7) == ((0, 7),)
    assert Ranges(((3, 5),)).missing(7) == ((0, 3), (5, 7))


@pytest.mark.parametrize(("size", "pairs"), [(0, ()), (1, ((0, 1),)), (10, ((0, 10),))])
def test_the_first_bytes_are_a_set(size: int, pairs: tuple[tuple[int, int], ...]) -> None:
    assert Ranges.up_to(size).pairs == pairs
