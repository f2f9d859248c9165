import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from haulier.adapters.disk import DiskSink, write_back
from haulier.adapters.disk.writer import FAST_WRITES_TO_RETURN, DiskTools, PartWriter
from haulier.core.errors import StorageFull, StorageNotWritable, StorageUnavailable
from haulier.ports import RangeBusy
from haulier.testing.byte_sink_contract import put
from tests.support.faulty_calls import FaultyCalls


class Stopwatch:
    """A timer by which every write lasts as long as it is told."""

    def __init__(self) -> None:
        self.write_s = 0.0
        self._now = 0.0

    def __call__(self) -> float:
        self._now += self.write_s
        return self._now


class ShortCalls(FaultyCalls):
    """A disk that takes at most `most` bytes a write."""

    most = 3

    def pwrite(self, descriptor: int, piece: bytes | bytearray | memoryview, offset: int) -> int:
        return os.pwrite(descriptor, piece[: self.most], offset)


@pytest.fixture
def calls() -> FaultyCalls:
    return FaultyCalls()


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
async def sink(tmp_path: Path, calls: FaultyCalls, stopwatch: Stopwatch) -> AsyncIterator[DiskSink]:
    sink = DiskSink(tmp_path, tools=DiskTools(calls=calls, timer=stopwatch))
    yield sink
    sink.close()


@pytest.fixture
async def writer(sink: DiskSink) -> AsyncIterator[PartWriter]:
    writer = await sink.open("part", 0, None)
    yield writer
    await writer.close()


def stored(tmp_path: Path) -> bytes:
    return (tmp_path / "incoming" / "part").read_bytes()


async def store(writer: PartWriter, piece: bytes) -> None:
    pending = writer.write(piece)
    if pending is not None:
        await pending


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def test_fast_writes_stay_on_the_event_loop(writer: PartWriter, calls: FaultyCalls) -> None:
    for _ in range(50):
        assert writer.write(b"x") is None
    assert calls.threads("pwrite") == [False] * 50


async def test_a_slow_write_moves_the_writer_to_threads_until_writes_are_fast_again(
    writer: PartWriter, calls: FaultyCalls, stopwatch: Stopwatch, tmp_path: Path
) -> None:
    stopwatch.write_s = 0.021
    assert writer.write(b"a") is None
    stopwatch.write_s = 0.0
    for _ in range(FAST_WRITES_TO_RETURN - 1):
        pending = writer.write(b"b")
        assert pending is not None
        await pending
    stopwatch.write_s = 0.5
    pending = writer.write(b"c")  # slow again: the count starts anew
    assert pending is not None
    await pending
    stopwatch.write_s = 0.0
    for _ in range(FAST_WRITES_TO_RETURN):
        pending = writer.write(b"d")
        assert pending is not None
        await pending
    assert writer.write(b"e") is None
    assert calls.threads("pwrite") == [False] + [True] * (2 * FAST_WRITES_TO_RETURN) + [False]
    assert (
        stored(tmp_path)
        == b"a" + b"b" * (FAST_WRITES_TO_RETURN - 1) + b"c" + b"d" * FAST_WRITES_TO_RETURN + b"e"
    )


async def test_closing_waits_for_a_write_whose_caller_was_cancelled(
    writer: PartWriter, calls: FaultyCalls, stopwatch: Stopwatch, sink: DiskSink, tmp_path: Path
) -> None:
    stopwatch.write_s = 1.0
    writer.write(b"a")
    gate = calls.stall("pwrite")
    pending = writer.write(b"b")
    assert isinstance(pending, asyncio.Future)
    pending.cancel()
    closing = asyncio.get_running_loop().create_task(writer.close())
    for _ in range(3):
        await asyncio.sleep(0)
        closing.cancel()
    assert not closing.done()
    assert is_open(writer._descriptor)
    with pytest.raises(RangeBusy):
        await sink.open("part", 0, None)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert stored(tmp_path) == b"ab"
    await (await sink.open("part", 0, None)).close()


