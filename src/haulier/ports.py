"""What the engine needs from the world, written by the engine.

Rule 1: a port is as small as its user; optional powers are Protocols of their own.
Rule 2: adapters translate their libraries' errors into the errors that a method lists here.
Rule 3: every claim, acceptance and transition is one conditional statement; its boolean answer says
        whether the condition held. Nobody checks first and acts later.

One module although it is long: it is all that an adapter's author has to read, and most of it is contracts. What sending
needs stands in `sending_ports`, which a command that sends files can load alone, and time and chance in `machine`.
"""

from __future__ import annotations

import math
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Hashable,
    Mapping,
    Sequence,
)
from dataclasses import field
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

from haulier.core.values import dataclass
from haulier.sending_ports import EVERY_ROW, JournalQuery

if TYPE_CHECKING:
    from haulier.core.access import Rights
    from haulier.core.caller import Caller, Role
    from haulier.core.capsule import Capsule
    from haulier.core.digest import Buffer
    from haulier.core.event import Event, Interest, Position, Told
    from haulier.core.finalisation import Finalised
    from haulier.core.news import News
    from haulier.core.processing import Derivatives, FileMetadata, Unprocessed
    from haulier.core.record import Asset, AssetKind, Record, RecordId, RecordStatus
    from haulier.core.session import Chunk, LiveLimit, Session, SessionId, SessionStatus
    from haulier.core.token import SignIn, Token
    from haulier.core.transfer import Direction, Transfer, TransferId
    from haulier.core.visitor import Visitor

D = TypeVar("D")
T = TypeVar("T")
Row_co = TypeVar("Row_co", covariant=True)

Key = tuple[float, str]
"""The place of a row in a list, newest first: (created_at, id)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Row_co]):
    """A page of a list."""

    items: Sequence[Row_co]
    """Fewer than were asked for at the end of the list; and where a search has looked through as many rows as one may."""
    next: Key | None
    """What the next page comes after; None: there is none."""

    @classmethod
    def cut(cls, rows: Sequence[T], limit: int, *, key: Callable[[T], Key]) -> Page[T]:
        """Return the first of these rows; more than `limit` of them say that there is a next page."""
        items = rows[:limit]
        return Page(items=items, next=key(items[-1]) if len(rows) > limit else None)


# --- bytes -------------------------------------------------------------------------------------------


class BodyEnd(Enum):
    """Why a body stopped giving bytes. Only `COMPLETE` is an announced end."""

    COMPLETE = "complete"
    CUT = "cut"
    """The connection was lost or was silent for too long."""
    MALFORMED = "malformed"
    """What came breaks the rules of HTTP; nothing behind it can be read."""
    STOPPED = "stopped"
    """`Body.stop` was called: a newer request took over, or the service ends."""
    LIMIT = "limit"
    """There is more than was asked for; exactly the limit was delivered."""


Deliver = Callable[["Buffer"], Awaitable[None] | None]
"""Takes the next piece. None: it was consumed before the call returned. An awaitable: the piece was
copied, and the next one may be given only after it is done. Raises StorageError."""


class Body(Protocol):
    """Bytes on their way in, from whatever carries them."""

    @property
    def length(self) -> int | None:
        """Announced bytes; None when the sender does not say."""
        ...

    async def receive(self, deliver: Deliver, *, limit: int | None = None) -> BodyEnd:
        """Hand every piece to `deliver`, in order, until the body ends; to be called once.

        At most `limit` bytes are delivered. What had arrived before a cut is delivered first. What
        `deliver` raises comes out of here.
        """
        ...

    def stop(self) -> None:
        """Make a running or later `receive` end with `STOPPED`; harmless when it has ended."""


class RangeWriter(Protocol):
    """A claimed byte range of a part; writes in order from its start.

    No two writers of overlapping ranges exist at a time, in any process.
    """

    @property
    def position(self) -> int:
        """Where in the file the next byte goes."""
        ...

    def write(self, piece: Buffer) -> Awaitable[None] | None:
        """Store the next piece; a `Deliver`.

        Raises:
            StorageFull: no room.
            StorageUnavailable: the device failed.
        """
        ...

    async def flush(self, *, durable: bool) -> int:
        """Return the position up to which bytes survive this process (durable: a power loss).

        After a durable one that failed this writer flushes nothing any more, and what the bytes are since the last
        one that succeeded is unknown: before they are committed they are to be cut off, or written again.
        """
        ...

    async def close(self) -> None:
        """Release the range; harmless when it is released."""


class ByteSink(Protocol):
    """Where bytes live: as a part while they come in, as a blob for good.

    Keys are ours, never a client's words. All methods may raise StorageUnavailable.
    """

    async def prepare(self, key: str, *, size: int | None) -> None:
        """Make room for a part. `size`: reserve that much; None: it grows as it is written.

        May be repeated while nothing was accepted; after that it would give a lost part its size back.

        Raises:
            StorageFull: not that much room beside what must stay free.
        """

    async def check(self, size: int | None) -> None:
        """Check that writing is possible and that `size` bytes would fit, without keeping any.

        Raises:
            StorageFull · StorageNotWritable · DirectoryNotCreatable
        """

    async def open(self, key: str, start: int, stop: int | None) -> RangeWriter:
        """Claim `[start, stop)` of a part (None: to the end of time) and return its writer.

        A part that is missing is made. No hole is: a part that was lost and made anew never comes to its
        size again, so it is never taken for whole. Raises as `check`, and:

        Raises:
            RangeBusy: somebody else holds a part of that range.
            StorageUnavailable: `start` is beyond the part's present end, or the part is committed.
        """
        ...

    async def extent(self, key: str) -> int:
        """Return where a part ends; 0 when there is none."""
        ...

    async def truncate(self, key: str, size: int) -> None:
        """Cut a growing part; one that is shorter or missing stays so.

        Whoever has a writer of the part's end may cut it under that writer.

        Raises:
            StorageUnavailable: another process is writing behind `size`.
        """

    async def scan(self, key: str, start: int, stop: int, consume: Callable[[Buffer], None]) -> None:
        """Hand a part's bytes `[start, stop)` to `consume`, in order, in one worker thread at a time.

        For hashing: reading and consuming happen off the event loop.
        """

    async def commit(self, key: str, blob_key: str, *, size: int) -> None:
        """Make a part the blob `blob_key`, durable against power loss when this returns.

        May be repeated after a crash: a blob that is there already under `blob_key` is ours. The part
        may stay beside it until `discard`. Bytes of the part beyond `size` were never accepted, and go.

        Raises:
            RangeBusy: somebody has a range of it.
            StorageUnavailable: the part is missing or short; with `lost`, it did not reach the disk and never
                will.
        """

    async def store(self, blob_key: str, content: bytes) -> None:
        """Make a blob of a short content, durable against power loss when this returns.

        The key is a new one. What a crash leaves of it nobody names.

        Raises:
            StorageFull · StorageNotWritable · DirectoryNotCreatable
        """

    async def recover(self, key: str, blob_key: str | None, *, size: int) -> bool:
        """Look whether a part that is to become `blob_key` still can; one that is gone is made again from that blob.

        None: the part is not to become any yet.

        False: its bytes are gone for good, and so is every commit of them. That is said only of a place that
        answers; one that cannot be reached, or is another than it was, raises.

        Raises:
            StorageNotWritable · DirectoryNotCreatable
        """
        ...

    async def discard(self, key: str) -> None:
        """Remove a part; fine when there is none."""

    def read(self, blob_key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield a blob's bytes `[start, stop)`.

        Raises:
            StorageUnavailable: the blob is missing or shorter.
        """
        ...

    async def stat(self, blob_key: str) -> int | None:
        """Return a blob's size, None when there is none."""
        ...

    async def delete(self, blob_key: str) -> None:
        """Remove a blob; fine when there is none."""


