"""The calls to the operating system through which bytes pass, and what their failures mean.

Rule 1: every OSError of the disk becomes one of ours here, and nowhere else.
Rule 2: tests make single calls fail by deriving from `SystemCalls`; nothing else is ever replaced.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from haulier.adapters.range_table import RangeClaim, RangeTable
from haulier.core.digest import Buffer
from haulier.core.errors import (
    DirectoryNotCreatable,
    StorageError,
    StorageFull,
    StorageNotWritable,
    StorageUnavailable,
)
from haulier.ports import RangeBusy

StrPath = str | os.PathLike[str]

PRIVATE_FILE: Final = 0o600
"""Mode of parts and blobs: other users of the machine have no business with them."""
DIRECTORY_MODE: Final = 0o755

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_CANNOT_RESERVE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})
_SYNC_FILE_RANGE_ALL: Final = 1 | 2 | 4
"""Wait for what is being written, write what is dirty, wait for that. Source: sync_file_range(2)."""


def write_error(error: OSError, directory: Path, *, needed: int = 0) -> StorageError:
    """Return what a failed write of `needed` bytes below `directory` means to callers."""
    if error.errno in _NO_ROOM:
        return StorageFull(needed)
    if error.errno in _REFUSED:
        return StorageNotWritable(str(directory), _words(error))
    return StorageUnavailable(_words(error))


def read_error(error: OSError) -> StorageUnavailable:
    """Return what a failed read means to callers."""
    return StorageUnavailable(_words(error))


def directory_error(error: OSError, directory: StrPath) -> StorageError:
    """Return what a failed attempt to make `directory` means to callers."""
    if error.errno in _NO_ROOM:
        return StorageFull(0)
    return DirectoryNotCreatable(str(directory), _words(error))


def stat_or_none(path: Path) -> os.stat_result | None:
    """Return the state of a file itself, None when it is not there."""
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _words(error: OSError) -> str:
    code = errno.errorcode.get(error.errno or 0, "no errno")
    return f"{error.strerror or error} ({code})"


def _libc_function(*names: str) -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    return next((getattr(libc, name) for name in names if hasattr(libc, name)), None)


# glibc's own posix_fallocate is not used: where the file system cannot reserve it writes a byte into
# every block, which takes hours for a file of terabytes. The 64 is for 32-bit glibc.
_fallocate: Final = _libc_function("fallocate64", "fallocate")
_sync_file_range: Final = _libc_function("sync_file_range")


def _call(function: Callable[..., int], *arguments: Any) -> None:
    """Call a function of libc, again when a signal interrupts it; raise its errno."""
    while function(*arguments) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


class SystemCalls:
    """The operating system as the disk sink uses it. All methods raise OSError; sizes are bytes."""

    def open(self, path: StrPath, flags: int) -> int:
        """Open a file that is not a symbolic link; the descriptor is not inherited."""
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE)

    def pwrite(self, descriptor: int, piece: Buffer, offset: int) -> int:
        """Write, perhaps less than asked; return how much."""
        return os.pwrite(descriptor, piece, offset)

    def preadv(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        """Read into `buffer`, perhaps less than it holds; return how much, 0 at the end."""
        return os.preadv(descriptor, [buffer], offset)

    def copy_range(self, source: int, target: int, size: int, *, start: int, position: int) -> int:
        """Copy between files inside the kernel, perhaps less than asked; return how much, 0 at the source's end.

        Where the file system can share blocks (Btrfs, XFS) and the range fits them, nothing is copied at all.
        Source: copy_file_range(2); vfs_copy_file_range of Linux tries to share before it copies.
        """
        if not hasattr(os, "copy_file_range"):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return os.copy_file_range(source, target, size, start, position)

    def truncate(self, descriptor: int, size: int) -> None:
        """Set a file's size."""
        os.ftruncate(descriptor, size)

    def reserve(self, descriptor: int, size: int) -> None:
        """Give a file that size, with room set aside where the file system can do it."""
        if size and _fallocate is not None:
            try:
                _call(_fallocate, descriptor, 0, ctypes.c_int64(0), ctypes.c_int64(size))
            except OSError as error:
                if error.errno not in _CANNOT_RESERVE:
                    raise
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)

    def write_back(self, descriptor: int) -> None:
        """Have a file's bytes written to the device and wait; does not make them durable, as `sync` does."""
        if _sync_file_range is not None:
            whole = ctypes.c_int64(0)  # from the start, and to the end
            _call(_sync_file_range, descriptor, whole, whole, _SYNC_FILE_RANGE_ALL)

    def sync(self, descriptor: int) -> None:
        """Wait until a file's bytes, and what is needed to read them, are on the device."""
        if sys.platform == "darwin":
            # Source: fsync(2) of macOS: fsync leaves the bytes in the drive's cache.
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(descriptor)

    def sync_directory(self, path: StrPath) -> None:
        """Wait until a directory's entries are on the device."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_directory(self, path: StrPath) -> None:
        """Make one directory; its parent exists."""
        os.mkdir(path, DIRECTORY_MODE)  # noqa: PTH102 - a Path costs more than the call, on the way of every short file

    def may_write(self, path: Path) -> bool:
        """Whether the kernel would let us make files in that directory."""
        return os.access(path, os.W_OK | os.X_OK)

    def free_bytes(self, path: Path) -> int:
        """Return what is left for us on the file system of `path`."""
        state = os.statvfs(path)
        return state.f_bavail * state.f_frsize

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name; never replaces."""
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        path.unlink()


