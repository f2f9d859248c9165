"""Who goes one after the other: those of one target, and where case does not matter, those that differ in it alone."""

import pytest

from haulier.core.dispatch import Wanted
from haulier.core.transfer import Phase, TransferId
from haulier.engine.send_order import SendOrder
from haulier.engine.slots import SlotLimits, Slots
from haulier.sending_ports import Waiting


def waiting(transfer: str, target: str, phase: Phase = Phase.QUEUED) -> Waiting:
    return Waiting(
        id=TransferId(transfer),
        number=0,
        remote="r",
        target=target,
        phase=phase,
        priority=0,
        size=1,
        queued_at=0.0,
        bumped_at=None,
        wanted=Wanted.RUN,
    )


class Order:
    """Transfers by one letter each."""

    def __init__(self, *, folds: bool) -> None:
        self.asked = 0
        self.folds = folds
        slots = Slots(SlotLimits(total=9, per_line=9, reserved=0), lambda: 0.0)
        self.it = SendOrder(slots, lambda: 0.0, self._folds_case)

    def _folds_case(self, remote: str) -> bool:
        assert remote == "r"
        self.asked += 1
        return self.folds

    def put(self, transfer: str, target: str, phase: Phase = Phase.QUEUED) -> None:
        self.it.put(waiting(transfer, target, phase), due_at=None)

    def started(self) -> str:
        """Start all that may, and return who they were."""
        names = ""
        while (found := self.it.start_next()) is not None:
            names += found[0].key
        return names


def test_targets_that_differ_in_case_go_one_after_the_other_where_they_are_one() -> None:
    order = Order(folds=True)
    for transfer, target in [("a", "Straße"), ("b", "STRASSE"), ("c", "other"), ("d", "strasse")]:
        order.put(transfer, target)
    assert order.started() == "ac"
    order.it.forget(TransferId("a"))
    assert order.started() == "b"
    order.it.forget(TransferId("b"))
    assert order.started() == "d"


def test_they_go_at_once_where_they_are_two_and_those_of_one_target_do_not() -> None:
    order = Order(folds=False)
    for transfer, target in [("a", "x"), ("b", "X"), ("c", "x"), ("d", "X")]:
        order.put(transfer, target)
    assert order.started() == "ab"
    order.it.forget(TransferId("b"))
    assert order.started() == "d"
    order.it.forget(TransferId("a"))
    assert order.started() == "c"


def test_one_that_rests_lets_nobody_of_its_target_pass() -> None:
    order = Order(folds=True)
    order.put("a", "x", Phase.PAUSED)
    order.put("b", "X")
    assert order.started() == ""
    order.put("a", "x")
    assert order.started() == "a"


def test_one_that_is_given_up_in_the_middle_lets_those_behind_it_wait_on() -> None:
    order = Order(folds=True)
    for transfer, target in [("a", "x"), ("b", "X"), ("c", "x")]:
        order.put(transfer, target)
    assert order.started() == "a"
    order.it.forget(TransferId("b"))
    assert order.started() == ""
    order.it.forget(TransferId("a"))
    assert order.started() == "c"


def test_a_remote_that_folds_case_from_now_on_starts_nobody_twice() -> None:
    order = Order(folds=False)
    for transfer, target in [("a", "x"), ("b", "X")]:
        order.put(transfer, target)
    assert order.started() == "ab"
    order.folds = True
    order.it.forget(TransferId("a"))
    assert order.started() == ""


@pytest.mark.parametrize("target", ["x", "y"])
def test_no_remote_is_asked_where_none_differ_in_case(target: str) -> None:
    order = Order(folds=True)
    order.put("a", "x")
    order.put("b", target)
    order.started()
    order.it.forget(TransferId("a"))
    assert order.asked == 0
