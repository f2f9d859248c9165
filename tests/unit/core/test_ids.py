"""What things are known by."""

import uuid

from haulier.core.ids import uuid4, uuid7


def test_a_uuid_of_chance_is_one_of_version_4_with_all_the_bits_that_it_may_choose() -> None:
    none, all_ = uuid4(0), uuid4(2**128 - 1)
    assert none == "00000000-0000-4000-8000-000000000000"
    assert all_ == "ffffffff-ffff-4fff-bfff-ffffffffffff"
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in (none, all_)} == {(4, uuid.RFC_4122)}


def test_a_uuid_of_a_time_is_the_one_of_the_standard() -> None:
    # RFC 9562, appendix A.6, without its chance.
    assert uuid7(1645557742.0, 0) == "017f22e2-79b0-7000-8000-000000000000"
