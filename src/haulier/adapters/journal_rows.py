"""The tables of a journal, and how its rows are written and read.

Rule 1: a row that cannot be read never stops the others: whoever meets it while writing moves its text to `quarantine`,
        and what is left is a removed row with the reason. A text that is no UTF-8 is one of the ways in which it cannot be.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from math import isfinite
from typing import Any, Final, TypeVar

from haulier.core.dispatch import Dispatch, Fingerprint, OnChange, Removed, Wanted
from haulier.core.outgoing import Checksum, IfExists, RemoteSession, Stored
from haulier.core.secret import Secret
from haulier.core.transfer import Direction, Obstacle, Outcome, Phase, Priority, Step, Transfer, TransferId
from haulier.sending_ports import JournalPage, JournalQuery, Waiting

T = TypeVar("T")

VERSION: Final = 1
"""Of the tables; in the file's `user_version`."""
APPLICATION_ID: Final = 0x48414A4C
"""`HAJL`, in the file's header: no other program's database is taken for a journal."""

TABLES: Final = """
CREATE TABLE transfers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    revision INTEGER NOT NULL,
    remote TEXT NOT NULL,
    target TEXT NOT NULL,
    path TEXT NOT NULL,
    source TEXT NOT NULL,
    size INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    queued_at REAL NOT NULL,
    bumped_at REAL,
    phase TEXT NOT NULL,
    step TEXT,
    done INTEGER NOT NULL,
    past_return INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    retry_at REAL,
    obstacle TEXT,
    reason TEXT,
    outcome TEXT,
    speed REAL,
    if_exists TEXT NOT NULL,
    on_change TEXT NOT NULL,
    wanted TEXT NOT NULL,
    superseded_by TEXT,
    retry_of TEXT,
    intended_at REAL,
    session TEXT,
    chunk_size INTEGER,
    commits_itself INTEGER,
    pace INTEGER,
    restarts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    stalled_at REAL,
    sum TEXT,
    stored TEXT,
    error TEXT,
    ended_at REAL
) STRICT;
CREATE INDEX transfers_live ON transfers (remote, target) WHERE phase <> 'ended';
CREATE INDEX transfers_waiting ON transfers (number) WHERE phase <> 'ended';
CREATE INDEX transfers_revision ON transfers (revision);
CREATE INDEX transfers_ended ON transfers (ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE removed (
    id TEXT PRIMARY KEY, revision INTEGER NOT NULL, removed_at REAL NOT NULL, reason TEXT NOT NULL
) STRICT;
CREATE INDEX removed_revision ON removed (revision);
CREATE TABLE joined (id TEXT PRIMARY KEY, revision INTEGER NOT NULL, transfer TEXT NOT NULL) STRICT;
CREATE INDEX joined_revision ON joined (revision);
CREATE INDEX joined_transfer ON joined (transfer);
CREATE TABLE quarantine (id TEXT, content TEXT NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE TABLE revision (value INTEGER NOT NULL) STRICT;
INSERT INTO revision VALUES (0);
"""
ADDED_COLUMNS: Final = {
    "sent": ("INTEGER NOT NULL DEFAULT 0", "0"),
    "furthest": ("INTEGER NOT NULL DEFAULT 0", "done"),
    "left_there": ("TEXT", "NULL"),
}
"""Columns that journals of version 1 may lack, each with its type and what it is in rows of before; who does not know them does
without."""
_LEFTOVERS: Final = "phase = 'ended' AND (session IS NOT NULL OR left_there IS NOT NULL)"
ADDED: Final = f"""
CREATE TABLE IF NOT EXISTS bandwidth (
    only INTEGER PRIMARY KEY CHECK (only = 0), revision INTEGER NOT NULL, bytes_per_s REAL
) STRICT;
CREATE INDEX IF NOT EXISTS transfers_leftovers ON transfers (number) WHERE {_LEFTOVERS};
DROP INDEX IF EXISTS transfers_leftover;
"""
"""The same, of all else."""

