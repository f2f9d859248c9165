"""A journal in memory: what several processes share is a `MemoryJournalFile`, each has a `MemoryJournal` on it."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from copy import copy
from dataclasses import field
from typing import TypeVar

from haulier.core.dispatch import Dispatch, Removed
from haulier.core.outgoing import RemoteSession
from haulier.core.transfer import TransferId
from haulier.core.values import dataclass
from haulier.sending_ports import JournalPage, JournalQuery, Waiting

T = TypeVar("T")


@dataclass(slots=True)
class _Rows:
    """One version of all rows; a committed one is never changed again."""

    rows: dict[TransferId, tuple[int, Dispatch]] = field(default_factory=dict)
    joined: dict[TransferId, TransferId] = field(default_factory=dict)
    removed: dict[TransferId, Removed] = field(default_factory=dict)
    written: dict[TransferId, int] = field(default_factory=dict)
    """The revision at which each was written last, in that order."""
    revision: int = 0
    number: int = 0
    bandwidth: tuple[int, float | None] = (0, None)

    def draft(self) -> "_Rows":
        return _Rows(
            copy(self.rows),
            copy(self.joined),
            copy(self.removed),
            copy(self.written),
            self.revision,
            self.number,
            self.bandwidth,
        )


@dataclass(slots=True)
class MemoryJournalFile:
    """What would be on disk."""

    rows: _Rows = field(default_factory=_Rows)
    commits: int = 0
    runner: "MemoryJournal | None" = None


class MemoryJournalRows:
    """`JournalRows` on a draft; contracts as in the port."""

    def __init__(self, rows: _Rows) -> None:
        self._it = rows

    def find(self, transfer_id: TransferId) -> Dispatch | Removed | None:
        """Return the transfer of that id."""
        own = self._it.joined.get(transfer_id, transfer_id)
        found = self._it.rows.get(own)
        # First: of one that was removed the row may be there still, for what lies at its remote.
        return self._it.removed.get(own) or (None if found is None else found[1])

    def live_of(self, remote: str, target: str) -> Sequence[Dispatch]:
        """Return what has not ended of a target."""
        return [row for _, row in self._live() if (row.remote, row.target) == (remote, target)]

    def put(self, row: Dispatch) -> None:
        """Add or replace the row."""
        if row.id not in self._it.rows:
            self._it.number += 1
        number = self._it.rows[row.id][0] if row.id in self._it.rows else self._it.number
        self._it.rows[row.id] = (number, row)
        self._note(row.id)

    def join(self, transfer_id: TransferId, joined: TransferId) -> None:
        """Let another id name a transfer too."""
        self._it.joined[transfer_id] = joined
        self._note(transfer_id)

    def remove(self, gone: Removed) -> None:
        """Forget the row, or leave it to who cleans up."""
        if self.leftover(gone.id) is None:
            self._it.rows.pop(gone.id, None)
        self._it.removed[gone.id] = gone
        self._note(gone.id)

    def waiting(self, *, after: int | None, limit: int) -> Sequence[Waiting]:
        """Return live rows, the oldest first."""
        found = [(number, row) for number, row in self._live() if after is None or number > after]
        return [Waiting.of(row, number=number) for number, row in found[:limit]]

    def changed(self, *, after: int, limit: int) -> Sequence[tuple[int, TransferId]]:
        """Return which rows were written after that revision."""
        return [(revision, name) for name, revision in self._it.written.items() if revision > after][:limit]

    def revision(self) -> int:
        """Return the revision of the last write."""
        return self._it.revision

    def bandwidth(self) -> tuple[int, float | None]:
        """Return what bandwidth was asked for last, and when."""
        return self._it.bandwidth

    def ask_bandwidth(self, bytes_per_s: float | None) -> None:
        """Write it down."""
        self._it.revision += 1
        self._it.bandwidth = (self._it.revision, bytes_per_s)

    def leftover(self, transfer_id: TransferId) -> Dispatch | None:
        """Return an ended row of which sessions lie at its remote still."""
        found = self._it.rows.get(transfer_id)
        return None if found is None or found[1].live or not found[1].leftovers else found[1]

    def forget_sessions(self, transfer_id: TransferId, given_up: Collection[RemoteSession]) -> None:
        """Take them out of the row, and the row out of the journal if it was removed and has no more."""
        row = self.leftover(transfer_id)
        if row is None:
            return
        left = row.without(given_up)
        if left.leftovers or transfer_id not in self._it.removed:
            self.put(left)
        else:
            del self._it.rows[transfer_id]

    def leftovers(self, *, after: int | None, limit: int) -> JournalPage:
        """Return ended rows of which sessions lie at their remote still."""
        return self._page(lambda row: not row.live and bool(row.leftovers), after, limit)

    def list(self, query: JournalQuery, *, after: int | None, limit: int) -> JournalPage:
        """Return rows, the newest first."""
        return self._page(
            lambda row: (
                query.remote in {None, row.remote}
                and query.live in {None, row.live}
                and row.id not in self._it.removed
            ),
            after,
            limit,
        )

    def _page(self, fits: Callable[[Dispatch], bool], after: int | None, limit: int) -> JournalPage:
        found = [
            (number, row)
            for number, row in sorted(self._it.rows.values(), key=lambda found: -found[0])
            if fits(row) and (after is None or number < after)
        ]
        return JournalPage(rows=found[:limit], next=found[limit - 1][0] if len(found) > limit else None)

    def prune(self, *, before: float, limit: int) -> int:
        """Remove what ended, or was removed, before that time."""
        ended = [
            row.id for _, row in self._it.rows.values() if row.ended_at is not None and row.ended_at < before
        ]
        gone = [name for name, removed in self._it.removed.items() if removed.removed_at < before]
        for name in (pruned := [*ended, *gone][:limit]):
            self._it.rows.pop(name, None)
            self._it.removed.pop(name, None)
            self._it.written.pop(name, None)
            self._it.joined = {alias: of for alias, of in self._it.joined.items() if of != name}
        return len(pruned)

    def _live(self) -> Iterator[tuple[int, Dispatch]]:
        return (
            (number, row) for number, row in sorted(self._it.rows.values(), key=lambda it: it[0]) if row.live
        )

    def _note(self, transfer_id: TransferId) -> None:
        self._it.revision += 1
        self._it.written.pop(transfer_id, None)
        self._it.written[transfer_id] = self._it.revision


class MemoryJournal:
    """`Journal` of one process on a shared `MemoryJournalFile`; contracts as in the port."""

    def __init__(self, file: MemoryJournalFile | None = None) -> None:
        self._file = MemoryJournalFile() if file is None else file
        self._own = 0

    async def open(self) -> None:
        """Do nothing: it is usable."""

    async def close(self) -> None:
        """Let go of the runner's place."""
        await self.give_up()

    async def read(self, work: Callable[[MemoryJournalRows], T]) -> T:
        """Run `work` on one consistent view."""
        return work(MemoryJournalRows(self._file.rows.draft()))

    async def write(self, work: Callable[[MemoryJournalRows], T], *, durable: bool = True) -> T:  # noqa: ARG002
        """Run `work` and commit."""
        await asyncio.sleep(0)  # as every write to a disk, it lets others run
        draft = self._file.rows.draft()
        result = work(MemoryJournalRows(draft))
        self._file.rows = draft
        self._file.commits += 1
        self._own += 1
        return result

    async def commits_of_others(self) -> int:
        """Return how often others have committed."""
        return self._file.commits - self._own

    async def take(self) -> bool:
        """Become the runner, if there is none."""
        if self._file.runner is None:
            self._file.runner = self
        return self._file.runner is self

    async def give_up(self) -> None:
        """Be the runner no more."""
        if self._file.runner is self:
            self._file.runner = None

    async def holder(self) -> str | None:
        """Return who runs it."""
        return None if self._file.runner is None else "memory"
