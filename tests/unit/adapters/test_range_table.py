import pytest

from haulier.adapters.range_table import RangeTable
from haulier.ports import RangeBusy


def test_a_released_range_can_be_taken_again() -> None:
    table = RangeTable()
    claim = table.take("file", 0, 10)
    table.release(claim)
    table.take("file", 0, 10)


def test_releasing_twice_frees_nobody_elses_range() -> None:
    table = RangeTable()
    first = table.take("file", 0, 10)
    table.release(first)
    table.take("file", 0, 10)
    table.release(first)
    with pytest.raises(RangeBusy):
        table.take("file", 9, 10)


def test_an_equal_range_of_another_file_is_free() -> None:
    table = RangeTable()
    table.take("file", 0, None)
    table.take("other", 0, None)


def test_releasing_one_range_keeps_the_others() -> None:
    table = RangeTable()
    first = table.take("file", 0, 10)
    table.take("file", 10, 20)
    table.release(first)
    with pytest.raises(RangeBusy):
        table.take("file", 5, 11)


def test_an_empty_range_is_free_inside_a_claimed_one() -> None:
    table = RangeTable()
    table.take("file", 0, 10)
    table.take("file", 5, 5)


def test_a_range_without_end_excludes_everything_behind_its_start() -> None:
    table = RangeTable()
    table.take("file", 100, None)
    table.take("file", 0, 100)
    with pytest.raises(RangeBusy):
        table.take("file", 2**62, 2**62 + 1)
