"""A small file in one request, which may be repeated: its key makes every repetition the same upload.

Rule 1: the digest is known before the first byte is sent, so the service itself refuses wrong bytes.
Rule 2: what the service kept of a request that was cut is not sent again.
"""

import asyncio
import secrets
from urllib.parse import quote, urlsplit

import httpx2

from haulier.client.order import Order, Report
from haulier.client.resource import (
    POLL_S,
    append,
    ask_offset,
    ask_state,
    begin_anew_when_lost,
    corruption,
    read_result,
    require_equal,
)
from haulier.client.source import FileSource
from haulier.client.values import Record
from haulier.client.wire import Wire
from haulier.core.digest import Digest, DigestName, format_digest_field, new_hasher
from haulier.core.errors import PeerRefused
from haulier.engine.tasks import in_thread


class WholeUpload:
    """One small file's upload; `run` is called once."""

    def __init__(
        self, wire: Wire, source: FileSource, order: Order, *, gate: asyncio.Semaphore, report: Report
    ) -> None:
        self._wire = wire
        self._source = source
        self._order = order
        self._gate = gate
        self._report = report
        self._key = secrets.token_hex(16)

    async def run(self) -> Record:
        """Send the file and return its verified record.

        Raises:
            SourceChanged, PeerCorrupted, PeerRefused, PeerUnreachable: as for an upload in chunks.
        """
        body = await in_thread(self._source.read, 0, self._source.size)
        await asyncio.to_thread(self._source.check)
        digest = await asyncio.to_thread(_digest, self._order.digest, body)
        return await begin_anew_when_lost(lambda: self._session(body, digest), self._renew_key)

    async def _renew_key(self) -> None:
        self._key = secrets.token_hex(16)

    async def _session(self, body: bytes, digest: Digest | None) -> Record:
        async def attempt() -> Record | None:
            async with self._gate:
                return await self._put(body, digest)

        record = None
        try:
            while record is None:
                record = await self._wire.persevere(
                    attempt, waiting=self._report.waiting, outlast_restart=True
                )
        except PeerRefused as error:
            raise corruption(error, self._order.filename) from error
        self._report.acknowledged(len(body))
        return require_equal(record, digest=digest, size=len(body))

    async def _put(self, body: bytes, digest: Digest | None) -> Record | None:
        try:
            answer = await self._request(body, digest)
        except PeerRefused as error:
            location = error.fields.get("location")
            if error.slug != "offset-mismatch" or not isinstance(location, str):
                raise
            return await self._continue(location, body)
        return await read_result(self._wire, answer)

    async def _request(self, body: bytes, digest: Digest | None) -> httpx2.Response:
        order = self._order
        params = {"capsule": order.capsule, "digest": str(order.digest)}
        if order.path is not None:
            params["path"] = order.path
        if not order.derivatives:
            params["derivatives"] = "none"
        headers = {"Idempotency-Key": self._key}
        if order.content_type is not None:
            headers["Content-Type"] = order.content_type
        if digest is not None:
            headers["Repr-Digest"] = format_digest_field(digest)
        path = f"/api/files/{quote(order.filename, safe='')}"
        return await self._wire.once("PUT", path, params=params, headers=headers, content=body)

    async def _continue(self, location: str, body: bytes) -> Record | None:
        """An earlier request with this key was cut; what it brought is kept, the rest follows."""
        upload = urlsplit(location).path.rsplit("/", 1)[-1]
        offset = await ask_offset(self._wire, upload)
        if offset < len(body):
            await append(self._wire, upload, offset, body[offset:])
        state = await ask_state(self._wire, upload, wait_s=POLL_S)
        return state.result


def _digest(name: DigestName, body: bytes) -> Digest | None:
    if name is DigestName.NONE:
        return None
    hasher = new_hasher(name)
    hasher.update(body)
    return Digest(name, hasher.digest())
