"""Files that are still being fetched: one process at a time, beside their target, published whole.

Rule 1: a part is locked by whoever writes it; the kernel unlocks it when its holder dies.
Rule 2: a name is given without taking another file's place, and durably. Done again after a crash between its
        steps, it comes to the same end.
"""

import errno
import fcntl
import hashlib
import os
from pathlib import Path
from typing import Final

NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What file systems without hard links (FAT, some network and FUSE ones) answer."""


def part_of(target: Path, mark: str) -> Path:
    """Return where the part of `target` is; `mark` names what is fetched."""
    text = f"{target.name}/{mark}".encode("utf-8", "surrogateescape")
    return target.parent / f".haulier-{hashlib.sha256(text).hexdigest()[:32]}.part"


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


def publish(part: Path, target: Path, *, overwrite: bool = False) -> None:
    """Give a part, which is synced already, the name of its target.

    Raises:
        FileExistsError: the target is another file and is not to be replaced.
        OSError: the file cannot be moved.
    """
    if overwrite:
        part.replace(target)
    else:
        _publish_new(part, target)
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _publish_new(part: Path, target: Path) -> None:
    # A link never replaces; a rename would.
    try:
        target.hardlink_to(part)
    except FileExistsError:
        if target.is_symlink() or not target.samefile(part):
            raise
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # The name is taken first, so that the rename replaces nothing but our own empty file.
        target.touch(exist_ok=False)
        part.replace(target)
        return
    part.unlink()
