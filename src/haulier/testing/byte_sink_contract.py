"""What every `ByteSink` must do, as tests: derive from the class and give it a sink.

    class TestMySink(ByteSinkContract):
        @pytest.fixture
        def sink(self) -> MySink: ...

Each test is a promise that the engine builds on. A test takes `sink`, `neighbour` where it needs a
second process on the same bytes, and `fail_sync` where the device is to fail. One module although it is long: it is one list of promises.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

import pytest

from haulier.core.digest import Buffer
from haulier.core.errors import StorageError, StorageUnavailable
from haulier.core.quantity import MIB
from haulier.ports import ByteSink, Concatenating, RangeBusy, RangeWriter, Sweeping


class SweepingSink(ByteSink, Sweeping, Protocol):
    """A sink with the optional power to list what it holds."""


async def store(writer: RangeWriter, *pieces: Buffer) -> None:
    """Write as a body does: wait when the sink asks for it."""
    for piece in pieces:
        pending = writer.write(piece)
        if pending is not None:
            await pending


async def put(sink: ByteSink, key: str, data: bytes, *, start: int = 0) -> None:
    """Store `data` at `start` of a part."""
    writer = await sink.open(key, start, start + len(data))
    try:
        await store(writer, data)
        assert await writer.flush(durable=False) == start + len(data)
    finally:
        await writer.close()


async def read_part(sink: ByteSink, key: str, start: int, stop: int) -> bytes:
    """Return a part's bytes, as a scan gives them."""
    found = bytearray()
    await sink.scan(key, start, stop, found.extend)
    return bytes(found)


async def read_blob(sink: ByteSink, blob_key: str, start: int, stop: int) -> bytes:
    """Return a blob's bytes."""
    return b"".join([piece async for piece in sink.read(blob_key, start, stop)])


class _Sinks:
    """The fixtures that a derived class overrides."""

    @pytest.fixture
    def sink(self) -> SweepingSink:
        """Return an empty sink."""
        raise NotImplementedError

    @pytest.fixture
    def neighbour(self, sink: SweepingSink) -> SweepingSink:
        """Return another process's sink on the same bytes."""
        raise NotImplementedError

    @pytest.fixture
    def fail_sync(self, sink: SweepingSink) -> Callable[[], None]:
        """Return what lets the next sync of `sink` fail, and only that one: so a kernel tells it."""
        raise NotImplementedError


class _Writing(_Sinks):
    """Bytes that were written are the bytes that are scanned."""

    async def test_written_pieces_are_scanned_in_order(self, sink: SweepingSink) -> None:
        writer = await sink.open("part", 0, None)
        await store(writer, b"he", bytearray(b"ll"), memoryview(b"o"))
        assert writer.position == 5
        assert await writer.flush(durable=True) == 5
        await writer.close()
        assert await read_part(sink, "part", 0, 5) == b"hello"
        assert await read_part(sink, "part", 1, 4) == b"ell"

    async def test_a_piece_may_be_overwritten_once_it_is_taken(self, sink: SweepingSink) -> None:
        buffer = bytearray(b"first")
        writer = await sink.open("part", 0, None)
        await store(writer, buffer)
        buffer[:] = b"other"
        await store(writer, buffer)
        await writer.close()
        assert await read_part(sink, "part", 0, 10) == b"firstother"

    async def test_an_empty_piece_changes_nothing(self, sink: SweepingSink) -> None:
        writer = await sink.open("part", 0, None)
        await store(writer, b"", b"x", b"")
        assert await writer.flush(durable=False) == 1
        await writer.close()
        assert await sink.extent("part") == 1

    async def test_a_second_writer_goes_on_where_the_first_stopped(self, sink: SweepingSink) -> None:
        await put(sink, "part", b"hello ")
        writer = await sink.open("part", 6, None)
        assert writer.position == 6
        await store(writer, b"world")
        await writer.close()
        assert await read_part(sink, "part", 0, 11) == b"hello world"

    async def test_chunks_of_a_prepared_part_come_in_any_order(self, sink: SweepingSink) -> None:
        await sink.prepare("part", size=10)
        await put(sink, "part", b"89", start=8)
        await put(sink, "part", b"0123", start=0)
        await put(sink, "part", b"4567", start=4)
        assert await read_part(sink, "part", 0, 10) == b"0123456789"

    async def test_parts_do_not_touch_each_other(self, sink: SweepingSink) -> None:
        await asyncio.gather(*(put(sink, f"part{n}", bytes([n]) * 1000) for n in range(20)))
        for n in range(20):
            assert await read_part(sink, f"part{n}", 0, 1000) == bytes([n]) * 1000

    async def test_a_scan_hands_on_every_byte_of_a_big_part(self, sink: SweepingSink) -> None:
        data = bytes(range(256)) * (4 * 1024 + 3)
        await put(sink, "part", data)
        assert await read_part(sink, "part", 5, len(data) - 7) == data[5:-7]

    async def test_a_scan_of_nothing_needs_no_part(self, sink: SweepingSink) -> None:
        assert await read_part(sink, "part", 0, 0) == b""

    async def test_a_scan_past_the_end_is_refused(self, sink: SweepingSink) -> None:
        await put(sink, "part", b"hello")
        with pytest.raises(StorageUnavailable):
            await read_part(sink, "part", 0, 6)
        with pytest.raises(StorageUnavailable):
            await read_part(sink, "missing", 0, 1)

    async def test_what_a_consumer_raises_comes_out_of_the_scan(self, sink: SweepingSink) -> None:
        def refuse(_: Buffer) -> None:
            raise ZeroDivisionError

        await put(sink, "part", b"hello")
        with pytest.raises(ZeroDivisionError):
            await sink.scan("part", 0, 5, refuse)