@runtime_checkable
class Concatenating(Protocol):
    """A sink that can put parts together."""

    async def concatenate(self, key: str, parts: Sequence[tuple[str, int]]) -> None:
        """Make the part `key` of others, in their order: of each, by its key, that many bytes from its start.

        Where the device can, bytes are shared and not copied. What the part held before goes, so that this may
        be repeated after a crash at any point; when it fails the part is left empty, and takes no room.

        Raises:
            RangeBusy: somebody else does so, or writes it.
            StorageFull · StorageNotWritable · DirectoryNotCreatable
            StorageUnavailable: one of the others is missing or short, the part is committed, or the disk failed.
        """


class RangeBusy(Exception):
    """The range is claimed by somebody else; a signal between sink and engine, never shown."""


@dataclass(frozen=True, slots=True)
class Stray:
    """A part or blob that the sink holds; `modified_at` in seconds since the epoch."""

    key: str
    modified_at: float


class Sweeping(Protocol):
    """A sink that can list what it holds, so that the janitor finds what nobody names."""

    def parts(self) -> AsyncIterator[Stray]:
        """Yield all parts."""
        ...

    def blobs(self) -> AsyncIterator[Stray]:
        """Yield all blobs."""
        ...

    async def set_aside_part(self, key: str) -> None:
        """Move a part to lost+found."""

    async def set_aside_blob(self, blob_key: str) -> None:
        """Move a blob to lost+found."""


class ContentChecker(Protocol):
    """Reads what is stored through, where a file of strangers can do no harm, and says what it holds."""

    async def check(
        self, key: str, *, size: int, filename: str, charset: str | None, line: str
    ) -> FileMetadata | Unprocessed:
        """Judge the first `size` bytes of a part; `line`: each owner's files wait in a line of their own.

        Raises:
            StorageUnavailable · ServiceStopping
        """
        ...


# --- rows --------------------------------------------------------------------------------------------


