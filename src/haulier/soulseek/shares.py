"""What we share: named folders, scanned into an index, and opened only where they may be.

Rule 1: whatever a peer asks for is looked up in the index by its virtual path; no path of a peer ever reaches
        the file system. What is hidden, itself or by a folder below the share's, is not in the index.
Rule 2: a file is opened step by step from its share's folder, no step through a symbolic link. A link that
        leads to a place inside the share is followed beforehand; one that leaves it, or leads to what is hidden, is
        refused, when scanning and again when opening.
Rule 3: a scan replaces the whole index in one step at its end; until then the old one answers.
"""

import asyncio
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from haulier.core.errors import ConfigError, HaulierError
from haulier.core.values import dataclass
from haulier.core.words import words_of
from haulier.engine.tasks import in_thread
from haulier.ports import SharedFile, ShareIndex
from haulier.soulseek.names import QUERY_CHARACTERS, SEPARATOR, check_share_name, escape, spellings
from haulier.soulseek.peer_messages import TO_PEER, FileEntry, Folder, ShareList

FOUND_LIMIT: Final = 500
"""Files in an answer to a search; whoever gets more than a screenful asks more precisely."""
QUERY_WORDS: Final = 50
"""Of a search, different ones; nobody types more. Each is looked up in the index, which all requests for files need too."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Without waiting: a named pipe in the place of a file would else hold us up."""


