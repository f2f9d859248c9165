"""A file brought over in chunks, in parallel, over cuts and restarts of either side.

Rule 1: the service's state is the truth: it is asked before the first chunk and after every failed one, and
        what it has acknowledged is never sent again.
Rule 2: a chunk carries no digest of its own. The digest of the whole file, computed here from what is sent
        and there from what is stored, is compared at the end and covers every byte; one for each chunk
        would have to be known before its first byte is sent, so each chunk would be read twice.
Rule 3: what follows the begin shows the upload's own token, which outlives the caller's.
Rule 4: a body is never longer than a chunk, so an early refusal of the service (413, 507) is read, at the
        latest, when the chunk has been handed over.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

from haulier.client.order import Order, Report
from haulier.client.resource import (
    abandon,
    ask_state,
    begin,
    begin_anew_when_lost,
    finish,
    upload_path,
)
from haulier.client.source import FileSource
from haulier.client.values import Begun, Record, UploadState
from haulier.client.wire import Wire
from haulier.core.chunks import ChunkGrid
from haulier.core.digest import Digest, DigestName, OrderedDigest
from haulier.core.errors import PeerCorrupted, PeerRefused, SourceChanged
from haulier.core.values import dataclass
from haulier.engine.following import Following
from haulier.engine.tasks import in_thread, tasks
from haulier.sending_ports import Cargo

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

MAX_ROUNDS: Final = 3
"""Times that `finish` may find chunks missing that had been acknowledged."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Chunk `index` of a file: its bytes `[start, stop)`."""

    index: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stop - self.start


class Key:
    """The idempotency key in use, and how to get another."""

    def __init__(self, value: str, renew: Callable[[], str]) -> None:
        self.value = value
        self.kept = False
        """Whether a later run is to go on with it, although this one has come to its end."""
        self._renew = renew

    async def renew(self) -> None:
        """Replace it; the new one is on disk, where keys are kept, before it is used."""
        self.value = await in_thread(self._renew)


class Ending(Protocol[T_co]):
    """How an upload whose bytes are all there is brought to its end."""

    async def __call__(self, wire: Wire, begun: Begun, *, digest: Digest | None, size: int) -> T_co:
        """Return its result.

        Raises:
            PeerRefused, PeerCorrupted, PeerUnreachable: as `finish`.
        """
        ...


async def make_record(wire: Wire, begun: Begun, *, digest: Digest | None, size: int) -> Record:
    """Return the verified record that the upload makes; an `Ending`."""
    record = await finish(wire, begun.id, digest=digest, size=size)
    if record.deleted_at is not None:
        # An earlier run finished it and was killed before it could say so; then it was deleted.
        raise PeerRefused(410, "upload-gone", f"the record of upload {begun.id} is deleted")
    return record


