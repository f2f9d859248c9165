"""Slots under any sequence of events: never too many, never idle while somebody could run, never lost."""

import asyncio
from collections import Counter
from contextlib import suppress

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from haulier.core.errors import ServiceStopping
from haulier.engine.slots import Lease, SlotLimits, Slots

LINES = ("a", "b", "c")
LIMITS = st.builds(
    lambda total, per_line, reserved, own: SlotLimits(
        total=total, per_line=per_line, reserved=min(reserved, max(0, total - 1)), lines=own
    ),
    total=st.integers(0, 4),
    per_line=st.integers(0, 2),
    reserved=st.integers(0, 1),
    own=st.dictionaries(st.sampled_from(LINES), st.integers(0, 3), max_size=2),
)


class SlotMachine(RuleBasedStateMachine):
    @initialize(limits=LIMITS)
    def begin(self, limits: SlotLimits) -> None:
        self.runner = asyncio.Runner()
        self.now = 0.0
        self.limits = limits
        self.lowered = False
        self.closed = False
        self.slots = Slots(limits, lambda: self.now)
        self.leases: list[Lease] = []
        self.waiting: list[tuple[asyncio.Task[Lease], str, bool]] = []

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            for task, _, _ in self.waiting:
                task.cancel()
            self.settle()
            for lease in self.leases:
                lease.release()
            assert self.slots.statistics.held == 0
            self.runner.close()

    def settle(self) -> None:
        """Let everything happen that can, and take the leases of those who got one."""
        self.runner.run(asyncio.sleep(0))
        self.runner.run(asyncio.sleep(0))
        for waiter in list(self.waiting):
            if waiter[0].done():
                self.waiting.remove(waiter)
                with suppress(asyncio.CancelledError, ServiceStopping):
                    self.leases.append(waiter[0].result())

    def fits(self, line: str, small: bool) -> bool:
        """Whether one more may run, counted by hand."""
        all_, of_line = len(self.leases), sum(lease.line == line for lease in self.leases)
        large = sum(not lease.small for lease in self.leases)
        total, own = self.limits.total, self.limits.lines.get(line, self.limits.per_line)
        if own and of_line >= own:
            return False
        return total == 0 or (all_ < total and (small or large < total - self.limits.reserved))

    @rule(line=st.sampled_from(LINES), small=st.booleans())
    def take(self, line: str, small: bool) -> None:
        lease = self.slots.acquire_nowait(line, small=small)
        assert (lease is not None) == (not self.closed and self.fits(line, small))
        if lease is not None:
            self.leases.append(lease)

    @precondition(lambda self: not self.closed)
    @rule(line=st.sampled_from(LINES), small=st.booleans())
    def wait(self, line: str, small: bool) -> None:
        task = self.runner.get_loop().create_task(self.slots.acquire(line, small=small))
        self.waiting.append((task, line, small))
        self.settle()

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), cancel=st.booleans())
    def release(self, data: st.DataObject, cancel: bool) -> None:
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        lease.release()
        lease.release()
        if cancel and self.waiting:
            # Whoever is cancelled in the turn of the loop in which it was granted keeps nothing.
            self.waiting[data.draw(st.integers(0, len(self.waiting) - 1))][0].cancel()
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.waiting[data.draw(st.integers(0, len(self.waiting) - 1))][0].cancel()
        self.settle()

    @rule(limits=LIMITS)
    def change(self, limits: SlotLimits) -> None:
        self.limits, self.lowered = limits, True
        self.slots.change(limits)
        self.settle()

    @rule(seconds=st.sampled_from((1.0, 901.0)))
    def sweep(self, seconds: float) -> None:
        self.now += seconds
        self.slots.sweep()

    @rule()
    def close(self) -> None:
        self.closed = True
        self.slots.close()
        self.settle()
        assert not self.waiting

    @invariant()
    def what_is_held_is_what_was_given(self) -> None:
        if not hasattr(self, "slots"):
            return
        statistics = self.slots.statistics
        assert statistics.held == len(self.leases)
        assert statistics.waiting == len(self.waiting)
        assert statistics.lines >= len({lease.line for lease in self.leases})
        if not self.lowered:
            lines = Counter(lease.line for lease in self.leases)
            assert not self.limits.total or len(self.leases) <= self.limits.total
            assert all(count <= (self.limits.of_line(name) or count) for name, count in lines.items())

    @invariant()
    def nobody_waits_who_could_run(self) -> None:
        if hasattr(self, "slots") and not self.closed:
            assert not [line for _, line, small in self.waiting if self.fits(line, small)]


TestSlots = SlotMachine.TestCase