@dataclass(frozen=True, slots=True)
class Share:
    """A folder under the name that peers see."""

    name: str
    root: Path

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Return the share that `[NAME=]DIR` says; raises ConfigError."""
        name, named, folder = text.partition("=")
        root = Path(folder if named else text).expanduser()
        if not root.is_dir():
            raise ConfigError("share", text, "the folder does not exist")
        root = root.resolve()
        return cls(check_share_name(name if named else escape(root.name)), root)


class NotShared(HaulierError):
    """There is no such file to be shared, any more or at all."""

    file: str

    def __str__(self) -> str:
        return f"{self.file} is not shared"


class Shares:
    """All shares of a node.

    Args:
        shares: The folders; each name once.
        index: Where the scan goes.
    """

    def __init__(self, shares: Sequence[Share], index: ShareIndex) -> None:
        names = [share.name for share in shares]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError("share", name, "each share has a name of its own; give one as NAME=DIR")
        self._roots = {share.name: share.root for share in shares}
        self._index = index
        self._scanning = asyncio.Lock()
        self._list: bytes | None = None
        self._listing = asyncio.Lock()
        self.folders = 0
        self.files = 0

    async def scan(self) -> None:
        """Look at all folders and replace the index; one scan at a time."""
        async with self._scanning:
            found = await asyncio.to_thread(self._scan)
            await self._index.replace(found)
            self.files = len(found)
            self.folders = len({file.folder for file in found})
            async with self._listing:  # a list that is being made may be of what was there before
                self._list = None

    def _scan(self) -> list[SharedFile]:
        return [file for name, root in self._roots.items() for file in _scan_share(name, root)]

    async def find(self, asked: str) -> SharedFile | None:
        """Return the file that a peer means by a virtual path."""
        for name in spellings(asked):
            found = await self._index.find(name)
            if found is not None:
                return found
        return None

    async def open(self, file: SharedFile) -> int:
        """Return a descriptor of the file, as it is now.

        Raises:
            NotShared: it is gone, or is nothing that is shared.
            OSError: it cannot be read.
        """
        root = self._roots.get(file.share)
        if root is None:
            raise NotShared(file.path)
        return await in_thread(open_inside, root, file.local, undo=os.close)

    async def list(self) -> bytes:
        """Return all that is shared, as the frame of one `ShareList`; made once a scan, and the same for all who ask."""
        async with self._listing:
            if self._list is None:
                files = await self._index.all()
                self._list = await asyncio.to_thread(
                    lambda: TO_PEER.encode(ShareList.pack(_folders_of(files)))
                )
            return self._list

    async def folder(self, asked: str) -> tuple[Folder, ...]:
        """Return a folder and all below it."""
        for name in spellings(asked):
            found = await self._index.below(name)
            if found:
                return tuple(_folders_of(found))
        return ()

    async def search(self, query: str, excluded: Sequence[str] = ()) -> tuple[FileEntry, ...]:
        """Return files whose paths have all words of the query, and none of those that follow a minus.

        Of a query that is longer than any that somebody types nothing is looked up.

        Args:
            query: What the peer typed.
            excluded: Phrases that no answer may hold, in lower case.
        """
        parts = query.split() if len(query) <= QUERY_CHARACTERS else []
        wanted = {word: None for part in parts if not part.startswith("-") for word in words_of(part)}
        unwanted = {word: None for part in parts if part.startswith("-") for word in words_of(part)}
        if not wanted or len(wanted) + len(unwanted) > QUERY_WORDS:
            return ()
        found = await self._index.search(list(wanted), list(unwanted), excluded, FOUND_LIMIT)
        return tuple(FileEntry.of(file.path, file.size) for file in found)


def _folders_of(files: Sequence[SharedFile]) -> Iterator[Folder]:
    """Yield folders in order; `files` are in the order of their folders."""
    folder: str | None = None
    entries: list[FileEntry] = []
    for file in files:
        if file.folder != folder and folder is not None:
            yield Folder(folder, tuple(entries))
            entries = []
        folder = file.folder
        entries.append(FileEntry.of(file.path.rpartition(SEPARATOR)[2], file.size))
    if folder is not None:
        yield Folder(folder, tuple(entries))


def _scan_share(name: str, root: Path) -> Iterator[SharedFile]:
    pending: list[tuple[str, str, frozenset[tuple[int, int]]]] = [("", name, frozenset())]
    while pending:
        local, virtual, above = pending.pop()
        try:
            status = (root / local).stat()
            entries = sorted(os.scandir(root / local), key=lambda entry: entry.name)
        except OSError:
            continue  # gone, or not for us to read: then it is not shared
        here = (status.st_dev, status.st_ino)
        if here in above:
            continue  # a link to a folder above: it has no end
        for entry in entries:
            path, below = f"{virtual}{SEPARATOR}{escape(entry.name)}", _below(local, entry.name)
            if entry.name.startswith(".") or not _stays_inside(root, entry):
                continue
            try:
                status = entry.stat()
            except OSError:
                continue  # gone meanwhile, or a link that leads nowhere, to itself even
            if stat.S_ISDIR(status.st_mode):
                pending.append((below, path, above | {here}))
            elif stat.S_ISREG(status.st_mode):
                yield SharedFile(share=name, path=path, local=below, size=status.st_size)


def _below(local: str, name: str) -> str:
    return f"{local}/{name}" if local else name


def _stays_inside(root: Path, entry: "os.DirEntry[str]") -> bool:
    return not entry.is_symlink() or _parts_inside(root, entry.path) is not None


def _parts_inside(root: Path, path: str | Path) -> tuple[str, ...] | None:
    """Return the way from the share's folder to where a path really leads; None where that is nothing to be shared."""
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(root):
        return None
    parts = real.relative_to(root).parts
    return None if any(part.startswith(".") for part in parts) else parts


def open_inside(root: Path, local: str) -> int:
    """Return a descriptor of a regular file below `root`.

    Raises:
        NotShared: there is none, or the way to it leaves the folder.
        OSError: it cannot be read.
    """
    parts = _parts_inside(root, root / local)
    if not parts:
        raise NotShared(local)
    *folders, name = parts
    try:
        return _open_step_by_step(root, folders, name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotShared(local) from error


def _open_step_by_step(root: Path, folders: Sequence[str], name: str) -> int:
    at = os.open(root, _DIRECTORY)
    try:
        for folder in folders:
            below = os.open(folder, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        descriptor = os.open(name, _FILE, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotShared(name)
    return descriptor