class SessionStore(Protocol[D]):
    """The session rows of one transaction. Booleans say whether a statement's condition held."""

    async def insert(self, session: Session[D], *, limit: LiveLimit) -> None:
        """Add an open session.

        Its address is kept while it lives, and forgotten when it ends.

        Raises:
            KeyTaken: a live or committed session of this (scope, owner) has its key.
            QuotaExceeded: there are as many live ones of the owner, or of the address, as may be.
        """

    async def insert_committed(self, sessions: Sequence[Session[D]], *, limit: LiveLimit) -> None:
        """Add some that are committed at once: at least one, of one scope and owner, without keys.

        They take no live one's place and no address is kept, but where no live one may begin there is no room for them.

        Raises:
            QuotaExceeded: as `insert`.
        """

    async def load(self, session_id: SessionId) -> Session[D] | None:
        """Return the session with all it has received."""
        ...

    async def peek(self, session_id: SessionId) -> Session[D] | None:
        """As `load`, but in mode chunks without `received`: one row, whatever the number of chunks."""
        ...

    async def peek_chunk(self, session_id: SessionId, index: int) -> tuple[Session[D], Chunk | None] | None:
        """As `peek`, with the accepted chunk of that index, if there is one."""
        ...

    async def find(self, scope: str, owner: str, key: str) -> Session[D] | None:
        """Return the live or committed session with that idempotency key."""
        ...

    async def chunk(self, session_id: SessionId, index: int) -> Chunk | None:
        """Return an accepted chunk."""
        ...

    async def accept_chunk(self, session_id: SessionId, fence: int, chunk: Chunk, *, now: float) -> bool:
        """If the session is open under that fence and the index not accepted: accept it, and note the activity."""
        ...

    async def forget_chunk(self, session_id: SessionId, index: int, *, now: float) -> bool:
        """If the session is open and replaceable: drop an accepted chunk."""
        ...

    async def lose_chunks(self, session_id: SessionId, fence: int, error: str | None, *, now: float) -> bool:
        """If it is open under that fence: drop all accepted chunks, move the fence, and keep `error`."""
        ...

    async def claim(
        self, session_id: SessionId, fence: int, holder: str | None, *, now: float
    ) -> Session[D] | None:
        """If it is open under that fence: move the fence, make `holder` the one that appends; return it."""
        ...

    async def ask(self, session_id: SessionId, fence: int) -> bool:
        """If it is live under that fence: note that its holder is asked to let go, or to go on."""
        ...

    async def unask(self, session_id: SessionId, fence: int) -> bool:
        """If it is live under that fence: note that its holder tried, and could not; it may be asked again."""
        ...

    async def release(self, session_id: SessionId, fence: int) -> bool:
        """If it is open under that fence: nobody appends any more."""
        ...

    async def advance(
        self,
        session_id: SessionId,
        fence: int,
        offset: int,
        *,
        tail_trusted: bool,
        boot_id: str,
        now: float,
        release: bool = False,
    ) -> bool:
        """If it is open under that fence: store the offset, and note the activity.

        `release`: nobody appends any more.
        """
        ...

    async def follow(self, session_id: SessionId, follower: str, *, instead_of: str | None) -> bool:
        """If it is live and followed by `instead_of`: make `follower` the one that follows its bytes."""
        ...

    async def marks(self, session_ids: Collection[SessionId]) -> Mapping[SessionId, Mark]:
        """Return of each of these sessions, where it is there, what tells its change: one short read."""
        ...

    async def declare_size(self, session_id: SessionId, size: int) -> bool:
        """If it is open, its size unknown and its offset not beyond `size`: set it."""
        ...

    async def join(self, final_id: SessionId, partial_ids: Sequence[SessionId]) -> None:
        """Make a new final session of these partial ones, in this order; one may come more than once."""

    async def partials(self, final_id: SessionId) -> Sequence[Session[D]]:
        """Return what a final session is made of, in order."""
        ...

    async def finals(self, partial_id: SessionId) -> Sequence[Session[D]]:
        """Return the live final sessions that are made of this one, by id.

        Nobody else changes those before the transaction ends.
        """
        ...

    async def assemble(self, final_id: SessionId, size: int, *, now: float) -> bool:
        """If it is open, and final: note that all it is made of is complete, and has `size` bytes."""
        ...

    async def start_finish(
        self, session_id: SessionId, blob_key: str, holder: str, *, now: float
    ) -> Session[D] | None:
        """If it is open and complete: move to finishing, and return it with its new fence."""
        ...

    async def amend(self, session_id: SessionId, fence: int, details: D) -> Session[D] | None:
        """If it is finishing under that fence: replace its details; return it."""
        ...

    async def take_finish(self, session_id: SessionId, fence: int, holder: str) -> Session[D] | None:
        """If it is finishing under that fence: make `holder` the one that goes on; return it."""
        ...

    async def commit(self, session_id: SessionId, fence: int, details: D, *, now: float) -> bool:
        """If it is finishing under that fence: move to committed; its chunks are forgotten."""
        ...

    async def settle(self, session_id: SessionId, details: D, *, instead_of: D) -> bool:
        """If it is committed with the details `instead_of`: replace them."""
        ...

    async def keep_answer(self, session_id: SessionId, answer: str) -> str | None:
        """If it is there and has no answer: set it. Return the one that it has; None: it is not there."""
        ...

    async def withdraw(self, session_id: SessionId, details: D, *, now: float) -> bool:
        """If it is committed with these details: move it to aborted."""
        ...

    async def detached(self, protocol: str, *, before: float, limit: int) -> Sequence[Session[D]]:
        """Return committed sessions of a protocol, last seen before then, that no record has; as `expire` does."""
        ...

    async def reopen(self, session_id: SessionId, fence: int, error: str, *, now: float) -> bool:
        """If it is finishing under that fence: move back to open, with `error`."""
        ...

    async def end(
        self,
        session_id: SessionId,
        fence: int | None,
        status: SessionStatus,
        *,
        error: str | None,
        now: float,
    ) -> bool:
        """End without a result. `fence` None: if it is open; else: if it is finishing under that fence.

        Its chunks are forgotten.
        """
        ...

    async def touch(self, session_id: SessionId, *, now: float) -> bool:
        """If it is open: note the activity."""
        ...

    async def adopt(self, scope: str, owner: str, by: str) -> int:
        """Give the owner's sessions in that scope to `by`, but those whose key `by` uses itself; return how many."""
        ...

    async def hasten(self, owner: str, *, now: float) -> int:
        """Let the time of the owner's open sessions be over, unless it is; return how many it has open."""
        ...

    async def expire(
        self, *, now: float, held: Collection[SessionId], limit: int, most_ttl_s: float = float("inf")
    ) -> Sequence[Session[D]]:
        """Move up to `limit` open sessions whose time is over to expired, except `held`; return them.

        Those alone whose time to live is at most so many seconds.

        Those that have been over for longest go first; their chunks are forgotten. A partial one stays while a
        live final one is made of it, and an open final one while anything that it is made of has time.
        """
        ...

    async def live(self, *, after: tuple[float, str] | None, limit: int) -> Sequence[Session[D]]:
        """Return up to `limit` open and finishing sessions, without `received` in mode chunks, oldest first.

        `after`: keyset, (created_at, id) of the last row of the page before.
        """
        ...

    async def unfinished(self, *, after: tuple[float, str] | None, limit: int) -> Sequence[Session[D]]:
        """As `live`, but only sessions that are finishing, or append sessions whose finish is due."""
        ...

    async def count_live(self, scope: str | None, owner: str) -> int:
        """Count open and finishing sessions, but complete partial ones: nothing goes on in those."""
        ...

    async def erase(self, session_id: SessionId) -> bool:
        """If it is live and nothing was received: remove the row."""
        ...

    async def purge(self, *, before: float, limit: int) -> Sequence[Session[D]]:
        """Remove up to `limit` ended sessions last seen before that time.

        Return them as they were when they were removed, without chunks as `expire` does.
        """
        ...

    async def blob_keys(self, keys: Collection[str]) -> set[str]:
        """Return those of `keys` that a session names."""
        ...