_REPLACED: Final = (
    "remote", "target", "path", "source", "size", "priority", "queued_at", "bumped_at", "phase", "step", "done",
    "sent", "past_return", "attempts", "retry_at", "obstacle", "reason", "outcome", "speed", "if_exists", "on_change",
    "wanted", "superseded_by", "retry_of", "intended_at", "session", "chunk_size", "commits_itself", "left_there", "pace",
    "restarts", "furthest", "failures", "stalled_at", "sum", "stored", "error", "ended_at",
)  # fmt: skip
_COLUMNS: Final = ("id", "revision", *_REPLACED)
_PUT: Final = (
    f"INSERT INTO transfers ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"  # noqa: S608
    " ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, "
    + ", ".join(f"{name} = excluded.{name}" for name in _REPLACED)
)
_WAITING: Final = "id, number, remote, target, phase, priority, size, queued_at, bumped_at, wanted"


class SqliteJournalRows:
    """`JournalRows` inside a transaction of a connection; contracts as in the port."""

    def __init__(self, connection: sqlite3.Connection, *, now: Callable[[], float] | None) -> None:
        """Take the connection, which is inside a transaction.

        Args:
            connection: with `sqlite3.Row` as its rows.
            now: the clock of one that writes; None for one that only reads.
        """
        self._connection = connection
        self._now = now

    def find(self, transfer_id: TransferId) -> Dispatch | Removed | None:
        """Return the transfer of that id."""
        joined = self._one("SELECT transfer FROM joined WHERE id = ?", transfer_id)
        own = transfer_id if joined is None else TransferId(joined["transfer"])
        # First: of one that was removed the row may be there still, for what lies at its remote. Last: one that cannot be
        # read has just been put aside.
        return self._removed(own) or self._row(own) or self._removed(own)

    def live_of(self, remote: str, target: str) -> Sequence[Dispatch]:
        """Return what has not ended of a target."""
        found = self._all(
            "SELECT * FROM transfers WHERE remote = ? AND target = ? AND phase <> 'ended' ORDER BY number",
            remote,
            target,
        )
        return [row for each in found if (row := self._read(each)) is not None]

    def put(self, row: Dispatch) -> None:
        """Add or replace the row."""
        self._connection.execute(_PUT, {**_written(row), "revision": self._next_revision()})

    def join(self, transfer_id: TransferId, joined: TransferId) -> None:
        """Let another id name a transfer too."""
        self._connection.execute(
            "INSERT OR REPLACE INTO joined VALUES (?, ?, ?)", (transfer_id, self._next_revision(), joined)
        )

    def remove(self, gone: Removed) -> None:
        """Forget the row, or leave it to who cleans up."""
        self._connection.execute(f"DELETE FROM transfers WHERE id = ? AND NOT ({_LEFTOVERS})", (gone.id,))  # noqa: S608
        self._bury(gone)

    def waiting(self, *, after: int | None, limit: int) -> Sequence[Waiting]:
        """Return live rows, the oldest first."""
        while True:
            found = self._all(
                f"SELECT {_WAITING} FROM transfers WHERE (:after IS NULL OR number > :after) AND phase <> 'ended'"  # noqa: S608
                " ORDER BY number LIMIT :limit",
                {"after": after, "limit": limit},
            )
            rows = [row for each in found if (row := self._made(_waiting, each)) is not None]
            if rows or len(found) < limit:  # else none of so many can be read; that is not the end
                return rows
            after = found[-1]["number"]

    def changed(self, *, after: int, limit: int) -> Sequence[tuple[int, TransferId]]:
        """Return which rows were written after that revision."""
        # A row that claims a revision which there has not been hides no other.
        found = self._all(
            "SELECT revision, id FROM transfers WHERE revision > :after AND revision <= :last"
            " AND id NOT IN (SELECT id FROM removed)"
            " UNION ALL SELECT revision, id FROM removed WHERE revision > :after AND revision <= :last"
            " UNION ALL SELECT revision, id FROM joined WHERE revision > :after AND revision <= :last"
            " ORDER BY revision LIMIT :limit",
            {"after": after, "last": self.revision(), "limit": limit},
        )
        return [(each["revision"], TransferId(each["id"])) for each in found]

    def revision(self) -> int:
        """Return the revision of the last write."""
        found = self._one("SELECT value FROM revision")
        return 0 if found is None else int(found["value"])

    def bandwidth(self) -> tuple[int, float | None]:
        """Return what bandwidth was asked for last, and when."""
        found = self._one("SELECT revision, bytes_per_s FROM bandwidth")
        return (0, None) if found is None else (found["revision"], found["bytes_per_s"])

    def ask_bandwidth(self, bytes_per_s: float | None) -> None:
        """Write it down."""
        self._connection.execute(
            "INSERT OR REPLACE INTO bandwidth VALUES (0, ?, ?)", (self._next_revision(), bytes_per_s)
        )

    def leftover(self, transfer_id: TransferId) -> Dispatch | None:
        """Return an ended row of which sessions lie at its remote still."""
        row = self._row(transfer_id)
        return row if row is not None and not row.live and row.leftovers else None

    def forget_sessions(self, transfer_id: TransferId, given_up: Collection[RemoteSession]) -> None:
        """Take them out of the row, and the row out of the journal if it was removed and has no more."""
        row = self.leftover(transfer_id)
        if row is None:
            return
        left = row.without(given_up)
        if left.leftovers or self._removed(transfer_id) is None:
            self.put(left)
        else:
            self._connection.execute("DELETE FROM transfers WHERE id = ?", (transfer_id,))

    def leftovers(self, *, after: int | None, limit: int) -> JournalPage:
        """Return ended rows of which sessions lie at their remote still."""
        return self._page(_LEFTOVERS, after, limit)

    def list(self, query: JournalQuery, *, after: int | None, limit: int) -> JournalPage:
        """Return rows, the newest first."""
        return self._page(
            "(:remote IS NULL OR remote = :remote) AND (:live IS NULL OR (phase <> 'ended') = :live)"
            " AND id NOT IN (SELECT id FROM removed)",
            after,
            limit,
            remote=query.remote,
            live=query.live,
        )

    def _page(self, condition: str, after: int | None, limit: int, **values: object) -> JournalPage:
        found = self._all(
            f"SELECT * FROM transfers WHERE (:after IS NULL OR number < :after) AND {condition}"  # noqa: S608
            " ORDER BY number DESC LIMIT :limit",
            {"after": after, "limit": limit + 1, **values},
        )
        # Counted by what is there, not by what can be read: a page that is short is not the last one.
        rows = [(each["number"], row) for each in found[:limit] if (row := self._read(each)) is not None]
        return JournalPage(rows=rows, next=found[limit - 1]["number"] if len(found) > limit else None)

    def prune(self, *, before: float, limit: int) -> int:
        """Remove what ended, or was removed, before that time."""
        ended = self._all(
            "SELECT rowid AS row, id FROM transfers WHERE ended_at < ? AND phase = 'ended' LIMIT ?",
            before,
            limit,
        )
        gone = self._all(
            "SELECT rowid AS row, id FROM removed WHERE removed_at < ? LIMIT ?", before, limit - len(ended)
        )
        for table, rows in (("transfers", ended), ("removed", gone)):
            for row in rows:
                self._connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (row["row"],))  # noqa: S608 - two names
                self._connection.execute("DELETE FROM joined WHERE transfer = ?", (row["id"],))
        return len(ended) + len(gone)

    def _row(self, transfer_id: TransferId) -> Dispatch | None:
        found = self._one("SELECT * FROM transfers WHERE id = ?", transfer_id)
        return None if found is None else self._read(found)

    def _removed(self, transfer_id: TransferId) -> Removed | None:
        found = self._one("SELECT * FROM removed WHERE id = ?", transfer_id)
        if found is None:
            return None
        return Removed(id=transfer_id, removed_at=found["removed_at"], reason=found["reason"])

    def _read(self, found: sqlite3.Row) -> Dispatch | None:
        return self._made(_dispatch, found)

    def _made(self, make: Callable[[Mapping[str, Any]], T], found: sqlite3.Row) -> T | None:
        """Return what is made of a row; None when it cannot be read."""
        try:
            row = dict(found)
            _require_sound(row)
            return make(row)
        except (ValueError, TypeError, KeyError, AssertionError, RecursionError) as error:
            if self._now is not None:
                self._put_aside(found["number"], f"{type(error).__name__}: {error}", now=self._now())
            return None

    def _put_aside(self, number: int, reason: str, *, now: float) -> None:
        found = self._one("SELECT * FROM transfers WHERE number = ?", number)
        assert found is not None, number
        content = json.dumps(dict(found))
        self._connection.execute("INSERT INTO quarantine VALUES (?, ?, ?)", (found["id"], content, reason))
        self._connection.execute("DELETE FROM transfers WHERE number = ?", (number,))
        self._bury(
            Removed(id=TransferId(found["id"]), removed_at=now, reason=f"its row cannot be read: {reason}")
        )

    def _bury(self, gone: Removed) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO removed VALUES (?, ?, ?, ?)",
            (gone.id, self._next_revision(), gone.removed_at, gone.reason),
        )

    def _next_revision(self) -> int:
        found = self._one("UPDATE revision SET value = value + 1 RETURNING value")
        assert found is not None
        return int(found["value"])

    def _one(self, statement: str, *values: object) -> sqlite3.Row | None:
        found = self._all(statement, *values)
        return found[0] if found else None

    def _all(self, statement: str, *values: Any) -> Sequence[sqlite3.Row]:
        named = values[0] if values and isinstance(values[0], dict) else values
        try:
            return self._connection.execute(statement, named).fetchall()
        except sqlite3.OperationalError as error:
            if hasattr(error, "sqlite_errorcode"):
                raise
            # Not SQLite's, but the driver's own: a text is no UTF-8, and all rows are withheld for it.
            with _garbled_shown(self._connection):
                return self._connection.execute(statement, named).fetchall()


