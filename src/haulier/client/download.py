"""A record's bytes fetched into a file: resumed, verified, and only then given its name.

Rule 1: bytes go to a hidden part file beside the target; the target appears whole, verified and synced, or
        not at all, and an existing file is replaced only when asked; what is no file, like a device, never is.
Rule 2: the part's name is made of the record, the kind and the target, and an asset's bytes never change,
        so a part always continues the same bytes; the digest proves it.
Rule 3: bytes that turn out wrong are thrown away; when they were resumed, once fetched anew.
"""

import asyncio
import errno
import os
from functools import partial
from pathlib import Path
from typing import Final, Self

import httpx2

from haulier.client.order import Report
from haulier.client.values import Asset, Record
from haulier.client.wire import PIECE, Wire
from haulier.core.digest import Digest, DigestName, OrderedDigest, new_hasher, parse_digest_name
from haulier.core.errors import InvalidRequest, PeerCorrupted, PeerRefused, PeerUnreachable
from haulier.engine.tasks import in_thread
from haulier.parts import is_at, open_locked, part_of, publish

OF_THE_FOLDER: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EROFS})
"""What says nothing about the part, of whose name nobody knows."""


class Part:
    """The locked part file and the digest of what is in it. Its methods block."""

    def __init__(self, path: Path, descriptor: int, name: DigestName) -> None:
        self.path = path
        self.size = 0
        self._name = name
        self._descriptor = descriptor
        self._hash = None if name is DigestName.NONE else OrderedDigest(name)

    @classmethod
    def open(cls, target: Path, mark: str, name: DigestName) -> Self:
        """Open or make the part of `target`; `mark` names what is fetched.

        Raises:
            OSError: the folder cannot be written to.
            InvalidRequest: another process is fetching the same.
        """
        path = part_of(target, mark)
        try:
            descriptor = open_locked(path, mode=0o666)
        except OSError as error:
            if error.errno not in OF_THE_FOLDER:
                raise
            raise OSError(error.errno, error.strerror, str(target.parent)) from error
        if descriptor is None:
            raise InvalidRequest.of("target", f"{target} is being fetched by another process")
        return cls(path, descriptor, name)

    def take_over(self) -> bool:
        """Read and hash the next `PIECE` of what an earlier run left; return whether there was any."""
        piece = os.pread(self._descriptor, PIECE, self.size)
        self._count(piece)
        return bool(piece)

    def write(self, piece: bytes) -> None:
        """Append."""
        view = memoryview(piece)
        while view:
            written = os.pwrite(self._descriptor, view, self.size)
            self._count(view[:written])
            view = view[written:]

    def clear(self) -> None:
        """Throw everything away and start at 0."""
        os.ftruncate(self._descriptor, 0)
        self.size = 0
        self._hash = None if self._name is DigestName.NONE else OrderedDigest(self._name)

    def digest(self) -> Digest | None:
        """Return the digest of what is in it."""
        return None if self._hash is None else self._hash.value()

    def publish(self, target: Path, *, overwrite: bool) -> None:
        """Sync it and give it its name.

        Raises:
            FileExistsError: the target exists and is not to be replaced.
        """
        os.fsync(self._descriptor)
        publish(self.path, target, overwrite=overwrite)

    def close(self) -> None:
        """Close it, and leave nothing behind when nothing was fetched."""
        if self.size == 0 and is_at(self.path, self._descriptor):
            self.path.unlink()
        os.close(self._descriptor)

    def _count(self, piece: bytes | memoryview) -> None:
        if self._hash is not None:
            self._hash.update(self.size, piece)
        self.size += len(piece)


