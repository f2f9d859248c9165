"""Where things are below a data directory, and what parts and blobs have in common there."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from haulier.adapters.disk.directories import (
    INCOMING,
    LOST_AND_FOUND,
    OBJECTS,
    TREE,
    make_directory,
    make_tree,
    require_room,
    require_writable,
)
from haulier.adapters.disk.system_calls import read_error, stat_or_none, write_error
from haulier.adapters.disk.write_back import WriteBacks
from haulier.adapters.disk.writer import DiskTools
from haulier.core.defaults import MIN_FREE_BYTES
from haulier.core.errors import StorageError, StorageUnavailable
from haulier.logs import get_logger
from haulier.ports import Stray

PART_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
BLOB_KEY: Final = re.compile(r"[A-Za-z0-9_-]{4,128}", re.ASCII)

log = get_logger()


def _require_key(key: str, pattern: re.Pattern[str]) -> str:
    """Keys are ours; one that is not a plain name is a programming mistake, and must not be a path."""
    if pattern.fullmatch(key) is None:
        message = f"not a key of ours: {key!r}"
        raise AssertionError(message)
    return key


def _device_of(path: Path) -> int | None:
    state = stat_or_none(path)
    return None if state is None else state.st_dev


class WritingErrors:
    """Translates what goes wrong while it is entered. No generator: each short file enters one, which costs a third."""

    def __init__(self, root: Path, needed: int) -> None:
        self._root = root
        self._needed = needed

    def __enter__(self) -> None:
        """Begin to look."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Raise what an error of the system means to callers."""
        if isinstance(error, OSError):
            raise write_error(error, self._root, needed=self._needed) from error