class _Garbled(str):
    """A text of the file that is no UTF-8, as people can be shown it."""

    __slots__ = ()


def _shown(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _Garbled(raw.decode(errors="backslashreplace"))


@contextmanager
def _garbled_shown(connection: sqlite3.Connection) -> Iterator[None]:
    connection.text_factory = _shown
    try:
        yield
    finally:
        connection.text_factory = str


def _require_sound(row: Mapping[str, object]) -> None:
    """Refuse what is neither text nor a number, whatever the column. Raises ValueError."""
    for name, value in row.items():
        if isinstance(value, _Garbled):
            raise ValueError(f"{name} is no UTF-8")  # noqa: TRY004 - of the right type it is
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"{name} is {value}")


def _waiting(row: Mapping[str, Any]) -> Waiting:
    return Waiting(**{**row, "phase": Phase(row["phase"]), "wanted": Wanted(row["wanted"])})


def _written(row: Dispatch) -> dict[str, object]:
    transfer = row.transfer
    state, chunk_size, commits_itself = (None,) * 3 if row.session is None else _session_told(row.session)
    fields: dict[str, object] = {
        "id": row.id,
        "remote": row.remote,
        "source": json.dumps(asdict(row.source)),
        "past_return": int(transfer.past_return),
        "session": state,
        "chunk_size": chunk_size,
        "commits_itself": commits_itself,
        "left_there": json.dumps([_session_told(each) for each in row.left]) if row.left else None,
        "sum": None if row.sum is None else json.dumps(asdict(row.sum)),
        "stored": None if row.stored is None else json.dumps(asdict(row.stored)),
    }
    for value, names in ((transfer, _OF_TRANSFER), (row, _OF_ROW)):
        fields.update({name: _plain(getattr(value, name)) for name in names})
    return fields


