"""Bytes on a local disk: parts in `incoming/`, blobs in `objects/ab/cd/`, strays in `lost+found/`.

Rule 1: `PartWriter.write`, what only looks or opens, and the sync of a short file touch the disk on the event loop
        while it is fast; all else runs in worker threads.
Rule 2: a cancel is raised when the thread has ended, so that no call works on a closed file.
The rules that keep the bytes right are at the head of `parts.py`.
"""

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from haulier.adapters.disk.assembly import Assembly, steps_of
from haulier.adapters.disk.parts import PartFiles
from haulier.adapters.disk.system_calls import read_error, stat_or_none
from haulier.adapters.disk.tree import BLOB_KEY, PART_KEY, DiskTree
from haulier.adapters.disk.writer import DiskTools, PartWriter
from haulier.core.defaults import MIN_FREE_BYTES
from haulier.core.digest import Buffer
from haulier.core.errors import StorageError, StorageUnavailable
from haulier.ports import Stray

READ_PIECE: Final = 1024 * 1024
"""Bytes that `read` yields at a time: few thread hops, and little memory for a thousand readers."""
SCAN_PIECE: Final = 256 * 1024
"""Bytes that `scan` hands on at a time: they are still in the CPU's cache when they are hashed."""
SHORT_SCAN: Final = 64 * 1024
"""Bytes that are read, and hashed at 0.3 GB/s or more, in the time that the way to a thread and back takes."""
SCAN_STEP: Final = 32 * 1024 * 1024
"""Bytes that `scan` reads in one go of a thread; between two goes it can be cancelled."""