@dataclass(frozen=True, slots=True)
class Mark:
    """A short look at a session; whatever others may wait for changes it."""

    status: SessionStatus
    fence: int
    holder: str | None
    asked: int | None
    follower: str | None
    progress: Hashable
    """Differs after every acceptance and every other activity."""


class KeyTaken(Exception):
    """The idempotency key is in use; a signal between store and engine, never shown."""


class RecordStore(Protocol):
    """The record and asset rows of one transaction."""

    async def insert(self, *records: Record) -> None:
        """Add records, and the assets that they have: one of a short upload comes with its original."""

    async def load(self, record_id: RecordId) -> Record | None:
        """Return the record with its assets."""
        ...

    async def complete(self, record_id: RecordId, original: Asset, *, now: float, more: bool = False) -> bool:
        """If it is uploading: add its original and complete it, or with `more` leave it to be processed."""
        ...

    async def add_asset(self, record_id: RecordId, asset: Asset) -> bool:
        """If the record exists, is not erased and has no asset of that kind: add it."""
        ...

    async def end(self, record_id: RecordId, status: RecordStatus, *, error: str | None, now: float) -> bool:
        """If it is uploading: end it without an original."""
        ...

    async def list(self, query: RecordQuery) -> Page[Record]:
        """Return a page, newest first."""
        ...

    async def adopt(self, capsule: str, owner: str, by: str, *, limit: int) -> Sequence[RecordId]:
        """Give up to `limit` of the owner's records in that capsule to `by`; return which."""
        ...

    async def delete(self, record_id: RecordId, *, now: float, keep_assets: bool) -> bool:
        """If it is not uploading and not deleted: mark it deleted.

        If it is deleted already and its assets were to be kept, and are not any more: mark it deleted now, without them.

        Returns: whether it was not deleted before.
        """
        ...

    async def restore(self, record_id: RecordId) -> bool:
        """If it is deleted and still has its assets: clear the mark."""
        ...

    async def deleted_before(self, before: float, *, limit: int) -> Sequence[Record]:
        """Return records deleted before that time that still have assets to remove."""
        ...

    async def erase(self, record_id: RecordId) -> None:
        """Remove the row and its assets' rows."""

    async def drop_assets(self, record_id: RecordId, *, deleted_before: float = math.inf) -> Sequence[Asset]:
        """If the record was deleted before then and its assets are not kept: remove their rows; return them."""
        ...

    async def blob_keys(self, keys: Collection[str]) -> set[str]:
        """Return those of `keys` that an asset names."""
        ...

    async def describe(self, record_id: RecordId, metadata: FileMetadata) -> None:
        """Keep what a record's original was found to hold, once."""

    async def description(self, record_id: RecordId) -> FileMetadata | None:
        """Return what was kept by `describe`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordQuery:
    """Filters of a record list; all given ones must hold. Dates are seconds since the epoch."""

    ids: frozenset[RecordId] = frozenset()
    """Only these; none: whatever the others let through."""
    owner: str | None = None
    capsule: str | None = None
    statuses: frozenset[RecordStatus] = frozenset()
    name: str | None = None
    """Part of the file name, whatever its case."""
    path_prefix: str | None = None
    since: float | None = None
    """Begun then or later."""
    until: float | None = None
    """Begun before."""
    kind: str | None = None
    """An asset kind that the record must have."""
    deleted: bool = False
    """Whether to list the deleted ones that can be restored, instead of those that are not deleted."""
    visible_to: str | None = None
    """An owner: only what it may read, in capsules of its own, by grants, or as its own where its kind is admitted."""
    after: Key | None = None
    """The `next` of the page before."""
    limit: int = 50


class ProcessingStore(Protocol):
    """What is being done with the records that have arrived, in the rows of one transaction."""

    async def left(self, *, after: tuple[float, str] | None, limit: int) -> Sequence[Record]:
        """Return up to `limit` records that are uploaded or processing and not deleted, oldest first.

        `after`: keyset, (created_at, id) of the last row of the page before.
        """
        ...

    async def take(self, record_id: RecordId, fence: int, holder: str, *, now: float) -> Record | None:
        """If it is uploaded or processing, under that fence and not deleted: let `holder` process it; return it."""
        ...

    async def again(self, record_id: RecordId, fence: int) -> bool:
        """If it is completed or failed, under that fence, not deleted and has its original: it is to be processed."""
        ...

    async def give_back(self, record_id: RecordId, fence: int) -> bool:
        """If it is processing under that fence: nobody does any more, and that attempt does not count."""
        ...

    async def settle(
        self, record_id: RecordId, fence: int, status: RecordStatus, *, error: str | None, now: float
    ) -> bool:
        """If it is processing under that fence and has its original: end that with completed or failed."""
        ...

    async def measure(self, record_id: RecordId, kind: AssetKind, *, width: int, height: int) -> bool:
        """If the record has that asset, and its dimensions are not known: note them, in pixels."""
        ...


class FinalisationStore(Protocol):
    """What was made of uploads under idempotency keys, in the rows of one transaction."""

    async def note(self, made: Finalised) -> bool:
        """If its owner made nothing under that key in that capsule, which exists, yet: remember it.

        Two transactions with one key follow each other: the second one knows what the first one has done.
        """
        ...

    async def find(self, capsule: str, owner: str, key: str) -> Finalised | None:
        """Return what was made under that key."""
        ...

    async def forget(self, *, before: float) -> int:
        """Forget what was made under keys before that time; return how many."""
        ...


class DoomedBlobs(Protocol):
    """Blobs that nothing names any more and that are still to be removed, in the rows of one transaction."""

    async def add(self, blob_keys: Collection[str]) -> None:
        """Note them, in the transaction that takes away what named them; one that is noted stays so."""

    async def list(self, *, after: str, limit: int) -> Sequence[str]:
        """Return those behind `after` ("": all), in the order of their keys."""
        ...

    async def named(self, keys: Collection[str]) -> set[str]:
        """Return those of `keys` that are noted."""
        ...

    async def remove(self, blob_keys: Collection[str]) -> None:
        """Forget them: their bytes are gone."""


class StorageMark(Protocol):
    """Which storage has the bytes that the rows speak of, in the rows of one transaction."""

    async def noted(self) -> str | None:
        """Return its id; None while nobody has said."""
        ...

    async def note(self, storage_id: str) -> str:
        """Note it, unless one is noted; return the one that is."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """Filters of one owner's history; all given ones must hold. Dates are seconds since the epoch."""

    owner: str
    statuses: frozenset[RecordStatus] = frozenset()
    filename: str | None = None
    """Part of the file name, whatever its case."""
    path_prefix: str | None = None
    since: float | None = None
    until: float | None = None
    """Before then."""
    after: Key | None = None
    """The `next` of the page before."""
    skip: int = 0
    """Rows to leave out before the page; each costs a step, so callers bound it."""
    limit: int = 50


