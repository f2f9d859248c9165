"""A local file while it is being sent: read in pieces, watched for change.

Rule 1: two revisions are never mixed: size, time of change and identity are compared after every chunk and
        before the end; a short read is a change too.
"""

import os
from pathlib import Path
from typing import Self

from haulier.core.errors import SourceChanged
from haulier.core.values import dataclass
from haulier.regular_files import open_regular


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells one revision of a file from another."""

    size: int
    mtime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Read it from a stat."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


class FileSource:
    """An open regular file. Close it after use. Its blocking methods say so."""

    def __init__(self, path: Path, descriptor: int, fingerprint: Fingerprint) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open for reading; blocks.

        Raises:
            OSError: it is missing or may not be read.
            InvalidRequest, SourceChanged: it cannot be sent as it is; see `open_regular`.
        """
        descriptor, status = open_regular(path)
        return cls(path, descriptor, Fingerprint.of(status))

    @property
    def size(self) -> int:
        """Bytes."""
        return self.fingerprint.size

    @property
    def descriptor(self) -> int:
        """The open file's number; it stays ours."""
        return self._descriptor

    def close(self) -> None:
        """Close it; to be called once."""
        os.close(self._descriptor)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes of `[start, stop)`; blocks.

        Raises:
            SourceChanged: the file ends before `stop`.
        """
        parts = []
        position = start
        while position < stop:
            part = os.pread(self._descriptor, stop - position, position)
            if not part:
                raise SourceChanged(str(self.path), f"it ends at byte {position}, expected {self.size}")
            parts.append(part)
            position += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def check(self) -> None:
        """Compare the file that now has this path with the one that was opened; blocks.

        Raises:
            SourceChanged: it differs.
        """
        try:
            now = Fingerprint.of(self.path.stat())
        except FileNotFoundError:
            raise SourceChanged(str(self.path), "it is gone") from None
        if now != self.fingerprint:
            raise SourceChanged(str(self.path), _difference(self.fingerprint, now))


def _difference(old: Fingerprint, new: Fingerprint) -> str:
    if (old.inode, old.device) != (new.inode, new.device):
        return "another file has taken its place"
    if old.size != new.size:
        return f"it had {old.size} bytes and has {new.size} now"
    return "it was written to"
