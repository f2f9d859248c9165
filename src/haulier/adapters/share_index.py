"""The index of shared files in SQLite: kept between runs, replaced in one transaction."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from haulier.adapters.sqlite_file import SqliteFile, raw_of, text_of
from haulier.core.words import words_of
from haulier.ports import SharedFile

FILE_NAME: Final = "soulseek-shares.db"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, folder BLOB NOT NULL,
    share BLOB NOT NULL, local BLOB NOT NULL, size INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS files_by_folder ON files (folder, path);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
    text, content = '', tokenize = "unicode61 remove_diacritics 0"
);
"""
_SELECT: Final = "SELECT share, path, local, size FROM files"


class SqliteShareIndex(SqliteFile):
    """Keeps what the last scan found, in a file.

    Args:
        path: The file; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SCHEMA)

    async def replace(self, files: Sequence[SharedFile]) -> None:
        """Forget all files and keep these, in one step."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM files")
            connection.execute("INSERT INTO words (words) VALUES ('delete-all')")
            connection.executemany(
                "INSERT INTO files (number, path, folder, share, local, size) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (
                        number,
                        raw_of(file.path),
                        raw_of(file.folder),
                        raw_of(file.share),
                        raw_of(file.local),
                        file.size,
                    )
                    for number, file in enumerate(files)
                ),
            )
            connection.executemany(
                "INSERT INTO words (rowid, text) VALUES (?, ?)",
                ((number, " ".join(words_of(file.path))) for number, file in enumerate(files)),
            )

        await self._write(work)

    async def find(self, path: str) -> SharedFile | None:
        """Return the file of that virtual path."""
        found = await self._rows(_SELECT + " WHERE path = ?", (raw_of(path),))
        return found[0] if found else None

    async def all(self) -> Sequence[SharedFile]:
        """Return all, in the order of their folders."""
        return await self._rows(_SELECT + " ORDER BY folder, path", ())

    async def below(self, folder: str) -> Sequence[SharedFile]:
        """Return those in a folder and below it, in the order of their folders."""
        inside = raw_of(f"{folder}\\")
        after = inside[:-1] + bytes([inside[-1] + 1])
        return await self._rows(
            _SELECT + " WHERE folder = ? OR (folder >= ? AND folder < ?) ORDER BY folder, path",
            (raw_of(folder), inside, after),
        )

    async def search(
        self, wanted: Sequence[str], unwanted: Sequence[str], phrases: Sequence[str], limit: int
    ) -> Sequence[SharedFile]:
        """Return files with all the words, none of the unwanted ones, and no such phrase."""
        query = " AND ".join(map(_quoted, wanted))
        if unwanted:
            query = f"({query}) NOT ({' OR '.join(map(_quoted, unwanted))})"

        def work(connection: sqlite3.Connection) -> list[SharedFile]:
            found: list[SharedFile] = []
            numbers = connection.execute("SELECT rowid FROM words WHERE words MATCH ?", (query,))
            for (number,) in numbers:
                row = connection.execute(_SELECT + " WHERE number = ?", (number,)).fetchone()
                file = _file_of(row)
                if not any(phrase in file.path.lower() for phrase in phrases):
                    found.append(file)
                    if len(found) == limit:
                        break
            return found

        return await self._read(work)

    async def _rows(self, query: str, parameters: tuple[bytes, ...]) -> list[SharedFile]:
        return await self._read(
            lambda connection: [_file_of(row) for row in connection.execute(query, parameters)]
        )


def _quoted(word: str) -> str:
    return f'"{word}"'


def _file_of(row: tuple[bytes, bytes, bytes, int]) -> SharedFile:
    share, path, local = map(text_of, row[:3])
    return SharedFile(share=share, path=path, local=local, size=row[3])
