"""Room beside the database that is given up when the disk is full, so that what frees room can be written.

Deleting needs a row to be changed before bytes may go, and SQLite appends to its log to change one. On a disk
without a free page nothing could ever be deleted again.
"""

import errno
import os
from pathlib import Path
from typing import Final

from haulier.logs import get_logger

SPARE_BYTES: Final = 1024 * 1024
"""Two hundred pages of the log: some fifty transactions before a checkpoint lets it start again from its beginning."""
WORTH_KEEPING: Final = 8
"""How many times that much must be free for it to be kept: on a smaller disk it would only take what others need."""

log = get_logger()


class Spare:
    """A file without meaning, `NAME-spare`; all processes that use the database share it."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}-spare")
        self._kept = False

    def keep(self) -> None:
        """Take the room, if there is plenty and it is not taken already."""
        if self._kept:
            return
        disk = os.statvfs(self._path.parent)
        if disk.f_bavail * disk.f_frsize < WORTH_KEEPING * SPARE_BYTES:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SPARE_BYTES)
            self._kept = True
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            os.ftruncate(descriptor, 0)  # somebody was faster; what was taken of it already goes back
        finally:
            os.close(descriptor)

    def give_up(self) -> None:
        """Let others have the room, if it is kept."""
        self._kept = False
        try:
            os.truncate(self._path, 0)
        except FileNotFoundError:
            return
        log.warning("storage.spare_given_up", path=str(self._path), bytes=SPARE_BYTES)