class DiskSink:
    """`ByteSink`, `Concatenating` and `Sweeping` on a directory of a local file system with hard links.

    Several sinks, in one process or many, may use the same directory.
    """

    def __init__(
        self,
        root: Path,
        *,
        min_free: int = MIN_FREE_BYTES,
        tools: DiskTools | None = None,
        shelves: Mapping[str, Path] | None = None,
    ) -> None:
        """Use `root`, whose directories are made when they are needed.

        Args:
            root: of parts and blobs.
            min_free: bytes that stay free.
            tools: what touches the disk.
            shelves: directories inside `root` for the blobs whose keys begin with a prefix; their files are named
                by what follows it.
        """
        self._tree = DiskTree(root, min_free=min_free, tools=tools, shelves=shelves)
        self._files = PartFiles(self._tree)
        self._calls = self._tree.calls
        self._threads = self._tree.tools.threads
        self._run = self._threads.run
        self._writers: dict[str, set[PartWriter]] = {}
        """The open writers of each part."""

    def close(self) -> None:
        """End the idle threads; to be called when nothing is running any more."""
        self._threads.close()
        self._tree.tools.write_back_threads.close()

    # --- parts ---------------------------------------------------------------------------------------

    async def prepare(self, key: str, *, size: int | None) -> None:
        """Make room for a part. `size`: reserve that much; None: it grows as it is written.

        Raises:
            StorageFull · StorageNotWritable · DirectoryNotCreatable · StorageUnavailable
        """
        part = self._tree.part(key)
        if size is None:
            await self.check(None)
        else:
            await self._run(self._files.reserve, part, size)

    async def check(self, size: int | None) -> None:
        """Check that writing is possible and that `size` bytes would fit; make vanished directories.

        Raises:
            StorageFull · StorageNotWritable · DirectoryNotCreatable · StorageUnavailable
        """
        await self._threads.run_short(self._check, size or 0)

    def _check(self, size: int) -> None:
        self._tree.require_writable()
        self._tree.require_room(size)

    async def open(self, key: str, start: int, stop: int | None) -> PartWriter:
        """Claim `[start, stop)` of a part and return its writer.

        Raises:
            RangeBusy: somebody else has a part of that range.
            StorageFull · StorageNotWritable · DirectoryNotCreatable
            StorageUnavailable: the disk failed, the part is committed, or it ends before `start`.
        """
        writer = await self._threads.acquire(
            self._files.open_writer, self._tree.part(key), start, stop, self._forget, undo=PartWriter.abandon
        )
        self._writers.setdefault(key, set()).add(writer)
        return writer

    def _forget(self, writer: PartWriter) -> None:
        writers = self._writers[writer.key]
        writers.remove(writer)
        if not writers:
            del self._writers[writer.key]

    async def extent(self, key: str) -> int:
        """Return where a part ends; 0 when there is none."""
        return await self._size(self._tree.part(key)) or 0

    async def truncate(self, key: str, size: int) -> None:
        """Cut a growing part; one that is shorter or missing stays so.

        A part that is open through this sink may be cut under its writer, by whoever has that writer.

        Raises:
            StorageUnavailable: the disk failed, or somebody else is writing behind `size`.
        """
        ours = key in self._writers
        await self._run(lambda: self._files.truncate(self._tree.part(key), size, ours=ours))

    async def scan(self, key: str, start: int, stop: int, consume: Callable[[Buffer], None]) -> None:
        """Hand a part's bytes `[start, stop)` to `consume`, in order, in one worker thread at a time.

        The buffer is reused: `consume` must not keep what it is given. What it raises comes out of here.

        Raises:
            StorageUnavailable: the part is missing or shorter, or the disk failed.
        """
        if stop <= start:
            return
        buffer = memoryview(bytearray(min(SCAN_PIECE, stop - start)))
        take = partial(self._take_step, self._tree.part(key), buffer, consume)
        if stop - start <= SHORT_SCAN:
            await self._threads.run_short(take, start, stop)
            return
        for step in range(start, stop, SCAN_STEP):
            await self._run(take, step, min(step + SCAN_STEP, stop))

    def _take_step(
        self, part: Path, buffer: memoryview, consume: Callable[[Buffer], None], *span: int
    ) -> None:
        offset, stop = span
        descriptor = self._open_file(part)
        try:
            while offset < stop:
                piece = self._read_into(buffer[: stop - offset], descriptor, offset)
                consume(piece)
                offset += len(piece)
        finally:
            os.close(descriptor)

    async def concatenate(self, key: str, parts: Sequence[tuple[str, int]]) -> None:
        """Make a part of others, in their order; may be repeated. One that fails leaves the part empty.

        Raises:
            RangeBusy: somebody else writes it.
            StorageFull · StorageNotWritable · DirectoryNotCreatable
            StorageUnavailable: one of the others is missing or short, the part is committed, or the disk failed.
        """
        total = sum(size for _, size in parts)
        writer = await self.open(key, 0, None)
        try:
            assembly = Assembly(self._calls, writer.descriptor)
            steps = steps_of([(self._tree.part(name), size) for name, size in parts])
            with self._tree.writing_errors(total):
                await self._run(assembly.clear)
                await self._run(self._tree.require_room, total)
                try:
                    for step in steps:
                        await self._run(assembly.copy, *step)
                except (OSError, StorageError):
                    await self._run(assembly.clear)
                    raise
        finally:
            await writer.close()

    async def discard(self, key: str) -> None:
        """Remove a part; fine when there is none."""
        await self._run(self._tree.remove, self._tree.part(key))

    async def commit(self, key: str, blob_key: str, *, size: int) -> None:
        """Make a part the blob `blob_key`, durable against power loss when this returns.

        Raises:
            StorageFull · StorageNotWritable · DirectoryNotCreatable
            RangeBusy: the part is being written.
            StorageUnavailable: the disk failed, or the part is missing or short.
        """
        await self._run(self._files.commit, self._tree.part(key), self._tree.blob(blob_key), size)

    async def store(self, blob_key: str, content: bytes) -> None:
        """Make a blob of a short content, durable against power loss when this returns.

        Raises:
            StorageFull · StorageNotWritable · DirectoryNotCreatable
            StorageUnavailable: the disk failed, or there is such a blob.
        """
        await self._threads.run_sync(self._files.store, *self._tree.place_of_blob(blob_key), content)

    async def recover(self, key: str, blob_key: str | None, *, size: int) -> bool:
        """Look whether a part can still become that blob; one that is gone is made again from it.

        Raises:
            StorageNotWritable · DirectoryNotCreatable
            StorageUnavailable: the disk failed, or is another than it was.
        """
        blob = None if blob_key is None else self._tree.blob(blob_key)
        return await self._run(self._files.recover, self._tree.part(key), blob, size)

    # --- blobs ---------------------------------------------------------------------------------------

    async def read(self, blob_key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield a blob's bytes `[start, stop)`, up to `READ_PIECE` at a time.

        Raises:
            StorageUnavailable: the blob is missing or shorter, or the disk failed.
        """
        descriptor = await self._threads.acquire(self._open_file, self._tree.blob(blob_key), undo=os.close)
        try:
            while start < stop:
                piece = await self._run(self._read_piece, descriptor, start, min(stop - start, READ_PIECE))
                yield piece
                start += len(piece)
        finally:
            os.close(descriptor)

    def _read_piece(self, descriptor: int, offset: int, size: int) -> bytes:
        return bytes(self._read_into(memoryview(bytearray(size)), descriptor, offset))

    def _read_into(self, buffer: memoryview, descriptor: int, offset: int) -> memoryview:
        """Return the part of `buffer` that was filled, never an empty one."""
        try:
            count = self._calls.preadv(descriptor, buffer, offset)
        except OSError as error:
            raise read_error(error) from error
        if count == 0:
            raise StorageUnavailable(f"a stored file ends at {offset}, before its end")
        return buffer[:count]

    def _open_file(self, path: Path) -> int:
        try:
            return self._calls.open(path, os.O_RDONLY)
        except OSError as error:
            raise read_error(error) from error

    async def stat(self, blob_key: str) -> int | None:
        """Return a blob's size, None when there is none."""
        return await self._size(self._tree.blob(blob_key))

    async def _size(self, path: Path) -> int | None:
        try:
            state = await self._threads.run_short(stat_or_none, path)
        except OSError as error:
            raise read_error(error) from error
        return None if state is None else state.st_size

    async def delete(self, blob_key: str) -> None:
        """Remove a blob; fine when there is none."""
        await self._run(self._tree.remove, self._tree.blob(blob_key))

    # --- for others on this machine ---------------------------------------------------------------------

    def path_of_blob(self, blob_key: str) -> Path:
        """Return where a blob is; it is for reading only."""
        return self._tree.blob(blob_key)

    def path_of_part(self, key: str) -> Path:
        """Return where a part is, or would be; for whoever fills one that this sink does not write."""
        return self._tree.part(key)

    # --- sweeping ------------------------------------------------------------------------------------

    async def parts(self) -> AsyncIterator[Stray]:
        """Yield all parts."""
        for stray in await self._run(self._tree.list_files, self._tree.incoming, PART_KEY):
            yield stray

    async def blobs(self) -> AsyncIterator[Stray]:
        """Yield all blobs, one directory in memory at a time."""
        for prefix, place in (("", self._tree.objects), *self._tree.shelves.items()):
            for outer in await self._run(self._tree.list_directories, place):
                for leaf in await self._run(self._tree.list_directories, outer):
                    for stray in await self._run(self._tree.list_files, leaf, BLOB_KEY):
                        yield Stray(prefix + stray.key, stray.modified_at)

    async def set_aside_part(self, key: str) -> None:
        """Move a part to lost+found; fine when there is none."""
        await self._run(self._tree.set_aside, self._tree.part(key))

    async def set_aside_blob(self, blob_key: str) -> None:
        """Move a blob to lost+found; fine when there is none."""
        await self._run(self._tree.set_aside, self._tree.blob(blob_key))
