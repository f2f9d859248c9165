"""Which files `haulier put` sends, and where `haulier get` puts them.

Rule 1: nothing is left out silently, and nothing keeps the rest from being sent: a link to a folder is followed, one to
        a folder above it is left out with a reason, and so is a folder that cannot be read; folders without a file below
        them, of which no record can tell, are counted.
Rule 2: two files never get one path; a path never leads out of the folder it is written to.
"""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path

from haulier.core.errors import HaulierError, InvalidRequest
from haulier.core.upload import check_path, require_valid
from haulier.core.values import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """A file to send."""

    source: Path
    path: str | None
    """Its record's path; None for a file that was named by itself."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A folder, or a file that cannot be told from one, that is not sent."""

    source: Path
    error: HaulierError | OSError


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be sent, in order."""

    items: list[Item]
    empty: int = 0
    """Folders without anything in them; they are not sent."""
    left_out: list[LeftOut] = field(default_factory=list)


def collect(names: list[Path], *, recursive: bool) -> Selection:
    """Return what is to be sent.

    Raises:
        InvalidRequest: a folder without `-r`, or two files with one path.
    """
    items: list[Item] = []
    left_out: list[LeftOut] = []
    empty = 0
    for name in names:
        try:
            is_folder = name.is_dir()
        except OSError as error:  # below a folder that is closed to us
            left_out.append(LeftOut(name, error))
            continue
        if not is_folder:
            items.append(Item(name, None))
        elif not recursive:
            raise InvalidRequest.of("FILE", f"{name} is a folder; -r sends folders")
        else:
            for found in _walk(name, name.resolve().name, ()):
                if found is None:
                    empty += 1
                elif isinstance(found, LeftOut):
                    left_out.append(found)
                else:
                    items.append(found)
    _require_distinct(items)
    return Selection(items, empty, left_out)


def _walk(folder: Path, path: str, above: tuple[tuple[int, int], ...]) -> Iterator[Item | LeftOut | None]:
    """Yield the files below a folder, what is left out, and None for each folder in which there is nothing."""
    try:
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        if here in above:
            yield LeftOut(folder, InvalidRequest.of("path", "it is a link to a folder above it"))
            return
        with os.scandir(folder) as entries:
            children = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield LeftOut(folder, error)
        return
    if not children:
        yield None
    for child in children:
        inner = f"{path}/{child.name}" if path else child.name
        if _is_folder(child):
            yield from _walk(Path(child.path), inner, (*above, here))
        else:
            yield Item(Path(child.path), unicodedata.normalize("NFC", inner))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into a closed folder; it is told when its turn comes
        return False


def _require_distinct(items: list[Item]) -> None:
    seen: dict[str, Path] = {}
    for item in items:
        if item.path is None:
            continue
        if item.path in seen:
            raise InvalidRequest.of(
                "FILE", f"{seen[item.path]} and {item.source} would both get the path {item.path!r}"
            )
        seen[item.path] = item.source


def place_below(folder: Path, path: str) -> Path:
    """Return where a record of that relative path goes.

    Raises:
        InvalidRequest: the service told a path that could lead out of the folder.
    """
    require_valid(check_path(unicodedata.normalize("NFC", path)))
    return folder.joinpath(*path.split("/"))