async def test_flush_counts_a_write_whose_caller_was_cancelled(
    writer: PartWriter, calls: FaultyCalls, stopwatch: Stopwatch
) -> None:
    stopwatch.write_s = 1.0
    writer.write(b"a")
    gate = calls.stall("pwrite")
    pending = writer.write(b"b")
    assert isinstance(pending, asyncio.Future)
    pending.cancel()
    with pytest.raises(AssertionError):
        writer.write(b"c")
    gate.set()
    assert await writer.flush(durable=False) == 2


async def test_short_writes_are_continued(tmp_path: Path) -> None:
    sink = DiskSink(tmp_path, tools=DiskTools(calls=ShortCalls()))
    writer = await sink.open("part", 0, None)
    writer.write(memoryview(b"0123456789"))
    assert writer.position == 10
    await writer.close()
    assert stored(tmp_path) == b"0123456789"
    sink.close()


async def test_a_disk_that_takes_nothing_is_unavailable(tmp_path: Path) -> None:
    calls = ShortCalls()
    calls.most = 0
    sink = DiskSink(tmp_path, tools=DiskTools(calls=calls))
    writer = await sink.open("part", 0, None)
    with pytest.raises(StorageUnavailable):
        writer.write(b"hello")
    await writer.close()
    sink.close()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EFBIG, StorageFull),
        (errno.EIO, StorageUnavailable),
        (errno.ESTALE, StorageUnavailable),
        (errno.EROFS, StorageNotWritable),
    ],
)
@pytest.mark.parametrize("slow", [False, True])
async def test_a_failed_write_says_why_and_leaves_the_writer_usable(
    writer: PartWriter,
    calls: FaultyCalls,
    stopwatch: Stopwatch,
    tmp_path: Path,
    code: int,
    expected: type[Exception],
    slow: bool,
) -> None:
    stopwatch.write_s = 1.0 if slow else 0.0
    assert writer.write(b"he") is None
    calls.fail("pwrite", code)
    with pytest.raises(expected) as caught:
        await store(writer, b"llo")
    assert isinstance(caught.value.__cause__, OSError)
    if isinstance(caught.value, StorageFull):
        assert caught.value.needed == 3
    await store(writer, b"llo")
    assert await writer.flush(durable=True) == 5
    assert stored(tmp_path) == b"hello"


async def test_flush_tells_of_a_thread_write_that_nobody_awaited(
    writer: PartWriter, calls: FaultyCalls, stopwatch: Stopwatch
) -> None:
    stopwatch.write_s = 1.0
    writer.write(b"a")
    calls.fail("pwrite", errno.EIO)
    pending = writer.write(b"b")
    with pytest.raises(StorageUnavailable):
        await writer.flush(durable=False)
    assert isinstance(pending, asyncio.Future)
    with pytest.raises(StorageUnavailable):
        await pending


async def test_a_durable_flush_syncs_the_bytes_and_once_the_name(
    writer: PartWriter, calls: FaultyCalls
) -> None:
    calls.made.clear()
    writer.write(b"a")
    await writer.flush(durable=False)
    assert calls.names() == ["pwrite"]
    await writer.flush(durable=True)
    await writer.flush(durable=True)
    assert calls.names() == ["pwrite", "sync", "sync_directory", "sync"]
    assert calls.threads("sync") == [True, True]


@pytest.mark.parametrize(("code", "expected"), [(errno.EIO, StorageUnavailable), (errno.ENOSPC, StorageFull)])
async def test_a_writer_flushes_nothing_after_a_sync_that_failed(
    writer: PartWriter, calls: FaultyCalls, code: int, expected: type[Exception]
) -> None:
    writer.write(b"a")
    calls.fail("sync", code)  # once, as the kernel says it
    with pytest.raises(expected):
        await writer.flush(durable=True)
    for durable in (True, False):
        with pytest.raises(expected):
            await writer.flush(durable=durable)
    with pytest.raises(expected):
        writer.write(b"b")


async def test_a_name_that_could_not_be_synced_is_synced_by_the_next_flush(
    writer: PartWriter, calls: FaultyCalls
) -> None:
    calls.made.clear()
    writer.write(b"a")
    calls.fail("sync_directory", errno.EIO)
    with pytest.raises(StorageUnavailable):
        await writer.flush(durable=True)
    assert await writer.flush(durable=True) == 1
    assert calls.names() == ["pwrite", "sync", "sync_directory", "sync", "sync_directory"]


