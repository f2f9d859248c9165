"""What a process of the service asks of its interpreter and its libc."""

import gc
import platform

from haulier.server.http.serving import set_allocator, spare_collector


def test_what_a_service_is_made_of_is_not_gone_through_again() -> None:
    made: list[list[int]] = [[] for _ in range(1000)]
    before = gc.get_freeze_count()
    spare_collector()
    try:
        assert gc.get_freeze_count() - before >= len(made)
        assert gc.get_count()[0] < len(made)
    finally:
        gc.unfreeze()


def test_glibc_reuses_buffers() -> None:
    assert set_allocator() is (platform.libc_ver()[0] == "glibc")
