"""Files of this machine, opened to be sent."""

import hashlib
import os
from pathlib import Path
from typing import Final

from haulier.core.dispatch import Fingerprint
from haulier.core.errors import SourceChanged
from haulier.engine.tasks import in_thread
from haulier.regular_files import open_regular

EDGE: Final = 64 * 1024
"""Bytes at each end of a file that belong to its fingerprint."""


class LocalSource:
    """`OpenSource` on a descriptor."""

    def __init__(self, path: str, descriptor: int, fingerprint: Fingerprint) -> None:
        self._path = path
        self._descriptor = descriptor
        self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> Fingerprint:
        """Which revision was opened."""
        return self._fingerprint

    @property
    def size(self) -> int:
        """Bytes."""
        return self._fingerprint.size

    @property
    def descriptor(self) -> int:
        """The open file's number."""
        return self._descriptor

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes of `[start, stop)`; blocks."""
        return _read(self._path, self._descriptor, start, stop)

    async def check(self) -> None:
        """Compare what is there now with what was opened."""
        await in_thread(self._check)

    async def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)

    def _check(self) -> None:
        try:
            there = Path(self._path).stat()
        except FileNotFoundError:
            raise SourceChanged(self._path, "it is gone") from None
        for status in (there, os.fstat(self._descriptor)):
            if reason := _difference(self._fingerprint, status):
                raise SourceChanged(self._path, reason)


class SystemFiles:
    """`LocalFiles` of the machine."""

    def absolute(self, path: str) -> str:
        """Return the path from the root on."""
        return os.path.abspath(path)  # noqa: PTH100 - pathlib follows links, or keeps `..`

    async def look(self, path: str) -> Fingerprint:
        """Return which revision of a file is there."""
        source = await self.open(path)
        await source.close()
        return source.fingerprint

    async def open(self, path: str) -> LocalSource:
        """Open a file."""
        return await in_thread(_open, path, undo=lambda source: os.close(source.descriptor))


def _open(path: str) -> LocalSource:
    descriptor, status = open_regular(path)
    try:
        return LocalSource(path, descriptor, _fingerprint(path, descriptor, status))
    except BaseException:
        os.close(descriptor)
        raise


def _fingerprint(path: str, descriptor: int, status: os.stat_result) -> Fingerprint:
    size = status.st_size
    edges = hashlib.blake2b(_read(path, descriptor, 0, min(EDGE, size)), digest_size=16)
    edges.update(_read(path, descriptor, max(0, size - EDGE), size))
    return Fingerprint(
        device=status.st_dev,
        inode=status.st_ino,
        size=size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        edges=edges.hexdigest(),
    )


def _read(path: str, descriptor: int, start: int, stop: int) -> bytes:
    parts = []
    while start < stop:
        part = os.pread(descriptor, stop - start, start)
        if not part:
            raise SourceChanged(path, f"it ends at byte {start}, expected {stop} at least")
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def _difference(opened: Fingerprint, now: os.stat_result) -> str | None:
    if (opened.device, opened.inode) != (now.st_dev, now.st_ino):
        return "another file has taken its place"
    if opened.size != now.st_size:
        return f"it had {opened.size} bytes and has {now.st_size} now"
    if (opened.mtime_ns, opened.ctime_ns) != (now.st_mtime_ns, now.st_ctime_ns):
        return "it was written to"
    return None