@pytest.fixture
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_back, "STEP", 10)


@pytest.mark.usefixtures("_small_steps")
async def test_write_back_is_started_in_a_thread_after_each_step(
    writer: PartWriter, calls: FaultyCalls
) -> None:
    for _ in range(4):
        held = writer.write(b"12345")
        if held is not None:
            await held
        await until_written_back(writer)
    assert calls.names().count("write_back") == 2
    assert calls.threads("write_back") == [True, True]


@pytest.mark.usefixtures("_small_steps")
async def test_the_writers_of_a_part_count_together(sink: DiskSink, calls: FaultyCalls) -> None:
    await sink.prepare("part", size=12)
    first, second = await sink.open("part", 0, 6), await sink.open("part", 6, 12)
    for writer in (first, second):
        writer.write(b"123456")
        await writer.close()
    await until_written_back(second)
    assert calls.names().count("write_back") == 1


@pytest.mark.usefixtures("_small_steps")
async def test_a_write_back_that_still_runs_holds_no_range(sink: DiskSink, calls: FaultyCalls) -> None:
    gate = calls.stall("write_back")
    await sink.prepare("part", size=12)
    writer = await sink.open("part", 0, 12)
    writer.write(b"123456123456")
    await writer.close()
    again = await sink.open("part", 0, 12)
    await again.close()
    commit = asyncio.get_running_loop().create_task(sink.commit("part", "abcdef01", size=12))
    gate.set()
    await commit
    await until_written_back(writer)


@pytest.mark.usefixtures("_small_steps")
async def test_who_is_two_steps_ahead_of_the_disk_waits_for_it(
    writer: PartWriter, calls: FaultyCalls
) -> None:
    gate = calls.stall("write_back")
    assert [writer.write(b"12345") for _ in range(3)] == [None, None, None]
    held = writer.write(b"12345")
    assert held is not None
    gate.set()
    await held
    assert writer.write(b"1") is None
    await until_written_back(writer)
    assert calls.names().count("write_back") == 2


@pytest.mark.usefixtures("_small_steps")
@pytest.mark.parametrize("durable", [False, True])
async def test_a_failed_write_back_is_told_by_every_flush(
    writer: PartWriter, calls: FaultyCalls, durable: bool
) -> None:
    calls.fail("write_back", errno.EIO)
    writer.write(b"1234567890")
    await until_written_back(writer)
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await writer.flush(durable=durable)


@pytest.mark.usefixtures("_small_steps")
async def test_a_failed_write_back_is_told_by_the_next_write(writer: PartWriter, calls: FaultyCalls) -> None:
    calls.fail("write_back", errno.ENOSPC)
    writer.write(b"1234567890")
    await until_written_back(writer)
    with pytest.raises(StorageFull):
        writer.write(b"12345")


@pytest.mark.usefixtures("_small_steps")
async def test_a_part_whose_write_back_failed_is_committed_by_no_process(
    sink: DiskSink, calls: FaultyCalls, tmp_path: Path
) -> None:
    neighbour = DiskSink(tmp_path)
    writer = await sink.open("part", 0, None)
    calls.fail("write_back", errno.EIO)
    writer.write(b"1234567890")
    await until_written_back(writer)
    await writer.close()
    for each in (neighbour, sink):
        with pytest.raises(StorageUnavailable):
            await each.commit("part", "b" * 32, size=10)
        assert not await each.recover("part", "b" * 32, size=10)
    assert (tmp_path / "lost+found" / "part").read_bytes() == b"1234567890"
    neighbour.close()


@pytest.mark.usefixtures("_small_steps")
async def test_a_write_back_that_fails_while_the_part_is_synced_spoils_the_flush_and_the_commit(
    sink: DiskSink, calls: FaultyCalls
) -> None:
    writer = await sink.open("part", 0, None)
    gate = calls.stall("write_back", errno.EIO)  # the kernel tells it, and the sync knows nothing
    writer.write(b"1234567890")
    flush = asyncio.get_running_loop().create_task(writer.flush(durable=True))
    await until_called(calls, "sync")
    gate.set()
    with pytest.raises(StorageUnavailable):
        await flush
    await writer.close()


