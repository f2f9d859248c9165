"""The directories of a disk: made, mended, proved writable.

Rule 1: nothing is made, and nothing used, outside of the configured root; symbolic links and `..` are
        resolved before that is judged.
Rule 2: every directory that is made is logged: one that appears while running was lost before. (Not
        louder than debug below `objects/`, where new ones are the rule.)
"""

import contextlib
import logging
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, takewhile
from pathlib import Path
from typing import Final

from haulier.adapters.disk.system_calls import (
    DIRECTORY_MODE,
    LOCKS,
    RangeLocks,
    StrPath,
    SystemCalls,
    directory_error,
    write_all,
    write_error,
)
from haulier.core.defaults import MIN_FREE_BYTES
from haulier.core.errors import (
    ConfigError,
    DirectoryNotCreatable,
    StorageError,
    StorageFull,
    StorageNotWritable,
    StorageUnavailable,
)
from haulier.logs import get_logger
from haulier.ports import RangeBusy

INCOMING: Final = "incoming"
OBJECTS: Final = "objects"
LOST_AND_FOUND: Final = "lost+found"
TREE: Final = (INCOMING, OBJECTS, LOST_AND_FOUND)

PROBE_PREFIX: Final = ".probe-"
"""Start of the names of files that only prove writability; no key of ours starts with a dot."""
PROBE_AGE_S: Final = 3600.0
"""Age at which a probe was left behind by a start that was killed; one takes a moment."""

_OWNER: Final = stat.S_IRWXU
_RESERVED: Final = frozenset({*TREE, "run"})
"""Directories of a data directory that are for something else."""

log = get_logger()


def require_inside(path: Path, root: Path) -> Path:
    """Return `path` resolved (relative ones below `root`).

    Raises:
        DirectoryNotCreatable: it leads out of `root`.
    """
    resolved = (root / path).resolve()
    if not resolved.is_relative_to(root.resolve()):
        raise DirectoryNotCreatable(str(path), f"it leads to {resolved}, outside of {root}")
    return resolved


def make_directory(path: StrPath, calls: SystemCalls, *, expected: bool = False) -> None:
    """Make `path` and its parents where they are missing; give us access where that lacks.

    `expected`: it is no news that it is missing, and the caller puts its name on the device; else that
    is done here.

    Raises:
        DirectoryNotCreatable · StorageFull
    """
    try:
        if not (expected and _make_at_once(path, calls)):
            _make_missing(Path(path), calls, expected=expected)
        _mend(path)
    except OSError as error:
        raise directory_error(error, path) from error


def _make_at_once(path: StrPath, calls: SystemCalls) -> bool:
    """Make a directory that is most likely missing, in one that is most likely there; False: it has to be looked."""
    try:
        calls.make_directory(path)
    except (FileExistsError, FileNotFoundError):
        return False
    log.debug("directory.created", path=str(path))
    return True


def _make_missing(path: Path, calls: SystemCalls, *, expected: bool) -> None:
    missing = list(takewhile(lambda directory: not directory.is_dir(), chain((path,), path.parents)))
    for directory in reversed(missing):
        if _make_one(directory, calls):
            log.log(logging.DEBUG if expected else logging.INFO, "directory.created", path=str(directory))
            if not expected:
                calls.sync_directory(directory.parent)


def _make_one(directory: Path, calls: SystemCalls) -> bool:
    """Return False when somebody else made it in this moment."""
    try:
        calls.make_directory(directory)
    except FileExistsError:
        if directory.is_dir():
            return False
        raise
    return True


def _mend(directory: StrPath) -> None:
    """Widen a mode that shuts out its owner; a narrower one for others is an operator's choice."""
    state = os.stat(directory)  # noqa: PTH116 - see `SystemCalls.make_directory`
    if state.st_mode & _OWNER == _OWNER or state.st_uid != os.geteuid():
        return
    Path(directory).chmod(DIRECTORY_MODE)
    log.warning("directory.mended", path=str(directory), mode=f"{stat.S_IMODE(state.st_mode):04o}")


