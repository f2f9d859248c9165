"""Local files in memory, for tests of code that sends: they are written, replaced and removed at will."""

import errno
import hashlib
import posixpath
from itertools import count

from haulier.core.dispatch import Fingerprint
from haulier.core.errors import InvalidRequest, SourceChanged
from haulier.core.values import dataclass


@dataclass(eq=False, slots=True)
class _File:
    data: bytes
    fingerprint: Fingerprint


class MemoryFiles:
    """`LocalFiles` that are nowhere."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._faults: dict[str, OSError] = {}
        self._ticks = count(1)
        self.open_now = 0
        """Sources that are open."""

    def write(self, path: str, data: bytes, *, in_place: bool = False) -> None:
        """Put a file there; in place: the same file, which has other bytes now."""
        tick = next(self._ticks)
        inode = self._files[path].fingerprint.inode if in_place else tick
        fingerprint = Fingerprint(
            device=1,
            inode=inode,
            size=len(data),
            mtime_ns=tick * 10**9,
            ctime_ns=tick * 10**9,
            edges=hashlib.blake2b(data, digest_size=16).hexdigest(),
        )
        if in_place:
            self._files[path].data, self._files[path].fingerprint = data, fingerprint
        else:
            self._files[path] = _File(data, fingerprint)

    def remove(self, path: str) -> None:
        """Take the file away."""
        del self._files[path]

    def fail(self, path: str, error: OSError | None) -> None:
        """Let every use of the file raise that, or work again."""
        if error is None:
            del self._faults[path]
        else:
            self._faults[path] = error

    def absolute(self, path: str) -> str:
        """Return the path from the root on."""
        return posixpath.normpath(posixpath.join("/", path))

    async def look(self, path: str) -> Fingerprint:
        """Return which revision of a file is there."""
        return self.current(path).fingerprint

    async def open(self, path: str) -> "MemorySource":
        """Open a file."""
        return MemorySource(self, path, self.current(path))

    def current(self, path: str) -> _File:
        """Return what is there. Raises as `look`."""
        if path in self._faults:
            raise self._faults[path]
        if path.endswith("/") or any(name.startswith(f"{path}/") for name in self._files):
            raise InvalidRequest.of("path", f"{path} is not a regular file")
        if path not in self._files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return self._files[path]


class MemorySource:
    """`OpenSource` on such a file."""

    def __init__(self, files: MemoryFiles, path: str, file: _File) -> None:
        self._files = files
        self._path = path
        self._file = file
        self._fingerprint = file.fingerprint
        files.open_now += 1

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
        """There is none."""
        raise AssertionError("a file in memory has no descriptor")

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes of `[start, stop)`."""
        piece = self._file.data[start:stop]
        if len(piece) < stop - start:
            raise SourceChanged(self._path, f"it ends at byte {start + len(piece)}, expected {stop} at least")
        return piece

    async def check(self) -> None:
        """Compare what is there now with what was opened."""
        try:
            now = self._files.current(self._path).fingerprint
        except FileNotFoundError:
            raise SourceChanged(self._path, "it is gone") from None
        if now != self._fingerprint:
            raise SourceChanged(self._path, "it was written to")

    async def close(self) -> None:
        """Close it."""
        self._files.open_now -= 1
