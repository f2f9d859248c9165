"""Any tus 1.0.0 server.

Rule 1: HEAD before every resume; its offset is the truth. 404 and 410 mean that the upload is gone.
Rule 2: a checksum goes with every chunk where the server offers one that is cheap to compute here; 460 is sent again.
Rule 3: the server names the files: nothing can be replaced there, and what is in a file is never told.
Rule 4: an upload whose address is not known cannot be asked for. So by default no request makes a file before its
        address is in the journal; who sets `one_request` has chosen a request less over that.

Source: https://tus.io/protocols/resumable-upload, version 1.0.0.
"""

import asyncio
import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from haulier.core.errors import InvalidRequest, PeerBusy, PeerCorrupted, RemoteSessionLost
from haulier.core.hosts import shown_address
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
from haulier.core.quantity import MIB
from haulier.core.ranges import Ranges
from haulier.core.secret import Secret
from haulier.core.values import dataclass, replace
from haulier.engine.tasks import tasks
from haulier.remotes.calls import asking_after
from haulier.remotes.sessions import Sessions
from haulier.remotes.tus_wire import TABLE, Place, TusWire, require_number
from haulier.sending_ports import Cargo

if TYPE_CHECKING:
    import ssl

__all__ = ["TABLE", "TusRemote"]

UNKNOWN_TYPE: Final = "application/octet-stream"
MAX_NAME: Final = 4096
"""Bytes of a name: headers have bounds, and base64 makes it a third longer."""
ONE_REQUEST: Final = 8 * MIB
"""Bytes up to which a file goes with the creation of its upload; as long as the first chunk of others."""
LEAST_PART: Final = 8 * MIB
MAX_PARTS: Final = 16
"""Uploads that one file is made of: servers bound how many of one owner are open (ours: 100)."""
STEP: Final = 64 * MIB
"""Bytes of a part that go in one request: a checksum is computed before them, and refuses them as a whole."""
FINAL_ASKS: Final = 8
"""Times that a file is asked for while the server puts its parts together; then the manager is told to come back."""
FINAL_WAIT_S: Final = 0.05
"""Before the first of them; doubled each time: 13 s in all."""
MAX_KNOWN: Final = 1000
"""Addresses that are remembered of files that went in one request, and arrived in part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What a session is: one upload, a file that goes in one request, or parts."""

    url: str | None = None
    parts: tuple[str, ...] = ()
    final: str | None = None
    """The file that the parts make, where the server lets it be asked for before they are complete."""

    def told(self) -> dict[str, Any]:
        """Return it as a session keeps it."""
        told = {"url": self.url, "parts": list(self.parts), "final": self.final}
        return {name: value for name, value in told.items() if value}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "_State":
        """Read it from what a session keeps."""
        return cls(url=told.get("url"), parts=tuple(told.get("parts", ())), final=told.get("final"))


