import asyncio
import errno
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from haulier.adapters.disk import DiskSink
from haulier.adapters.disk import sink as disk_module
from haulier.adapters.disk.parts import OPEN_ATTEMPTS
from haulier.adapters.disk.threads import CALLS_TO_RETURN, DiskThreads
from haulier.adapters.disk.writer import DiskTools, PartWriter
from haulier.core.errors import (
    DirectoryNotCreatable,
    StorageFull,
    StorageNotWritable,
    StorageUnavailable,
)
from haulier.ports import RangeBusy
from haulier.testing.byte_sink_contract import put, read_blob, read_part
from tests.support.faulty_calls import Crash, FaultyCalls


@pytest.fixture
def calls() -> FaultyCalls:
    return FaultyCalls()


@pytest.fixture
async def sink(tmp_path: Path, calls: FaultyCalls) -> AsyncIterator[DiskSink]:
    sink = DiskSink(tmp_path / "data", min_free=0, tools=DiskTools(calls=calls))
    await sink.check(None)
    calls.made.clear()
    yield sink
    sink.close()


@pytest.fixture
async def slow_sink(tmp_path: Path, calls: FaultyCalls) -> AsyncIterator[DiskSink]:
    """A sink whose disk has just taken a second for a look."""
    seconds = itertools.count()
    tools = DiskTools(calls=calls, threads=DiskThreads(timer=lambda: float(next(seconds))))
    sink = DiskSink(tmp_path / "data", min_free=0, tools=tools)
    await sink.check(None)
    calls.made.clear()
    yield sink
    sink.close()


@pytest.fixture
def data(tmp_path: Path, sink: DiskSink) -> Path:
    return tmp_path / "data"


# --- layout ------------------------------------------------------------------------------------------


async def test_blobs_lie_two_directories_deep_and_part_and_blob_are_one_file(
    sink: DiskSink, data: Path
) -> None:
    await put(sink, "part", b"hello")
    await sink.commit("part", "abcdef", size=5)
    blob = data / "objects" / "ab" / "cd" / "abcdef"
    assert blob.read_bytes() == b"hello"
    assert blob.samefile(data / "incoming" / "part")


async def test_other_users_cannot_read_what_is_stored(sink: DiskSink, data: Path) -> None:
    await put(sink, "part", b"hello")
    assert (data / "incoming" / "part").stat().st_mode & 0o077 == 0