def make_tree(root: Path, calls: SystemCalls, names: Iterable[str | Path] = TREE) -> None:
    """Make `root` and the directories `names` in it.

    Raises:
        DirectoryNotCreatable · StorageFull
    """
    make_directory(root, calls)
    for name in names:
        require_inside(Path(name), root)
        make_directory(root / name, calls)


def require_writable(directory: Path, calls: SystemCalls) -> None:
    """Ask the kernel whether files can be made here.

    Raises:
        StorageNotWritable: they cannot.
    """
    if not calls.may_write(directory):
        raise StorageNotWritable(str(directory))


def require_room(directory: Path, size: int, *, min_free: int, calls: SystemCalls) -> None:
    """Ask the file system whether `size` more bytes leave `min_free` bytes.

    Raises:
        StorageFull: they do not.
        StorageUnavailable: it does not answer.
    """
    try:
        available = calls.free_bytes(directory)
    except OSError as error:
        raise write_error(error, directory) from error
    if available < size + min_free:
        raise StorageFull(size + min_free, available)


def probe(root: Path, calls: SystemCalls, locks: RangeLocks = LOCKS) -> None:
    """Do once, with a small file, everything that an upload needs: lock, write, sync, link, remove.

    Raises:
        StorageFull · StorageNotWritable · StorageUnavailable
    """
    with _probe_names(root / INCOMING, root / OBJECTS) as (part, blob):
        try:
            _write_probe(part, calls, locks)
            calls.link(part, blob)
            calls.sync_directory(blob.parent)
            for path in (part, blob):
                calls.unlink(path)
        except OSError as error:
            raise write_error(error, root, needed=1) from error


@contextmanager
def _probe_names(*directories: Path) -> Iterator[tuple[Path, ...]]:
    """Give a new name in each of the directories, and let no probe be there afterwards, neither ours nor an old one."""
    # Process ids would not do for a name: in two containers that start on one directory both are 1.
    name = f"{PROBE_PREFIX}{secrets.token_hex(8)}"
    try:
        yield tuple(directory / name for directory in directories)
    finally:
        for directory in directories:
            with contextlib.suppress(OSError):  # what cannot be removed stays for the next start
                _sweep_probes(directory, name)


def _sweep_probes(directory: Path, ours: str) -> None:
    """Remove what probes have left."""
    now = directory.stat().st_mtime  # of the last probe: by the clock of the file system, whatever ours says
    for path in directory.glob(f"{PROBE_PREFIX}*"):
        if path.name == ours or path.lstat().st_mtime < now - PROBE_AGE_S:
            path.unlink(missing_ok=True)


