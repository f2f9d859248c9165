"""A `Remote` in memory, with the accidents that remotes have; shipped for tests of code that sends.

Rule 1: bytes are taken from the source as a real remote takes them: not before the request, and only those.
Rule 2: accidents are planned per operation, and happen in their order, one a call.
"""

import asyncio
import json
from collections import defaultdict, deque
from dataclasses import field
from itertools import count
from typing import Final

from haulier.core.digest import Buffer, DigestName, new_hasher
from haulier.core.errors import InvalidRequest, PeerCorrupted, PeerRefused, RemoteSessionLost
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
from haulier.core.values import dataclass
from haulier.sending_ports import Cargo

IN_ORDER: Final = RemoteLimits(max_size=None, first_chunk=64 * 1024, least_chunk=1024)
"""As tus and OneDrive: chunks follow each other, and the last one makes the file."""
ANY_ORDER: Final = RemoteLimits(max_size=None, parallel=4, first_chunk=64 * 1024)
"""As S3 and Haulier: chunks of one size, and a commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accident:
    """What happens to one call."""

    error: Exception
    done: bool = False
    """Whether the remote did what it was asked to; only the answer is lost."""
    kept: int = 0
    """Of a send: bytes that the remote keeps all the same."""


class Gate:
    """Stops calls of one operation until it is opened."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def wait_reached(self) -> None:
        """Wait until a call has come."""
        await self._reached.wait()

    def open(self) -> None:
        """Let the calls go on, and all later ones."""
        self._opened.set()

    async def pass_through(self) -> None:
        """Come, and wait until it is open."""
        self._reached.set()
        await self._opened.wait()


@dataclass(slots=True)
class _Open:
    """A session that the remote holds."""

    name: str
    data: bytearray
    ranges: Ranges = field(default_factory=Ranges)
    made: Stored | None = None


class Sha256Sum:
    """`Summing` for remotes that tell SHA-256 in hex."""

    def __init__(self) -> None:
        self._hasher = new_hasher(DigestName.SHA_256)

    def update(self, data: Buffer, /) -> None:
        """Take the next bytes."""
        self._hasher.update(data)

    def checksum(self) -> Checksum:
        """Return SHA-256 in hex."""
        return Checksum("sha-256", self._hasher.digest().hex())


