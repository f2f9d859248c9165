"""The queue by rank against the plainest one there is: a list, sorted anew for every question."""

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from haulier.core.fairness import Entry, RankedQueue
from haulier.core.values import dataclass

LINES = ("a", "b", "c")
MIB = 1024 * 1024
SIZES = (0, 8 * MIB, 8 * MIB + 1, 1000 * MIB)
PRIORITIES = (-1, 0, 1)


@dataclass
class Waiting:
    """One that waits, as a person would write it down."""

    key: int
    line: str
    priority: int
    size: int
    arrived_at: float
    number: int
    bumped: bool = False

    def turn(self, now: float) -> tuple[float, int, float, int]:
        steps = 0
        while self.arrived_at + (steps + 1) * 600 <= now:
            steps += 1
        kind = 0 if self.bumped else 1 if self.size <= 8 * MIB else 2
        return (-(self.priority + steps), kind, self.arrived_at, self.number)


class QueueMachine(RuleBasedStateMachine):
    """Does anything in any order; after each step every place, and who is next, are the list's."""

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.queue: RankedQueue[int] = RankedQueue()
        self.model: dict[int, Waiting] = {}
        self.now = 10_000
        self.number = 0

    def count(self) -> int:
        self.number += 1
        return self.number

    @rule(
        target=keys,
        line=st.sampled_from(LINES),
        priority=st.sampled_from(PRIORITIES),
        size=st.sampled_from(SIZES),
        ago=st.integers(-700, 2000),
    )
    def add(self, line: str, priority: int, size: int, ago: int) -> int:
        number, arrived_at = self.count(), float(self.now - ago)
        entry = Entry(key=number, line=line, priority=priority, size=size, arrived_at=arrived_at)
        self.queue.add(entry)
        self.model[number] = Waiting(number, line, priority, size, arrived_at, number)
        return number

    @rule(key=consumes(keys))
    def remove(self, key: int) -> None:
        del self.model[key]
        assert self.queue.remove(key) is not None
        assert self.queue.remove(key) is None

    @rule(key=keys)
    def bump(self, key: int) -> None:
        self.queue.bump(key)
        it = self.model[key]
        of_priority = [other for other in self.model.values() if other.priority == it.priority]
        it.arrived_at = min(other.arrived_at for other in of_priority)
        it.number, it.bumped = -self.count(), True

    @rule(seconds=st.integers(0, 900))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    def in_order(self) -> list[Waiting]:
        return sorted(self.model.values(), key=lambda it: it.turn(self.now))

    @invariant()
    def places_are_those_of_the_sorted_list(self) -> None:
        assert len(self.queue) == len(self.model)
        for place, it in enumerate(self.in_order(), start=1):
            assert it.key in self.queue
            assert self.queue.place(it.key, now=self.now) == place

    @rule(lines=st.sets(st.sampled_from((*LINES, "unknown"))), small_only=st.booleans())
    def next_is_the_first_that_may(self, lines: set[str], small_only: bool) -> None:
        fit = (
            it.key for it in self.in_order() if it.line in lines and (it.size <= 8 * MIB or not small_only)
        )
        found = self.queue.next(lines, now=self.now, small_only=small_only)
        assert (None if found is None else found.key) == next(fit, None)

    @rule(key=keys)
    def a_bumped_one_is_the_first_of_its_priority(self, key: int) -> None:
        self.bump(key)
        rivals = [it for it in self.in_order() if it.priority == self.model[key].priority]
        assert rivals[0].key == key


TestQueue = QueueMachine.TestCase
