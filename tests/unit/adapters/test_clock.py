import os
import re
import uuid

from haulier.adapters.clock import BLOBS_A_DIRECTORY, SharedClock, SystemClock, SystemIdentifiers
from haulier.core.ids import uuid7
from haulier.testing import ManualClock


async def test_the_system_clock_tells_a_time_after_this_was_written() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0)
    assert clock.now() > 1_750_000_000
    assert clock.monotonic() >= before


class _Set(SharedClock):
    """One whose machine's clock can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 50.0

    def monotonic(self) -> float:
        return self.passed


def test_a_shared_clock_goes_on_from_what_it_was_told_whatever_its_machine_says() -> None:
    clock = _Set()
    assert abs(clock.now() - SystemClock().now()) < 60  # its machine's own, until it is told
    clock.passed = 51.0
    clock.tell(1000.0, at=50.5)
    assert clock.now() == 1000.5
    clock.passed = 61.0
    assert clock.now() == 1010.5
    assert clock.tell(1000.0, at=61.0) == 10.5
    assert clock.now() == 1000.0


def test_session_ids_are_22_url_safe_characters_and_differ() -> None:
    ids = SystemIdentifiers(SystemClock())
    drawn = {ids.session_id() for _ in range(1000)}
    assert len(drawn) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", one) for one in drawn)


def test_blob_keys_are_random_uuids_as_people_write_them() -> None:
    ids = SystemIdentifiers(SystemClock())
    drawn = {ids.blob_key() for _ in range(1000)}
    assert len(drawn) == 1000
    assert all(str(uuid.UUID(one)) == one and uuid.UUID(one).version == 4 for one in drawn)


def test_blob_keys_in_a_row_share_a_directory_and_no_more() -> None:
    ids = SystemIdentifiers(SystemClock())
    runs = [[ids.blob_key() for _ in range(BLOBS_A_DIRECTORY)] for _ in range(4)]
    assert [len({key[:4] for key in run}) for run in runs] == [1, 1, 1, 1]
    assert len({run[0][:4] for run in runs}) > 1
    assert len({key[4:] for run in runs for key in run}) == 4 * BLOBS_A_DIRECTORY


def test_a_process_that_was_forked_makes_other_ids() -> None:
    ids = SystemIdentifiers(SystemClock())
    ids.session_id()  # from here on there is chance that was drawn before
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, ids.session_id().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="ascii") as told:
        others = told.read()
    assert os.waitpid(child, 0)[1] == 0
    assert len(others) == 22
    assert others not in {ids.session_id() for _ in range(1000)}


def test_record_ids_are_uuids_of_version_7_and_carry_their_time() -> None:
    # The example of RFC 9562, appendix A.6: 2022-02-22 19:22:22 UTC.
    ids = SystemIdentifiers(ManualClock(1645557742.0))
    record_id = uuid.UUID(ids.record_id())
    assert (record_id.version, record_id.variant) == (7, uuid.RFC_4122)
    assert str(record_id).startswith("017f22e2-79b0-7000-")


def test_record_ids_sort_by_time_within_a_millisecond() -> None:
    times = [1645557742.0 + microseconds / 1_000_000 for microseconds in range(0, 5000, 5)]
    made = [uuid7(now, chance) for now, chance in zip(times, range(2**62 - 1, 0, -(2**50)), strict=False)]
    assert len(made) == 1000
    assert sorted(made) == made
