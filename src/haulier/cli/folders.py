"""Which files `haulier put` sends, and where `haulier get` puts them.

Rule 1: nothing is left out silently: what cannot be read is an error, a link to a folder is followed, and folders
        without a file below them, of which no record can tell, are counted.
Rule 2: two files never get one path; a path never leads out of the folder it is written to.
"""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from haulier.core.errors import InvalidRequest
from haulier.core.upload import check_path, require_valid


@dataclass(frozen=True, slots=True)
class Item:
    """A file to send."""

    source: Path
    path: str | None
    """Its record's path; None for a file that was named by itself."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be sent, in order."""

    items: list[Item]
    empty: int = 0
    """Folders without anything in them; they are not sent."""


def collect(names: list[Path], *, recursive: bool) -> Selection:
    """Return what is to be sent.

    Raises:
        InvalidRequest: a folder without `-r`, a circle of links, or two files with one path.
        OSError: a folder cannot be read.
    """
    items: list[Item] = []
    empty = 0
    for name in names:
        if not name.is_dir():
            items.append(Item(name, None))
        elif not recursive:
            raise InvalidRequest.of("FILE", f"{name} is a folder; -r sends folders")
        else:
            for found in _walk(name, name.resolve().name, ()):
                if found is None:
                    empty += 1
                else:
                    items.append(found)
    _require_distinct(items)
    return Selection(items, empty)


def _walk(folder: Path, path: str, above: tuple[tuple[int, int], ...]) -> Iterator[Item | None]:
    """Yield the files below a folder, and None for each folder in which there is nothing."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise InvalidRequest.of("FILE", f"{folder} is a link to a folder above it")
    with os.scandir(folder) as entries:
        children = sorted(entries, key=lambda entry: entry.name)
    if not children:
        yield None
    for child in children:
        inner = f"{path}/{child.name}" if path else child.name
        if child.is_dir():
            yield from _walk(Path(child.path), inner, (*above, here))
        else:
            yield Item(Path(child.path), unicodedata.normalize("NFC", inner))


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