@pytest.mark.usefixtures("_small_steps")
async def test_a_commit_hears_of_a_write_back_that_fails_meanwhile(
    sink: DiskSink, calls: FaultyCalls
) -> None:
    writer = await sink.open("part", 0, None)
    gate = calls.stall("write_back", errno.EIO)
    writer.write(b"1234567890")
    await writer.close()
    commit = asyncio.get_running_loop().create_task(sink.commit("part", "b" * 32, size=10))
    await until_called(calls, "sync")
    gate.set()
    with pytest.raises(StorageUnavailable) as caught:
        await commit
    assert caught.value.lost
    assert await sink.stat("b" * 32) is None


@pytest.mark.usefixtures("_small_steps")
async def test_a_part_that_cannot_be_set_aside_is_refused_where_that_is_known(
    sink: DiskSink, calls: FaultyCalls
) -> None:
    writer = await sink.open("part", 0, None)
    calls.fail("write_back", errno.EIO)
    calls.fail("link", errno.EIO)
    writer.write(b"1234567890")
    await until_written_back(writer)
    await writer.close()
    with pytest.raises(StorageUnavailable) as caught:
        await sink.commit("part", "b" * 32, size=10)
    assert caught.value.lost
    assert await sink.extent("part") == 0


@pytest.mark.usefixtures("_small_steps")
async def test_a_part_that_was_made_anew_is_not_set_aside_for_the_old_one(
    sink: DiskSink, calls: FaultyCalls
) -> None:
    writer = await sink.open("part", 0, None)
    gate = calls.stall("write_back", errno.EIO)
    writer.write(b"1234567890")
    await sink.discard("part")
    await put(sink, "part", b"new")
    gate.set()
    await until_written_back(writer)
    await writer.close()
    await sink.commit("part", "b" * 32, size=3)


async def test_no_flush_counts_what_went_into_a_part_that_another_process_set_aside(
    writer: PartWriter, tmp_path: Path
) -> None:
    neighbour = DiskSink(tmp_path)
    writer.write(b"a")
    await neighbour.set_aside_part("part")
    with pytest.raises(StorageUnavailable, match="set aside"):
        await writer.flush(durable=False)
    neighbour.close()


async def test_what_is_known_of_parts_that_nobody_writes_is_bounded(
    sink: DiskSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_back, "IDLE_PARTS", 3)
    for number in range(10):
        await put(sink, f"part{number}", b"hello")  # another process may finish and discard it
    assert len(sink._tree.write_backs) == 3
    kept = await sink.open("part9", 0, None)
    for number in range(5):
        await put(sink, f"part{number}", b"hello")
    assert len(sink._tree.write_backs) == 4
    await kept.close()
    assert len(sink._tree.write_backs) == 3


@pytest.mark.usefixtures("_small_steps")
async def test_writers_that_follow_each_other_count_together(sink: DiskSink, calls: FaultyCalls) -> None:
    await sink.prepare("part", size=12)
    await put(sink, "part", b"123456")
    await put(sink, "part", b"123456", start=6)
    await until_written_back(sink._tree.write_backs.take(sink.path_of_part("part")))
    assert calls.names().count("write_back") == 1


async def until_called(calls: FaultyCalls, operation: str) -> None:
    async with asyncio.timeout(60):
        while operation not in calls.names():  # noqa: ASYNC110 - it happens in a thread, which tells nobody
            await asyncio.sleep(0)


async def until_written_back(written: PartWriter | write_back.WriteBack) -> None:
    known = written._write_back if isinstance(written, PartWriter) else written
    running = known._running
    if running is not None:
        await asyncio.wrap_future(running)


async def test_the_file_of_a_discarded_part_is_closed_in_a_thread(sink: DiskSink) -> None:
    writer = await sink.open("part", 0, None)
    writer.write(b"hello")
    await sink.discard("part")
    await writer.close()
    async with asyncio.timeout(60):
        while is_open(writer._descriptor):  # noqa: ASYNC110 - nobody is told of this end
            await asyncio.sleep(0)
