"""The disk sink against real faults: killed processes, full and read-only file systems, foreign users."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from haulier.adapters.disk import DiskSink
from haulier.adapters.disk.directories import prepare_tree
from haulier.core.errors import ConfigError, StorageError, StorageFull, StorageNotWritable, StorageUnavailable
from haulier.ports import RangeBusy, RangeWriter
from haulier.testing.byte_sink_contract import put, read_blob, read_part

MIB = 1024 * 1024

HOLDER = """
import asyncio, sys
from pathlib import Path
from haulier.adapters.disk import DiskSink

async def hold():
    writer = await DiskSink(Path(sys.argv[1]), min_free=0).open("part", 0, 5)
    writer.write(b"hel")
    print("holding", flush=True)
    sys.stdin.read()

asyncio.run(hold())
"""

FOREIGNER = """
import asyncio, os, sys
from pathlib import Path
from haulier.adapters.disk.directories import prepare_tree
from haulier.adapters.disk import DiskSink
from haulier.core.errors import ConfigError, StorageNotWritable

root = Path(sys.argv[1])
prepare_tree(root)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)

def refuse(attempt):
    try:
        asyncio.run(attempt) if asyncio.iscoroutine(attempt) else attempt()
    except (ConfigError, StorageNotWritable) as error:
        print(type(error).__name__)

sink = DiskSink(root, min_free=0)
refuse(sink.check(5))
refuse(sink.prepare("part", size=5))
refuse(sink.open("part", 0, 5))
refuse(lambda: prepare_tree(root))
"""

LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from haulier.adapters.disk import DiskSink
from haulier.core.errors import StorageFull

async def fill():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    sink = DiskSink(Path(sys.argv[1]), min_free=0)
    writer = await sink.open("part", 0, None)
    try:
        for _ in range(20):
            writer.write(bytes(8_000))
    except StorageFull as full:
        print("full at", await writer.flush(durable=True), "lacking", full.needed)
    await writer.close()

asyncio.run(fill())
"""


