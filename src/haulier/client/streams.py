"""Bytes of unknown length (standard input, an async iterable), appended in segments.

Rule 1: what is not acknowledged is kept in memory, and no more than that: a stream cannot be read twice.
Rule 2: after a failed segment the service's offset is asked, and the segment goes on from there.
Rule 3: a segment carries no digest of its own, so the service keeps what arrived of one that was cut.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

from haulier.client.order import Order, Report
from haulier.client.resource import abandon, append, ask_offset, begin, finish
from haulier.client.values import Begun, Record
from haulier.client.wire import Wire
from haulier.core.digest import Digest, DigestName, OrderedDigest
from haulier.core.errors import PeerCorrupted
from haulier.engine.tasks import tasks

SEGMENT: Final = 8 * 1024 * 1024
"""Bytes of one request. Three are kept at most: one on its way, one ready, one being filled. The size of
a chunk: what a cut may cost in memory and time is the same either way."""


class StreamUpload:
    """One stream's upload; `run` is called once. It cannot be continued by another process."""

    def __init__(
        self, wire: Wire, stream: AsyncIterable[bytes], order: Order, *, key: str, report: Report
    ) -> None:
        self._wire = wire
        self._stream = stream
        self._order = order
        self._key = key
        self._report = report
        self._upload = ""
        self._hash = None if order.digest is DigestName.NONE else OrderedDigest(order.digest)

    async def run(self) -> Record:
        """Send the stream to its end and return the verified record.

        Raises:
            PeerCorrupted: what arrived is not what was sent.
            PeerRefused, PeerUnreachable: as `Wire.call`; the upload has been aborted where possible.
        """
        begun = await begin(
            self._wire, self._order, mode="append", size=None, key=self._key, report=self._report
        )
        self._take(begun)
        try:
            size = await self._send_all()
            return await finish(self._wire, self._upload, digest=self._digest(), size=size)
        except BaseException:
            # Nobody can go on with it: the bytes that were read are gone. Also after a cancel.
            await asyncio.shield(abandon(self._wire, self._upload))
            raise

    def _take(self, begun: Begun) -> None:
        self._upload = begun.id
        self._wire = self._wire.bearing(begun.token)

    async def _send_all(self) -> int:
        ready: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
        async with tasks() as group:
            group.create_task(self._fill(ready))
            offset = 0
            while segment := await ready.get():
                await self._append(offset, segment)
                offset += len(segment)
        return offset

    async def _fill(self, ready: asyncio.Queue[bytes]) -> None:
        position = 0
        async for segment in segments(self._stream, SEGMENT):
            if self._hash is not None:
                await asyncio.to_thread(self._hash.update, position, segment)
            position += len(segment)
            await ready.put(segment)
        await ready.put(b"")

    async def _append(self, start: int, segment: bytes) -> None:
        """Bring `[start, start + len(segment))` over, from wherever the service is."""
        position, sure = start, True

        async def attempt() -> None:
            nonlocal position, sure
            if not sure:
                position = await self._offset(start, start + len(segment))
                self._report.acknowledged(position)
            sure = False
            if position < start + len(segment):
                await append(self._wire, self._upload, position, segment[position - start :])

        await self._wire.persevere(attempt, mark=lambda: position, waiting=self._report.waiting)
        self._report.acknowledged(start + len(segment))

    async def _offset(self, lowest: int, highest: int) -> int:
        offset = await ask_offset(self._wire, self._upload)
        if not lowest <= offset <= highest:
            # Acknowledged bytes are lost, or bytes appeared that we never sent: neither can be mended.
            raise PeerCorrupted(f"upload {self._upload} (its offset)", f"{lowest} to {highest}", str(offset))
        return offset

    def _digest(self) -> Digest | None:
        return None if self._hash is None else self._hash.value()


async def segments(stream: AsyncIterable[bytes], size: int) -> AsyncIterator[bytes]:
    """Yield the stream's bytes in segments of exactly `size`, the last one shorter; none when it is empty."""
    pieces: list[bytes] = []
    held = 0
    async for piece in stream:
        view = piece
        while held + len(view) >= size:
            cut = size - held
            yield b"".join((*pieces, view[:cut]))
            pieces, held, view = [], 0, view[cut:]
        if view:
            pieces.append(view)
            held += len(view)
    if held:
        yield b"".join(pieces)