class DiskTree:
    """The directories of one disk sink. Its methods block; they are called in worker threads."""

    def __init__(
        self,
        root: Path,
        *,
        min_free: int = MIN_FREE_BYTES,
        tools: DiskTools | None = None,
        shelves: Mapping[str, Path] | None = None,
    ) -> None:
        """Use `root`, whose directories are made when they are needed; `shelves` as in `DiskSink`."""
        self.root = root.absolute()
        self.shelves = {prefix: self.root / path for prefix, path in (shelves or {}).items()}
        self.incoming = self.root / INCOMING
        self.objects = self.root / OBJECTS
        self.lost = self.root / LOST_AND_FOUND
        self.tools = tools or DiskTools()
        self.calls = self.tools.calls
        self._min_free = min_free
        self._device = _device_of(self.root)
        self.write_backs = WriteBacks(self.calls, self.tools.write_back_threads, self._spoiled)
        self._durable: set[str] = set()
        """Directories below `objects/` whose names are known to survive a power loss: `ab/cd` has 65 792 of them."""

    def part(self, key: str) -> Path:
        """Return the path of a part."""
        return self.incoming / _require_key(key, PART_KEY)

    def blob(self, blob_key: str) -> Path:
        """Return the path of a blob."""
        return Path(*self.place_of_blob(blob_key))

    def place_of_blob(self, blob_key: str) -> tuple[str, str]:
        """Return the directory of a blob, and its name there, as text: a path costs as much as writing a short file."""
        _require_key(blob_key, BLOB_KEY)
        place, name = self.objects, blob_key
        for prefix, shelf in self.shelves.items():
            if blob_key.startswith(prefix):
                place, name = shelf, blob_key.removeprefix(prefix)
        return f"{place}/{name[:2]}/{name[2:4]}", name

    def writing_errors(self, needed: int = 0) -> WritingErrors:
        """Translate what goes wrong while `needed` bytes are written."""
        return WritingErrors(self.root, needed)

    def directories(self) -> tuple[Path, ...]:
        """Return every directory that is there all the time."""
        return (self.incoming, self.objects, self.lost, *self.shelves.values())

    def require_writable(self) -> None:
        """Make the directories that vanished and check that files can be made in them.

        Raises:
            StorageNotWritable · DirectoryNotCreatable · StorageFull
        """
        if not all(os.path.isdir(path) for path in self.directories()):  # noqa: PTH112
            self.restore()  # (pathlib would take four times as long, on every request)
        for directory in (self.incoming, self.objects, *self.shelves.values()):
            require_writable(directory, self.calls)

    def require_same_disk(self) -> None:
        """Check that the root is still on the file system on which it was found.

        One that was unmounted leaves an empty directory under its name, in which nothing was ever lost.

        Raises:
            StorageUnavailable
        """
        if self._device not in {None, _device_of(self.root)}:
            raise StorageUnavailable(f"{self.root} is on another file system than at the start")

    def require_room(self, size: int) -> None:
        """Check that `size` more bytes leave free what must stay free.

        Raises:
            StorageFull · StorageUnavailable · DirectoryNotCreatable
        """
        try:
            self._require_room(size)
        except StorageUnavailable:
            # Looking each time before whether it is there would take as long as asking for the room.
            if os.path.isdir(self.incoming):  # noqa: PTH112 - as above
                raise
            self.restore()
            self._require_room(size)

    def _require_room(self, size: int) -> None:
        require_room(self.incoming, size, min_free=self._min_free, calls=self.calls)

    def restore(self) -> None:
        """Make what is missing; what was known of vanished directories does not hold any more.

        Raises:
            DirectoryNotCreatable · StorageFull
        """
        self._durable.clear()
        self.write_backs.forget_names()
        make_tree(self.root, self.calls, (*TREE, *self.shelves.values()))

    def open_file(self, path: Path, flags: int) -> int:
        """Open a part; a directory that vanished since it was checked is made again, once."""
        try:
            return self.calls.open(path, flags)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
        self.restore()
        return self.calls.open(path, flags)

    def make_object_directory(self, leaf: str) -> None:
        """Make `objects/ab/cd`, both names durable.

        That one exists is no proof: whoever made it may have died before its sync.

        Raises:
            DirectoryNotCreatable · StorageError
        """
        if leaf in self._durable:
            return
        above = leaf.rpartition("/")[0]
        for parent, directory in ((above.rpartition("/")[0], above), (above, leaf)):
            if directory not in self._durable:
                make_directory(directory, self.calls, expected=True)
                with self.writing_errors():
                    self.calls.sync_directory(parent)
                self._durable.add(directory)

    def remove(self, path: Path) -> None:
        """Remove a file; fine when there is none."""
        with self.writing_errors(), suppress(FileNotFoundError):
            self.calls.unlink(path)
        self.write_backs.forget(path)

    def set_aside(self, path: Path) -> None:
        """Move a file to lost+found; fine when there is none.

        Link, then unlink: unlike a rename that never replaces what was set aside before.
        """
        with self.writing_errors():
            make_directory(self.lost, self.calls)
            target = self._link_aside(path)
            if target is not None:
                self.remove(path)
                log.warning("file.set_aside", path=str(path), target=str(target))

    def _spoiled(self, part: Path, descriptor: int) -> None:
        """Set a part aside that is known not to reach the device, so that no other process takes it for whole."""
        try:
            named = stat_or_none(part)
            if named is not None and os.path.samestat(os.fstat(descriptor), named):
                self.set_aside(part)
        except (OSError, StorageError):
            # Until it is removed this process refuses it.
            log.exception("part.not_set_aside", path=str(part))

    def _link_aside(self, path: Path) -> Path | None:
        number = 0
        while True:
            target = self.lost / (path.name if number == 0 else f"{path.name}.{number}")
            try:
                self.calls.link(path, target)
            except FileExistsError:
                number += 1
            except FileNotFoundError:
                return None
            else:
                return target

    def list_directories(self, directory: Path) -> list[Path]:
        """Return the directories in a directory; none when it is missing."""
        return sorted(
            Path(entry.path) for entry in _entries(directory) if entry.is_dir(follow_symlinks=False)
        )

    def list_files(self, directory: Path, pattern: re.Pattern[str]) -> list[Stray]:
        """Return the files whose names match; one that vanishes meanwhile is left out."""
        strays = []
        for entry in _entries(directory):
            if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                state = stat_or_none(Path(entry.path))
                if state is not None:
                    strays.append(Stray(entry.name, state.st_mtime))
        return strays


def _entries(directory: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise read_error(error) from error
