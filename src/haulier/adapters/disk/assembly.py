"""Parts put together of other parts, by the kernel: shared blocks where the file system has them, else copies.

Rule 1: nothing is written without the lock of the whole part, as everywhere (see `parts.py`).
Rule 2: what the part held before goes first, so that a second try after a crash begins anew.
"""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from haulier.adapters.disk.system_calls import SystemCalls, write_all
from haulier.core.errors import StorageUnavailable

STEP: Final = 64 * 1024 * 1024
"""Bytes of one go of a thread: the request that waits may be cancelled between two, and other files get their turn."""
COPY_PIECE: Final = 1024 * 1024
"""Bytes that are copied at a time where the kernel does not do it by itself."""

_CANNOT: Final = frozenset({errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ETXTBSY})
"""What `copy_file_range` says where it cannot, though reading and writing would do. Source: copy_file_range(2)."""


class Assembly:
    """Copies pieces of files behind one another. Its methods block; they are called in worker threads."""

    def __init__(self, calls: SystemCalls, target: int) -> None:
        """Write to the open, locked file `target`."""
        self._calls = calls
        self._target = target
        self._by_kernel = True

    def clear(self) -> None:
        """Let the target be empty. Raises OSError."""
        self._calls.truncate(self._target, 0)

    def copy(self, source: Path, start: int, stop: int, position: int) -> None:
        """Copy `[start, stop)` of a file to `position` of the target.

        Raises:
            StorageUnavailable: the file is missing or shorter.
            OSError: the disk failed.
        """
        try:
            descriptor = self._calls.open(source, os.O_RDONLY)
        except FileNotFoundError:
            raise StorageUnavailable(f"part {source.name} is missing") from None
        try:
            while start < stop:
                copied = self._copy_some(descriptor, start, stop - start, position)
                if copied == 0:
                    raise StorageUnavailable(f"part {source.name} ends at {start}, before its end")
                start += copied
                position += copied
        finally:
            os.close(descriptor)

    def _copy_some(self, source: int, start: int, size: int, position: int) -> int:
        """Return how many bytes were copied, 0 at the source's end."""
        if self._by_kernel:
            try:
                return self._calls.copy_range(source, self._target, size, start=start, position=position)
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
                self._by_kernel = False
        buffer = memoryview(bytearray(min(size, COPY_PIECE)))
        piece = buffer[: self._calls.preadv(source, buffer, start)]
        write_all(self._calls, self._target, piece, position)
        return len(piece)


def steps_of(parts: Sequence[tuple[Path, int]]) -> Sequence[tuple[Path, int, int, int]]:
    """Return what to copy in what order: file, start, stop, position in the target; none is longer than `STEP`."""
    steps, position = [], 0
    for path, size in parts:
        for start in range(0, size, STEP):
            stop = min(start + STEP, size)
            steps.append((path, start, stop, position + start))
        position += size
    return steps
