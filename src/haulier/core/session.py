"""One attempt to bring one file's bytes in: its value, its states, its legal steps.

Rule 1: a session changes only through a method that returns the next value, or raises.
Rule 2: `TRANSITIONS` is the whole state machine; nothing else decides what may follow what.
Rule 3: a session knows no file names, digests, capsules or records; those are its opaque `details`.
"""

from collections.abc import Mapping
from enum import StrEnum
from itertools import islice
from typing import Final, Generic, TypeVar

from haulier.core.chunks import ChunkGrid
from haulier.core.errors import UploadBusy, UploadComplete, UploadGone
from haulier.core.ids import SessionId as SessionId  # noqa: PLC0414 - a session's users look for it here
from haulier.core.quantity import MIB
from haulier.core.ranges import Ranges
from haulier.core.values import dataclass, replace

D = TypeVar("D")

MIN_CHUNK: Final = 256 * 1024
"""Smallest chunk a client may ask for. Precedent: tus-js-client and Google Drive use 256 KiB grids."""
MAX_CLIENT_CHUNK: Final = 64 * MIB
"""Largest chunk a client may ask for: what a slow line repeats at most after a cut."""
MAX_CHUNK: Final = 1024 * MIB
"""Largest chunk the server picks by itself, for files that need more than `MAX_CHUNKS` otherwise."""
MAX_CHUNKS: Final = 10_000
"""Most chunks of a session. Precedent: S3's limit of parts in a multipart upload."""


class Mode(StrEnum):
    """How a session's bytes come in; a session is continued only by its own mode."""

    CHUNKS = "chunks"
    """Numbered pieces of fixed size, in any order and in parallel."""
    APPEND = "append"
    """Bytes at the current end only."""


class Concat(StrEnum):
    """Whether a session is made of others, or for others; mode append only. The words are those of tus."""

    NONE = "none"
    PARTIAL = "partial"
    """A piece of others: when it is complete it stays open until it expires, and never has a result of its own."""
    FINAL = "final"
    """Takes no bytes itself: it is complete when its partial ones are, and is then put together of them."""


class SessionStatus(StrEnum):
    """Where a session stands."""

    OPEN = "open"
    FINISHING = "finishing"
    COMMITTED = "committed"
    ABORTED = "aborted"
    EXPIRED = "expired"
    FAILED = "failed"

    @property
    def live(self) -> bool:
        """Whether it still counts as active and may come to a result."""
        return self in LIVE

    @property
    def gone(self) -> bool:
        """Whether it ended without a result."""
        return self in GONE


LIVE: Final = frozenset({SessionStatus.OPEN, SessionStatus.FINISHING})
GONE: Final = frozenset({SessionStatus.ABORTED, SessionStatus.EXPIRED, SessionStatus.FAILED})

TRANSITIONS: Final[Mapping[SessionStatus, frozenset[SessionStatus]]] = {
    SessionStatus.OPEN: frozenset(
        {SessionStatus.FINISHING, SessionStatus.FAILED, SessionStatus.ABORTED, SessionStatus.EXPIRED}
    ),
    # Back to open: a wrong digest in mode chunks, whose chunks may then be replaced.
    SessionStatus.FINISHING: frozenset({SessionStatus.COMMITTED, SessionStatus.OPEN, SessionStatus.FAILED}),
    # Only while nothing else names its bytes: a result that nobody took may be thrown away.
    SessionStatus.COMMITTED: frozenset({SessionStatus.ABORTED}),
    SessionStatus.ABORTED: frozenset(),
    SessionStatus.EXPIRED: frozenset(),
    SessionStatus.FAILED: frozenset(),
}


