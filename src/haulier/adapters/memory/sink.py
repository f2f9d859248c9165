"""Bytes in memory: the shipped fake of `ByteSink`, with faults and interleavings on demand.

Rule 1: what a disk excludes is excluded here: overlapping writers, holes, writes to a committed part.
Rule 2: a `MemoryDisk` is the machine, a `MemorySink` one process on it. A process that dies loses its
        claims, and nothing else.
"""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import field
from typing import Final

from haulier.adapters.clock import SystemClock
from haulier.adapters.range_table import RangeClaim, RangeTable
from haulier.core.digest import Buffer
from haulier.core.errors import StorageError, StorageFull, StorageUnavailable
from haulier.core.values import dataclass
from haulier.machine import Clock
from haulier.ports import RangeBusy, Stray

Pause = Callable[[], Awaitable[None]]
"""Awaited wherever a real disk would let others run."""

PIECE: Final = 64 * 1024
"""Bytes that `read` and `scan` hand on at a time."""


@dataclass(slots=True)
class _Held:
    """The bytes of a part or a blob, and when they last changed."""

    data: bytearray
    modified_at: float


@dataclass(slots=True, kw_only=True)
class MemoryDisk:
    """What outlives a process: parts, blobs, and who holds which range."""

    capacity: int | None = None
    """Bytes that parts and blobs can have in all; None: no limit."""
    clock: Clock = field(default_factory=SystemClock)
    parts: dict[str, _Held] = field(default_factory=dict)
    blobs: dict[str, _Held] = field(default_factory=dict)
    lost_and_found: dict[str, bytes] = field(default_factory=dict)
    """What was set aside, for a test to look at."""
    ranges: RangeTable = field(default_factory=RangeTable)

    @property
    def free(self) -> int | None:
        """Bytes that still fit; None: no limit."""
        if self.capacity is None:
            return None
        held = {id(one.data): len(one.data) for one in (*self.parts.values(), *self.blobs.values())}
        return self.capacity - sum(held.values())

    def require_room(self, size: int) -> None:
        """Check that `size` more bytes fit.

        Raises:
            StorageFull: they do not.
        """
        free = self.free
        if free is not None and size > free:
            raise StorageFull(size, free)


