"""The index of shared files in memory: a dictionary, for tests."""

from collections.abc import Sequence

from haulier.core.words import words_of
from haulier.ports import SharedFile


class MemoryShareIndex:
    """Keeps what the last scan found."""

    def __init__(self) -> None:
        self._files: dict[str, SharedFile] = {}

    async def replace(self, files: Sequence[SharedFile]) -> None:
        """Forget all files and keep these."""
        self._files = {file.path: file for file in files}

    async def find(self, path: str) -> SharedFile | None:
        """Return the file of that virtual path."""
        return self._files.get(path)

    async def all(self) -> Sequence[SharedFile]:
        """Return all, in the order of their folders."""
        return sorted(self._files.values(), key=lambda file: (file.folder, file.path))

    async def below(self, folder: str) -> Sequence[SharedFile]:
        """Return those in a folder and below it, in the order of their folders."""
        return [
            file
            for file in await self.all()
            if file.folder == folder or file.folder.startswith(f"{folder}\\")
        ]

    async def search(
        self, wanted: Sequence[str], unwanted: Sequence[str], phrases: Sequence[str], limit: int
    ) -> Sequence[SharedFile]:
        """Return files with all the words, none of the unwanted ones, and no such phrase."""
        found = [
            file
            for file in self._files.values()
            if set(wanted) <= (has := set(words_of(file.path)))
            and not has & set(unwanted)
            and not any(phrase in file.path.lower() for phrase in phrases)
        ]
        return found[:limit]
