"""Which buckets an upload draws from."""

import gc

from haulier.adapters.clock import SystemClock
from haulier.soulseek.lanes import Lanes


def test_all_share_one_and_each_user_has_another() -> None:
    lanes = Lanes(SystemClock(), together=1000.0, each=100.0)
    bob, again, carol = lanes("bob"), lanes("bob"), lanes("carol")
    assert bob == again
    assert bob[0] is carol[0]
    assert bob[1] is not carol[1]
    assert [it.piece is not None for it in bob] == [True, True]


def test_without_a_bound_for_each_there_is_only_the_common_one() -> None:
    lanes = Lanes(SystemClock())
    assert [it.piece for it in lanes("bob")] == [None]


def test_users_who_are_gone_cost_nothing() -> None:
    lanes = Lanes(SystemClock(), each=100.0)
    held = lanes("bob")
    for number in range(1000):
        lanes(f"user{number}")
    gc.collect()
    assert len(lanes._users) == 1
    assert lanes("bob")[1] is held[1]
