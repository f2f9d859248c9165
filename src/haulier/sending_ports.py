"""What sending needs from the world, written by the upload manager.

Rule 1: what it names is not loaded with it, and it is a module of its own: a command that sends files is over before all of
        the service's ports were loaded.

One module although it is long: as `ports`, it is what an adapter's author has to read, and most of it is contracts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from haulier.core.values import dataclass

if TYPE_CHECKING:
    from haulier.core.dispatch import Dispatch, Fingerprint, Removed, Wanted
    from haulier.core.outgoing import Checksum, Held, Outgoing, RemoteLimits, RemoteSession, Stored, Summing
    from haulier.core.transfer import Phase, TransferId

T = TypeVar("T")


# --- remotes -----------------------------------------------------------------------------------------


class Source(Protocol):
    """An open local file."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def descriptor(self) -> int | None:
        """The open file's number, for `sendfile`; it belongs to the source. None: it is no file."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes of `[start, stop)`; blocks.

        Raises:
            SourceChanged: the file ends before `stop`.
            OSError: the device failed.
        """
        ...


class Throttle(Protocol):
    """A bound on bytes per second."""

    @property
    def piece(self) -> int | None:
        """Bytes to ask for at once; None while there is no bound."""
        ...

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes may go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cargo:
    """The bytes `[start, stop)` of a source, on their way."""

    source: Source
    start: int
    stop: int
    throttle: Throttle | None = None
    moved: Callable[[int], None] = lambda _: None
    """Told how many of the bytes have been handed to the connection."""
    before_end: Callable[[], Awaitable[None]] | None = None
    """Awaited, once or more often, before the last of the bytes goes: from then on the other side may have all of them."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stop - self.start


class Remote(Protocol):
    """A place that files are sent to. One object serves all transfers to it, at once.

    Every method that asks the remote may raise:
        PeerUnreachable, PeerBusy: it can pass; whoever was sending asks `offset` before going on. The first says `sent=False`
            only when nothing of this call has reached the remote: that takes the point of no return of a commit back.
        PeerBlocked: not before somebody has acted.
        PeerRefused: never, as it stands.
    A method that is cancelled leaves no request running.
    """

    @property
    def limits(self) -> RemoteLimits:
        """What it can take."""
        ...

    def check(self, outgoing: Outgoing) -> None:
        """Refuse what cannot be stored there, before anything is sent.

        Raises:
            InvalidRequest: the name, the size, or what is to be done about an existing file; with the reason.
        """

    async def probe(self) -> None:
        """Ask whether the address answers and takes the credentials; changes nothing."""

    async def create(self, outgoing: Outgoing) -> RemoteSession:
        """Begin; nothing is sent by that. What an earlier attempt left behind is taken up, or removed.

        Raises:
            PeerRefused: also when the target exists and must not (slug `target-exists`).
        """
        ...

    async def offset(self, outgoing: Outgoing, session: RemoteSession) -> Held:
        """Ask what the remote holds; a request of ours that still runs there is asked to let go.

        Raises:
            RemoteSessionLost: begin anew.
        """
        ...

    async def send(self, outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> Stored | None:
        """Bring a chunk over; when this returns the remote holds all of it.

        Chunks are of the session's size, or in order. There is no chunk of an empty file.

        Returns:
            The file, when this was what made it; else None.

        Raises:
            RemoteSessionLost: begin anew.
            SourceChanged: the source is shorter than it was.
        """
        ...

    async def commit(self, outgoing: Outgoing, session: RemoteSession, checksum: Checksum | None) -> Stored:
        """Make the file of what was sent; may be repeated. An empty file is made here.

        Of a session that commits itself, the file that the last chunk made is found. `checksum` is what
        `summing` made of all bytes; a remote that can compare refuses others.

        Raises:
            RemoteSessionLost: begin anew.
            PeerCorrupted: what arrived is not what was sent.
        """
        ...

    async def verify(self, outgoing: Outgoing, session: RemoteSession, stored: Stored) -> Stored:
        """Ask how the remote describes the file now, with its checksum where it tells one.

        Args:
            outgoing: what was sent.
            session: that made the file.
            stored: what was told of it then.
        """
        ...

    async def cancel(self, outgoing: Outgoing, session: RemoteSession) -> None:
        """Give up what was begun; fine when it is gone. A file that was made stays.

        Raises:
            RemoteSessionLost: it was begun elsewhere; nobody here can give it up.
        """

    def summing(self, outgoing: Outgoing, session: RemoteSession) -> Summing | None:
        """Return what computes the checksum that this remote will tell; None when it tells none."""
        ...

    async def close(self) -> None:
        """Close all connections; to be called once, when nothing runs."""


# --- the journal -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """As much of a live row as its place in the queue takes."""

    id: TransferId
    number: int
    """Rows that came later have higher ones."""
    remote: str
    target: str
    phase: Phase
    priority: int
    size: int
    queued_at: float
    bumped_at: float | None
    wanted: Wanted

    @classmethod
    def of(cls, row: Dispatch, *, number: int = 0) -> Waiting:
        """Return that much of a row; `number` matters to who reads on from there only."""
        return cls(
            id=row.id,
            number=number,
            remote=row.remote,
            target=row.target,
            phase=row.transfer.phase,
            priority=row.transfer.priority,
            size=row.transfer.size,
            queued_at=row.transfer.queued_at,
            bumped_at=row.bumped_at,
            wanted=row.wanted,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalQuery:
    """Which rows of a journal are wanted."""

    remote: str | None = None
    live: bool | None = None


EVERY_ROW: Final = JournalQuery()


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalPage:
    """Some rows of a journal, with their numbers; fewer than were asked for where one cannot be read."""

    rows: Sequence[tuple[int, Dispatch]]
    next: int | None
    """The number after which the next page begins; None when this is the last."""


class JournalRows(Protocol):
    """The rows of a journal inside one transaction; nothing here waits.

    A row that cannot be read is put aside by whoever meets it while writing: it counts as removed, with the reason.
    """

    def find(self, transfer_id: TransferId) -> Dispatch | Removed | None:
        """Return the transfer of that id, or of the id that it joined."""
        ...

    def live_of(self, remote: str, target: str) -> Sequence[Dispatch]:
        """Return what has not ended of a target, the oldest first."""
        ...

    def put(self, row: Dispatch) -> None:
        """Add the row, or replace the one of its id."""

    def join(self, transfer_id: TransferId, joined: TransferId) -> None:
        """Let another id name a transfer too."""

    def remove(self, gone: Removed) -> None:
        """Forget the row of a transfer that has ended, but for the fact that it was there.

        Where sessions of it lie at its remote still, only `leftover` and `leftovers` know the row from here on, until
        `forget_sessions` has had the last of them.
        """

    def waiting(self, *, after: int | None, limit: int) -> Sequence[Waiting]:
        """Return live rows with numbers above `after`, the oldest first; none when there are no more that can be read."""
        ...

    def changed(self, *, after: int, limit: int) -> Sequence[tuple[int, TransferId]]:
        """Return which rows were written, or removed, after that revision, with the revision of each, in order."""
        ...

    def revision(self) -> int:
        """Return the revision of the last write."""
        ...

    def bandwidth(self) -> tuple[int, float | None]:
        """Return the revision at which a bandwidth was asked for last, 0 for never, and the bytes per second; None: no bound."""
        ...

    def ask_bandwidth(self, bytes_per_s: float | None) -> None:
        """Write down what is asked of whoever runs the journal, now; who begins later brings a bound of its own."""

    def leftover(self, transfer_id: TransferId) -> Dispatch | None:
        """Return an ended row of which sessions lie at its remote still, be it removed or not."""
        ...

    def forget_sessions(self, transfer_id: TransferId, given_up: Collection[RemoteSession]) -> None:
        """Note that the remote has given up these sessions of a transfer that has ended."""

    def leftovers(self, *, after: int | None, limit: int) -> JournalPage:
        """Return ended rows of which sessions lie at their remote still, the newest first, from below `after` on."""
        ...

    def list(self, query: JournalQuery, *, after: int | None, limit: int) -> JournalPage:
        """Return rows, the newest first, from below the number `after` on."""
        ...

    def prune(self, *, before: float, limit: int) -> int:
        """Remove rows that ended, and what is left of others that were removed, before that time; return how many."""
        ...


class Journal(Protocol):
    """The sender's durable queue. Several processes may use it; one of them runs it.

    Once it is another one than was opened (somebody removed or replaced it), everything but `close`, `give_up` and `holder`
    raises StorageUnavailable(replaced=True) until it is opened anew, and nothing is kept.
    """

    async def open(self) -> None:
        """Make it usable.

        Raises:
            ConfigError: it is no journal, or of a newer version.
            StorageError
        """

    async def close(self) -> None:
        """Let go of everything, the runner's place too; harmless when it is closed."""

    async def read(self, work: Callable[[JournalRows], T]) -> T:
        """Run `work` on one consistent view. Raises StorageError."""
        ...

    async def write(self, work: Callable[[JournalRows], T], *, durable: bool = True) -> T:
        """Run `work` and commit before returning; durable: what it did survives a power loss. Raises StorageError."""
        ...

    async def commits_of_others(self) -> int:
        """Return a number that is another one after any other process has committed; never after we have.

        Raises:
            StorageError
        """
        ...

    async def take(self) -> bool:
        """Become the runner, if there is none; it stays so until it gives up, closes or dies. Raises StorageError."""
        ...

    async def give_up(self) -> None:
        """Be the runner no more; harmless when it is not."""

    async def holder(self) -> str | None:
        """Return who runs it, as people can find it (a process id); None when nobody does."""
        ...


# --- local files to send -----------------------------------------------------------------------------


class OpenSource(Source, Protocol):
    """A local file that was opened to be sent."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Which revision was opened."""
        ...

    async def check(self) -> None:
        """Compare the file that has this path now, and the open one, with what was opened.

        Raises:
            SourceChanged: another revision is there, or none.
            OSError
        """

    async def close(self) -> None:
        """Close it; to be called once."""


class LocalFiles(Protocol):
    """This machine's files."""

    def absolute(self, path: str) -> str:
        """Return the path from the root on, without `.` and `..`; links are left alone."""
        ...

    async def look(self, path: str) -> Fingerprint:
        """Return which revision of a file is there.

        Raises:
            OSError: it is missing, or may not or cannot be read.
            InvalidRequest: it is a folder, a pipe or a device, or made while it is read, as in /proc and /sys: it has other
                bytes than its size says.
            SourceChanged: it was written to while it was looked at.
        """
        ...

    async def open(self, path: str) -> OpenSource:
        """Open a file, which is the caller's to close. Raises as `look`."""
        ...


class Remotes(Protocol):
    """The remotes that are set up; a mapping is one."""

    def get(self, name: str, /) -> Remote | None:
        """Return the remote of that name; the same object each time."""