async def test_a_prepared_part_has_its_blocks(sink: DiskSink, data: Path) -> None:
    await sink.prepare("part", size=1_000_000)
    assert (data / "incoming" / "part").stat().st_blocks * 512 >= 1_000_000


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS])
async def test_a_file_system_that_cannot_reserve_gets_a_sparse_part(
    sink: DiskSink, data: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("haulier.adapters.disk.system_calls._call", refuse)
    await sink.prepare("part", size=1_000_000)
    state = (data / "incoming" / "part").stat()
    assert (state.st_size, state.st_blocks) == (1_000_000, 0)
    await put(sink, "part", b"end", start=999_997)
    assert await read_part(sink, "part", 999_995, 1_000_000) == b"\0\0end"


@pytest.mark.parametrize("key", ["", "..", "a/b", "/etc/passwd", "a\0b", ".hidden", "ä", "x" * 129, "a\n"])
async def test_what_is_not_a_key_of_ours_is_never_a_path(sink: DiskSink, key: str) -> None:
    with pytest.raises(AssertionError):
        await sink.open(key, 0, None)
    with pytest.raises(AssertionError):
        await sink.stat(key)


async def test_a_symbolic_link_is_never_followed(sink: DiskSink, data: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    (data / "incoming" / "part").symlink_to(outside)
    with pytest.raises(StorageUnavailable):
        await sink.open("part", 0, None)
    with pytest.raises(StorageUnavailable):
        await read_part(sink, "part", 0, 6)
    assert [stray async for stray in sink.parts()] == []
    assert outside.read_bytes() == b"secret"


async def test_files_that_are_not_ours_are_not_listed(sink: DiskSink, data: Path) -> None:
    (data / "incoming" / ".probe-1").touch()
    (data / "incoming" / "a file.txt").touch()
    (data / "incoming" / "folder").mkdir()
    (data / "objects" / "stray").touch()
    assert [stray async for stray in sink.parts()] == []
    assert [stray async for stray in sink.blobs()] == []


# --- room --------------------------------------------------------------------------------------------


async def test_a_size_that_leaves_less_free_than_must_stay_is_refused(tmp_path: Path) -> None:
    state = os.statvfs(tmp_path)
    free = state.f_bavail * state.f_frsize
    sink = DiskSink(tmp_path, min_free=free // 2)
    await sink.check(None)
    for refused in (sink.check(free), sink.prepare("part", size=free), sink.open("part", 0, free)):
        with pytest.raises(StorageFull) as caught:
            await refused
        assert caught.value.needed == free + free // 2
        assert caught.value.available is not None
    assert await sink.extent("part") == 0
    sink.close()


async def test_a_reserved_range_is_opened_on_a_full_disk(tmp_path: Path) -> None:
    roomy, full = DiskSink(tmp_path, min_free=0), DiskSink(tmp_path, min_free=2**62)
    await roomy.prepare("part", size=5)
    await put(full, "part", b"hello")
    with pytest.raises(StorageFull):
        await full.open("part", 0, 6)
    with pytest.raises(StorageFull):
        await full.open("part", 0, None)
    roomy.close()
    full.close()


async def test_a_part_that_has_its_room_is_prepared_again_on_a_full_disk(tmp_path: Path) -> None:
    roomy, full = DiskSink(tmp_path, min_free=0), DiskSink(tmp_path, min_free=2**62)
    await roomy.prepare("part", size=5)
    await full.prepare("part", size=5)
    with pytest.raises(StorageFull):
        await full.prepare("part", size=6)
    roomy.close()
    full.close()


async def test_a_reservation_that_fails_leaves_nothing(
    sink: DiskSink, calls: FaultyCalls, data: Path
) -> None:
    calls.fail("reserve", errno.ENOSPC)
    with pytest.raises(StorageFull) as caught:
        await sink.prepare("part", size=1000)
    assert caught.value.needed == 1000
    assert list((data / "incoming").iterdir()) == []


async def test_a_file_system_that_does_not_answer_is_unavailable(sink: DiskSink, calls: FaultyCalls) -> None:
    calls.fail("free_bytes", errno.EIO)
    with pytest.raises(StorageUnavailable):
        await sink.check(5)
    await sink.check(5)


# --- opening and locks -------------------------------------------------------------------------------


async def test_an_open_that_fails_gives_its_lock_back(sink: DiskSink, calls: FaultyCalls) -> None:
    calls.fail("free_bytes", errno.EIO)
    with pytest.raises(StorageUnavailable):
        await sink.open("part", 0, None)
    await (await sink.open("part", 0, None)).close()


async def test_a_part_that_is_removed_while_it_is_locked_is_made_again(
    sink: DiskSink, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_after_locking(sink, data / "incoming" / "part", monkeypatch, times=OPEN_ATTEMPTS - 1)
    await put(sink, "part", b"hello")
    assert (data / "incoming" / "part").read_bytes() == b"hello"


async def test_a_part_that_is_removed_again_and_again_is_busy(
    sink: DiskSink, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_after_locking(sink, data / "incoming" / "part", monkeypatch, times=OPEN_ATTEMPTS)
    with pytest.raises(RangeBusy):
        await sink.open("part", 0, None)


def remove_after_locking(sink: DiskSink, part: Path, monkeypatch: pytest.MonkeyPatch, *, times: int) -> None:
    """Do what a process does that discards the part between another one's open and lock."""
    locks = sink._tree.tools.locks
    take, left = locks.take, times

    def take_and_remove(descriptor: int, start: int, stop: int | None) -> None:
        nonlocal left
        take(descriptor, start, stop)
        if left:
            left -= 1
            part.unlink()

    monkeypatch.setattr(locks, "take", take_and_remove)


async def test_a_file_system_without_locks_is_unavailable(
    sink: DiskSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.fcntl", refuse)
    with pytest.raises(StorageUnavailable, match="ENOLCK"):
        await sink.open("part", 0, None)


async def test_what_only_looks_or_opens_runs_at_once(tmp_path: Path, calls: FaultyCalls) -> None:
    sink = DiskSink(tmp_path / "data", tools=DiskTools(calls=calls, threads=DiskThreads(timer=lambda: 0.0)))
    await put(sink, "part", b"hello")
    assert await sink.extent("part") == 5
    seen: list[bytes] = []
    await sink.scan("part", 0, 5, lambda piece: seen.append(bytes(piece)))
    assert seen == [b"hello"]
    assert calls.threads("open") == [False, False]
    await sink.commit("part", "abcdef", size=5)
    assert calls.threads("sync") == [True]


async def test_a_slow_disk_is_asked_in_threads_until_it_was_left_alone_for_a_while(
    slow_sink: DiskSink, calls: FaultyCalls
) -> None:
    for _ in range(CALLS_TO_RETURN):
        await slow_sink.check(None)
    assert set(calls.threads("may_write")) == {True}
    calls.made.clear()
    await slow_sink.check(None)
    assert set(calls.threads("may_write")) == {False}


async def test_a_short_file_is_synced_at_once_while_the_device_takes_no_time(
    tmp_path: Path, calls: FaultyCalls
) -> None:
    sink = DiskSink(tmp_path / "data", tools=DiskTools(calls=calls, threads=DiskThreads(timer=lambda: 0.0)))
    await sink.store("abcdef", b"hello")
    assert calls.threads("sync") == [False]
    assert await read_blob(sink, "abcdef", 0, 5) == b"hello"


async def test_a_device_that_takes_time_is_waited_for_in_threads(
    slow_sink: DiskSink, calls: FaultyCalls
) -> None:
    await slow_sink.store("abcdef", b"hello")
    await slow_sink.store("abcdeg", b"world")
    assert calls.threads("sync") == [False, True]


async def test_a_single_long_sync_is_none_of_the_device(tmp_path: Path, calls: FaultyCalls) -> None:
    seconds = iter([0, 0, 1, 2, 3, 4, 5, 6, 7, 8])  # a short one, then as many long ones as it takes
    tools = DiskTools(calls=calls, threads=DiskThreads(timer=lambda: float(next(seconds))))
    sink = DiskSink(tmp_path / "data", min_free=0, tools=tools)
    for number in range(6):
        await sink.store(f"abcde{number}", b"hello")
    assert calls.threads("sync") == [False] * 5 + [True]
    sink.close()


@pytest.mark.parametrize("call", ["pwrite", "sync"])
async def test_a_short_file_that_cannot_be_written_leaves_nothing(
    sink: DiskSink, calls: FaultyCalls, call: str
) -> None:
    calls.fail(call, errno.ENOSPC)
    with pytest.raises(StorageFull):
        await sink.store("abcdef", b"hello")
    assert await sink.stat("abcdef") is None


async def test_directories_that_vanished_are_made_again_for_a_short_file(sink: DiskSink, data: Path) -> None:
    await sink.store("abcdef", b"hello")
    shutil.rmtree(data)
    await sink.store("abcdeg", b"world")
    assert await read_blob(sink, "abcdeg", 0, 5) == b"world"


async def test_a_cancel_in_the_middle_of_an_open_gives_the_lock_back(
    slow_sink: DiskSink, calls: FaultyCalls
) -> None:
    sink = slow_sink
    gate = calls.stall("open")
    opening = asyncio.get_running_loop().create_task(sink.open("part", 0, None))
    await until(lambda: "open" in calls.names())
    opening.cancel()
    await asyncio.sleep(0)
    opening.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await (await sink.open("part", 0, None)).close()


async def test_a_cancel_in_the_middle_of_an_open_that_fails_is_a_cancel(
    slow_sink: DiskSink, calls: FaultyCalls
) -> None:
    gate = calls.stall("open", errno.EIO)
    opening = asyncio.get_running_loop().create_task(slow_sink.open("part", 0, 5))
    await until(lambda: "open" in calls.names())
    opening.cancel()
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await opening


def put_file_in_the_way(path: Path) -> None:
    path.write_text("not a directory")


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - threads have nobody to tell
            await asyncio.sleep(0)


# --- lost and failing --------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["", "incoming", "objects", "lost+found"])
async def test_a_directory_that_vanished_is_made_again_at_the_next_upload(
    sink: DiskSink, data: Path, lost: str
) -> None:
    await put(sink, "before", b"hello")
    await sink.commit("before", "blob1", size=5)
    shutil.rmtree(data / lost)
    await sink.prepare("part", size=5)
    await put(sink, "part", b"hello")
    await sink.commit("part", "blob2", size=5)
    assert await read_blob(sink, "blob2", 0, 5) == b"hello"
    assert (data / lost).stat().st_mode & 0o777 == 0o755


async def test_a_directory_that_vanishes_behind_the_check_is_made_again(
    sink: DiskSink, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink._tree, "require_writable", lambda: shutil.rmtree(data))
    await put(sink, "part", b"hello")
    assert await read_part(sink, "part", 0, 5) == b"hello"


async def test_an_object_directory_that_vanished_is_made_again(sink: DiskSink, data: Path) -> None:
    for key in ("blob1", "blob2"):
        await put(sink, key, b"hello")
        await sink.commit(key, key, size=5)
        await put(sink, f"{key}-next", b"hello")
        shutil.rmtree(data / "objects")
        await sink.commit(f"{key}-next", key, size=5)
        shutil.rmtree(data / "objects")
    await put(sink, "part", b"hello")
    await sink.commit("part", "blob3", size=5)
    assert [stray.key async for stray in sink.blobs()] == ["blob3"]


async def test_a_chunked_part_that_vanished_is_never_taken_for_whole(sink: DiskSink, data: Path) -> None:
    await sink.prepare("part", size=12)
    await put(sink, "part", b"4444", start=4)
    shutil.rmtree(data)
    await put(sink, "part", b"0000", start=0)
    with pytest.raises(StorageUnavailable):
        await sink.open("part", 8, 12)
    with pytest.raises(StorageUnavailable):
        await sink.commit("part", "blob", size=12)


async def test_a_directory_that_cannot_be_made_is_an_error_of_its_own(sink: DiskSink, data: Path) -> None:
    shutil.rmtree(data)
    put_file_in_the_way(data)
    for attempt in (sink.check(None), sink.prepare("part", size=5), sink.open("part", 0, None)):
        with pytest.raises(DirectoryNotCreatable) as caught:
            await attempt
        assert caught.value.directory == str(data)


async def test_a_tree_that_leads_elsewhere_is_not_followed(
    sink: DiskSink, data: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(data / "objects")
    shutil.rmtree(data / "lost+found")
    (data / "objects").symlink_to(elsewhere)
    with pytest.raises(DirectoryNotCreatable, match="outside"):
        await sink.check(None)
    assert list(elsewhere.iterdir()) == []


async def test_a_directory_that_refuses_files_is_named(
    sink: DiskSink, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FaultyCalls, "may_write", lambda _, path: path.name != "objects")
    for attempt in (sink.check(None), sink.open("part", 0, None), sink.prepare("part", size=5)):
        with pytest.raises(StorageNotWritable) as caught:
            await attempt
        assert caught.value.directory == str(data / "objects")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.EACCES, StorageNotWritable),
        (errno.EPERM, StorageNotWritable),
        (errno.EROFS, StorageNotWritable),
        (errno.ENOSPC, StorageFull),
        (errno.EMFILE, StorageUnavailable),
        (errno.EIO, StorageUnavailable),
    ],
)
async def test_an_open_that_the_system_refuses_says_why(
    sink: DiskSink, calls: FaultyCalls, code: int, expected: type[Exception]
) -> None:
    calls.fail("open", code)
    with pytest.raises(expected):
        await sink.open("part", 0, None)
    await (await sink.open("part", 0, None)).close()


async def test_every_operation_translates_a_failing_disk(sink: DiskSink, calls: FaultyCalls) -> None:
    await put(sink, "part", b"hello")
    await sink.commit("part", "blob", size=5)
    await put(sink, "other", b"hello")
    for operation, attempt in (
        ("unlink", lambda: sink.discard("part")),
        ("unlink", lambda: sink.delete("blob")),
        ("truncate", lambda: sink.truncate("other", 3)),
        ("open", lambda: read_part(sink, "other", 0, 5)),
        ("preadv", lambda: read_part(sink, "other", 0, 5)),
        ("open", lambda: read_blob(sink, "blob", 0, 5)),
        ("preadv", lambda: read_blob(sink, "blob", 0, 5)),
        ("link", lambda: sink.set_aside_part("other")),
        ("link", lambda: sink.commit("other", "blob2", size=5)),
        ("sync_directory", lambda: sink.commit("other", "blob3", size=5)),
    ):
        calls.fail(operation, errno.EIO)
        with pytest.raises(StorageUnavailable, match="EIO"):
            await attempt()
    assert await read_blob(sink, "blob", 0, 5) == b"hello"
    await sink.discard("part")


async def test_a_state_that_cannot_be_read_is_not_taken_for_missing(
    sink: DiskSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(StorageUnavailable):
        await sink.extent("part")
    with pytest.raises(StorageUnavailable):
        await sink.stat("blob")


async def test_a_listing_that_cannot_be_read_is_not_taken_for_empty(sink: DiskSink, data: Path) -> None:
    shutil.rmtree(data / "incoming")
    put_file_in_the_way(data / "incoming")
    with pytest.raises(StorageUnavailable):
        [stray async for stray in sink.parts()]


async def test_a_listing_of_nothing_is_empty(tmp_path: Path) -> None:
    sink = DiskSink(tmp_path / "nowhere")
    assert [stray async for stray in sink.parts()] == []
    assert [stray async for stray in sink.blobs()] == []
    sink.close()


async def test_a_file_that_vanishes_while_it_is_listed_is_left_out(
    sink: DiskSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(sink, "part", b"hello")
    monkeypatch.setattr("haulier.adapters.disk.tree.stat_or_none", lambda _: None)
    assert [stray async for stray in sink.parts()] == []


# --- commit ------------------------------------------------------------------------------------------


async def test_a_commit_syncs_the_bytes_then_links_then_syncs_the_way_to_them(
    sink: DiskSink, calls: FaultyCalls
) -> None:
    await put(sink, "part", b"hello")
    calls.made.clear()
    await sink.commit("part", "abcdef", size=5)
    names = [name for name in calls.names() if name != "make_directory"]
    assert names.index("sync") < names.index("link")
    assert names[-1] == "sync_directory"
    assert names.count("sync_directory") >= 3
    assert all(calls.threads("sync_directory"))


async def test_directories_that_another_process_made_are_synced_too(
    sink: DiskSink, calls: FaultyCalls, data: Path
) -> None:
    # It may have died between making and syncing them.
    (data / "objects" / "ab" / "cd").mkdir(parents=True)
    await put(sink, "part", b"hello")
    calls.made.clear()
    await sink.commit("part", "abcdef", size=5)
    assert calls.names().count("sync_directory") == 3
    await put(sink, "other", b"hello")
    calls.made.clear()
    await sink.commit("other", "abcdxyz", size=5)
    assert calls.names().count("sync_directory") == 1


async def test_a_commit_is_completed_after_a_crash_at_any_point(tmp_path: Path) -> None:
    crashes = 0
    for number in range(100):
        root = tmp_path / str(number)
        await put(DiskSink(root), "part", b"hello")
        calls = FaultyCalls()
        calls.crash_at = number
        try:
            await DiskSink(root, tools=DiskTools(calls=calls)).commit("part", "abcdef", size=5)
        except Crash:
            crashes += 1
        else:
            break
        after = DiskSink(root)
        await after.commit("part", "abcdef", size=5)
        assert await read_blob(after, "abcdef", 0, 5) == b"hello"
        await after.discard("part")
        await after.commit("part", "abcdef", size=5)
        assert [stray.key async for stray in after.blobs()] == ["abcdef"]
        after.close()
    # open, sync, make ab, sync objects, make cd, sync ab, link, sync cd
    assert crashes == 8


async def test_a_part_that_did_not_reach_the_disk_is_set_aside_and_never_committed(
    sink: DiskSink, calls: FaultyCalls, data: Path
) -> None:
    await put(sink, "part", b"hello")
    calls.fail("sync", errno.EIO)
    with pytest.raises(StorageUnavailable, match="set aside"):
        await sink.commit("part", "blob", size=5)
    with pytest.raises(StorageUnavailable):  # though the kernel would now report success
        await sink.commit("part", "blob", size=5)
    assert await sink.stat("blob") is None
    assert (data / "lost+found" / "part").read_bytes() == b"hello"


async def test_a_blob_of_another_size_is_not_ours(sink: DiskSink, data: Path) -> None:
    await put(sink, "part", b"hello")
    (data / "objects" / "bl" / "ob").mkdir(parents=True)
    (data / "objects" / "bl" / "ob" / "blob").write_bytes(b"something else")
    with pytest.raises(StorageUnavailable):
        await sink.commit("part", "blob", size=5)
    assert (data / "objects" / "bl" / "ob" / "blob").read_bytes() == b"something else"


# --- reading -----------------------------------------------------------------------------------------


async def test_a_scan_can_be_cancelled_between_steps(
    sink: DiskSink, calls: FaultyCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "SHORT_SCAN", 0)
    monkeypatch.setattr(disk_module, "SCAN_STEP", 10)
    await put(sink, "part", bytes(100))
    gate = calls.stall("preadv")
    seen: list[int] = []
    scanning = asyncio.get_running_loop().create_task(
        sink.scan("part", 0, 100, lambda piece: seen.append(len(piece)))
    )
    await until(lambda: "preadv" in calls.names())
    scanning.cancel()
    await asyncio.sleep(0)
    assert not scanning.done()  # its thread still reads
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await scanning
    assert seen == [10]


async def test_a_scan_runs_in_worker_threads_into_one_buffer(sink: DiskSink, calls: FaultyCalls) -> None:
    await put(sink, "part", bytes(1024 * 1024))
    buffers: set[int] = set()
    await sink.scan("part", 0, 1024 * 1024, lambda piece: buffers.add(id(memoryview(piece).obj)))
    assert len(buffers) == 1
    assert calls.threads("preadv") == [True] * 4


async def test_a_blob_that_is_cut_while_it_is_read_is_unavailable(sink: DiskSink, data: Path) -> None:
    await put(sink, "part", bytes(2 * 1024 * 1024))
    await sink.commit("part", "blob", size=2 * 1024 * 1024)
    pieces = sink.read("blob", 0, 2 * 1024 * 1024)
    assert len(await anext(pieces)) == 1024 * 1024
    os.truncate(data / "objects" / "bl" / "ob" / "blob", 1024 * 1024)
    with pytest.raises(StorageUnavailable):
        await anext(pieces)


async def test_a_cancelled_reader_closes_its_file(slow_sink: DiskSink, calls: FaultyCalls) -> None:
    sink = slow_sink
    await put(sink, "part", b"hello")
    await sink.commit("part", "blob", size=5)
    before = open_descriptors()
    gate = calls.stall("open")
    reading = asyncio.get_running_loop().create_task(read_blob(sink, "blob", 0, 5))
    await until(lambda: calls.names()[-1] == "open")
    reading.cancel()
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert open_descriptors() == before


async def test_no_descriptor_is_left_behind(sink: DiskSink) -> None:
    before = open_descriptors()
    for number in range(20):
        key = f"part{number}"
        await sink.prepare(key, size=5)
        await put(sink, key, b"hello")
        with pytest.raises(StorageUnavailable):
            await sink.open(key, 6, 7)
        await read_part(sink, key, 0, 5)
        await sink.commit(key, key, size=5)
        await read_blob(sink, key, 0, 5)
        await sink.discard(key)
    assert open_descriptors() == before


# --- setting aside -----------------------------------------------------------------------------------


async def test_what_was_set_aside_is_never_replaced(sink: DiskSink, data: Path) -> None:
    for content in (b"first", b"second", b"third"):
        await put(sink, "part", content)
        await sink.set_aside_part("part")
    found = {path.name: path.read_bytes() for path in (data / "lost+found").iterdir()}
    assert found == {"part": b"first", "part.1": b"second", "part.2": b"third"}


async def test_a_blob_is_set_aside_under_its_key(sink: DiskSink, data: Path) -> None:
    await put(sink, "part", b"hello")
    await sink.commit("part", "blob", size=5)
    shutil.rmtree(data / "lost+found")
    await sink.set_aside_blob("blob")
    assert (data / "lost+found" / "blob").read_bytes() == b"hello"


async def test_a_writer_goes_on_into_a_part_that_was_set_aside(sink: DiskSink, data: Path) -> None:
    writer: PartWriter = await sink.open("part", 0, None)
    await sink.set_aside_part("part")
    writer.write(b"late")
    await writer.close()
    assert (data / "lost+found" / "part").read_bytes() == b"late"
    assert await sink.extent("part") == 0
