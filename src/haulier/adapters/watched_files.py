"""What a watched folder has queued, for longer than the journal keeps its results."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from haulier.adapters.sqlite_file import SqliteFile, raw_of, text_of

Revision = tuple[int, int, int, int]
"""Inode, size, and the times of the last change of its bytes and of anything about it, in nanoseconds."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS watched (
    place BLOB NOT NULL, target BLOB NOT NULL, path BLOB NOT NULL, revision TEXT NOT NULL,
    PRIMARY KEY (place, target, path)
) STRICT, WITHOUT ROWID;
"""


class WatchedFiles(SqliteFile):
    """The files of one folder that were queued for one place, each with the revision that was."""

    def __init__(self, path: Path, folder: Path, to: str) -> None:
        """Take the file that keeps them, which other folders and other processes may share; it is opened by `open`."""
        super().__init__(path, _SCHEMA)
        self._key = (raw_of(str(folder)), raw_of(to))

    async def load(self) -> dict[str, Revision]:
        """Return what was queued. Raises StorageError."""
        found = await self._read(
            lambda connection: connection.execute(
                "SELECT path, revision FROM watched WHERE place = ? AND target = ?", self._key
            ).fetchall()
        )
        return {text_of(path): _revision(text) for path, text in found}

    async def note(self, queued: Mapping[str, Revision]) -> None:
        """Keep that these were queued. Raises StorageError."""
        rows = [(*self._key, raw_of(path), " ".join(map(str, it))) for path, it in queued.items()]
        await self._write(
            lambda connection: connection.executemany(
                "INSERT OR REPLACE INTO watched VALUES (?, ?, ?, ?)", rows
            )
        )

    async def forget(self, paths: Collection[str]) -> None:
        """Forget files that are no more. Raises StorageError."""
        rows = [(*self._key, raw_of(path)) for path in paths]
        await self._write(
            lambda connection: connection.executemany(
                "DELETE FROM watched WHERE place = ? AND target = ? AND path = ?", rows
            )
        )


def _revision(text: str) -> Revision:
    inode, size, written_ns, changed_ns = map(int, text.split())
    return inode, size, written_ns, changed_ns