HistoryRow = Mapping[str, Any]
"""A row as it is stored, unjudged: whoever shows it presents it. It has at least `id` and `created_at`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayCount:
    """Records of one owner that were begun on one day (UTC), of one status."""

    day: int
    """Days since the epoch."""
    status: str
    count: int
    size: int
    """Bytes in all."""


class HistoryStore(Protocol):
    """What one owner has uploaded, without the trash, newest first."""

    async def page(self, query: HistoryQuery) -> Page[HistoryRow]:
        """Return a page."""
        ...

    async def one(self, owner: str, record_id: RecordId) -> HistoryRow | None:
        """Return one row of the owner's."""
        ...

    async def days(self, owner: str, *, since: float, until: float) -> Sequence[DayCount]:
        """Count what was begun in `[since, until)`, by day and status."""
        ...


class CapsuleStore(Protocol):
    """The capsule rows of one transaction, with the bytes that they hold."""

    async def exists(self, name: str) -> bool:
        """Whether there is such a capsule."""
        ...

    async def load(self, name: str) -> Capsule | None:
        """Return the capsule with what it holds now."""
        ...

    async def standing(self, name: str, principal: str) -> tuple[Capsule, Role | None] | None:
        """Return the capsule, and what was granted to the principal there; None when there is no such capsule."""
        ...

    async def admit_visitors(self) -> bool:
        """Whether there is a capsule that admits visitors."""
        ...

    async def list(self) -> Sequence[Capsule]:
        """Return all capsules, by name."""
        ...

    async def add(self, capsule_id: str, capsule: Capsule) -> bool:
        """If there is none of its name: add an empty capsule."""
        ...

    async def lock(self, name: str) -> Capsule | None:
        """As `load`; nobody else changes its settings or grants before the transaction ends."""
        ...

    async def change(self, capsule: Capsule) -> bool:
        """If there is one of its name: give it that owner, policy and quota. To be preceded by `lock`."""
        ...

    async def grant(self, name: str, principal: str, role: Role) -> bool:
        """If there is such a capsule: make this the principal's role in it. To be preceded by `lock`."""
        ...

    async def ungrant(self, name: str, principal: str) -> bool:
        """Whether there was a grant, which is gone now."""
        ...

    async def grants(self, name: str) -> Mapping[str, Role]:
        """Return the roles that were granted, by principal."""
        ...

    async def reserve(self, name: str, size: int) -> None:
        """Set `size` bytes aside.

        Raises:
            CapsuleNotFound · QuotaExceeded
        """

    async def fill(self, name: str, size: int) -> None:
        """Use `size` bytes that were not set aside.

        Raises:
            CapsuleNotFound · QuotaExceeded
        """

    async def release(self, name: str, size: int) -> None:
        """Give reserved bytes back."""

    async def use(self, name: str, *, reserved: int, size: int) -> None:
        """Turn a reservation into used bytes (freeing them: a negative size)."""


