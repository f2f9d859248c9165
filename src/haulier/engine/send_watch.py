"""Who waits for transfers, and who follows them.

Rule 1: whoever waits begins to listen before looking, so that no change falls between the two.
Rule 2: of a reader of events state changes are never dropped; progress is replaced by newer progress, and the last one
        always comes. One that lags too far is told so, and given everything anew, after that how the journal is.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Final

from haulier.core.dispatch import Dispatch, Removed
from haulier.core.errors import StorageError
from haulier.core.transfer import Snapshot, TransferId
from haulier.core.values import dataclass

MAX_BEHIND: Final = 1000
"""State changes that a reader may be behind: some hundred kilobytes. Who lags further is better off looking anew."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A transfer that runs is further, and nothing else; all of it, so that nobody has to look it up."""

    row: Dispatch

    @property
    def id(self) -> TransferId:
        """The transfer's."""
        return self.row.id

    @property
    def snapshot(self) -> Snapshot:
        """How far it is."""
        return self.row.transfer.snapshot


@dataclass(frozen=True, slots=True)
class Changed:
    """A transfer is in another state; all of it."""

    row: Dispatch


@dataclass(frozen=True, slots=True)
class Lagged:
    """State changes were lost because their reader was slow: here is what has not ended, as it is now."""

    live: tuple[Dispatch, ...]


@dataclass(frozen=True, slots=True)
class Hindered:
    """The journal cannot be written here, or is another one, so nothing goes on; or it can again."""

    error: StorageError | None
    """What it fails with; None: it works again."""


Happening = Progress | Changed | Removed | Lagged | Hindered


class Watchers:
    """Wakes those who wait for a transfer."""

    def __init__(self) -> None:
        self._events: dict[TransferId, dict[asyncio.Event, None]] = {}

    @contextmanager
    def watching(self, transfer_id: TransferId) -> Iterator[asyncio.Event]:
        """Return an event that is set when the transfer may be known now, or have ended; its owner clears it and looks."""
        event = asyncio.Event()
        self._events.setdefault(transfer_id, {})[event] = None
        try:
            yield event
        finally:
            waiting = self._events[transfer_id]
            del waiting[event]
            if not waiting:
                del self._events[transfer_id]

    def wake(self, transfer_id: TransferId) -> None:
        """Let those look who wait for this one."""
        for event in self._events.get(transfer_id, ()):
            event.set()

    def wake_all(self) -> None:
        """Let everybody look."""
        for transfer_id in self._events:
            self.wake(transfer_id)


class Readers:
    """Hands happenings to those who follow."""

    def __init__(self) -> None:
        self._readers: dict[Reader, None] = {}
        self._closed = False

    @contextmanager
    def following(self) -> Iterator["Reader"]:
        """Return a reader of all that happens from now on."""
        reader = Reader()
        self._readers[reader] = None
        if self._closed:
            reader.close()
        try:
            yield reader
        finally:
            del self._readers[reader]

    def tell(self, happening: Progress | Changed | Removed | Hindered) -> None:
        """Hand it to everybody."""
        for reader in self._readers:
            reader.take(happening)

    def close(self) -> None:
        """Let every reader come to its end."""
        self._closed = True
        for reader in self._readers:
            reader.close()

    def reopen(self) -> None:
        """Let there be readers again."""
        self._closed = False


class Reader:
    """What one who follows has not read yet."""

    def __init__(self) -> None:
        self._changes: deque[Changed | Removed | Hindered] = deque()
        self._progress: dict[TransferId, Progress] = {}
        self._woken = asyncio.Event()
        self._lagged = False
        self._closed = False

    def take(self, happening: Progress | Changed | Removed | Hindered) -> None:
        """Put it behind the others; progress takes the place of older progress."""
        if isinstance(happening, Progress):
            self._progress[happening.id] = happening
        elif len(self._changes) < MAX_BEHIND:
            self._changes.append(happening)
        else:
            # Transfers are given anew. Whether the journal can be used was said once, and can be looked up nowhere.
            journal = [it for it in (*self._changes, happening) if isinstance(it, Hindered)]
            self._changes = deque(journal[-1:])
            self._progress.clear()
            self._lagged = True
        self._woken.set()

    def close(self) -> None:
        """Come to the end after what is there."""
        self._closed = True
        self._woken.set()

    async def batches(
        self,
    ) -> AsyncGenerator[tuple[bool, list[Progress | Changed | Removed | Hindered]], None]:
        """Yield whether something was lost since the last batch, and all that happened after that."""
        while True:
            self._woken.clear()
            lagged, self._lagged = self._lagged, False
            # Progress first: a change that comes with it, the end above all, is the newer.
            batch = [*self._progress.values(), *self._changes]
            self._progress.clear()
            self._changes.clear()
            if lagged or batch:
                yield lagged, batch
            elif self._closed:
                return
            else:
                await self._woken.wait()