class MemoryRemote:
    """See the head of this file."""

    def __init__(self, limits: RemoteLimits = ANY_ORDER) -> None:
        self.files: dict[str, list[bytes]] = {}
        """All versions of each name, the oldest first."""
        self.calls: list[str] = []
        """The operations that were asked for, in their order."""
        self.sent_bytes = 0
        """Bytes that came in, those that were sent again included."""
        self.most_parallel = 0
        """Sends that ran at once."""
        self.closed = False
        self._limits = limits
        self._sessions: dict[str, _Open] = {}
        self._ids = count(1)
        self._accidents: dict[str, deque[Accident]] = defaultdict(deque)
        self._gates: dict[str, Gate] = {}
        self._sending = 0

    @property
    def limits(self) -> RemoteLimits:
        """What it was made with."""
        return self._limits

    @property
    def sessions(self) -> int:
        """Sessions that are begun and neither made a file nor were cancelled."""
        return sum(session.made is None for session in self._sessions.values())

    def plan(self, operation: str, *accidents: Accident | Exception) -> None:
        """Let the next calls of `operation` have these accidents; an error alone happens before the work."""
        self._accidents[operation].extend(
            accident if isinstance(accident, Accident) else Accident(error=accident) for accident in accidents
        )

    def gate(self, operation: str) -> Gate:
        """Stop calls of `operation`; those that run already are not."""
        self._gates[operation] = Gate()
        return self._gates[operation]

    def corrupt(self, name: str) -> None:
        """Change one byte of the newest version of a file."""
        stored = bytearray(self.files[name][-1])
        stored[len(stored) // 2] ^= 1
        self.files[name][-1] = bytes(stored)

    def check(self, outgoing: Outgoing) -> None:
        """Refuse names with a NUL, empty segments, and files that are too large."""
        if "\0" in outgoing.name or "" in outgoing.name.split("/"):
            raise InvalidRequest.of("target", f"{outgoing.name!r} must be segments with / between them")
        if self._limits.max_size is not None and outgoing.size > self._limits.max_size:
            raise InvalidRequest.of("size", f"at most {self._limits.max_size} bytes fit there")
        if outgoing.if_exists not in self._limits.if_exists:
            raise InvalidRequest.of("if_exists", f"this remote does not know {outgoing.if_exists}")

    async def probe(self) -> None:
        """Answer."""
        accident = await self._enter("probe")
        _raise(accident)

    async def create(self, outgoing: Outgoing) -> RemoteSession:
        """Begin a session."""
        accident = await self._enter("create")
        if accident is not None and not accident.done:
            raise accident.error
        name = self._name_for(outgoing)
        key = str(next(self._ids))
        self._sessions[key] = _Open(name=name, data=bytearray(outgoing.size))
        _raise(accident)
        any_order = self._limits.parallel > 1
        return RemoteSession(
            state=Secret(json.dumps({"session": key})),
            chunk_size=self._limits.first_chunk if any_order else None,
            commits_itself=not any_order,
        )

    async def offset(self, outgoing: Outgoing, session: RemoteSession) -> Held:
        """Return the ranges that came in."""
        _raise(await self._enter("offset"))
        held = self._open(session)
        return Held(ranges=held.ranges, stored=held.made)

    async def send(self, outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> Stored | None:
        """Take a chunk."""
        self._sending += 1
        self.most_parallel = max(self.most_parallel, self._sending)
        try:
            return await self._take(session, cargo)
        finally:
            self._sending -= 1

    async def commit(self, outgoing: Outgoing, session: RemoteSession, checksum: Checksum | None) -> Stored:
        """Make the file, once."""
        accident = await self._enter("commit")
        if accident is not None and not accident.done:
            raise accident.error
        held = self._open(session)
        if held.made is None:
            self._require_equal(outgoing, held, checksum)
            self._make(held)
        _raise(accident)
        assert held.made is not None
        return held.made

    async def verify(self, outgoing: Outgoing, session: RemoteSession, stored: Stored) -> Stored:
        """Describe the newest version."""
        _raise(await self._enter("verify"))
        versions = self.files.get(stored.name)
        if not versions:
            raise PeerRefused(404, "not-found", f"there is no {stored.name}")
        return _describe(stored.name, versions[-1], stored.id)

    async def cancel(self, outgoing: Outgoing, session: RemoteSession) -> None:
        """Forget a session."""
        _raise(await self._enter("cancel"))
        self._sessions.pop(_key(session), None)

    def summing(self, outgoing: Outgoing, session: RemoteSession) -> Summing | None:
        """Return a SHA-256."""
        return Sha256Sum()

    async def close(self) -> None:
        """Note that it is closed."""
        self.closed = True

    async def _enter(self, operation: str) -> Accident | None:
        self.calls.append(operation)
        if operation in self._gates:
            await self._gates[operation].pass_through()
        await asyncio.sleep(0)  # as every call over a network, it lets others run
        planned = self._accidents[operation]
        return planned.popleft() if planned else None

    def _name_for(self, outgoing: Outgoing) -> str:
        if outgoing.name not in self.files or outgoing.if_exists is IfExists.REPLACE:
            return outgoing.name
        if outgoing.if_exists is IfExists.FAIL:
            raise PeerRefused(409, "target-exists", f"there is a file {outgoing.name} already")
        return next(name for n in count(1) if (name := f"{outgoing.name} {n}") not in self.files)

    def _open(self, session: RemoteSession) -> _Open:
        held = self._sessions.get(_key(session))
        if held is None:
            raise RemoteSessionLost("it is not known there")
        return held

    async def _take(self, session: RemoteSession, cargo: Cargo) -> Stored | None:
        accident = await self._enter("send")
        held = self._open(session)
        if session.chunk_size is None:
            assert cargo.start == held.ranges.prefix, "chunks of this session go in order"
        length = cargo.size if accident is None or accident.done else accident.kept
        await self._store(held, cargo, length)
        if session.commits_itself and held.ranges.prefix == len(held.data):
            self._make(held)
        _raise(accident)
        return held.made

    async def _store(self, held: _Open, cargo: Cargo, length: int) -> None:
        if not length:
            return
        if cargo.throttle is not None:
            await cargo.throttle.take(length)
        if cargo.before_end is not None and length == cargo.size:
            await cargo.before_end()
        piece = await asyncio.to_thread(cargo.source.read, cargo.start, cargo.start + length)
        held.data[cargo.start : cargo.start + length] = piece
        held.ranges = held.ranges.add(cargo.start, cargo.start + length)
        self.sent_bytes += length
        cargo.moved(length)

    def _require_equal(self, outgoing: Outgoing, held: _Open, checksum: Checksum | None) -> None:
        if not held.ranges.covers(0, outgoing.size):
            raise PeerRefused(409, "chunks-missing", "not all bytes are there")
        actual = _describe(held.name, bytes(held.data), None).checksum
        if checksum is not None and checksum != actual:
            raise PeerCorrupted(held.name, checksum.value, str(actual))

    def _make(self, held: _Open) -> None:
        self.files.setdefault(held.name, []).append(bytes(held.data))
        held.made = _describe(held.name, bytes(held.data), f"file-{next(self._ids)}")


def _raise(accident: Accident | None) -> None:
    if accident is not None:
        raise accident.error


def _key(session: RemoteSession) -> str:
    return str(json.loads(session.state.reveal())["session"])


def _describe(name: str, data: bytes, file_id: str | None) -> Stored:
    total = Sha256Sum()
    total.update(data)
    checksum = total.checksum()
    return Stored(name=name, id=file_id, size=len(data), etag=checksum.value[:16], checksum=checksum)