class Download:
    """One asset's way into one file; `run` is called once."""

    def __init__(self, wire: Wire, record: Record, kind: str, target: Path, *, report: Report) -> None:
        asset = record.asset(kind)
        if asset is None:
            detail = f"record {record.id} is {record.status} and has no asset {kind!r}"
            raise PeerRefused(404, "record-not-found", detail)
        self._wire = wire
        self._asset: Final[Asset] = asset
        self._mark = f"{record.id}/{kind}"
        self._path = f"/api/records/{record.id}/assets/{kind}"
        self._target = target
        self._report = report

    async def run(self, *, resume: bool, overwrite: bool) -> Path:
        """Fetch, verify and publish; return the target.

        Raises:
            FileExistsError: the target exists with other bytes and `overwrite` is not given.
            IsADirectoryError: it is a folder.
            PeerCorrupted: the bytes are not what the record says.
            PeerRefused, PeerUnreachable: as `Wire.call`; the part stays for a later run.
            InvalidRequest: another process is fetching the same, or the target is a device or a pipe.
        """
        expected = expected_digest(self._asset)
        await asyncio.to_thread(require_file_or_nothing, self._target)
        if not overwrite and await asyncio.to_thread(os.path.lexists, self._target):
            # An earlier call may have put it there; the same bytes again are no conflict.
            if await asyncio.to_thread(holds, self._target, self._asset.size, expected):
                return self._target
            raise FileExistsError(errno.EEXIST, "exists with other bytes", str(self._target))
        name = DigestName.NONE if expected is None else expected.name
        part = await in_thread(Part.open, self._target, self._mark, name, undo=Part.close)
        try:
            await self._prepare(part, resume=resume)
            await self._fetch_right(part, expected)
            await in_thread(partial(part.publish, self._target, overwrite=overwrite))
        finally:
            await in_thread(part.close)
        return self._target

    @staticmethod
    async def _prepare(part: Part, *, resume: bool) -> None:
        if not resume:
            await in_thread(part.clear)
            return
        while await in_thread(part.take_over):
            pass

    async def _fetch_right(self, part: Part, expected: Digest | None) -> None:
        resumed = part.size > 0
        await self._fetch(part)
        if resumed and not self._right(part, expected):
            await in_thread(part.clear)
            await self._fetch(part)
        if not self._right(part, expected):
            actual = part.digest()
            await in_thread(part.clear)
            wanted = str(self._asset.size) if expected is None else expected.hex
            raise PeerCorrupted(self._mark, wanted, "" if actual is None else actual.hex)

    def _right(self, part: Part, expected: Digest | None) -> bool:
        return part.size == self._asset.size and part.digest() == expected

    async def _fetch(self, part: Part) -> None:
        if part.size > self._asset.size:
            await in_thread(part.clear)
        self._report.acknowledged(part.size)
        while part.size < self._asset.size:
            await self._wire.persevere(
                lambda: self._fetch_once(part), mark=lambda: part.size, waiting=self._report.waiting
            )

    async def _fetch_once(self, part: Part) -> None:
        headers = {"Range": f"bytes={part.size}-"} if part.size else {}
        async with self._wire.stream(
            self._path, headers={**headers, "Accept-Encoding": "identity"}
        ) as answer:
            if part.size and not _continues(answer, part.size):
                await in_thread(part.clear)
            async for piece in answer.aiter_raw(PIECE):
                if part.size + len(piece) > self._asset.size:
                    raise PeerCorrupted(self._mark, f"{self._asset.size} bytes", "more")
                await in_thread(part.write, piece)
                self._report.acknowledged(part.size)
        if part.size < self._asset.size:
            raise PeerUnreachable(self._wire.url, f"the answer ended at byte {part.size}")


def _continues(answer: httpx2.Response, offset: int) -> bool:
    field = str(answer.headers.get("Content-Range", ""))
    return answer.status_code == 206 and field.startswith(f"bytes {offset}-")


def require_file_or_nothing(path: Path) -> None:
    """Check that whatever has this name may be replaced, if it is to be; blocks.

    Raises:
        IsADirectoryError, InvalidRequest: it is a folder, or something else that is no file.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise InvalidRequest.of("target", f"{path} is not a regular file")


def holds(path: Path, size: int, expected: Digest | None) -> bool:
    """Whether the file has these bytes; without a digest nobody can tell. Blocks."""
    if expected is None or not path.is_file() or path.stat().st_size != size:
        return False
    hasher = new_hasher(expected.name)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            hasher.update(piece)
    return hasher.digest() == expected.value


def expected_digest(asset: Asset) -> Digest | None:
    """Return the digest to verify against; None when the upload asked for none.

    Raises:
        DigestMalformed: the service tells one that cannot be read.
    """
    for text, value in (asset.digest or {}).items():
        name = parse_digest_name(text, field=f"digest of {asset.kind}")
        return Digest.from_hex(name, value, field=f"digest of {asset.kind}")
    return None