class TokenStore(Protocol):
    """The token rows of one transaction. A token is found by the hash of its secret."""

    async def add(self, token: Token, secret_sha256: bytes) -> None:
        """Add a new token.

        Raises:
            CapsuleNotFound: it is for a capsule that is not there.
        """

    async def find(self, secret_sha256: bytes) -> Token | None:
        """Return the token with that secret, whether it still counts or not."""
        ...

    async def list(self) -> Sequence[Token]:
        """Return all tokens, oldest first."""
        ...

    async def any(self) -> bool:
        """Whether there is a token at all, be it one that counts no more."""
        ...

    async def note_use(self, token_id: str, *, now: float, unless_since: float) -> bool:
        """If it was not noted at `unless_since` or later: note that it was used."""
        ...

    async def revoke(self, token_id: str, *, now: float) -> Token | None:
        """Let the token count no more from now on, unless it ended before; return it. None: there is none."""
        ...

    async def forget(self, token_id: str, *, now: float) -> bool:
        """If it counts no more: remove it."""
        ...

    async def name_operator(self, principal: str, *, now: float) -> bool:
        """Whether a token that counts makes this principal an operator."""
        ...


class SignInStore(Protocol):
    """The browsers that signed in, in the rows of one transaction. One is found by the hash of its secret."""

    async def add(self, sign_in: SignIn, secret_sha256: bytes) -> bool:
        """If its token is still there: add a new one."""
        ...

    async def find(self, secret_sha256: bytes) -> SignIn | None:
        """Return the one with that secret, with its token as that is now, whether it still counts or not."""
        ...

    async def remove(self, secret_sha256: bytes) -> bool:
        """Whether there was one, which is gone now. They go with their token, too."""
        ...

    async def remove_ended(self, *, now: float, limit: int) -> int:
        """Remove up to `limit` whose own time is over; return how many."""
        ...


class VisitorStore(Protocol):
    """The visitor rows of one transaction."""

    async def add(self, visitor: Visitor) -> None:
        """Add a new visitor."""

    async def load(self, visitor_id: str) -> Visitor | None:
        """Return the visitor, be it one that has ended."""
        ...

    async def see(self, visitor_id: str, *, now: float, ttl_s: float) -> Visitor | None:
        """If it lives: note that it is seen, which never brings its end nearer; return it."""
        ...

    async def sign_in(self, visitor_id: str, principal: str) -> bool:
        """If there is one: note who signed in from its browser."""
        ...

    async def remove(self, visitor_id: str) -> bool:
        """Whether there was one, which is gone now."""
        ...

    async def remove_ended(self, *, now: float, limit: int) -> Sequence[str]:
        """Remove up to `limit` visitors that ended, longest ago first; return their ids."""
        ...


class EventStore(Protocol):
    """The outbox of one transaction: what happened to records, in one order for all who read.

    Readers see an event only when no other can come before it any more, so that nobody who has read up to some
    place misses what is committed late.
    """

    @property
    def written(self) -> bool:
        """Whether this transaction has events of its own, perhaps of others that are committed with it."""
        ...

    async def append(self, *events: Event) -> None:
        """Write events, in this order."""

    async def after(
        self, position: Position, *, limit: int, interest: Interest = ...
    ) -> tuple[Sequence[Told], bool]:
        """Return up to `limit` events behind that position, and whether they are all that are committed there.

        The others come as soon as every transaction has ended that was running when they were written.

        With an `interest`, what that does not cover is left out, but never the last of all that readers may see: so the
        place of somebody who is interested in nothing of it moves on all the same. Then "all" are all of those that it
        covers.
        """
        ...

    async def last_settled(self) -> Position:
        """Return a position behind which is whatever is committed from now on."""
        ...

    async def kept(self) -> tuple[Position, Position] | None:
        """Return where the first and the last event are; None: there are none."""
        ...

    async def prune(self, *, before: float, limit: int) -> int:
        """Remove up to `limit` events that are older, but the last of them; return how many.

        Only what is before everything younger goes, and the last stays for those who had seen it.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How far one receiver of events has come."""

    receiver: str
    position: Position
    """Of the last event that it has taken."""
    fence: int
    holder: str | None
    """The worker that delivers to it."""
    failures: int = 0
    """In a row, of the event after that."""
    due_at: float = 0.0
    """When that is to be tried again; seconds since the epoch."""
    error: str | None = None


class DeliveryStore(Protocol):
    """The places of receivers, of one transaction."""

    async def load(self, receiver: str) -> Delivery | None:
        """Return how far the receiver has come."""
        ...

    async def begin(self, receiver: str, position: Position, holder: str) -> Delivery | None:
        """If it is not known: let it begin behind that position, and `holder` deliver; return that."""
        ...

    async def take(self, receiver: str, fence: int, holder: str) -> Delivery | None:
        """If it is under that fence: move the fence, and let `holder` deliver; return that."""
        ...

    async def advance(self, receiver: str, fence: int, position: Position) -> bool:
        """If it is under that fence: it has taken the event at that position; failures are forgotten."""
        ...

    async def postpone(self, receiver: str, fence: int, *, failures: int, due_at: float, error: str) -> bool:
        """If it is under that fence: note that it has failed, and when it is tried again."""
        ...


