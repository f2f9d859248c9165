"""Files that one process at a time may use; the kernel unlocks them when their holder dies."""

import fcntl
import os
from pathlib import Path


def open_locked(path: Path, *, mode: int) -> int | None:
    """Open or make `path` and lock it; None when another process holds it. Closing unlocks.

    Raises:
        OSError: it cannot be opened; a symbolic link is refused.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        # Its last holder may have removed it between our open and our lock.
        if is_at(path, descriptor):
            return descriptor
        os.close(descriptor)


def is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that `path` names."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
