"""What a process of the service asks of its interpreter and its libc."""

import gc
import platform

from haulier.server.http.serving import STOPPING_S, StopBudget, Until, set_allocator, spare_collector
from haulier.testing import ManualClock


def test_what_a_service_is_made_of_is_not_gone_through_again() -> None:
    made: list[list[int]] = [[] for _ in range(1000)]
    before, threshold = gc.get_freeze_count(), gc.get_threshold()
    spare_collector()
    try:
        assert gc.get_freeze_count() - before >= len(made)
        assert gc.get_count()[0] < len(made)
        assert gc.get_threshold()[0] > threshold[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)


def test_glibc_reuses_buffers() -> None:
    assert set_allocator() is (platform.libc_ver()[0] == "glibc")


def test_what_one_part_of_a_stop_leaves_of_its_time_the_next_one_has() -> None:
    clock = ManualClock()
    budget = StopBudget(clock.monotonic)
    assert [budget.left_s(until) for until in Until] == [6.0, 8.0, 9.5]
    clock.advance(2.0)
    budget.begin()  # a second time: nothing begins anew
    assert [budget.left_s(until) for until in Until] == [4.0, 6.0, 7.5]
    clock.advance(5.0)
    assert [budget.left_s(until) for until in Until] == [0.0, 1.0, 2.5]
    clock.advance(10.0)
    assert budget.left_s(Until.CLOSED) == 0.0
    assert max(Until) < STOPPING_S