class ChunkUpload(Generic[T]):
    """One file's upload; `run` is called once."""

    def __init__(
        self,
        wire: Wire,
        source: FileSource,
        order: Order,
        *,
        key: Key,
        gate: asyncio.Semaphore,
        parallel: int,
        report: Report,
        ending: Ending[T],
    ) -> None:
        self._ending = ending
        self._wire = wire
        self.begun: Begun | None = None
        """The upload that is under way, once it is."""
        self._own = wire
        """With the token of the upload that is under way."""
        self._source = source
        self._order = order
        self._key = key
        self._gate = gate
        self._parallel = parallel
        self._report = report

    async def run(self) -> T:
        """Bring the file over and return what its end gives.

        Raises:
            SourceChanged: the file is not what it was; the upload has been aborted.
            PeerCorrupted: what arrived is not what was sent; the upload has been aborted.
            PeerRefused, PeerUnreachable: as `Wire.call`; the upload can be continued.
        """
        return await begin_anew_when_lost(self._session, self._key.renew)

    async def _session(self) -> T:
        begun = await begin(
            self._wire,
            self._order,
            mode="chunks",
            size=self._source.size,
            key=self._key.value,
            report=self._report,
        )
        self.begun = begun
        self._own = self._wire.bearing(begun.token)
        return await self._verified(begun)

    async def _verified(self, begun: Begun) -> T:
        try:
            async with tasks() as group:
                following = _following(self._source, self._order.digest)
                hashing = group.create_task(following.run())
                return await self._bring_over(begun, following, hashing)
        except (SourceChanged, PeerCorrupted):
            await abandon(self._own, begun.id)
            raise

    async def _bring_over(
        self, begun: Begun, following: Following[Digest], hashing: "asyncio.Task[Digest | None]"
    ) -> T:
        for _ in range(MAX_ROUNDS):
            state = await self._own.persevere(lambda: ask_state(self._own, begun.id))
            _require_alive(state)
            if state.status == "open":
                await self._send_missing(begun, state, following)
            following.allow(self._source.size)
            digest = await hashing
            await asyncio.to_thread(self._source.check)
            try:
                return await self._ending(self._own, begun, digest=digest, size=self._source.size)
            except PeerRefused as error:
                if error.slug != "chunks-missing":
                    raise
        raise PeerRefused(409, "chunks-missing", "the service keeps losing acknowledged chunks")

    async def _send_missing(self, begun: Begun, state: UploadState, following: Following[Digest]) -> None:
        grid = ChunkGrid(self._source.size, begun.chunk_size)
        # One of which a part is held is sent whole: the service accepts chunks, not parts of them.
        chunks = [Chunk(index, *grid.span(index)) for index in grid.missing(state.ranges)]
        self._report.acknowledged(self._source.size - sum(chunk.size for chunk in chunks))
        queue = iter(chunks)
        async with tasks() as group:
            for _ in range(min(self._parallel, len(chunks))):
                group.create_task(self._work(begun.id, queue, following))

    async def _work(self, upload: str, queue: Iterator[Chunk], following: Following[Digest]) -> None:
        for chunk in queue:
            # Chunks are taken in order: all below this one are on their way or arrived.
            following.allow(chunk.stop)
            await self._send(upload, chunk)
            await asyncio.to_thread(self._source.check)

    async def _send(self, upload: str, chunk: Chunk) -> None:
        tried = False

        async def attempt() -> None:
            nonlocal tried
            if tried and await self._is_there(upload, chunk):
                return
            tried = True
            async with self._gate:
                await self._put(upload, chunk)

        try:
            await self._own.persevere(attempt, mark=lambda: self._report.done, waiting=self._report.waiting)
        except PeerRefused as error:
            _require_harmless(error, self._source)
        self._report.arrived(chunk.index, chunk.size)

    async def _is_there(self, upload: str, chunk: Chunk) -> bool:
        state = await ask_state(self._own, upload)
        _require_alive(state)
        return state.status != "open" or state.ranges.covers(chunk.start, chunk.stop)

    async def _put(self, upload: str, chunk: Chunk) -> None:
        cargo = Cargo(
            source=self._source,
            start=chunk.start,
            stop=chunk.stop,
            moved=lambda sent: self._report.moving(chunk.index, sent),
        )
        path = f"{upload_path(upload)}/chunks/{chunk.index}"
        await self._own.bring("PUT", path, cargo, headers={"Content-Type": "application/octet-stream"})


def _require_alive(state: UploadState) -> None:
    if state.gone:
        detail = f"the upload is {state.status}" + (f": {state.error}" if state.error else "")
        raise PeerRefused(410, "upload-gone", detail)


def _require_harmless(error: PeerRefused, source: FileSource) -> None:
    if error.slug == "chunk-conflict":
        raise SourceChanged(str(source.path), "the service holds other bytes of this upload") from error
    # Somebody with the same key has finished it: the state will say so.
    if error.slug != "upload-complete":
        raise error


def _following(source: FileSource, name: DigestName) -> Following[Digest]:
    if name is DigestName.NONE:
        return Following(source)
    digest = OrderedDigest(name)
    return Following(source, lambda piece: digest.update(digest.frontier, piece), digest.value)