def require_root() -> None:
    """Mounting is root's; where everything must be tested, lacking it is a failure."""
    if os.geteuid() == 0:
        return
    reason = "only root can mount a small file system or change the user"
    if os.environ.get("CI") == "true":  # noqa: TID251 - asks about the machine, not about a setting of ours
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    require_root()
    place = tmp_path / "small"
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "haulier-test", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        if os.environ.get("CI") == "true":  # noqa: TID251 - as above
            pytest.fail(f"mount: {mount.stderr}", pytrace=False)
        pytest.skip(f"mounting is not allowed here: {mount.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def holder(root: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds bytes 0 to 5 of the part `part` and has written three of them."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            assert "holding" in (line.strip() for line in lines)
            yield process
        finally:
            process.kill()


def run(script: str, root: Path) -> list[str]:
    """Run a script in a process of its own; return the lines it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script, str(root)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def remount(place: Path, mode: str) -> None:
    """Make a file system read-only (`ro`) or writable (`rw`)."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(place)], check=True)


@contextmanager
def another_disk(place: Path) -> Iterator[None]:
    """Have an empty file system where another one was; nothing is made on it meanwhile."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "another", str(place)], check=True)
    try:
        yield
        assert list(place.iterdir()) == []
    finally:
        subprocess.run(["umount", str(place)], check=True)


def child_that_inherits() -> "subprocess.Popen[bytes]":
    """Start a process that gets all descriptors that can be inherited, and waits."""
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)


def fill(writer: RangeWriter) -> None:
    """Write 5 MiB."""
    for _ in range(40):
        writer.write(bytes(range(256)) * 512)


# --- other processes ---------------------------------------------------------------------------------


async def test_a_killed_process_frees_its_ranges_and_its_bytes_are_kept(tmp_path: Path) -> None:
    sink = DiskSink(tmp_path, min_free=0)
    with holder(tmp_path) as process:
        with pytest.raises(RangeBusy):
            await sink.open("part", 3, None)
        beside = await sink.open("part", 0, 0)
        await beside.close()
        process.kill()
        process.wait(30)
        writer = await sink.open("part", 3, 5)
        writer.write(b"lo")
        await writer.close()
    assert await read_part(sink, "part", 0, 5) == b"hello"
    sink.close()


async def test_what_another_process_writes_is_not_cut_and_not_committed(tmp_path: Path) -> None:
    sink = DiskSink(tmp_path, min_free=0)
    with holder(tmp_path):
        with pytest.raises(StorageError):
            await sink.truncate("part", 1)
        with pytest.raises(RangeBusy):
            await sink.commit("part", "blob", size=3)
    await sink.commit("part", "blob", size=3)
    assert await read_blob(sink, "blob", 0, 3) == b"hel"
    sink.close()


async def test_a_child_process_does_not_keep_the_ranges_of_its_parent(tmp_path: Path) -> None:
    sink = DiskSink(tmp_path, min_free=0)
    writer = await sink.open("part", 0, None)
    with child_that_inherits() as child:
        await writer.close()
        await (await sink.open("part", 0, None)).close()
        child.kill()
    sink.close()


# --- full --------------------------------------------------------------------------------------------


async def test_a_full_disk_refuses_before_and_while_bytes_arrive_and_recovers(small_disk: Path) -> None:
    sink = DiskSink(small_disk, min_free=MIB)
    with pytest.raises(StorageFull) as caught:
        await sink.check(4 * MIB)
    assert caught.value.needed == 5 * MIB
    assert caught.value.available is not None
    assert caught.value.available <= 4 * MIB
    with pytest.raises(StorageFull):
        await sink.prepare("part", size=4 * MIB)

    writer = await sink.open("part", 0, None)
    with pytest.raises(StorageFull):
        fill(writer)
    stored = await writer.flush(durable=True)
    assert 3 * MIB < stored <= 4 * MIB
    await writer.close()
    assert await sink.extent("part") == stored
    assert await read_part(sink, "part", stored - 256 - stored % 256, stored - stored % 256) == bytes(
        range(256)
    )

    with pytest.raises(StorageFull):
        await sink.open("part", stored, None)
    await sink.discard("part")
    await put(sink, "part", b"hello")
    await sink.commit("part", "blob", size=5)
    assert await read_blob(sink, "blob", 0, 5) == b"hello"
    sink.close()


async def test_a_reservation_beyond_a_disk_leaves_its_room_free(small_disk: Path) -> None:
    # The check is passed by what `min_free` below zero promises; the file system itself then refuses.
    sink = DiskSink(small_disk, min_free=-(10**9))
    before = os.statvfs(small_disk).f_bavail
    with pytest.raises(StorageFull) as caught:
        await sink.prepare("part", size=100 * MIB)
    assert caught.value.needed == 100 * MIB
    assert await sink.extent("part") == 0
    assert before - os.statvfs(small_disk).f_bavail <= 4  # the directories
    sink.close()


async def test_reserved_bytes_arrive_on_a_disk_that_others_have_filled(small_disk: Path) -> None:
    sink = DiskSink(small_disk, min_free=0)
    await sink.prepare("part", size=2 * MIB)
    with pytest.raises(OSError, match="No space"):
        (small_disk / "other").write_bytes(bytes(3 * MIB))
    await put(sink, "part", bytes(MIB), start=MIB)
    await put(sink, "part", bytes(MIB), start=0)
    sink.close()


async def test_parts_are_not_put_together_where_their_whole_does_not_fit(small_disk: Path) -> None:
    sink = DiskSink(small_disk, min_free=MIB)
    await put(sink, "a", bytes(MIB))
    before = os.statvfs(small_disk).f_bavail
    with pytest.raises(StorageFull):
        await sink.concatenate("whole", [("a", MIB), ("a", MIB), ("a", MIB)])
    assert os.statvfs(small_disk).f_bavail == before
    await sink.concatenate("whole", [("a", MIB)])
    assert await sink.extent("whole") == MIB
    sink.close()


def test_a_limit_on_file_sizes_is_storage_full_and_what_fits_is_kept(tmp_path: Path) -> None:
    assert run(LIMITED, tmp_path)[-1] == "full at 100000 lacking 4000"


# --- refused -----------------------------------------------------------------------------------------


async def test_a_file_system_that_turns_read_only_is_not_writable_and_recovers(small_disk: Path) -> None:
    sink = DiskSink(small_disk, min_free=0)
    await put(sink, "before", b"hello")
    await sink.commit("before", "blob", size=5)
    remount(small_disk, "ro")
    for attempt in (
        sink.check(5),
        sink.prepare("part", size=5),
        sink.open("part", 0, 5),
        sink.discard("before"),
        sink.delete("blob"),
        sink.set_aside_part("before"),
    ):
        with pytest.raises(StorageNotWritable):
            await attempt
    with pytest.raises(ConfigError, match="not writable"):
        prepare_tree(small_disk)
    assert await read_blob(sink, "blob", 0, 5) == b"hello"
    remount(small_disk, "rw")
    await put(sink, "part", b"hello")
    sink.close()


def test_directories_of_another_user_are_refused() -> None:
    require_root()
    # pytest's own directories are closed to other users.
    with tempfile.TemporaryDirectory(prefix="haulier-") as directory:
        Path(directory).chmod(0o755)
        answers = [line for line in run(FOREIGNER, Path(directory)) if "directory" not in line]
    assert answers == ["StorageNotWritable", "StorageNotWritable", "StorageNotWritable", "ConfigError"]


# --- gone --------------------------------------------------------------------------------------------


async def test_a_part_is_gone_only_where_its_own_disk_says_so(small_disk: Path) -> None:
    sink = DiskSink(small_disk, min_free=0)
    await put(sink, "part", b"hello")
    with another_disk(small_disk), pytest.raises(StorageUnavailable, match="another file system"):
        await sink.recover("part", "blob", size=5)
    assert await sink.recover("part", "blob", size=5)
    remount(small_disk, "ro")
    with pytest.raises(StorageNotWritable):
        await sink.recover("part", "blob", size=5)
    remount(small_disk, "rw")
    shutil.rmtree(small_disk / "incoming")
    assert not await sink.recover("part", "blob", size=5)
    sink.close()
