"""The queue by turns against the plainest one there is: lists, and a simulation for every place."""

import copy

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from haulier.core.rounds import TurnQueue, Waiting

LINES = ("ann", "bob", "cid", "dan")
MIB = 1024 * 1024
SIZES = (0, 1, 5 * MIB, 16 * MIB, 17 * MIB)


class Model:
    """Lists of keys: one a line, and the order of the lines."""

    def __init__(self) -> None:
        self.files: dict[str, list[int]] = {}
        self.order: list[str] = []
        self.arrival: dict[int, int] = {}
        self.favoured: set[str] = set()
        self.held: set[str] = set()
        self.absent: set[str] = set()
        self.in_a_row = 0
        self.first_come = False

    def candidates(self, favoured: bool) -> list[str]:
        fit = [name for name in self.order if name not in self.held and (name in self.favoured) == favoured]
        if self.first_come:
            fit.sort(key=lambda name: self.arrival[self.files[name][0]])
        return fit

    def start(self) -> str | None:
        """The line whose turn it is; counts it."""
        first, others = self.candidates(True), self.candidates(False)
        if first and not (others and self.in_a_row == 3):
            self.in_a_row = min(3, self.in_a_row + 1)
            return first[0]
        if others:
            self.in_a_row = 0
            return others[0]
        return None

    def take_one(self, name: str) -> int:
        key = self.files[name].pop(0)
        if not self.files[name]:
            self.forget(name)
        return key

    def to_the_end(self, name: str) -> None:
        if name in self.files:
            self.order.remove(name)
            self.order.append(name)

    def forget(self, name: str) -> None:
        del self.files[name]
        self.order.remove(name)

    def place(self, key: int, line: str) -> int:
        """Start one after another, all who are not away, until it is that one's turn."""
        world = copy.deepcopy(self)
        world.held = world.absent - {line}
        place = 0
        while True:
            place += 1
            name = world.start()
            assert name is not None
            if world.take_one(name) == key:
                return place
            world.to_the_end(name)


class TurnMachine(RuleBasedStateMachine):
    keys = Bundle("keys")

    @initialize(first_come=st.booleans(), files=st.sampled_from((1, 3, 20)))
    def begin(self, first_come: bool, files: int) -> None:
        self.queue: TurnQueue[int] = TurnQueue(first_come=first_come, bundle_files=files)
        self.files = 1 if first_come else files
        self.model = Model()
        self.model.first_come = first_come
        self.entries: dict[int, Waiting[int]] = {}
        self.last = 0

    @rule(target=keys, line=st.sampled_from(LINES), size=st.sampled_from(SIZES), at_head=st.booleans())
    def add(self, line: str, size: int, at_head: bool) -> int:
        self.last += 1
        key = self.last
        self.entries[key] = Waiting(key=key, line=line, size=size)
        self.queue.add(self.entries[key], at_head=at_head)
        if line not in self.model.files:
            self.model.order.append(line)
        files = self.model.files.setdefault(line, [])
        files.insert(0 if at_head else len(files), key)
        self.model.arrival[key] = -key if at_head else key
        return key

    @rule(key=consumes(keys))
    def remove(self, key: int) -> None:
        found = self.queue.remove(key)
        assert found == self.entries.pop(key, None)
        if found is not None:
            self.model.files[found.line].remove(key)
            if not self.model.files[found.line]:
                self.model.forget(found.line)

    @rule(lines=st.sets(st.sampled_from(LINES)))
    def favour(self, lines: set[str]) -> None:
        self.queue.favour(lines)
        self.model.favoured = lines

    @rule(line=st.sampled_from(LINES), absent=st.booleans())
    def hold(self, line: str, absent: bool) -> None:
        self.queue.hold(line, absent=absent)
        self.model.held.add(line)
        if absent:
            self.model.absent.add(line)

    @rule(line=st.sampled_from(LINES))
    def let_go(self, line: str) -> None:
        self.queue.let_go(line)
        self.model.held.discard(line)
        self.model.absent.discard(line)

    @rule()
    def take(self) -> None:
        name = self.model.start()
        expected: list[int] = []
        size = 0
        while name in self.model.files and len(expected) < self.files:
            size += self.entries[self.model.files[name][0]].size
            if expected and size > 16 * MIB:
                break
            expected.append(self.model.take_one(name))
        if name is not None:
            self.model.to_the_end(name)
        assert [entry.key for entry in self.queue.take()] == expected
        for key in expected:
            del self.entries[key]

    @invariant()
    def places_are_those_of_a_simulation(self) -> None:
        if not hasattr(self, "queue"):
            return
        assert len(self.queue) == len(self.entries)
        for key, entry in self.entries.items():
            assert key in self.queue
            assert self.queue.place(key) == self.model.place(key, entry.line)
        assert self.queue.place(0) is None


TestTurns = TurnMachine.TestCase
