"""Files that tell which workers live: `run/<worker>.lock` in the storage directory, locked while its worker runs.

Rule 1: a lock file has its name only while it is locked, or after its worker's death: whoever can lock it knows that
        the worker is dead. The kernel frees the lock with the process, whatever ended it.
Rule 2: a worker that has no file is dead too: it left, or its file was swept.
"""

import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from haulier.core.errors import StorageUnavailable

_NAME: Final = re.compile(r"[0-9a-f]{32}\.lock")
_UNNAMED: Final = re.compile(r"\.[0-9a-f]{32}\.new")
"""What a start leaves that died between making its file and naming it."""


def new_worker() -> str:
    """Return the id of a worker that never ran before."""
    return uuid.uuid4().hex


class WorkerLocks:
    """The lock files of all workers that share a storage directory, in this service and in others."""

    def __init__(self, storage: Path) -> None:
        """Take the place of the files; nothing is touched yet."""
        self._directory = storage / "run"

    @contextmanager
    def held(self, worker: str) -> Iterator[None]:
        """Live as `worker`, unlike any other that ever lived; its file goes at the end.

        Raises:
            StorageUnavailable: the file cannot be made.
        """
        descriptor = self._make(worker)
        try:
            yield
            self._path(worker).unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def _make(self, worker: str) -> int:
        unnamed = self._directory / f".{worker}.new"
        try:
            self._directory.mkdir(mode=0o755, exist_ok=True)
            while (descriptor := _make_locked(unnamed, self._path(worker))) is None:
                pass  # a sweep was faster than our lock
        except OSError as error:
            raise StorageUnavailable(f"{unnamed}: {error.strerror}") from error
        return descriptor

    def is_dead(self, worker: str) -> bool:
        """Whether that worker does not run any more; asks the kernel, costs two system calls.

        Raises:
            StorageUnavailable: the directory cannot be read, so that nobody can tell.
        """
        try:
            descriptor = os.open(self._path(worker), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return self._missing()
        except OSError as error:
            raise StorageUnavailable(f"{self._path(worker)}: {error.strerror}") from error
        try:
            return _is_free(descriptor)
        finally:
            os.close(descriptor)

    def count_living(self) -> int:
        """Count the workers that run now."""
        return sum(not self.is_dead(file.stem) for file in self._files() if _NAME.fullmatch(file.name))

    def sweep(self) -> None:
        """Remove what dead workers left; harmless beside starts and other sweeps."""
        for file in self._files():
            if _NAME.fullmatch(file.name) or _UNNAMED.fullmatch(file.name):
                _remove_when_dead(file)

    def _files(self) -> list[Path]:
        try:
            return list(self._directory.iterdir())
        except FileNotFoundError:
            return []

    def _path(self, worker: str) -> Path:
        return self._directory / f"{worker}.lock"

    def _missing(self) -> bool:
        # Without its directory (an unmounted disk) a file that is missing says nothing.
        if not self._directory.is_dir():
            raise StorageUnavailable(f"{self._directory} is missing")
        return True


def _make_locked(unnamed: Path, path: Path) -> int | None:
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        unnamed.rename(path)
    except FileNotFoundError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remove_when_dead(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if _is_free(descriptor):
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    # A shared lock: everybody who asks at once gets the same answer; only the worker itself holds an exclusive one.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
