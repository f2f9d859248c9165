import ctypes
import errno
import mmap
import os
import re
from pathlib import Path

import pytest

from haulier.adapters.disk import system_calls
from haulier.adapters.disk.system_calls import (
    OfdLocks,
    SystemCalls,
    TableLocks,
    directory_error,
    read_error,
    write_error,
)
from haulier.core.errors import DirectoryNotCreatable, StorageFull, StorageNotWritable, StorageUnavailable
from haulier.ports import RangeBusy

HERE = Path("/data")


def failure(code: int) -> OSError:
    return OSError(code, os.strerror(code))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_errors_of_room_are_storage_full(code: int) -> None:
    error = write_error(failure(code), HERE, needed=7)
    assert isinstance(error, StorageFull)
    assert error.needed == 7
    assert isinstance(directory_error(failure(errno.ENOSPC), HERE), StorageFull)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_errors_of_permission_name_the_directory(code: int) -> None:
    error = write_error(failure(code), HERE)
    assert isinstance(error, StorageNotWritable)
    assert error.directory == "/data"
    assert errno.errorcode[code] in error.reason
    assert isinstance(directory_error(failure(code), HERE), DirectoryNotCreatable)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOTDIR, errno.ETIMEDOUT])
def test_all_other_errors_are_unavailability(code: int) -> None:
    error = write_error(failure(code), HERE)
    assert isinstance(error, StorageUnavailable)
    assert errno.errorcode[code] in error.reason


def test_a_read_that_is_refused_is_unavailability() -> None:
    assert "EACCES" in read_error(failure(errno.EACCES)).reason


def test_an_error_without_a_number_keeps_its_words() -> None:
    assert read_error(OSError("strange")).reason == "strange (no errno)"


@pytest.fixture
def descriptors(tmp_path: Path) -> tuple[int, int]:
    path = tmp_path / "file"
    first = os.open(path, os.O_RDWR | os.O_CREAT)
    return first, os.open(path, os.O_RDWR)


@pytest.mark.parametrize("locks", [OfdLocks(), TableLocks()], ids=["kernel", "table"])
def test_locks_exclude_other_descriptors_of_the_same_process(
    descriptors: tuple[int, int], locks: OfdLocks | TableLocks
) -> None:
    first, second = descriptors
    locks.take(first, 0, 10)
    with pytest.raises(RangeBusy):
        locks.take(second, 9, None)
    locks.free(first)
    os.close(first)
    locks.take(second, 9, None)
    locks.free(second)
    locks.free(second)
    os.close(second)


def test_a_call_is_repeated_when_a_signal_interrupts_it() -> None:
    answers = [errno.EINTR, errno.EINTR, 0]

    def interrupted() -> int:
        code = answers.pop(0)
        ctypes.set_errno(code)
        return -1 if code else 0

    system_calls._call(interrupted)
    assert answers == []


def test_a_call_that_fails_raises_its_errno() -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        SystemCalls().write_back(-1)
    assert caught.value.errno == errno.EBADF


def test_a_reservation_that_fails_is_not_replaced_by_a_hole(descriptors: tuple[int, int]) -> None:
    with pytest.raises(OSError, match="File too large"):
        SystemCalls().reserve(descriptors[0], 2**62)
    assert os.fstat(descriptors[0]).st_size == 0


def test_platforms_without_these_calls_get_sparse_files_and_no_early_write_back(
    descriptors: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_calls, "_fallocate", None)
    monkeypatch.setattr(system_calls, "_sync_file_range", None)
    calls = SystemCalls()
    calls.reserve(descriptors[0], 1_000_000)
    calls.write_back(descriptors[0])
    state = os.fstat(descriptors[0])
    assert (state.st_size, state.st_blocks) == (1_000_000, 0)


def test_a_longer_file_is_never_cut_by_a_reservation(descriptors: tuple[int, int]) -> None:
    os.ftruncate(descriptors[0], 100)
    SystemCalls().reserve(descriptors[0], 50)
    SystemCalls().reserve(descriptors[0], 0)
    assert os.fstat(descriptors[0]).st_size == 100


def dirty_kilobytes(path: Path) -> int:
    """Return how much of a mapped file the page cache has not written to its device yet. Source: proc_pid_smaps(5)."""
    dirty, ours = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            ours = line.endswith(f" {path}")
        elif ours and line.startswith(("Private_Dirty:", "Shared_Dirty:")):
            dirty += int(line.split()[1])
    return dirty


def test_write_back_leaves_no_byte_dirty(tmp_path: Path) -> None:
    path = tmp_path / "file"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, b"a" * 65_536, 0)
    with mmap.mmap(descriptor, 65_536, prot=mmap.PROT_READ) as mapped:
        os.fdatasync(descriptor)
        assert mapped[::4096] == b"a" * 16  # its pages are in our map from here on
        if dirty_kilobytes(path):
            pytest.skip("this file system has no device: its pages are always dirty")
        os.pwrite(descriptor, b"b" * 65_536, 0)
        SystemCalls().write_back(descriptor)
        assert dirty_kilobytes(path) == 0
    os.close(descriptor)


def test_write_back_is_asked_of_the_whole_file_and_waited_for(
    descriptors: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = system_calls._sync_file_range, []

    def record(descriptor: int, offset: ctypes.c_int64, size: ctypes.c_int64, flags: int) -> int:
        asked.append((descriptor, offset.value, size.value, flags))
        code: int = real(descriptor, offset, size, flags)
        return code

    monkeypatch.setattr(system_calls, "_sync_file_range", record)
    SystemCalls().write_back(descriptors[0])
    assert asked == [(descriptors[0], 0, 0, 0b111)]


def test_opened_files_are_not_inherited(tmp_path: Path) -> None:
    descriptor = SystemCalls().open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
