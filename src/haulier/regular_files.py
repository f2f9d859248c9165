"""Opening what is to be sent: a regular file of this machine that is as long as it says."""

import os
import stat

from haulier.core.errors import InvalidRequest, SourceChanged


def open_regular(path: str | os.PathLike[str]) -> tuple[int, os.stat_result]:
    """Open a file for reading; return its number, which is the caller's to close, and what it is; blocks.

    Raises:
        OSError: it is missing or may not be read.
        InvalidRequest: it is a folder, a pipe or a device, or the kernel makes it while it is read, as in /proc and /sys: what
            such a file tells of its size is not true.
        SourceChanged: it has another size than a moment ago.
    """
    # O_NONBLOCK: opening a pipe without a writer would wait for one for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidRequest.of("path", f"{os.fspath(path)} is not a regular file")
        _require_size(os.fspath(path), descriptor, status.st_size)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


def _require_size(path: str, descriptor: int, size: int) -> None:
    # Files of /proc tell 0 and have bytes; those of /sys tell a page and have fewer.
    if bool(os.pread(descriptor, 1, max(0, size - 1))) is (size > 0):
        return
    now = os.fstat(descriptor).st_size
    if now != size:
        raise SourceChanged(path, f"it had {size} bytes and has {now} now")
    raise InvalidRequest.of(
        "path", f"{path} tells a size of {size} bytes that it does not have; send a copy of it"
    )