def _write_probe(path: Path, calls: SystemCalls, locks: RangeLocks) -> None:
    descriptor = calls.open(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            locks.take(descriptor, 0, None)
        except RangeBusy:
            raise StorageUnavailable("another process is just proving this directory") from None
        write_all(calls, descriptor, b"?", 0)
        calls.sync(descriptor)
    finally:
        locks.free(descriptor)
        os.close(descriptor)


def prepare_tree(
    root: Path,
    *,
    setting: str = "data_dir",
    min_free: int = MIN_FREE_BYTES,
    calls: SystemCalls | None = None,
    locks: RangeLocks = LOCKS,
) -> Path:
    """Make a data directory ready before anything is started; return it absolute and resolved.

    Little room is logged only: what is stored can still be read and deleted, and every upload asks
    again before its first byte.

    Raises:
        ConfigError: it cannot be used; names `setting`, `root` and what is expected.
    """
    calls = calls or SystemCalls()
    try:
        make_tree(root.absolute(), calls)
    except StorageError as error:
        raise _config_error(setting, root, error) from error
    look_at_tree(root, setting=setting, min_free=min_free, calls=calls, locks=locks)
    return root.resolve()


def look_at_tree(
    root: Path,
    *,
    setting: str = "data_dir",
    min_free: int = MIN_FREE_BYTES,
    calls: SystemCalls | None = None,
    locks: RangeLocks = LOCKS,
) -> bool:
    """Judge a tree, for `prepare_tree` once it is made, and return whether all of it is there.

    What is missing is not made; what is there is proved by a small file that is taken away again.

    Raises:
        ConfigError: as `prepare_tree`.
    """
    calls = calls or SystemCalls()
    try:
        resolved = root.resolve()
        missing = [name for name in TREE if not (resolved / name).is_dir()]
        for name in TREE:
            _require_makeable(resolved / name, calls)
        _warn_when_full(_nearest(resolved), min_free, calls)
        if not missing:
            probe(resolved, calls, locks)
    except StorageError as error:
        raise _config_error(setting, root, error) from error
    return not missing


def _require_makeable(directory: Path, calls: SystemCalls) -> None:
    there = _nearest(directory)
    if not there.is_dir():
        raise DirectoryNotCreatable(str(directory), f"{there} is no directory")
    require_writable(there, calls)


def _nearest(path: Path) -> Path:
    """Return the path, or the lowest one above it that there is."""
    return next(each for each in (path, *path.parents) if os.path.lexists(each))


def prepare_shelf(
    root: Path, path: Path, *, setting: str = "ingestion_dir", calls: SystemCalls | None = None
) -> Path:
    """Make a directory for some of a tree's blobs ready before anything is started; return it resolved.

    Raises:
        ConfigError: it is not a directory of its own inside `root`, or cannot be used; names `setting` and `path`.
    """
    calls = calls or SystemCalls()
    with _shelf_told(root, path, setting):
        resolved = _shelf_inside(root, path)
        make_directory(resolved, calls)
    look_at_shelf(root, path, setting=setting, calls=calls)
    return resolved


def look_at_shelf(
    root: Path, path: Path, *, setting: str = "ingestion_dir", calls: SystemCalls | None = None
) -> bool:
    """Judge a shelf, for `prepare_shelf` once it is made, and return whether it is there; as `look_at_tree`.

    Raises:
        ConfigError: as `prepare_shelf`.
    """
    calls = calls or SystemCalls()
    with _shelf_told(root, path, setting):
        resolved, incoming = _shelf_inside(root, path), root.resolve() / INCOMING
        _require_makeable(resolved, calls)
        there = resolved.is_dir()
        if there and incoming.is_dir():
            _probe_link(incoming, resolved, calls)
    return there


@contextmanager
def _shelf_told(root: Path, path: Path, setting: str) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        expected = f"expected a directory of its own inside {root}, on the same file system; {error}"
        raise ConfigError(setting, str(path), expected) from error


def _shelf_inside(root: Path, path: Path) -> Path:
    resolved = require_inside(path, root)
    first = resolved.relative_to(root.resolve()).parts[:1]
    if not first or first[0] in _RESERVED:
        raise DirectoryNotCreatable(str(path), f"{resolved} is used for something else")
    return resolved


def _probe_link(incoming: Path, shelf: Path, calls: SystemCalls) -> None:
    """Make sure that what came in can be put there without being copied."""
    with _probe_names(incoming, shelf) as (part, blob):
        try:
            os.close(calls.open(part, os.O_RDWR | os.O_CREAT))
            calls.link(part, blob)
            for path in (part, blob):
                calls.unlink(path)
        except OSError as error:
            raise write_error(error, shelf, needed=1) from error


def _warn_when_full(root: Path, min_free: int, calls: SystemCalls) -> None:
    try:
        require_room(root, 0, min_free=min_free, calls=calls)
    except StorageFull as full:
        log.warning("storage.low", path=str(root), needed=full.needed, available=full.available)


def _config_error(setting: str, root: Path, error: StorageError) -> ConfigError:
    expected = (
        "expected a directory that can be created and written, on a local file system with hard links and "
        f"byte-range locks; {error}"
    )
    return ConfigError(setting, str(root), expected)