_OF_TRANSFER: Final = (
    "size", "priority", "queued_at", "phase", "step", "done", "sent", "attempts", "retry_at", "obstacle", "reason", "outcome",
    "speed",
)  # fmt: skip
_OF_ROW: Final = (
    "target", "path", "bumped_at", "if_exists", "on_change", "wanted", "superseded_by", "retry_of", "intended_at",
    "pace", "restarts", "furthest", "failures", "stalled_at", "error", "ended_at",
)  # fmt: skip


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else value


def _maybe(kind: Callable[[Any], T], value: object) -> T | None:
    return None if value is None else kind(value)


def _dispatch(row: Mapping[str, Any]) -> Dispatch:
    phase, step = Phase(row["phase"]), _maybe(Step, row["step"])
    outcome = _maybe(Outcome, row["outcome"])
    if (phase is Phase.ENDED) != (outcome is not None) or not 0 <= row["done"] <= row["size"]:
        raise ValueError(f"{phase} with outcome {outcome} and {row['done']} of {row['size']} bytes")
    if phase is Phase.WAITING_RETRY and row["retry_at"] is None:
        raise ValueError(f"{phase} without an end")
    transfer = Transfer(
        id=TransferId(row["id"]),
        direction=Direction.UPLOAD,
        line=row["remote"],
        size=row["size"],
        queued_at=row["queued_at"],
        priority=Priority(row["priority"]),
        phase=phase,
        step=step,
        done=row["done"],
        sent=row["sent"],
        past_return=bool(row["past_return"]),
        attempts=row["attempts"],
        retry_at=row["retry_at"],
        obstacle=_maybe(Obstacle, row["obstacle"]),
        reason=row["reason"],
        outcome=outcome,
        speed=row["speed"],
    )
    source = Fingerprint(**json.loads(row["source"]))
    if source.size != transfer.size:
        raise ValueError(f"{transfer.size} bytes of a file of {source.size}")
    return Dispatch(
        transfer=transfer,
        target=row["target"],
        path=row["path"],
        source=source,
        if_exists=IfExists(row["if_exists"]),
        on_change=OnChange(row["on_change"]),
        wanted=Wanted(row["wanted"]),
        superseded_by=_maybe(TransferId, row["superseded_by"]),
        retry_of=_maybe(TransferId, row["retry_of"]),
        bumped_at=row["bumped_at"],
        intended_at=row["intended_at"],
        session=None
        if row["session"] is None
        else _session(row["session"], row["chunk_size"], row["commits_itself"]),
        left=tuple(_session(*each) for each in json.loads(row["left_there"] or "[]")),
        pace=_maybe(_chunk_length, row["pace"]),
        restarts=row["restarts"],
        furthest=row["furthest"],
        failures=row["failures"],
        stalled_at=row["stalled_at"],
        sum=_maybe(_checksum, _maybe(json.loads, row["sum"])),
        stored=_maybe(_stored, _maybe(json.loads, row["stored"])),
        error=row["error"],
        ended_at=row["ended_at"],
    )


def _session(state: str, chunk_size: int | None, commits_itself: int | None) -> RemoteSession:
    return RemoteSession(
        state=Secret(state),
        chunk_size=_maybe(_chunk_length, chunk_size),
        commits_itself=bool(commits_itself),
    )


def _session_told(session: RemoteSession) -> tuple[str, int | None, int]:
    return session.state.reveal(), session.chunk_size, int(session.commits_itself)


def _chunk_length(size: int) -> int:
    if size < 1:
        raise ValueError(f"chunks of {size} bytes")
    return size


def _checksum(fields: dict[str, str]) -> Checksum:
    return Checksum(**fields)


def _stored(fields: dict[str, Any]) -> Stored:
    return Stored(**{**fields, "checksum": _maybe(_checksum, fields["checksum"])})
