"""Part files: reserved, locked, cut, and made blobs.

Rule 1: nothing is written without the lock of its range; the kernel frees it when its holder dies.
Rule 2: no writer leaves a hole: a range starts at or before the part's present end. So a part that was
        lost and made anew by a writer never again reaches its session's size, and is never taken for whole. It
        is given that size only when nothing counts any more that was in the old one.
Rule 3: a blob is linked, never copied or replaced, when its bytes are on the device; then every
        directory entry that leads to it is put there too. A short one that comes whole is written under its
        name, which nobody knows before it is on the device.
Rule 4: the kernel reports a failed write-back once, and a second sync then succeeds. A part that could
        not be written back is set aside at once, where every process sees it, and never committed. Only what
        a durable flush could not sync may be written again: it was never said to be stored.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from haulier.adapters.disk.system_calls import stat_or_none, write_all
from haulier.adapters.disk.tree import DiskTree
from haulier.adapters.disk.writer import PartWriter
from haulier.core.errors import StorageError, StorageUnavailable
from haulier.core.values import dataclass
from haulier.ports import RangeBusy

T = TypeVar("T")

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL
OPEN_ATTEMPTS: Final = 3
"""Times that a part is opened again because it was removed between its opening and its locking."""


@dataclass(frozen=True, slots=True)
class TakenPart:
    """A part whose range is locked, and how long it was then."""

    descriptor: int
    extent: int


class PartFiles:
    """What a disk sink does to part files. Its methods block; they are called in worker threads."""

    def __init__(self, tree: DiskTree) -> None:
        self._tree = tree
        self._calls = tree.calls
        self._locks = tree.tools.locks

    def reserve(self, part: Path, size: int) -> None:
        """Make a part of that size, with room set aside; one that is there already is kept, room and all.

        Raises:
            StorageFull · StorageNotWritable · DirectoryNotCreatable · StorageUnavailable
        """
        self._tree.require_writable()
        if _has_its_room(part, size):
            return
        self._tree.require_room(size)
        with self._tree.writing_errors(size):
            descriptor = self._tree.open_file(part, os.O_RDWR | os.O_CREAT)
            try:
                self._calls.reserve(descriptor, size)
            except OSError:
                self._tree.remove(part)
                raise
            finally:
                os.close(descriptor)

    def open_writer(
        self, part: Path, start: int, stop: int | None, closed: Callable[[PartWriter], None]
    ) -> PartWriter:
        """Lock `[start, stop)` of a part, making a missing one; `closed` is told when it is released.

        Raises:
            RangeBusy · StorageFull · StorageNotWritable · DirectoryNotCreatable · StorageUnavailable
        """
        self._tree.require_writable()
        with self._tree.writing_errors():
            taken = self._take(part, start, stop)
        try:
            self._require_fit(taken, start, stop)
        except BaseException:
            self._release(taken.descriptor)
            raise
        return PartWriter(
            self._tree.tools,
            taken.descriptor,
            path=part,
            start=start,
            stop=stop,
            write_back=self._tree.write_backs.take(part),
            closed=closed,
        )

    def _require_fit(self, taken: TakenPart, start: int, stop: int | None) -> None:
        if start > taken.extent:
            raise StorageUnavailable(f"the stored bytes from {taken.extent} to {start} are lost")
        if stop is None or stop > taken.extent:  # otherwise the room is reserved
            self._tree.require_room(0 if stop is None else stop - taken.extent)

    def _take(self, part: Path, start: int, stop: int | None) -> TakenPart:
        for _ in range(OPEN_ATTEMPTS):
            taken = self._try_take(part, start, stop, flags=os.O_RDWR | os.O_CREAT)
            if taken is not None:
                return taken
        raise RangeBusy

    def _try_take(self, part: Path, start: int, stop: int | None, *, flags: int) -> TakenPart | None:
        """Return None when the part was removed before its lock was ours.

        Raises:
            RangeBusy · StorageUnavailable · OSError
        """
        descriptor = self._tree.open_file(part, flags)
        try:
            self._locks.take(descriptor, start, stop)
            state, named = os.fstat(descriptor), stat_or_none(part)
            if state.st_nlink > 1:
                # A writer would change the blob, whose file this is.
                raise StorageUnavailable(f"part {part.name} is committed and cannot be written any more")
            if named is not None and os.path.samestat(state, named):
                return TakenPart(descriptor, state.st_size)
        except BaseException:
            self._release(descriptor)
            raise
        self._release(descriptor)
        return None

    def _release(self, descriptor: int) -> None:
        self._locks.free(descriptor)
        os.close(descriptor)

    @contextmanager
    def _holding(self, part: Path, start: int, stop: int | None) -> Iterator[TakenPart | None]:
        """Hold a range of an existing part; None when there is none.

        Raises:
            RangeBusy: somebody is writing there.
            StorageUnavailable: the disk failed.
        """
        try:
            taken = self._try_take(part, start, stop, flags=os.O_RDWR)
        except FileNotFoundError:
            taken = None
        try:
            yield taken
        finally:
            if taken is not None:
                self._release(taken.descriptor)

    def truncate(self, part: Path, size: int, *, ours: bool) -> None:
        """Cut a part; one that is shorter or missing stays so. `ours`: we have its end locked already.

        Raises:
            StorageUnavailable: the disk failed, or somebody is writing behind `size`.
        """
        stop = size if ours else None
        try:
            with self._tree.writing_errors(), self._holding(part, size, stop) as taken:
                if taken is not None and taken.extent > size:
                    self._calls.truncate(taken.descriptor, size)
        except RangeBusy as busy:
            raise StorageUnavailable(f"part {part.name} is being written") from busy

    def commit(self, part: Path, blob: Path, size: int) -> None:
        """Make a part a blob, durable when this returns; may be repeated after a crash at any point.

        Raises:
            RangeBusy · StorageFull · StorageNotWritable · DirectoryNotCreatable
            StorageUnavailable: the disk failed, or the part is missing or short.
        """
        with self._tree.writing_errors():
            if not self._is_linked(part, blob, size):
                self._sync_and_link(part, blob, size)
            self._tree.make_object_directory(str(blob.parent))
            self._calls.sync_directory(blob.parent)

    def store(self, directory: str, name: str, content: bytes) -> None:
        """Write a blob that never was a part, durable when this returns; one that fails is gone again.

        Raises:
            StorageFull · StorageNotWritable · DirectoryNotCreatable
            StorageUnavailable: the disk failed, or there is such a blob.
        """
        self._tree.require_room(len(content))
        with self._tree.writing_errors(len(content)):
            blob = f"{directory}/{name}"
            descriptor = self._within(directory, lambda: self._calls.open(blob, _NEW))
            try:
                write_all(self._calls, descriptor, content, 0)
                self._calls.sync(descriptor)
            except OSError:
                self._tree.remove(Path(blob))
                raise
            finally:
                os.close(descriptor)
            self._calls.sync_directory(directory)

    def recover(self, part: Path, blob: Path | None, size: int) -> bool:
        """Whether a part can still become that blob; one that is gone gets its name back from it.

        Raises:
            StorageFull · StorageNotWritable · DirectoryNotCreatable
            StorageUnavailable: the disk failed, or is another than it was.
        """
        self._tree.require_same_disk()
        self._tree.require_writable()
        with self._tree.writing_errors():
            held = stat_or_none(part)
            if held is None and blob is not None:
                held = stat_or_none(blob)
                if held is not None and held.st_size == size:
                    self._calls.link(blob, part)
            return size == 0 or (held is not None and held.st_size >= size)

    @staticmethod
    def _is_linked(part: Path, blob: Path, size: int) -> bool:
        """Whether an earlier commit got as far as the link.

        Raises:
            StorageUnavailable: something else has that name.
        """
        state, named = stat_or_none(blob), stat_or_none(part)
        if state is None:
            return False
        if state.st_size == size or (named is not None and os.path.samestat(state, named)):
            return True
        raise StorageUnavailable(f"blob {blob.name} has {state.st_size} bytes instead of {size}")

    def _sync_and_link(self, part: Path, blob: Path, size: int) -> None:
        if size == 0:
            # An empty file has no bytes, so nobody needs to have written its part.
            os.close(self._tree.open_file(part, os.O_RDWR | os.O_CREAT))
        with self._holding(part, 0, None) as taken:
            if taken is None or taken.extent < size:
                extent = 0 if taken is None else taken.extent
                raise StorageUnavailable(f"part {part.name} has {extent} bytes instead of {size}")
            if taken.extent > size:
                self._calls.truncate(taken.descriptor, size)  # a tail that was never accepted
            self._sync(part, taken.descriptor)
            self._link(part, blob)

    def _sync(self, part: Path, descriptor: int) -> None:
        write_back = self._tree.write_backs.known(part)
        try:
            self._calls.sync(descriptor)
            if write_back is not None:
                write_back.judge_sync()
        except (OSError, StorageError) as error:
            self._tree.set_aside(part)
            reason = f"part {part.name} did not reach the disk and is set aside"
            raise StorageUnavailable(reason, lost=True) from error

    def _link(self, part: Path, blob: Path) -> None:
        self._within(str(blob.parent), lambda: self._calls.link(part, blob))

    def _within(self, directory: str, make: Callable[[], T]) -> T:
        """Make something in a directory of blobs, which is made when it is missing."""
        self._tree.make_object_directory(directory)
        try:
            return make()
        except FileNotFoundError:  # the directory vanished after we had seen it
            self._tree.restore()
            self._tree.make_object_directory(directory)
            return make()


def _has_its_room(part: Path, size: int) -> bool:
    """Whether a part of that size is there, and its blocks with it. Source: stat(2): blocks are of 512 bytes."""
    state = stat_or_none(part)
    return state is not None and state.st_size >= size and state.st_blocks * 512 >= size