def fit_chunk_size(asked: int | None, size: int | None, *, default: int) -> int:
    """Return the chunk size of a new session, in bytes.

    What a client asks for is clamped to `MIN_CHUNK` .. `MAX_CLIENT_CHUNK`; then it grows in whole MiB,
    up to `MAX_CHUNK`, until `MAX_CHUNKS` chunks hold the file.
    """
    chosen = default if asked is None else min(max(asked, MIN_CHUNK), MAX_CLIENT_CHUNK)
    if size is None or -(-size // chosen) <= MAX_CHUNKS:
        return chosen
    needed = -(-size // MAX_CHUNKS)
    return min(-(-needed // MIB) * MIB, MAX_CHUNK)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSpec:
    """What a session is begun with."""

    scope: str
    """A space of idempotency keys; the caller's word, only compared."""
    owner: str
    key: str | None = None
    """Idempotency key, unique among the live and committed sessions of (scope, owner)."""
    request_hash: str
    """Equal for equal requests; tells a repetition from a reuse of the key."""
    mode: Mode
    size: int | None
    """Bytes; None while unknown, in mode append only."""
    chunk_size: int
    ttl_s: float
    """Seconds since the last activity after which the session expires."""
    concat: Concat = Concat.NONE
    min_size: int = 0
    """Bytes that it must come to have at least: what held at its begin holds to its end."""
    max_size: int | None = None
    """Bytes that it may come to have at most, likewise; None: as many as the service takes."""
    ends_by_word: bool = False
    """Mode append: its last byte does not complete it; only the word that it was the last one does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLimit:
    """How many live sessions there may be, the new one among them."""

    of_owner: int
    address: str | None = None
    """By what else it is counted while it lives: where it came from, in any words; None: by nothing else."""
    of_address: int = 0
    """How many of that address; without one it means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """An accepted chunk. `fingerprint` tells a repetition from a conflict; 16 bytes."""

    index: int
    size: int
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Generic[D]):
    """One upload session as stored; times are seconds since the epoch, UTC."""

    id: SessionId
    spec: SessionSpec
    details: D
    """What the layer above keeps with the session; opaque here."""
    status: SessionStatus = SessionStatus.OPEN
    size: int | None
    """Bytes; differs from the spec's once an unknown size has been declared."""
    received: Ranges = Ranges()
    """Accepted bytes: durable as the service's level promises."""
    tail_trusted: bool = False
    """Mode append: whether bytes past `received` come without a digest of their own, and count."""
    boot_id: str = ""
    """The machine's boot in which the session began, or was last appended to: what was accepted in another
    one may be gone, and what was not is."""
    blob_key: str | None = None
    """Where the bytes will be, or are, for good; written down before they go there."""
    fence: int = 0
    """Grows with every claim; a step that names an older one does nothing."""
    holder: str | None = None
    """The worker that finishes the session or appends to it."""
    asked: int | None = None
    """The fence whose holder is asked to let go, or to go on with its finish; an older one asks nobody."""
    follower: str | None = None
    """The worker that follows the accepted bytes, as the whole file's digest does; nobody does any more when
    bytes that it may have read are taken back."""
    created_at: float
    last_seen_at: float
    expires_at: float
    error: str | None = None
    """Why it failed, or the mismatch that allows chunks to be replaced."""
    answer: str | None = None
    """What the first one who asked for the result was told, to be told again; opaque here."""

    @classmethod
    def begin(
        cls,
        session_id: SessionId,
        spec: SessionSpec,
        details: D,
        *,
        now: float,
        boot_id: str = "",
        follower: str | None = None,
    ) -> "Session[D]":
        """Return a new open session."""
        return cls(
            id=session_id,
            spec=spec,
            details=details,
            size=spec.size,
            tail_trusted=spec.mode is Mode.APPEND,
            boot_id=boot_id,
            follower=follower,
            created_at=now,
            last_seen_at=now,
            expires_at=now + spec.ttl_s,
        )

    @classmethod
    def begin_committed(
        cls,
        session_id: SessionId,
        spec: SessionSpec,
        details: D,
        *,
        blob_key: str,
        now: float,
        boot_id: str = "",
    ) -> "Session[D]":
        """Mode append: return a session that was begun, appended to, finished and committed in one moment.

        It is made in one step: those between would cost a short file as much as some of its way into the database.
        """
        assert spec.mode is Mode.APPEND, f"session {session_id} takes {spec.mode}"
        assert spec.size, f"session {session_id} has no size, or no bytes"
        return cls(
            id=session_id,
            spec=spec,
            details=details,
            status=SessionStatus.COMMITTED,
            size=spec.size,
            received=Ranges(((0, spec.size),)),
            tail_trusted=True,
            boot_id=boot_id,
            blob_key=blob_key,
            fence=1,
            created_at=now,
            last_seen_at=now,
            expires_at=now + spec.ttl_s,
        )

    @property
    def offset(self) -> int:
        """Mode append: where the next byte goes."""
        return self.received.prefix

    @property
    def grid(self) -> ChunkGrid:
        """Its chunks; none while the size is unknown."""
        return ChunkGrid(self.size or 0, self.spec.chunk_size)

    @property
    def chunk_count(self) -> int:
        """Chunks of a session of known size; an empty file has none."""
        return self.grid.count

    @property
    def complete(self) -> bool:
        """Whether the size is known and every byte of it is here."""
        return self.size is not None and self.received.covers(0, self.size)

    @property
    def due(self) -> bool:
        """Whether its finish is to be started: nothing is missing, and nobody has to say so first."""
        return self.complete and self.spec.concat is not Concat.PARTIAL and not self.spec.ends_by_word

    @property
    def replaceable(self) -> bool:
        """Whether accepted chunks may be replaced: only after the whole file's digest was wrong."""
        return self.status is SessionStatus.OPEN and self.error is not None

    def chunk_range(self, index: int) -> tuple[int, int]:
        """Return the half-open byte range of chunk `index`.

        Raises:
            ChunkOutOfRange: there is no such chunk.
        """
        return self.grid.span(index)

    def missing_chunks(self, limit: int) -> list[int]:
        """Return the first `limit` indexes that are not accepted, ascending."""
        return list(islice(self.grid.missing(self.received), limit))

    def require_open(self, *, result: str | None = None) -> None:
        """Raise what a caller that needs an open session must be told.

        Args:
            result: the name of what it became, should it be committed.

        Raises:
            UploadBusy: it is finishing.
            UploadComplete: it is committed.
            UploadGone: it ended without a result.
        """
        if self.status is SessionStatus.FINISHING:
            raise UploadBusy(self.id, "it is being finished")
        if self.status is SessionStatus.COMMITTED:
            raise UploadComplete(self.id, result)
        if self.status.gone:
            raise UploadGone(self.id, self.status, self.error)

    def seen(self, now: float) -> "Session[D]":
        """Any activity moves the expiry on."""
        return replace(self, last_seen_at=now, expires_at=now + self.spec.ttl_s)

    def hasten(self, *, now: float) -> "Session[D]":
        """Nobody may come back for it: its time is over, unless there is activity."""
        self._require(SessionStatus.OPEN)
        return replace(self, expires_at=min(self.expires_at, now))

    def accept(self, index: int, *, now: float) -> "Session[D]":
        """Chunk `index` is stored whole."""
        self._require(SessionStatus.OPEN, Mode.CHUNKS)
        return replace(self.seen(now), received=self.received.add(*self.chunk_range(index)))

    def forget(self, index: int, *, now: float) -> "Session[D]":
        """Chunk `index` is about to be replaced and no longer counts."""
        self._require(SessionStatus.OPEN, Mode.CHUNKS)
        received = self.received.remove(*self.chunk_range(index))
        return replace(self.seen(now), received=received, follower=None)

    def lose(self, error: str | None, *, now: float) -> "Session[D]":
        """Mode chunks: what was accepted is gone, and no longer counts; `error` says so."""
        self._require(SessionStatus.OPEN, Mode.CHUNKS)
        lost = replace(self.seen(now), received=Ranges(), error=error, follower=None)
        return replace(lost, fence=self.fence + 1)

    def claim(self, holder: str | None, *, now: float) -> "Session[D]":
        """`holder` is the one that appends from here on; None: nobody is, and none may go on."""
        self._require(SessionStatus.OPEN)
        return replace(self.seen(now), fence=self.fence + 1, holder=holder)

    def release(self) -> "Session[D]":
        """Nobody appends any more."""
        self._require(SessionStatus.OPEN)
        return replace(self, holder=None)

    def ask(self) -> "Session[D]":
        """Somebody else needs what the holder has."""
        return replace(self, asked=self.fence)

    def unask(self) -> "Session[D]":
        """Its holder tried what it was asked for, and could not."""
        return replace(self, asked=None)

    def follow(self, follower: str) -> "Session[D]":
        """`follower` is the one that follows the bytes."""
        return replace(self, follower=follower)

    def advance(self, offset: int, *, tail_trusted: bool, boot_id: str, now: float) -> "Session[D]":
        """Mode append: bytes up to `offset` are stored (a lost tail may make this smaller)."""
        self._require(SessionStatus.OPEN, Mode.APPEND)
        received = Ranges(((0, offset),)) if offset else Ranges()
        return replace(
            self.seen(now),
            received=received,
            tail_trusted=tail_trusted,
            boot_id=boot_id,
            follower=None if offset < self.offset else self.follower,
        )

    def declare_size(self, size: int) -> "Session[D]":
        """Mode append: the unknown size becomes known; it holds what is there."""
        self._require(SessionStatus.OPEN, Mode.APPEND)
        assert self.size is None, f"session {self.id} has its size already"
        assert self.offset <= size, f"session {self.id} has more than {size} bytes"
        return replace(self, size=size)

    def assemble(self, size: int, *, now: float) -> "Session[D]":
        """A final one: all that it is made of is complete, and has `size` bytes together."""
        self._require(SessionStatus.OPEN, Mode.APPEND)
        assert self.spec.concat is Concat.FINAL, f"session {self.id} is made of no others"
        assert self.size in {None, size}, f"session {self.id} has {self.size} bytes, not {size}"
        return replace(self.seen(now), size=size, received=Ranges(((0, size),)) if size else Ranges())

    def finish(self, blob_key: str, holder: str, *, now: float) -> "Session[D]":
        """All bytes are here and `holder` makes them final, under `blob_key`."""
        assert self.complete, f"session {self.id} is not complete"
        moved = self._move(SessionStatus.FINISHING)
        return replace(moved.seen(now), blob_key=blob_key, fence=self.fence + 1, holder=holder, error=None)

    def take_finish(self, holder: str) -> "Session[D]":
        """`holder` goes on where a dead one stopped."""
        self._require(SessionStatus.FINISHING)
        return replace(self, fence=self.fence + 1, holder=holder)

    def commit(self, details: D, *, now: float) -> "Session[D]":
        """The bytes are final."""
        return replace(self._move(SessionStatus.COMMITTED).seen(now), details=details, holder=None)

    def keep(self, answer: str) -> "Session[D]":
        """The answer is the one that counts, unless there is one."""
        return self if self.answer is not None else replace(self, answer=answer)

    def settle(self, details: D) -> "Session[D]":
        """Something else took the result over, and the details say what."""
        self._require(SessionStatus.COMMITTED)
        return replace(self, details=details)

    def reopen(self, error: str, *, now: float) -> "Session[D]":
        """Mode chunks: the whole file's digest was wrong; chunks may be replaced."""
        self._require(SessionStatus.FINISHING, Mode.CHUNKS)
        moved = self._move(SessionStatus.OPEN)
        return replace(moved.seen(now), error=error, blob_key=None, holder=None, follower=None)

    def end(self, status: SessionStatus, *, error: str | None, now: float) -> "Session[D]":
        """It ends without a result; what it had of numbered chunks is forgotten."""
        if not status.gone:
            message = f"{status} is not an end without a result"
            raise ValueError(message)
        received = Ranges() if self.spec.mode is Mode.CHUNKS else self.received
        moved = self._move(status)
        return replace(moved, received=received, error=error, holder=None, last_seen_at=now)

    def _move(self, status: SessionStatus) -> "Session[D]":
        if status not in TRANSITIONS[self.status]:
            message = f"session {self.id} cannot go from {self.status} to {status}"
            raise AssertionError(message)
        return replace(self, status=status)

    def _require(self, status: SessionStatus, mode: Mode | None = None) -> None:
        if self.status is not status:
            message = f"session {self.id} is {self.status}, not {status}"
            raise AssertionError(message)
        if mode not in {None, self.spec.mode}:
            message = f"session {self.id} takes {self.spec.mode}, not {mode}"
            raise AssertionError(message)