class _Faults:
    """Errors that wait for their operation."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Exception]] = defaultdict(deque)

    def add(self, operation: str, error: Exception) -> None:
        self._waiting[operation].append(error)

    def strike(self, operation: str) -> None:
        if self._waiting[operation]:
            raise self._waiting[operation].popleft()


class MemoryWriter:
    """The `RangeWriter` of a `MemorySink`."""

    def __init__(self, sink: "MemorySink", held: _Held, claim: RangeClaim) -> None:
        self._sink = sink
        self._held = held
        self._claim = claim
        self._position = claim.start
        self._synced = claim.start
        self._unsynced: Exception | None = None
        self._open = True

    @property
    def key(self) -> str:
        """Of the part."""
        return str(self._claim.file)

    @property
    def position(self) -> int:
        """Where in the file the next byte goes."""
        return self._position

    def write(self, piece: Buffer) -> Awaitable[None] | None:
        """Store the next piece: at once, or after the sink's pause when it has one.

        Raises:
            StorageFull: no room; what still fits is stored, as on a disk.
        """
        if self._sink.pause is not None:
            return self._write_later(bytes(piece), self._sink.pause)
        self._put(piece)
        return None

    async def _write_later(self, piece: bytes, pause: Pause) -> None:
        await pause()
        self._put(piece)

    def _put(self, piece: Buffer) -> None:
        if not self._open:
            message = f"write to {self.key} after its range was released"
            raise AssertionError(message)
        self._require_sound()
        if self._position + len(piece) > self._claim.stop:
            message = f"write to {self.key} past the claimed range, which ends at {self._claim.stop}"
            raise AssertionError(message)
        self._sink.strike("write")
        stop = self._position + len(piece)
        growth = max(0, stop - len(self._held.data))
        free = self._sink.disk.free
        lacking = 0 if free is None else max(0, growth - free)
        self._held.data[self._position : stop - lacking] = memoryview(piece)[: len(piece) - lacking]
        self._held.modified_at = self._sink.disk.clock.now()
        self._position = stop - lacking
        if lacking:
            raise StorageFull(lacking, 0)

    async def flush(self, *, durable: bool) -> int:
        """Return the position: memory of the `MemoryDisk` survives its processes, and has no power.

        A sync that fails takes what it covered with it, as a kernel may; this writer flushes nothing any more.
        """
        self._require_sound()
        await self._sink.step("flush") if not durable else await self._sync()
        return self._position

    def _require_sound(self) -> None:
        if self._unsynced is not None:
            raise self._unsynced

    async def _sync(self) -> None:
        try:
            await self._sink.step("sync")
        except Exception as error:
            self._unsynced = error
            self._held.data[self._synced : self._position] = bytes(self._position - self._synced)
            raise
        self._synced = self._position

    async def close(self) -> None:
        """Release the range; harmless when it is released."""
        self.release()

    def release(self) -> None:
        """What the kernel does when a process ends, and `close` otherwise."""
        self._open = False
        self._sink.forget(self)
        self._sink.disk.ranges.release(self._claim)


class MemorySink:
    """`ByteSink`, `Concatenating` and `Sweeping` in memory, for tests and simulations."""

    def __init__(self, disk: MemoryDisk | None = None, *, pause: Pause | None = None) -> None:
        """Be one process on `disk` (None: on one of its own).

        With `pause`, every operation awaits it first and every write returns an awaitable, so that a
        simulation can put others in between.
        """
        self.disk = disk or MemoryDisk()
        self.pause = pause
        self._faults = _Faults()
        self._writers: set[MemoryWriter] = set()

    def fail_next(self, operation: str, error: Exception) -> None:
        """Make the next call of `operation` raise `error`; several wait in a row.

        Operations are the names of the port's methods, `write`, `flush` and `sync` (a durable flush).
        """
        self._faults.add(operation, error)

    def die(self) -> None:
        """Lose all claims, as a process that is killed; its writers can write no more."""
        for writer in tuple(self._writers):
            writer.release()

    def strike(self, operation: str) -> None:
        """Raise the error that waits for `operation`, if one does."""
        self._faults.strike(operation)

    async def step(self, operation: str) -> None:
        """Let others run, then fail if that was asked for."""
        if self.pause is not None:
            await self.pause()
        self._faults.strike(operation)

    def forget(self, writer: MemoryWriter) -> None:
        """A writer has released its range."""
        self._writers.discard(writer)

    # --- parts ---------------------------------------------------------------------------------------

    async def prepare(self, key: str, *, size: int | None) -> None:
        """Make room for a part. `size`: reserve that much; None: it grows as it is written.

        Raises:
            StorageFull: not that much room.
        """
        await self.step("prepare")
        if size is None:
            return
        part = self.disk.parts.get(key)
        growth = size if part is None else max(0, size - len(part.data))
        self.disk.require_room(growth)
        self._part(key).data.extend(bytes(growth))

    async def check(self, size: int | None) -> None:
        """Check that `size` bytes would fit.

        Raises:
            StorageFull: they would not.
        """
        await self.step("check")
        self.disk.require_room(size or 0)

    async def open(self, key: str, start: int, stop: int | None) -> MemoryWriter:
        """Claim `[start, stop)` of a part and return its writer.

        Raises:
            RangeBusy: somebody else has a part of that range.
            StorageFull: what the range adds does not fit.
            StorageUnavailable: the part is committed, or it ends before `start`.
        """
        await self.step("open")
        claim = self.disk.ranges.take(key, start, stop)
        try:
            part = self._part(key)
            self._require_fit(part, start, stop)
        except BaseException:
            self.disk.ranges.release(claim)
            raise
        writer = MemoryWriter(self, part, claim)
        self._writers.add(writer)
        return writer

    def _require_fit(self, part: _Held, start: int, stop: int | None) -> None:
        extent = len(part.data)
        if any(blob.data is part.data for blob in self.disk.blobs.values()):
            raise StorageUnavailable("the part is committed and cannot be written any more")
        if start > extent:
            raise StorageUnavailable(f"the stored bytes from {extent} to {start} are lost")
        self.disk.require_room(0 if stop is None else max(0, stop - extent))

    def _part(self, key: str) -> _Held:
        """Return a part; a missing one is made."""
        return self.disk.parts.setdefault(key, _Held(bytearray(), self.disk.clock.now()))

    async def extent(self, key: str) -> int:
        """Return where a part ends; 0 when there is none."""
        await self.step("extent")
        part = self.disk.parts.get(key)
        return 0 if part is None else len(part.data)

    async def truncate(self, key: str, size: int) -> None:
        """Cut a growing part; one that is shorter or missing stays so.

        Raises:
            StorageUnavailable: another process is writing behind `size`.
        """
        await self.step("truncate")
        part = self.disk.parts.get(key)
        if part is not None:
            if not any(writer.key == key for writer in self._writers):
                self._require_idle(key, size)
            del part.data[size:]

    def _require_idle(self, key: str, start: int) -> None:
        try:
            claim = self.disk.ranges.take(key, start, None)
        except RangeBusy as busy:
            raise StorageUnavailable(f"part {key} is being written") from busy
        self.disk.ranges.release(claim)

    async def scan(self, key: str, start: int, stop: int, consume: Callable[[Buffer], None]) -> None:
        """Hand a part's bytes `[start, stop)` to `consume`, in order.

        Raises:
            StorageUnavailable: the part is missing or shorter.
        """
        for offset in range(start, stop, PIECE):
            await self.step("scan")
            consume(_slice(self.disk.parts.get(key), offset, min(offset + PIECE, stop)))

    async def concatenate(self, key: str, parts: Sequence[tuple[str, int]]) -> None:
        """Make a part of others, in their order; may be repeated. One that fails leaves the part empty.

        Raises:
            RangeBusy: somebody else writes it.
            StorageFull: what it adds does not fit.
            StorageUnavailable: one of the others is missing or short, or the part is committed.
        """
        writer = await self.open(key, 0, None)
        try:
            await self.truncate(key, 0)
            for name, size in parts:
                for offset in range(0, size, PIECE):
                    await self.step("concatenate")
                    piece = _slice(self.disk.parts.get(name), offset, min(offset + PIECE, size))
                    pending = writer.write(piece)
                    if pending is not None:
                        await pending
        except StorageError:
            await self.truncate(key, 0)
            raise
        finally:
            await writer.close()

    async def discard(self, key: str) -> None:
        """Remove a part; fine when there is none."""
        await self.step("discard")
        self.disk.parts.pop(key, None)

    async def commit(self, key: str, blob_key: str, *, size: int) -> None:
        """Make a part the blob `blob_key`; may be repeated.

        Raises:
            RangeBusy: the part is being written.
            StorageUnavailable: the part is missing or short, or the name is taken.
        """
        await self.step("commit")
        blob = self.disk.blobs.get(blob_key)
        if blob is None:
            self._link(key, blob_key, size)
        elif len(blob.data) != size:
            raise StorageUnavailable(f"blob {blob_key} has {len(blob.data)} bytes instead of {size}")

    def _link(self, key: str, blob_key: str, size: int) -> None:
        part = self._part(key) if size == 0 else self.disk.parts.get(key)
        if part is None or len(part.data) < size:
            extent = 0 if part is None else len(part.data)
            raise StorageUnavailable(f"part {key} has {extent} bytes instead of {size}")
        self.disk.ranges.release(self.disk.ranges.take(key, 0, None))
        del part.data[size:]
        self.disk.blobs[blob_key] = part

    async def store(self, blob_key: str, content: bytes) -> None:
        """Make a blob of a short content.

        Raises:
            StorageFull: no room.
            StorageUnavailable: the name is taken.
        """
        await self.step("store")
        if blob_key in self.disk.blobs:
            raise StorageUnavailable(f"there is a blob {blob_key} already")
        self.disk.require_room(len(content))
        self.disk.blobs[blob_key] = _Held(bytearray(content), self.disk.clock.now())

    async def recover(self, key: str, blob_key: str | None, *, size: int) -> bool:
        """Look whether a part can still become that blob; one that is gone is made again from it."""
        await self.step("recover")
        held = self.disk.parts.get(key) or self.disk.blobs.get(blob_key or "")
        if held is None or len(held.data) < size:
            return size == 0
        self.disk.parts[key] = held
        return True

    # --- blobs ---------------------------------------------------------------------------------------

    async def read(self, blob_key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield a blob's bytes `[start, stop)`.

        Raises:
            StorageUnavailable: the blob is missing or shorter.
        """
        await self.step("read")
        _slice(self.disk.blobs.get(blob_key), start, start)
        for offset in range(start, stop, PIECE):
            yield _slice(self.disk.blobs.get(blob_key), offset, min(offset + PIECE, stop))

    async def stat(self, blob_key: str) -> int | None:
        """Return a blob's size, None when there is none."""
        await self.step("stat")
        blob = self.disk.blobs.get(blob_key)
        return None if blob is None else len(blob.data)

    async def delete(self, blob_key: str) -> None:
        """Remove a blob; fine when there is none."""
        await self.step("delete")
        self.disk.blobs.pop(blob_key, None)

    # --- sweeping ------------------------------------------------------------------------------------

    async def parts(self) -> AsyncIterator[Stray]:
        """Yield all parts."""
        await self.step("parts")
        for key, part in tuple(self.disk.parts.items()):
            yield Stray(key, part.modified_at)

    async def blobs(self) -> AsyncIterator[Stray]:
        """Yield all blobs."""
        await self.step("blobs")
        for key, blob in tuple(self.disk.blobs.items()):
            yield Stray(key, blob.modified_at)

    async def set_aside_part(self, key: str) -> None:
        """Move a part to lost+found; fine when there is none."""
        await self.step("set_aside_part")
        self._set_aside(self.disk.parts, key)

    async def set_aside_blob(self, blob_key: str) -> None:
        """Move a blob to lost+found; fine when there is none."""
        await self.step("set_aside_blob")
        self._set_aside(self.disk.blobs, blob_key)

    def _set_aside(self, place: dict[str, _Held], key: str) -> None:
        held = place.pop(key, None)
        if held is not None:
            self.disk.lost_and_found[key] = bytes(held.data)


def _slice(held: _Held | None, start: int, stop: int) -> bytes:
    if held is None:
        raise StorageUnavailable("a stored file is missing")
    if stop > len(held.data):
        raise StorageUnavailable(f"a stored file ends at {len(held.data)}, before its end")
    return bytes(held.data[start:stop])
