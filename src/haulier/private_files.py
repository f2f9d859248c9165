"""Files that have secrets: their owner's alone (0600), and always whole, whoever reads or dies when.

Rule 1: the next content is written beside the file, under one name for all: a process that dies leaves at most one copy of
        what is secret, which the next write takes away.
"""

import fcntl
import os
from pathlib import Path

from haulier.parts import is_at


def replace_private(path: Path, text: str) -> None:
    """Give a file this content, in place of what it had, if it was there; blocks, also while another process does it.

    Raises:
        OSError: it cannot be written; then it is what it was.
    """
    new = path.with_name(f".{path.name}.new")
    descriptor = _open_alone(new)
    try:
        # One that was left is longer, perhaps, and of somebody else's modes.
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 0)
        with os.fdopen(descriptor, "w", encoding="utf-8", closefd=False) as file:
            file.write(text)
        os.fsync(descriptor)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _open_alone(path: Path) -> int:
    """Open or make a file, and be the only one who has it; closing lets others have it."""
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Who had it before may have given it its name meanwhile.
            if is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
