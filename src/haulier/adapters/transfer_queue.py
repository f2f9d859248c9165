"""The queues of a Soulseek node in SQLite: what waits and what has ended, between its runs."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from haulier.adapters.sqlite_file import SqliteFile, raw_of, text_of
from haulier.core.transfer import Direction, Obstacle, Outcome, Phase, Priority, Step, Transfer, TransferId
from haulier.ports import PeerTransfer
from haulier.sending_ports import EVERY_ROW, JournalQuery

FILE_NAME: Final = "soulseek-transfers.db"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS transfers (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, direction TEXT NOT NULL,
    line BLOB NOT NULL, file BLOB NOT NULL, address TEXT NOT NULL, trusted INTEGER NOT NULL, target BLOB NOT NULL,
    size INTEGER NOT NULL, queued_at REAL NOT NULL, priority INTEGER NOT NULL, phase TEXT NOT NULL,
    step TEXT, done INTEGER NOT NULL, attempts INTEGER NOT NULL, retry_at REAL, obstacle TEXT,
    reason BLOB, outcome TEXT, speed REAL, ended_at REAL,
    retry_of TEXT
);
CREATE INDEX IF NOT EXISTS transfers_live ON transfers (direction, number) WHERE outcome IS NULL;
CREATE INDEX IF NOT EXISTS transfers_ended ON transfers (ended_at) WHERE outcome IS NOT NULL;
"""
_NAMES: Final = (
    "id", "direction", "line", "file", "address", "trusted", "target", "size", "queued_at", "priority",
    "phase", "step", "done", "attempts", "retry_at", "obstacle", "reason", "outcome", "speed", "ended_at", "retry_of",
)  # fmt: skip
_COLUMNS: Final = ", ".join(_NAMES)
_SELECT: Final = f"SELECT number, {_COLUMNS} FROM transfers "  # noqa: S608 - fixed text
_SAVE: Final = (
    f"INSERT INTO transfers ({_COLUMNS}) VALUES ({', '.join('?' for _ in _NAMES)}) "  # noqa: S608 - fixed text
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _NAMES[1:])}"
)

_FORGET: Final = """
DELETE FROM transfers WHERE outcome IS NOT NULL AND (ended_at < ? OR number <= (
    SELECT number FROM transfers WHERE outcome IS NOT NULL ORDER BY number DESC LIMIT 1 OFFSET ?
))
"""


class SqliteTransferQueueStore(SqliteFile):
    """Keeps transfers in a file.

    Args:
        path: The file; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SCHEMA)

    async def save(self, transfers: Sequence[PeerTransfer]) -> None:
        """Keep these, in one step."""
        rows = [_row_of(transfer) for transfer in transfers]
        await self._write(lambda connection: connection.executemany(_SAVE, rows))

    async def find(self, transfer: TransferId) -> PeerTransfer | None:
        """Return one."""
        found = await self._rows("WHERE id = ?", (transfer,))
        return found[0] if found else None

    async def live(self, direction: Direction) -> Sequence[PeerTransfer]:
        """Return those that have not ended."""
        return await self._rows("WHERE outcome IS NULL AND direction = ? ORDER BY number", (direction.value,))

    async def latest(
        self, limit: int, *, query: JournalQuery = EVERY_ROW, below: int | None = None
    ) -> Sequence[PeerTransfer]:
        """Return the newest."""
        wanted: dict[str, tuple[Any, ...]] = {
            "number < ?": () if below is None else (below,),
            "line = ?": () if query.remote is None else (raw_of(query.remote),),
            "(outcome IS NULL) = ?": () if query.live is None else (query.live,),
        }
        conditions = " AND ".join(["TRUE", *(text for text, values in wanted.items() if values)])
        values = tuple(value for values in wanted.values() for value in values)
        return await self._rows(f"WHERE {conditions} ORDER BY number DESC LIMIT ?", (*values, limit))

    async def forget(self, *, ended_before: float, most: int) -> int:
        """Forget those that ended before, and of those that have ended all but the newest."""
        return await self._write(
            lambda connection: connection.execute(_FORGET, (ended_before, most)).rowcount
        )

    async def _rows(self, rest: str, parameters: tuple[Any, ...]) -> list[PeerTransfer]:
        def work(connection: sqlite3.Connection) -> list[PeerTransfer]:
            rows = connection.execute(_SELECT + rest, parameters)
            return [_transfer_of(dict(zip(("number", *_NAMES), row, strict=True))) for row in rows]

        return await self._read(work)


def _row_of(kept: PeerTransfer) -> tuple[Any, ...]:
    it = kept.transfer
    return (
        it.id, it.direction.value, raw_of(it.line), raw_of(kept.file), kept.address, kept.trusted,
        raw_of(kept.target), it.size, it.queued_at, int(it.priority), it.phase.value, it.step and it.step.value, it.done, it.attempts,
        it.retry_at, it.obstacle and it.obstacle.value, it.reason and raw_of(it.reason),
        it.outcome and it.outcome.value, it.speed, kept.ended_at,
        kept.retry_of,
    )  # fmt: skip


def _transfer_of(row: dict[str, Any]) -> PeerTransfer:
    transfer = Transfer(
        id=TransferId(row["id"]),
        direction=Direction(row["direction"]),
        line=text_of(row["line"]),
        size=row["size"],
        queued_at=row["queued_at"],
        priority=Priority(row["priority"]),
        phase=Phase(row["phase"]),
        step=None if row["step"] is None else Step(row["step"]),
        done=row["done"],
        attempts=row["attempts"],
        retry_at=row["retry_at"],
        obstacle=None if row["obstacle"] is None else Obstacle(row["obstacle"]),
        reason=None if row["reason"] is None else text_of(row["reason"]),
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
        speed=row["speed"],
    )
    return PeerTransfer(
        transfer=transfer,
        file=text_of(row["file"]),
        address=row["address"],
        trusted=bool(row["trusted"]),
        target=text_of(row["target"]),
        ended_at=row["ended_at"],
        retry_of=row["retry_of"],
        number=row["number"],
    )