class TusRemote:
    """See the head of this file.

    Args:
        url: where uploads are created.
        headers: sent with every request to that host; their values are secrets.
        token: sent as a bearer token.
        parallel: parts of one file at once, where the server can put them together; 1: chunks in order.
        one_request: whether a small file goes with the creation of its upload, where the server takes that.
        tls: what certificates are trusted; the machine's, when not given.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, Secret] | None = None,
        token: Secret | None = None,
        parallel: int = 1,
        one_request: bool = False,
        tls: "ssl.SSLContext | None" = None,
    ) -> None:
        self._wire = TusWire(url, headers=headers or {}, token=token, tls=tls)
        # Without the query: what lets us in there may change.
        self._sessions = Sessions(f"tus {shown_address(url)}")
        self._parallel = parallel
        self._one_request = one_request
        self._asked = False
        self._known: dict[str, str] = {}
        """Addresses of uploads that were made by a request with bytes, by transfer."""

    @property
    def limits(self) -> RemoteLimits:
        """Chunks in order, or parts at once."""
        return RemoteLimits(
            max_size=self._wire.offers.max_size,
            parallel=self._parallel,
            if_exists=frozenset({IfExists.REPLACE}),
        )

    def check(self, outgoing: Outgoing) -> None:
        """Refuse names that are none, and ways of the existing file that tus does not know."""
        if len(outgoing.name.encode("utf-8", "surrogatepass")) > MAX_NAME or "\0" in outgoing.name:
            raise InvalidRequest.of("target", f"must be at most {MAX_NAME} bytes of UTF-8, without NUL")
        outgoing.check_segments()
        if outgoing.if_exists is not IfExists.REPLACE:
            raise InvalidRequest.of("if_exists", "tus has no names that could exist; only replace is known")
        most = self._wire.offers.max_size
        if most is not None and outgoing.size > most:
            raise InvalidRequest.of("size", f"this server takes at most {most} bytes")

    async def probe(self) -> None:
        """Ask for the server's abilities; one that does not name them is no tus server."""
        await self._wire.learn(strictly=True)

    async def create(self, outgoing: Outgoing) -> RemoteSession:
        """Create an upload, or several; earlier ones that were not written down stay incomplete and expire."""
        if not self._asked:
            await self._wire.learn()
            self._asked = True
            self.check(outgoing)
        offered = self._wire.offers.extensions
        if self._one_request and 0 < outgoing.size <= ONE_REQUEST and "creation-with-upload" in offered:
            self._known.pop(outgoing.id, None)
            return self._sessions.keep(_State().told(), chunk_size=outgoing.size, commits_itself=True)
        if self._parallel > 1 and outgoing.size >= 2 * LEAST_PART and "concatenation" in offered:
            return await self._create_parts(outgoing)
        # Rule 4: an empty upload whose length is told is a file at once.
        later = outgoing.size == 0 and "creation-defer-length" in offered
        length = {"Upload-Defer-Length": "1"} if later else {"Upload-Length": str(outgoing.size)}
        url = await self._wire.create({**_metadata(outgoing), **length})
        return self._sessions.keep(_State(url=url).told(), chunk_size=None, commits_itself=True)

    async def offset(self, outgoing: Outgoing, session: RemoteSession) -> Held:
        """Ask where the upload is, or its parts."""
        state = _State.of(self._sessions.read(session))
        if state.parts:
            return await self._held_in_parts(outgoing, session, state)
        url = state.url or self._known.get(outgoing.id)
        if url is None:
            return Held()
        offset = _offset_of(outgoing, await self._wire.head(url))
        # An empty one is made, and told, by `commit`, even where it is complete from the start.
        complete = offset == outgoing.size > 0
        return Held(ranges=Ranges.up_to(offset), stored=_stored(outgoing, url) if complete else None)

    async def send(self, outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> Stored | None:
        """Append one chunk, or what is missing of one part."""
        state = _State.of(self._sessions.read(session))
        if state.parts:
            assert session.chunk_size is not None
            await self._send_part(state.parts[cargo.start // session.chunk_size], cargo)
            return None
        if state.url is None:
            return await self._send_whole(outgoing, cargo)
        offset = await self._wire.append(state.url, cargo.start, cargo)
        _require_at(offset, cargo.stop)
        return _stored(outgoing, state.url) if offset == outgoing.size else None

    async def commit(self, outgoing: Outgoing, session: RemoteSession, checksum: Checksum | None) -> Stored:
        """Look whether all bytes are there; have the parts put together, where that was not asked for before."""
        state = _State.of(self._sessions.read(session))
        if state.parts:
            return await self._put_together(outgoing, state)
        if outgoing.size == 0 and state.url is not None:
            return await self._make_empty(outgoing, state.url)
        held = await self.offset(outgoing, session)
        _require_at(held.ranges.prefix, outgoing.size)
        return held.stored or _stored(outgoing, state.url or "")

    async def _make_empty(self, outgoing: Outgoing, url: str) -> Stored:
        place = await self._wire.head(url)
        _require_at(_offset_of(outgoing, place), 0)
        if place.deferred:
            await self._wire.end_empty(url)
        return _stored(outgoing, url)

    async def verify(self, outgoing: Outgoing, session: RemoteSession, stored: Stored) -> Stored:
        """Keep what the last chunk told: servers may forget an upload as soon as it is complete."""
        return stored

    async def cancel(self, outgoing: Outgoing, session: RemoteSession) -> None:
        """Terminate what was begun, where the server can; else it expires."""
        state = _State.of(self._sessions.read(session))
        for url in (state.url, state.final, *state.parts, self._known.pop(outgoing.id, None)):
            if url is not None:
                await self._wire.remove(url)

    def summing(self, outgoing: Outgoing, session: RemoteSession) -> Summing | None:
        """Return nothing: tus tells no checksums of files."""
        return None

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()

    # --- a file in one request -----------------------------------------------------------------------

    async def _send_whole(self, outgoing: Outgoing, cargo: Cargo) -> Stored:
        """Send the file with the creation of its upload; or the rest, when a part of it has arrived."""
        url = self._known.get(outgoing.id)
        if url is None:
            fields = {**_metadata(outgoing), "Upload-Length": str(outgoing.size)}
            url, offset = await self._wire.create_with(fields, cargo)
            self._remember(outgoing, url)
            if offset is None:
                with asking_after():
                    offset = _offset_of(outgoing, await self._wire.head(url))
        else:
            with asking_after():
                offset = _offset_of(outgoing, await self._wire.head(url))
            if offset < outgoing.size:
                offset = await self._wire.append(url, offset, _rest(cargo, offset))
        _require_at(offset, outgoing.size)
        self._known.pop(outgoing.id, None)
        return _stored(outgoing, url)

    def _remember(self, outgoing: Outgoing, url: str) -> None:
        if len(self._known) >= MAX_KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[outgoing.id] = url

    # --- a file of parts -----------------------------------------------------------------------------

    async def _create_parts(self, outgoing: Outgoing) -> RemoteSession:
        size = max(LEAST_PART, -(-outgoing.size // (MAX_PARTS * MIB)) * MIB)
        lengths = [min(size, outgoing.size - start) for start in range(0, outgoing.size, size)]
        parts = [""] * len(lengths)
        waiting = iter(enumerate(lengths))

        async def take() -> None:
            for index, length in waiting:
                # With metadata, too: tuspyserver answers no HEAD of an upload without a type.
                fields = {**_metadata(outgoing), "Upload-Length": str(length), "Upload-Concat": "partial"}
                parts[index] = await self._wire.create(fields)

        async with tasks() as group:
            for _ in range(self._parallel):
                group.create_task(take())
        state = _State(parts=tuple(parts))
        if "concatenation-unfinished" in self._wire.offers.extensions:
            state = replace(state, final=await self._create_final(outgoing, state))
        return self._sessions.keep(state.told(), chunk_size=size, commits_itself=state.final is not None)

    async def _create_final(self, outgoing: Outgoing, state: _State) -> str:
        # Paths are enough, and short: servers bound the length of a header.
        places = " ".join(urlsplit(part).path for part in state.parts)
        fields = {**_metadata(outgoing), "Upload-Concat": f"final;{places}"}
        return await self._wire.create(fields, of_session=True)

    async def _held_in_parts(self, outgoing: Outgoing, session: RemoteSession, state: _State) -> Held:
        if state.final is not None:
            final = await self._wire.head(state.final)
            if final.offset is not None and _offset_of(outgoing, final) == outgoing.size:
                return Held(ranges=Ranges.up_to(outgoing.size), stored=_stored(outgoing, state.final))
        assert session.chunk_size is not None
        spans = []
        for index, part in enumerate(state.parts):
            start = index * session.chunk_size
            place = await self._wire.head(part)
            offset = require_number(place.offset, "Upload-Offset")
            spans.append((start, min(start + offset, start + session.chunk_size, outgoing.size)))
        return Held(ranges=Ranges.of(spans))

    async def _send_part(self, url: str, cargo: Cargo) -> None:
        """Send what the server does not have of a part, a step at a time."""
        offset = require_number((await self._wire.head(url)).offset, "Upload-Offset")
        if cargo.before_end is not None and offset >= cargo.size:
            await cargo.before_end()
        while offset < cargo.size:
            step = _rest(cargo, offset, most=STEP)
            reached = await self._wire.append(url, offset, step)
            _require_at(reached, offset + step.size)
            offset = reached

    async def _put_together(self, outgoing: Outgoing, state: _State) -> Stored:
        if state.final is None:
            return _stored(outgoing, await self._create_final(outgoing, state))
        for turn in range(FINAL_ASKS):
            final = await self._wire.head(state.final)
            if final.offset is not None:
                _require_at(_offset_of(outgoing, final), outgoing.size)
                return _stored(outgoing, state.final)
            await asyncio.sleep(FINAL_WAIT_S * 2**turn)
        raise PeerBusy(409, "the server is still putting the parts together")


def _offset_of(outgoing: Outgoing, place: Place) -> int:
    if place.length is not None and place.length != outgoing.size:
        raise RemoteSessionLost(f"the upload has a length of {place.length} there")
    offset = require_number(place.offset, "Upload-Offset")
    if offset > outgoing.size:
        raise PeerCorrupted(f"{outgoing.name} (its offset)", f"at most {outgoing.size}", str(offset))
    return offset


def _require_at(offset: int, wanted: int) -> None:
    if offset != wanted:
        raise PeerBusy(409, f"the server is at {offset} of {wanted}")


def _rest(cargo: Cargo, offset: int, *, most: int | None = None) -> Cargo:
    """Return what follows the first `offset` bytes of a cargo, at most so much."""
    start = cargo.start + offset
    stop = cargo.stop if most is None else min(cargo.stop, start + most)
    return replace(
        cargo,
        start=start,
        stop=stop,
        moved=lambda count: cargo.moved(offset + count),
        before_end=cargo.before_end if stop == cargo.stop else None,
    )


def _stored(outgoing: Outgoing, url: str) -> Stored:
    return Stored(name=outgoing.name, id=url, size=outgoing.size)


def _metadata(outgoing: Outgoing) -> dict[str, str]:
    """Return the names that servers and Uppy agree on."""
    pairs = {"filename": outgoing.filename, "name": outgoing.filename, "relativePath": outgoing.name}
    # Always with a type: tuspyserver answers no HEAD of an upload without one.
    kind = outgoing.content_type or UNKNOWN_TYPE
    pairs |= {"filetype": kind, "type": kind}
    encoded = {
        name: base64.b64encode(value.encode("utf-8", "surrogatepass")).decode("ascii")
        for name, value in pairs.items()
    }
    return {"Upload-Metadata": ",".join(f"{name} {value}" for name, value in encoded.items())}