def write_all(
    calls: SystemCalls,
    descriptor: int,
    piece: Buffer,
    offset: int,
    *,
    wrote: Callable[[int], object] = lambda _count: None,
) -> None:
    """Write all of `piece`, in as many steps as the disk likes; `wrote` hears how many bytes each one took.

    Raises:
        OSError: a step failed, or took no byte at all: asking again might go on for ever.
    """
    rest = memoryview(piece)
    while rest:
        count = calls.pwrite(descriptor, rest, offset)
        if count == 0:
            raise OSError(errno.EIO, "the disk took no byte of a write")
        offset += count
        rest = rest[count:]
        wrote(count)


class RangeLocks(Protocol):
    """Exclusive byte-range locks on open files."""

    def take(self, descriptor: int, start: int, stop: int | None) -> None:
        """Lock `[start, stop)` for this descriptor; an empty range takes nothing.

        Raises:
            RangeBusy: another descriptor has a part of it.
            OSError: the file system cannot lock.
        """

    def free(self, descriptor: int) -> None:
        """Give up what the descriptor has; called just before it is closed."""


class TableLocks:
    """Locks known to this process only, for platforms without OFD locks.

    There a data directory is safe as long as one process uses it: POSIX locks are no substitute,
    since closing any descriptor of a file drops all that the process holds on it.
    """

    def __init__(self) -> None:
        self._table = RangeTable()
        self._held: dict[int, RangeClaim] = {}
        self._guard = threading.Lock()

    def take(self, descriptor: int, start: int, stop: int | None) -> None:
        """Lock the range of the file behind `descriptor`."""
        state = os.fstat(descriptor)
        with self._guard:
            self._held[descriptor] = self._table.take((state.st_dev, state.st_ino), start, stop)

    def free(self, descriptor: int) -> None:
        """Unlock what the descriptor has."""
        with self._guard:
            claim = self._held.pop(descriptor, None)
            if claim is not None:
                self._table.release(claim)


if sys.platform == "linux":
    _FLOCK: Final = struct.Struct("hhqqi")
    """struct flock: type, whence, start, length (0: to the end of time), pid (0 for OFD locks)."""

    class OfdLocks:
        """Locks of the kernel that belong to an open file description.

        They exclude other descriptors of the same process as well as other processes, and end when they are
        freed or the last duplicate of the descriptor is closed, however its process dies.
        Source: fcntl_locking(2), "Open file description locks".
        """

        def take(self, descriptor: int, start: int, stop: int | None) -> None:
            """Lock the range, without waiting."""
            if start == stop:
                return
            length = 0 if stop is None else stop - start
            request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
            except OSError as error:
                if error.errno in {errno.EAGAIN, errno.EACCES}:
                    raise RangeBusy from error
                raise

        def free(self, descriptor: int) -> None:
            """Unlock what the descriptor has.

            Closing would not do: a write-back may still have a duplicate of the descriptor.
            """
            request = _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)
            with contextlib.suppress(OSError):  # where nothing can be locked, nothing is
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)

    LOCKS: Final[RangeLocks] = OfdLocks()
else:
    LOCKS: Final[RangeLocks] = TableLocks()
