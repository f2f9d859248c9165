"""The part file of a download: beside its target, named by what is fetched, moved into place when whole.

Rule 1: the part of a file of a user, of one size, is the same whoever fetches it to that target: a later download
        goes on where an earlier one ended. Another size is another file, and never gets its bytes.
"""

import os
from pathlib import Path
from typing import Self

from haulier.core.errors import HaulierError
from haulier.engine.tasks import in_thread
from haulier.parts import is_at, open_locked, part_of, publish


class TargetTaken(HaulierError):
    """A file is there already, and is not written over."""

    path: Path

    def __str__(self) -> str:
        return f"{self.path} is there already; name another file"


class TargetBusy(HaulierError):
    """Another process is fetching the same file to the same place."""

    path: Path

    def __str__(self) -> str:
        return f"{self.path} is being fetched by another process"


class PartFile:
    """A part, open for writing while it is entered; its methods do not look at anything but the part and its target."""

    def __init__(self, target: Path, *, user: str, file: str, size: int) -> None:
        self._target = target
        self._path = part_of(target, f"{user}/{size}/{file}")
        self._descriptor = -1

    async def __aenter__(self) -> Self:
        """Open the part, with what is there of it; raises TargetBusy, OSError."""
        self._descriptor = await in_thread(self._open, undo=os.close)
        return self

    def _open(self) -> int:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = open_locked(self._path, mode=0o666)
        if descriptor is None:
            raise TargetBusy(self._target)
        return descriptor

    async def __aexit__(self, *_: object) -> None:
        """Close it, and leave nothing behind when nothing came."""
        if self.size == 0 and is_at(self._path, self._descriptor):
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return os.fstat(self._descriptor).st_size

    def write(self, piece: bytes, *, at: int) -> None:
        """Write a piece of at most 64 KiB into the page cache."""
        while piece:
            written = os.pwrite(self._descriptor, piece, at)
            at, piece = at + written, piece[written:]

    async def finish(self) -> None:
        """Move the part into place, durably.

        Raises:
            TargetTaken: there is another file already.
            OSError: the file cannot be moved.
        """
        await in_thread(self._finish)

    def _finish(self) -> None:
        os.fsync(self._descriptor)
        try:
            publish(self._path, self._target)
        except FileExistsError as error:
            raise TargetTaken(self._target) from error

    async def recover(self, size: int) -> bool:
        """Come to the end of a `finish` that a crash cut short; returns whether the target is the file now.

        Raises: as `finish`.
        """
        if not await in_thread(self._path.exists):
            return await in_thread(_has_size, self._target, size)
        async with self:
            if self.size != size:
                return False
            await self.finish()
        return True

    async def remove(self) -> None:
        """Remove the part, if there is one."""
        await in_thread(lambda: self._path.unlink(missing_ok=True))


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False
