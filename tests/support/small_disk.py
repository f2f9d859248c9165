"""Small file systems of a test's own: they fill up, and can be made read-only."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from haulier.core.values import dataclass


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A mounted tmpfs."""

    path: Path

    @property
    def free(self) -> int:
        """Bytes that can still be written."""
        state = os.statvfs(self.path)
        return state.f_bavail * state.f_frsize

    @contextmanager
    def filled(self, *, leaving: int = 0) -> Iterator[None]:
        """Let somebody else take all room but `leaving` bytes, for the duration of a block."""
        hog = self.path / "somebody-else"
        with hog.open("wb") as file:
            while (room := self.free - leaving) > 0:
                with suppress(OSError):  # others write meanwhile; then there is less to take
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), room)
        try:
            yield
        finally:
            hog.unlink()


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[SmallDisk]:
    """Mount a tmpfs of `size` bytes on a new directory."""
    path.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))
    try:
        yield SmallDisk(path)
    finally:
        _run("umount", "--lazy", str(path))


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Make a directory read-only, for root too, for the duration of a block; files that are open stay as they are."""
    _mount("--bind", str(path), str(path))
    try:
        _run("mount", "-o", "remount,bind,ro", str(path))
        yield
    finally:
        _run("umount", "--lazy", str(path))


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    reason = f"file systems cannot be mounted here, which takes root: {done.stderr.strip()}"
    if os.environ.get("CI") == "true":  # noqa: TID251 - asks about the machine, not about a setting of ours
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