class Overview(Protocol[D]):
    """All rows at once, for operators."""

    async def live(self, *, after: tuple[float, str] | None, limit: int) -> Sequence[Session[D]]:
        """Return up to `limit` open and finishing sessions with all they have received, oldest first.

        `after`: keyset, (created_at, id) of the last row of the page before.
        """
        ...

    async def live_counts(self) -> Mapping[SessionStatus, int]:
        """Count open and finishing sessions; a status that none has may be left out."""
        ...

    async def record_counts(self) -> Mapping[RecordStatus, int]:
        """Count records that are not deleted; a status that none has may be left out."""
        ...

    async def deleted_count(self) -> int:
        """Count deleted records."""
        ...


class Transaction(Protocol[D]):
    """All rows, inside one transaction."""

    @property
    def overview(self) -> Overview[D]:
        """All rows at once."""
        ...

    @property
    def sessions(self) -> SessionStore[D]:
        """Upload sessions."""
        ...

    @property
    def records(self) -> RecordStore:
        """Records and assets."""
        ...

    @property
    def processing(self) -> ProcessingStore:
        """What is left to be done with records."""
        ...

    @property
    def events(self) -> EventStore:
        """The outbox."""
        ...

    @property
    def deliveries(self) -> DeliveryStore:
        """How far receivers of events have come."""
        ...

    @property
    def history(self) -> HistoryStore:
        """What owners have uploaded."""
        ...

    @property
    def capsules(self) -> CapsuleStore:
        """Capsules and their bytes."""
        ...

    @property
    def tokens(self) -> TokenStore:
        """Bearer tokens."""
        ...

    @property
    def sign_ins(self) -> SignInStore:
        """Browsers that signed in."""
        ...

    @property
    def visitors(self) -> VisitorStore:
        """Browsers without a token."""
        ...

    @property
    def finalisations(self) -> FinalisationStore:
        """What was made of uploads under idempotency keys."""
        ...

    @property
    def doomed_blobs(self) -> DoomedBlobs:
        """Bytes that are still to be removed."""
        ...

    @property
    def storage(self) -> StorageMark:
        """Where the bytes are."""
        ...


class UnitOfWork(Protocol[D]):
    """Transactions. `work` gets one, and may be run again, in another thread.

    It awaits the methods of its transaction only, since every other writer waits meanwhile, and has no
    other effect.

    What `work` raises rolls its transaction back and comes out of the call. Both may raise
    StorageUnavailable, after retrying what is worth it.
    """

    async def read(self, work: Callable[[Transaction[D]], Awaitable[T]]) -> T:
        """Run `work` on one consistent view."""
        ...

    async def write(
        self, work: Callable[[Transaction[D]], Awaitable[T]], *, durable: bool = False, frees: bool = False
    ) -> T:
        """Run `work` and commit before returning.

        `durable`: the commit survives a power loss. `frees`: room can be freed after it, or is asked for; where
        the rows lie on a full disk it may use what is kept for such.
        """
        ...


# --- processing --------------------------------------------------------------------------------------


class Pictures(Protocol):
    """Makes smaller pictures of stored images, in a place where a bad image harms nobody."""

    async def derive(
        self, blob_key: str, *, display: str, thumbnail: str, line: str
    ) -> Derivatives | Unprocessed:
        """Make the display picture and the thumbnail of a blob as the sink's parts of those keys.

        They are there after a success only. Of an image that cannot be opened it is said why; never is that an
        error. After a cancel nothing of it goes on.

        Args:
            blob_key: any file at all.
            display: the key of a part that is not there.
            thumbnail: the same.
            line: whose turn it takes; every line has its turn.

        Raises:
            ServiceStopping · StorageError
        """
        ...


class JobQueue(Protocol):
    """Work on records that goes on without its request.

    What is asked for here is a hint that a crash may lose; the records themselves say what is left to do.
    """

    def enqueue(self, record_id: RecordId, *, line: str) -> bool:
        """Let a record be processed soon, perhaps twice; False: there is no room, so ask later.

        `line`: whose turn it takes, the owner's for instance.
        """
        ...

    def knows(self, record_id: RecordId) -> bool:
        """Whether it waits here, or is being processed."""
        ...


# --- claims ------------------------------------------------------------------------------------------


class Claim(Protocol):
    """Permission for one thing, held until it is released; releasing twice is harmless."""

    def release(self) -> None:
        """Let go; the longest waiting claimant is next."""

    def on_asked(self, let_go: Callable[[], None]) -> None:
        """Call `let_go` when somebody asks this holder to let go, at once when it was asked already."""


class Claims(Protocol):
    """Who may touch what: chunk indexes, the end of an append, a session as a whole."""

    async def claim(self, session_id: SessionId, what: str, *, ask: bool = False) -> Claim:
        """Wait for the claim. `ask`: its holder is asked to let go."""
        ...

    def ask_all(self, session_id: SessionId) -> None:
        """Ask every holder of this session to let go."""

    async def idle(self, session_id: SessionId) -> None:
        """Wait until nobody holds anything of this session."""

    def held(self) -> frozenset[SessionId]:
        """Return the sessions of which anything is held."""
        ...


class Workers(Protocol):
    """Who else works on the same rows and bytes."""

    async def is_dead(self, worker: str) -> bool:
        """Whether that worker does not run any more; what it held may be taken at once.

        Raises:
            StorageUnavailable: nobody can tell now.
        """
        ...


