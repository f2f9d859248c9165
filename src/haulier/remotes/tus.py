"""Any tus 1.0.0 server.

Rule 1: HEAD before every resume; its offset is the truth. 404 and 410 mean that the upload is gone.
Rule 2: a checksum goes with every chunk where the server offers one that is cheap to compute here; 460 is sent again.
Rule 3: the server names the files: nothing can be replaced there, and what is in a file is never told.

Source: https://tus.io/protocols/resumable-upload, version 1.0.0.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urljoin

import httpx2

from haulier.core.errors import InvalidRequest, PeerBusy, PeerCorrupted, PeerRefused, RemoteSessionLost
from haulier.core.outgoing import (
    Checksum,
    Held,
    IfExists,
    Outgoing,
    RemoteLimits,
    RemoteSession,
    Stored,
    Summing,
)
from haulier.core.ranges import Ranges
from haulier.core.secret import Secret
from haulier.core.upload import DEFAULT_CONTENT_TYPE
from haulier.engine.tasks import in_thread
from haulier.ports import Cargo
from haulier.remotes.answers import PASSING, RetryTable
from haulier.remotes.calls import Calls, check_base_url

VERSION: Final = "1.0.0"
ALGORITHMS: Final = ("sha1",)
"""Checksums that are sent; every server that knows the extension knows SHA-1."""
MAX_SIZE: Final = 2**63 - 1
MAX_NAME: Final = 4096
"""Bytes of a name: headers have bounds, and base64 makes it a third longer."""
PIECE: Final = 1024 * 1024

TABLE: Final = RetryTable(passing=PASSING | {460}, lost=frozenset({404, 410}))
"""460 is tus's own: the checksum of a chunk did not match, and nothing of it was kept."""


