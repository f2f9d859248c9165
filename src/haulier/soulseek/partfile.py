"""The part file of a download: beside its target, named by the download, moved into place when whole."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from haulier.core.errors import HaulierError
from haulier.engine.tasks import in_thread


@dataclass(eq=False)
class TargetTaken(HaulierError):
    """A file is there already, and is not written over."""

    path: Path

    def __str__(self) -> str:
        return f"{self.path} is there already; name another file"


class PartFile:
    """A part, open for writing while it is entered."""

    def __init__(self, target: Path, download: str) -> None:
        self._target = target
        self._path = target.with_name(f".haulier-{download}.part")
        self._descriptor = -1

    async def __aenter__(self) -> Self:
        """Open the part, with what is there of it; raises OSError."""
        await in_thread(lambda: self._target.parent.mkdir(parents=True, exist_ok=True))
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        return self

    async def __aexit__(self, *_: object) -> None:
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
            TargetTaken: there is a file already.
            OSError: the file cannot be moved.
        """
        await in_thread(self._finish)

    def _finish(self) -> None:
        os.fsync(self._descriptor)
        try:
            os.link(self._path, self._target)
        except FileExistsError as error:
            raise TargetTaken(self._target) from error
        self._path.unlink()
        folder = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    async def remove(self) -> None:
        """Remove the part, if there is one."""
        await in_thread(lambda: self._path.unlink(missing_ok=True))