class Ears(Protocol):
    """Who is told about the sessions that other processes change."""

    async def wanted(self) -> None:
        """Wait until anybody here cares."""

    async def hear(self, session_ids: Collection[SessionId] | None) -> None:
        """These sessions have changed, perhaps; None: any may have."""


class Signals(Protocol):
    """Words between the processes that share rows.

    They may be late or lost, but not for ever: who listens hears of every change in the end.
    """

    def tell(self, session_id: SessionId) -> None:
        """Let the other processes look at this session, whose change is committed; returns at once."""

    async def listen(self, ears: Ears) -> None:
        """Pass on what others tell, for ever; cancel it to end it."""


# --- access ------------------------------------------------------------------------------------------


class AccessPolicy(Protocol):
    """Who may do what in which capsule."""

    async def rights(self, tx: Transaction[Any], caller: Caller, capsule: str) -> Rights | None:
        """Return what the caller may do there; None when there is no such capsule for this credential.

        A caller who is limited to one upload stands for its principal without any other credential: with the
        rights that the principal has now.
        """
        ...


# --- peers -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedFile:
    """A file that peers may have. Names may hold surrogates, for bytes that are no text."""

    share: str
    path: str
    """The virtual path: share, folders and name, with backslashes between them."""
    local: str
    """Where it is below the share's folder."""
    size: int
    """When it was scanned."""

    @property
    def folder(self) -> str:
        """The virtual path of its folder."""
        return self.path.rpartition("\\")[0]


class ShareIndex(Protocol):
    """What the last scan of the shares has found. Each method raises StorageError."""

    async def replace(self, files: Sequence[SharedFile]) -> None:
        """Forget all files and keep these, in one step; their virtual paths differ."""
        ...

    async def find(self, path: str) -> SharedFile | None:
        """Return the file of exactly that virtual path."""
        ...

    async def all(self) -> Sequence[SharedFile]:
        """Return all, in the order of their folders, inside a folder in that of their names."""
        ...

    async def below(self, folder: str) -> Sequence[SharedFile]:
        """Return those in a folder and below it, in the same order."""
        ...

    async def search(
        self, wanted: Sequence[str], unwanted: Sequence[str], phrases: Sequence[str], limit: int
    ) -> Sequence[SharedFile]:
        """Return files whose paths have all wanted words, no unwanted one, and no phrase in them.

        Args:
            wanted: At least one; words as `core.words` makes them.
            unwanted: Likewise.
            phrases: In lower case.
            limit: How many files at most.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTransfer:
    """An upload to a peer or a download from one, as it is kept."""

    transfer: Transfer
    """Its line is the peer's name."""
    file: str
    """The virtual path at whoever has the file, as it was asked for."""
    address: str = ""
    """Of an upload: where it was asked from."""
    trusted: bool = False
    """Of an upload: whether that was the peer's own address, as far as the server could tell."""
    target: str = ""
    """Of a download: the local file that it becomes."""
    ended_at: float | None = None
    retry_of: TransferId | None = None
    """The ended download that this one is another try of."""
    number: int = field(default=0, compare=False)
    """Given by the store: those that were saved first later have higher ones."""


class TransferQueueStore(Protocol):
    """The queues of a node, kept between its runs. Each method raises StorageError."""

    async def save(self, transfers: Sequence[PeerTransfer]) -> None:
        """Keep these, each in the place of an older value with its id, in one step."""
        ...

    async def find(self, transfer: TransferId) -> PeerTransfer | None:
        """Return one."""
        ...

    async def live(self, direction: Direction) -> Sequence[PeerTransfer]:
        """Return those that have not ended, in the order in which they were saved first."""
        ...

    async def latest(
        self, limit: int, *, query: JournalQuery = EVERY_ROW, below: int | None = None
    ) -> Sequence[PeerTransfer]:
        """Return those that were saved first most recently, the newest first.

        Args:
            limit: How many at most.
            query: Which ones; its remote is a peer's name.
            below: Only those with numbers below this one.
        """
        ...

    async def forget(self, *, ended_before: float, most: int) -> int:
        """Forget those that ended before, and of those that have ended all but the newest; return how many."""
        ...


class NodeBeside(Protocol):
    """The Soulseek node that uses this service's data directory, if there is one. Each method raises StorageError.

    Documents are those of `core.transfer_document.peer_document`.
    """

    async def latest(self, limit: int, *, query: JournalQuery, below: int | None) -> Sequence[PeerTransfer]:
        """Return transfers as `TransferQueueStore` does."""
        ...

    async def places(self) -> Mapping[str, int]:
        """Return the places of those that wait in a queue, by id; none while the node does not run."""
        ...

    async def show(self, transfer: TransferId, *, wait_s: float) -> Mapping[str, Any] | None:
        """Return how one stands, at its end or after that time; None when there is none of that id."""
        ...

    async def act(self, transfer: TransferId, action: str) -> Mapping[str, Any] | None:
        """Let the node do something; returns what there is then, or None when there is none of that id.

        Raises:
            InvalidRequest: this cannot be done to such a transfer, or the node does not run.
        """
        ...

    def events(self) -> AsyncGenerator[News[Mapping[str, Any]] | None, None]:
        """Yield how its transfers are whenever they have changed, from now on; None: look at them anew.

        It raises nothing, and waits while the node does not run. Close it to let go.
        """
        ...
