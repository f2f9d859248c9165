"""Ranges against the plainest model there is: a set of bytes."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from haulier.core.ranges import Ranges

END = 60
BOUNDS = st.tuples(st.integers(0, END), st.integers(0, END)).map(sorted).filter(lambda it: it[0] < it[1])


def bytes_of(ranges: Ranges) -> set[int]:
    return {byte for start, stop in ranges for byte in range(start, stop)}


class RangesMachine(RuleBasedStateMachine):
    """Adds and removes at random; after each step all answers are the set's."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges = Ranges()
        self.model: set[int] = set()

    @rule(bounds=BOUNDS)
    def add(self, bounds: list[int]) -> None:
        self.ranges = self.ranges.add(*bounds)
        self.model |= set(range(*bounds))

    @rule(bounds=BOUNDS)
    def remove(self, bounds: list[int]) -> None:
        self.ranges = self.ranges.remove(*bounds)
        self.model -= set(range(*bounds))

    @rule(start=st.integers(0, END), stop=st.integers(0, END))
    def covers(self, start: int, stop: int) -> None:
        assert self.ranges.covers(start, stop) == (set(range(start, stop)) <= self.model)

    @rule(size=st.integers(0, END + 5))
    def missing(self, size: int) -> None:
        gaps = self.ranges.missing(size)
        assert bytes_of(Ranges(gaps)) == set(range(size)) - self.model

    @invariant()
    def the_bytes_are_the_models(self) -> None:
        assert bytes_of(self.ranges) == self.model
        assert self.ranges.total == len(self.model)
        assert bool(self.ranges) == bool(self.model)

    @invariant()
    def the_prefix_ends_at_the_first_missing_byte(self) -> None:
        assert self.ranges.prefix == next(byte for byte in range(END + 2) if byte not in self.model)

    @invariant()
    def there_is_one_way_to_write_a_set(self) -> None:
        assert self.ranges == Ranges.of((byte, byte + 1) for byte in self.model)


TestRanges = RangesMachine.TestCase


@given(st.lists(st.tuples(st.integers(0, 2**63), st.integers(1, 2**40))))
def test_building_at_once_is_adding_one_by_one(parts: list[tuple[int, int]]) -> None:
    pairs = [(start, start + length) for start, length in parts]
    added = Ranges()
    for start, stop in pairs:
        added = added.add(start, stop)
    assert Ranges.of(pairs) == added


@given(st.permutations([(index * 7, index * 7 + 7) for index in range(12)]))
def test_the_order_of_arrival_leaves_no_trace(pairs: list[tuple[int, int]]) -> None:
    ranges = Ranges()
    for start, stop in pairs:
        ranges = ranges.add(start, stop)
    assert ranges.pairs == ((0, 84),)
