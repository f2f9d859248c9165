"""Files that one process at a time has: the kernel frees them when it ends, however it does."""

import fcntl
import os
from pathlib import Path


def try_lock(path: Path, *, mode: int = 0o644) -> tuple[int | None, str]:
    """Lock a file, made with that mode when it is not there, for this process, whose id goes into it.

    Returns:
        The descriptor that holds the lock; or None, and the process id of its holder.

    Raises:
        OSError: it cannot be made or written; then it is not locked.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            return None, holder
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, str(os.getpid())


def holder_of(path: Path) -> str | None:
    """Return the process id of who has locked a file; None when nobody has. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # A shared lock: everybody who asks at once gets the same answer.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    finally:
        os.close(descriptor)
    return None


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