class _Claims(_Sinks):
    """No two writers of overlapping ranges, in any process."""

    async def test_overlapping_ranges_are_never_claimed_twice(self, sink: SweepingSink) -> None:
        await sink.prepare("part", size=20)
        writer = await sink.open("part", 5, 10)
        for start, stop in ((5, 10), (0, 6), (9, 12), (6, 7), (0, 20), (0, None), (9, None)):
            with pytest.raises(RangeBusy):
                await sink.open("part", start, stop)
        await writer.close()

    async def test_ranges_side_by_side_are_claimed_at_once(self, sink: SweepingSink) -> None:
        await sink.prepare("part", size=15)
        writers = [await sink.open("part", start, start + 5) for start in (5, 0, 10)]
        for writer in writers:
            await store(writer, str(writer.position // 5).encode() * 5)
            await writer.close()
        assert await read_part(sink, "part", 0, 15) == b"000001111122222"

    async def test_an_empty_range_excludes_nobody(self, sink: SweepingSink) -> None:
        empty = await sink.open("part", 0, 0)
        writer = await sink.open("part", 0, None)
        again = await sink.open("part", 0, 0)
        for one in (empty, writer, again):
            await one.close()

    async def test_another_process_is_excluded(self, sink: SweepingSink, neighbour: SweepingSink) -> None:
        writer = await sink.open("part", 0, 10)
        with pytest.raises(RangeBusy):
            await neighbour.open("part", 0, None)
        await writer.close()
        taken = await neighbour.open("part", 0, None)
        await taken.close()

    async def test_a_closed_range_is_free_and_closing_again_harms_nobody(self, sink: SweepingSink) -> None:
        first = await sink.open("part", 0, None)
        await first.close()
        second = await sink.open("part", 0, None)
        await first.close()
        with pytest.raises(RangeBusy):
            await sink.open("part", 0, None)
        await second.close()

    async def test_a_writer_never_leaves_its_range(self, sink: SweepingSink) -> None:
        await sink.prepare("part", size=10)
        writer = await sink.open("part", 0, 5)
        await store(writer, b"0123")
        with pytest.raises(AssertionError):
            await store(writer, b"45")
        await writer.close()
        with pytest.raises(AssertionError):
            await store(writer, b"4")
        assert await read_part(sink, "part", 0, 6) == b"0123\0\0"

    async def test_no_writer_leaves_a_hole(self, sink: SweepingSink) -> None:
        await put(sink, "part", b"hello")
        with pytest.raises(StorageUnavailable):
            await sink.open("part", 6, 10)
        with pytest.raises(StorageUnavailable):
            await sink.open("missing", 1, None)
        writer = await sink.open("part", 0, None)  # the refused ones hold nothing
        await writer.close()

    async def test_a_cancelled_open_claims_nothing(self, sink: SweepingSink) -> None:
        async with asyncio.timeout(10):
            for _ in range(20):
                opening = asyncio.get_running_loop().create_task(sink.open("part", 0, None))
                await asyncio.sleep(0)
                opening.cancel()
                await asyncio.wait([opening])
                if not opening.cancelled():
                    await opening.result().close()
        writer = await sink.open("part", 0, None)
        await writer.close()


class _Sizes(_Sinks):
    """Parts are as long as they were prepared or written."""

    async def test_a_part_that_nobody_made_has_no_extent(self, sink: SweepingSink) -> None:
        assert await sink.extent("part") == 0
        await sink.truncate("part", 0)
        await sink.discard("part")
        assert [stray async for stray in sink.parts()] == []

    async def test_a_growing_part_ends_where_it_was_written(self, sink: SweepingSink) -> None:
        await sink.prepare("part", size=None)
        assert await sink.extent("part") == 0
        await put(sink, "part", b"hello")
        assert await sink.extent("part") == 5

    async def test_a_prepared_part_has_its_size_and_zeros(self, sink: SweepingSink) -> None:
        await sink.prepare("part", size=100_000)
        assert await sink.extent("part") == 100_000
        assert await read_part(sink, "part", 0, 100_000) == bytes(100_000)

    async def test_preparing_again_keeps_what_was_written(self, sink: SweepingSink) -> None:
        await sink.prepare("part", size=10)
        await put(sink, "part", b"hello", start=2)
        await sink.prepare("part", size=10)
        await sink.prepare("part", size=None)
        assert await read_part(sink, "part", 0, 10) == b"\0\0hello\0\0\0"

    async def test_truncating_cuts_the_end_only(self, sink: SweepingSink) -> None:
        await put(sink, "part", b"hello world")
        await sink.truncate("part", 20)
        assert await sink.extent("part") == 11
        await sink.truncate("part", 5)
        assert await sink.extent("part") == 5
        assert await read_part(sink, "part", 0, 5) == b"hello"

    async def test_the_owner_of_a_range_may_truncate_under_it(self, sink: SweepingSink) -> None:
        writer = await sink.open("part", 0, None)
        await store(writer, b"hello world")
        await sink.truncate("part", 5)
        await writer.close()
        assert await sink.extent("part") == 5

    async def test_nobody_truncates_what_another_process_writes(
        self, sink: SweepingSink, neighbour: SweepingSink
    ) -> None:
        writer = await sink.open("part", 0, None)
        await store(writer, b"hello world")
        with pytest.raises(StorageUnavailable):
            await neighbour.truncate("part", 5)
        await writer.close()
        assert await sink.extent("part") == 11

    async def test_checking_keeps_nothing(self, sink: SweepingSink) -> None:
        await sink.check(None)
        await sink.check(MIB)
        assert [stray async for stray in sink.parts()] == []

    async def test_a_size_that_no_disk_has_is_refused_before_a_byte_is_sent(self, sink: SweepingSink) -> None:
        with pytest.raises(StorageError):
            await sink.check(2**62)
        with pytest.raises(StorageError):
            await sink.prepare("part", size=2**62)
        assert await sink.extent("part") == 0


class _Stores(_Sinks):
    """A short content becomes a blob without ever being a part."""

    async def test_a_stored_content_is_a_blob(self, sink: SweepingSink, neighbour: SweepingSink) -> None:
        await sink.store("blob", b"hello")
        assert await neighbour.stat("blob") == 5
        assert await read_blob(neighbour, "blob", 0, 5) == b"hello"
        assert [stray.key async for stray in sink.blobs()] == ["blob"]
        assert [stray async for stray in sink.parts()] == []

    async def test_a_blob_that_is_there_is_never_replaced(self, sink: SweepingSink) -> None:
        await sink.store("blob", b"hello")
        with pytest.raises(StorageUnavailable):
            await sink.store("blob", b"world")
        assert await read_blob(sink, "blob", 0, 5) == b"hello"


class _Commits(_Sinks):
    """A part becomes a blob once, whole, and may be told so again."""

    async def test_a_committed_part_is_a_blob(self, sink: SweepingSink) -> None:
        await put(sink, "part", b"hello")
        assert await sink.stat("blob") is None
        await sink.commit("part", "blob", size=5)
        await sink.discard("part")
        assert await sink.stat("blob") == 5
        assert await read_blob(sink, "blob", 0, 5) == b"hello"
        assert await read_blob(sink, "blob", 1, 3) == b"el"
        assert await read_blob(sink, "blob", 5, 5) == b""

    async def test_a_commit_may_be_repeated(self, sink: SweepingSink, neighbour: SweepingSink) -> None:
        await put(sink, "part", b"hello")
        await sink.commit("part", "blob", size=5)
        await neighbour.commit("part", "blob", size=5)
        await sink.discard("part")
        await neighbour.commit("part", "blob", size=5)
        assert await read_blob(sink, "blob", 0, 5) == b"hello"

    async def test_commits_at_once_make_one_blob(self, sink: SweepingSink) -> None:
        await put(sink, "part", b"hello")
        results = await asyncio.gather(
            *(sink.commit("part", "blob", size=5) for _ in range(10)), return_exceptions=True
        )
        # Whoever meets another one at it may be told to try again.
        assert all(result is None or isinstance(result, RangeBusy | StorageUnavailable) for result in results)
        assert None in results
        assert [stray.key async for stray in sink.blobs()] == ["blob"]

    async def test_an_empty_file_is_committed_without_a_byte(self, sink: SweepingSink) -> None:
        await sink.prepare("prepared", size=0)
        await sink.commit("prepared", "blob1", size=0)
        await sink.commit("untouched", "blob2", size=0)
        for key in ("blob1", "blob2"):
            assert await sink.stat(key) == 0
            assert await read_blob(sink, key, 0, 0) == b""

    async def test_a_short_or_missing_part_is_never_committed(self, sink: SweepingSink) -> None:
        await put(sink, "part", b"hello")
        with pytest.raises(StorageUnavailable):
            await sink.commit("part", "blob", size=6)
        with pytest.raises(StorageUnavailable):
            await sink.commit("missing", "blob", size=1)
        assert await sink.stat("blob") is None

    async def test_a_tail_that_was_never_accepted_is_not_committed(self, sink: SweepingSink) -> None:
        await put(sink, "part", b"hello world")
        await sink.commit("part", "blob", size=5)
        assert await sink.stat("blob") == 5
        assert await read_blob(sink, "blob", 0, 5) == b"hello"

    async def test_a_part_that_is_being_written_is_not_committed(
        self, sink: SweepingSink, neighbour: SweepingSink
    ) -> None:
        await put(sink, "part", b"hello")
        writer = await sink.open("part", 2, 3)
        for one in (sink, neighbour):
            with pytest.raises(RangeBusy):
                await one.commit("part", "blob", size=5)
        await writer.close()
        await neighbour.commit("part", "blob", size=5)

    async def test_a_committed_part_is_never_written_again(self, sink: SweepingSink) -> None:
        await put(sink, "part", b"hello")
        await sink.commit("part", "blob", size=5)
        with pytest.raises(StorageUnavailable):
            await sink.open("part", 0, 5)
        assert await read_blob(sink, "blob", 0, 5) == b"hello"

    async def test_a_part_that_is_whole_or_in_its_blob_is_recovered(self, sink: SweepingSink) -> None:
        await put(sink, "part", b"hello")
        assert await sink.recover("part", "blob", size=5)
        await sink.commit("part", "blob", size=5)
        await sink.discard("part")
        assert await sink.recover("part", "blob", size=5)
        assert await read_part(sink, "part", 0, 5) == b"hello"
        await sink.commit("part", "blob", size=5)
        assert await read_blob(sink, "blob", 0, 5) == b"hello"

    async def test_a_part_that_is_gone_or_short_is_not_recovered(self, sink: SweepingSink) -> None:
        assert not await sink.recover("part", "blob", size=5)
        assert await sink.recover("part", "blob", size=0)
        await put(sink, "part", b"hell")
        assert not await sink.recover("part", "blob", size=5)
        assert await sink.extent("part") == 4

    async def test_a_part_that_is_to_become_no_blob_yet_is_there_or_gone(self, sink: SweepingSink) -> None:
        assert not await sink.recover("part", None, size=5)
        await sink.prepare("part", size=5)
        assert await sink.recover("part", None, size=5)

    async def test_a_blob_is_never_replaced(self, sink: SweepingSink) -> None:
        await put(sink, "first", b"hello")
        await put(sink, "second", b"hello world")
        await sink.commit("first", "blob", size=5)
        with pytest.raises(StorageUnavailable):
            await sink.commit("second", "blob", size=11)
        assert await read_blob(sink, "blob", 0, 5) == b"hello"


class _Blobs(_Sinks):
    """Blobs are read whole, or not at all."""

    async def test_reading_past_a_blobs_end_is_refused(self, sink: SweepingSink) -> None:
        await put(sink, "part", b"hello")
        await sink.commit("part", "blob", size=5)
        with pytest.raises(StorageUnavailable):
            await read_blob(sink, "blob", 0, 6)
        with pytest.raises(StorageUnavailable):
            await read_blob(sink, "missing", 0, 1)
        with pytest.raises(StorageUnavailable):
            await read_blob(sink, "missing", 0, 0)

    async def test_a_big_blob_is_read_whole(self, sink: SweepingSink) -> None:
        data = bytes(range(251)) * 10_007
        await put(sink, "part", data)
        await sink.commit("part", "blob", size=len(data))
        assert await read_blob(sink, "blob", 0, len(data)) == data

    async def test_a_reader_may_leave_early(self, sink: SweepingSink) -> None:
        data = bytes(3 * MIB)
        await put(sink, "part", data)
        await sink.commit("part", "blob", size=len(data))
        pieces = sink.read("blob", 0, len(data))
        assert len(await anext(pieces)) > 0
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()

    async def test_a_deleted_blob_is_gone_and_deleting_again_is_fine(self, sink: SweepingSink) -> None:
        await put(sink, "part", b"hello")
        await sink.commit("part", "blob", size=5)
        await sink.discard("part")
        await sink.delete("blob")
        await sink.delete("blob")
        assert await sink.stat("blob") is None

    async def test_a_discarded_part_is_gone_and_its_blob_stays(self, sink: SweepingSink) -> None:
        await put(sink, "part", b"hello")
        await sink.commit("part", "blob", size=5)
        await sink.discard("part")
        await sink.discard("part")
        assert await sink.extent("part") == 0
        assert await sink.stat("blob") == 5

    async def test_a_part_may_be_discarded_under_its_writer(self, sink: SweepingSink) -> None:
        writer = await sink.open("part", 0, None)
        await store(writer, b"hello")
        await sink.discard("part")
        await writer.close()
        assert await sink.extent("part") == 0


class _Syncs(_Sinks):
    """What a sync failed to store is never said to be stored."""

    async def test_a_writer_flushes_nothing_after_a_durable_flush_that_failed(
        self, sink: SweepingSink, fail_sync: Callable[[], None]
    ) -> None:
        writer = await sink.open("part", 0, None)
        await store(writer, b"hello")
        assert await writer.flush(durable=True) == 5
        await store(writer, b" world")
        fail_sync()
        for durable in (True, True, False):
            with pytest.raises(StorageError):
                await writer.flush(durable=durable)
        with pytest.raises(StorageError):
            await store(writer, b"!")
        await writer.close()

    async def test_what_a_flush_could_not_store_may_be_cut_off_and_sent_again(
        self, sink: SweepingSink, fail_sync: Callable[[], None]
    ) -> None:
        writer = await sink.open("part", 0, None)
        await store(writer, b"hello")
        assert await writer.flush(durable=True) == 5
        await store(writer, b" world")
        fail_sync()
        with pytest.raises(StorageError):
            await writer.flush(durable=True)
        await writer.close()
        await sink.truncate("part", 5)
        again = await sink.open("part", 5, None)
        await store(again, b" again")
        assert await again.flush(durable=True) == 11
        await again.close()
        await sink.commit("part", "blob", size=11)
        assert await read_blob(sink, "blob", 0, 11) == b"hello again"

    async def test_a_chunk_that_a_flush_could_not_store_may_be_written_over(
        self, sink: SweepingSink, fail_sync: Callable[[], None]
    ) -> None:
        await sink.prepare("part", size=10)
        await put(sink, "part", b"01234")
        chunk = await sink.open("part", 5, 10)
        await store(chunk, b"56789")
        fail_sync()
        with pytest.raises(StorageError):
            await chunk.flush(durable=True)
        await chunk.close()
        await put(sink, "part", b"56789", start=5)
        await sink.commit("part", "blob", size=10)
        assert await read_blob(sink, "blob", 0, 10) == b"0123456789"


class _Sweeping(_Sinks):
    """What is held can be listed and set aside."""

    async def test_all_parts_and_blobs_are_listed(self, sink: SweepingSink) -> None:
        for name in ("a", "b", "c"):
            await put(sink, f"part-{name}", b"hello")
            await sink.commit(f"part-{name}", f"{name}blob", size=5)
        await sink.discard("part-a")
        assert sorted([stray.key async for stray in sink.parts()]) == ["part-b", "part-c"]
        assert sorted([stray.key async for stray in sink.blobs()]) == ["ablob", "bblob", "cblob"]
        assert all([stray.modified_at > 1_000_000_000 async for stray in sink.parts()])

    async def test_what_is_set_aside_is_no_part_and_no_blob(self, sink: SweepingSink) -> None:
        await put(sink, "part", b"hello")
        await put(sink, "other", b"world")
        await sink.commit("other", "blob", size=5)
        await sink.discard("other")
        for _ in range(2):
            await sink.set_aside_part("part")
            await sink.set_aside_blob("blob")
        assert [stray async for stray in sink.parts()] == []
        assert [stray async for stray in sink.blobs()] == []
        assert await sink.stat("blob") is None


class _Concatenating(_Sinks):
    """Parts that are put together of others; for sinks that can."""

    async def test_parts_are_put_together_in_order_and_more_than_once(self, sink: SweepingSink) -> None:
        await put(sink, "a", b"hello ")
        await put(sink, "b", b"world")
        await concatenating(sink).concatenate("whole", [("b", 5), ("a", 6), ("b", 5)])
        assert await read_part(sink, "whole", 0, 16) == b"worldhello world"
        assert await sink.extent("whole") == 16
        assert await read_part(sink, "a", 0, 6) == b"hello "

    async def test_big_parts_are_put_together_byte_for_byte(self, sink: SweepingSink) -> None:
        data = bytes(range(256)) * (4 * 1024 + 3)
        await put(sink, "a", data)
        await put(sink, "b", data[:-3])
        await concatenating(sink).concatenate("whole", [("a", len(data)), ("b", len(data) - 3)])
        assert await read_part(sink, "whole", 0, 2 * len(data) - 3) == data + data[:-3]

    async def test_of_each_part_only_that_many_bytes_are_taken(self, sink: SweepingSink) -> None:
        await put(sink, "a", b"hello world")
        await concatenating(sink).concatenate("whole", [("a", 5), ("none", 0)])
        assert await sink.extent("whole") == 5

    async def test_what_the_part_held_before_goes(self, sink: SweepingSink) -> None:
        await put(sink, "a", b"new")
        await put(sink, "whole", b"something longer")
        for _ in range(2):
            await concatenating(sink).concatenate("whole", [("a", 3)])
        assert await sink.extent("whole") == 3
        await sink.commit("whole", "blob", size=3)
        assert await read_blob(sink, "blob", 0, 3) == b"new"

    async def test_a_missing_or_short_part_is_refused(self, sink: SweepingSink) -> None:
        await put(sink, "a", b"hello")
        for parts in ([("none", 1)], [("a", 6)], [("a", 5), ("none", 1)]):
            with pytest.raises(StorageUnavailable):
                await concatenating(sink).concatenate("whole", parts)
            assert await sink.extent("whole") == 0

    async def test_nobody_puts_together_what_somebody_writes(
        self, sink: SweepingSink, neighbour: SweepingSink
    ) -> None:
        await put(sink, "a", b"hello")
        writer = await neighbour.open("whole", 0, None)
        with pytest.raises(RangeBusy):
            await concatenating(sink).concatenate("whole", [("a", 5)])
        await writer.close()
        await concatenating(sink).concatenate("whole", [("a", 5)])
        assert await read_part(sink, "whole", 0, 5) == b"hello"

    async def test_a_committed_part_is_not_put_together_again(self, sink: SweepingSink) -> None:
        await put(sink, "a", b"hello")
        await concatenating(sink).concatenate("whole", [("a", 5)])
        await sink.commit("whole", "blob", size=5)
        with pytest.raises(StorageUnavailable):
            await concatenating(sink).concatenate("whole", [("a", 5)])
        assert await read_blob(sink, "blob", 0, 5) == b"hello"


def concatenating(sink: ByteSink) -> Concatenating:
    """Return the sink, if it has the optional power; else there is nothing to be promised."""
    if not isinstance(sink, Concatenating):
        pytest.skip("this sink does not put parts together")
    return sink


class ByteSinkContract(
    _Writing, _Claims, _Sizes, _Stores, _Commits, _Blobs, _Syncs, _Sweeping, _Concatenating
):
    """The suite; pytest collects it from classes derived from it whose names start with `Test`."""