class TusRemote:
    """See the head of this file.

    Args:
        url: where uploads are created.
        headers: sent with every request; their values are secrets.
        token: sent as a bearer token.
    """

    def __init__(
        self, url: str, *, headers: Mapping[str, Secret] | None = None, token: Secret | None = None
    ) -> None:
        self._url = url if url.endswith("/") and check_base_url(url) else check_base_url(url)
        self._headers = {name: value.reveal() for name, value in (headers or {}).items()}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token.reveal()}"
        self._headers["Tus-Resumable"] = VERSION
        self._calls = Calls(self._url, TABLE)
        self._max_size: int | None = None
        self._algorithm: str | None = None
        self._asked = False

    @property
    def limits(self) -> RemoteLimits:
        """Chunks in order."""
        return RemoteLimits(max_size=self._max_size, if_exists=frozenset({IfExists.REPLACE}))

    def check(self, outgoing: Outgoing) -> None:
        """Refuse names that are none, and ways of the existing file that tus does not know."""
        if len(outgoing.name.encode("utf-8", "surrogatepass")) > MAX_NAME or "\0" in outgoing.name:
            raise InvalidRequest.of("target", f"must be at most {MAX_NAME} bytes of UTF-8, without NUL")
        if {"", ".", ".."} & set(outgoing.name.split("/")):
            raise InvalidRequest.of("target", f"{outgoing.name!r} must not have empty segments, . or ..")
        if outgoing.if_exists is not IfExists.REPLACE:
            raise InvalidRequest.of("if_exists", "tus has no names that could exist; only replace is known")
        if self._max_size is not None and outgoing.size > self._max_size:
            raise InvalidRequest.of("size", f"this server takes at most {self._max_size} bytes")

    async def probe(self) -> None:
        """Ask for the server's abilities."""
        await self._learn()

    async def create(self, outgoing: Outgoing) -> RemoteSession:
        """Create an upload; an earlier one that was not written down stays empty and expires."""
        if not self._asked:
            await self._learn()
            self.check(outgoing)
        headers = {
            **self._headers,
            "Upload-Length": str(outgoing.size),
            "Upload-Metadata": _metadata(outgoing),
        }
        answer = await self._calls.ask("POST", self._url, headers=headers, accept=(201,))
        place = answer.headers.get("Location")
        if not place:
            raise PeerRefused(answer.status_code, "unreadable-answer", "the server tells no Location")
        return RemoteSession(
            state=Secret(json.dumps({"url": urljoin(self._url, place)})),
            chunk_size=None,
            commits_itself=True,
        )

    async def offset(self, outgoing: Outgoing, session: RemoteSession) -> Held:
        """Ask where the upload is."""
        answer = await self._head(session)
        offset, length = _number(answer, "Upload-Offset"), answer.headers.get("Upload-Length")
        if length is not None and length != str(outgoing.size):
            raise RemoteSessionLost(f"the upload has a length of {length[:20]} there")
        if offset > outgoing.size:
            raise PeerCorrupted(f"{outgoing.name} (its offset)", f"at most {outgoing.size}", str(offset))
        ranges = Ranges.of([(0, offset)])
        # An empty one is complete from the start; it is made, and told, by `commit`.
        complete = offset == outgoing.size > 0
        return Held(ranges=ranges, stored=_stored(outgoing, session) if complete else None)

    async def send(self, outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> Stored | None:
        """Append one chunk."""
        headers = {
            **self._headers,
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": str(cargo.start),
            **await self._checksum(cargo),
        }
        answer = await self._calls.bring("PATCH", _place(session), cargo, headers=headers, accept=(204, 200))
        offset = _number(answer, "Upload-Offset")
        if offset != cargo.stop:
            raise PeerBusy(409, f"the server is at {offset} after bytes up to {cargo.stop}")
        return _stored(outgoing, session) if offset == outgoing.size else None

    async def commit(self, outgoing: Outgoing, session: RemoteSession, checksum: Checksum | None) -> Stored:
        """Look whether all bytes are there."""
        held = await self.offset(outgoing, session)
        if held.ranges.prefix != outgoing.size:
            raise PeerBusy(409, f"the server is at {held.ranges.prefix} of {outgoing.size}")
        return _stored(outgoing, session)

    async def verify(self, outgoing: Outgoing, stored: Stored) -> Stored:
        """Keep what the last chunk told: servers may forget an upload as soon as it is complete."""
        return stored

    async def cancel(self, outgoing: Outgoing, session: RemoteSession) -> None:
        """Terminate the upload, where the server can; else it expires."""
        accept = (200, 204, 400, 403, 404, 405, 410, 501)
        await self._calls.ask("DELETE", _place(session), headers=self._headers, accept=accept)

    def summing(self, outgoing: Outgoing, session: RemoteSession) -> Summing | None:
        """Return nothing: tus tells no checksums of files."""
        return None

    async def close(self) -> None:
        """Close all connections."""
        await self._calls.close()

    async def _learn(self) -> None:
        """Ask what the server can; one that does not answer that is believed to do the least."""
        answer = await self._calls.ask("OPTIONS", self._url, headers=self._headers, accept=range(200, 500))
        if answer.status_code in {401, 403}:
            self._calls.judge(answer, accept=())
        versions = answer.headers.get("Tus-Version", VERSION).replace(" ", "").split(",")
        if VERSION not in versions:
            raise PeerRefused(
                412, "tus-version", f"the server speaks tus {', '.join(versions)}, not {VERSION}"
            )
        limit = answer.headers.get("Tus-Max-Size", "")
        self._max_size = int(limit) if limit.isascii() and limit.isdigit() and int(limit) else None
        offered = answer.headers.get("Tus-Checksum-Algorithm", "").replace(" ", "").split(",")
        self._algorithm = next((name for name in ALGORITHMS if name in offered), None)
        self._asked = True

    async def _head(self, session: RemoteSession) -> httpx2.Response:
        return await self._calls.ask(
            "HEAD", _place(session), headers=self._headers, accept=(200, 204), of_session=True
        )

    async def _checksum(self, cargo: Cargo) -> dict[str, str]:
        if self._algorithm is None:
            return {}
        return {"Upload-Checksum": f"sha1 {await in_thread(_sha1, cargo)}"}


def _place(session: RemoteSession) -> str:
    state: dict[str, Any] = json.loads(session.state.reveal())
    return str(state["url"])


def _stored(outgoing: Outgoing, session: RemoteSession) -> Stored:
    return Stored(name=outgoing.name, id=_place(session), size=outgoing.size)


def _metadata(outgoing: Outgoing) -> str:
    """Return the names that servers and Uppy agree on."""
    pairs = {"filename": outgoing.filename, "name": outgoing.filename, "relativePath": outgoing.name}
    # Always with a type: tuspyserver answers no HEAD of an upload without one.
    kind = outgoing.content_type or DEFAULT_CONTENT_TYPE
    pairs |= {"filetype": kind, "type": kind}
    encoded = {
        name: base64.b64encode(value.encode("utf-8", "surrogatepass")).decode("ascii")
        for name, value in pairs.items()
    }
    return ",".join(f"{name} {value}" for name, value in encoded.items())


def _number(answer: httpx2.Response, field: str) -> int:
    text = answer.headers.get(field, "")
    if not text.isascii() or not text.isdigit():
        raise PeerRefused(answer.status_code, "unreadable-answer", f"{field} is {text[:40]!r}, not a number")
    return int(text)


def _sha1(cargo: Cargo) -> str:
    """Return SHA-1 of the cargo in base64; blocks."""
    hasher = hashlib.sha1(usedforsecurity=False)
    for low in range(cargo.start, cargo.stop, PIECE):
        hasher.update(cargo.source.read(low, min(low + PIECE, cargo.stop)))
    return base64.b64encode(hasher.digest()).decode("ascii")
