"""The upload manager: queues local files for remotes, and lets anyone wait for the one true result.

Rule 1: a result is kept, not announced. Whoever waits reads the row; only if it has not ended does he wait for its change,
        and he began to listen before he looked.
Rule 2: `queue` never waits for the network, and a transfer that it has returned is in the journal.
Rule 3: one process runs the journal. All others read it, add rows and write down what they want; what they wait for they
        hear of by looking every `POLL_S` whether somebody has committed.

One module although it is long: it is the whole interface, and most of it is what each operation promises.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import PurePath
from typing import Final, Self, TypeVar

import structlog

from haulier.core.dispatch import MAX_ID, Dispatch, OnChange, Removed, Wanted, again
from haulier.core.errors import (
    InvalidRequest,
    JournalBusy,
    StorageError,
    TransferNotFound,
    TransferTimeout,
)
from haulier.core.outgoing import IfExists
from haulier.core.retry import Chance
from haulier.core.transfer import Direction, Priority, Snapshot, Transfer, TransferId
from haulier.engine.background import Background
from haulier.engine.send_rows import change_row, insert, remove, require
from haulier.engine.send_runner import BATCH, SendLimits, SendRunner, wait_or_sleep
from haulier.engine.send_watch import Changed, Happening, Lagged, Progress, Readers, Watchers
from haulier.engine.slots import SlotLimits
from haulier.engine.throttle import Bandwidth
from haulier.ports import Clock, Identifiers, Journal, JournalQuery, JournalRows, LocalFiles, Remotes

log = structlog.get_logger()
T = TypeVar("T")

POLL_S: Final = 0.2
"""How often a process looks whether others have committed: soon enough for people, and one cheap statement."""
UNKNOWN_S: Final = 5.0
"""How long a wait for an id that nobody has queued yet waits for that to happen."""
STOP_GRACE_S: Final = 30.0
"""How long transfers that are past the point of no return may take to come to their end."""
LIST: Final = 100
"""Rows of a page."""


class Role(Enum):
    """Whether this process runs the journal."""

    WHEN_FREE = "when free"
    """It observes while another does, and takes over when that one lets go."""
    REQUIRED = "required"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class TransferView:
    """A transfer as people are shown it."""

    row: Dispatch
    snapshot: Snapshot
    place: int | None = None
    """In the queue, from 1; known to the runner only."""
    number: int = 0
    """In the journal: rows that came later have higher ones."""


class UploadManager:
    """See the head of this file. Use it as an async context manager, or call `start` and `stop`."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        journal: Journal,
        remotes: Remotes,
        *,
        files: LocalFiles,
        clock: Clock,
        ids: Identifiers,
        chance: Chance,
        limits: SendLimits | None = None,
        role: Role = Role.WHEN_FREE,
        unknown_s: float = UNKNOWN_S,
    ) -> None:
        """Take the parts; nothing runs and no file is open before `start`.

        Args:
            journal: where transfers are kept; several processes may share it.
            remotes: where files can be sent; a mapping of names will do.
            files: this machine's files.
            clock: the time.
            ids: where ids come from.
            chance: what delays are drawn from.
            limits: how many run at once, and how long results are kept.
            role: whether this process runs the journal.
            unknown_s: how long `wait` waits for an id that nobody has queued.
        """
        self._journal = journal
        self._remotes = remotes
        self._files = files
        self._clock = clock
        self._ids = ids
        self._role = role
        self._unknown_s = unknown_s
        self._limits = limits or SendLimits()
        self._bandwidth = Bandwidth(clock)
        self._watchers = Watchers()
        self._readers = Readers()
        self._background = Background()
        self._listening: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._runner: SendRunner | None = None
        self._make_runner = partial(
            SendRunner,
            journal,
            remotes,
            files=files,
            clock=clock,
            chance=chance,
            throttle=self._bandwidth,
            audience=self,
        )
        self._seen = 0
        self._own: set[int] = set()
        self._others = 0

    # --- its life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin; harmless when it has begun.

        Raises:
            JournalBusy: another process runs the journal, and this one has to.
            ConfigError · StorageError
        """
        if self._listening is not None:
            return
        await self._journal.open()
        try:
            self._readers.reopen()
            self._others = await self._journal.commits_of_others()
            self._seen = await self._journal.read(lambda rows: rows.revision())
            await self._take_over()
            if self._role is Role.REQUIRED and self._runner is None:
                raise JournalBusy(await self._journal.holder() or "unknown")
        except BaseException:
            await self._journal.close()
            raise
        self._listening = self._background.start(self._listen(), name="send.listen")

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Save what runs, and let go of the journal; a second call is harmless, and `start` works again.

        Args:
            grace_s: seconds that transfers past the point of no return have to come to their end.
        """
        listening, self._listening = self._listening, None
        if listening is None:
            return
        await _cancel(listening)
        running, self._running = self._running, None
        runner, self._runner = self._runner, None
        if running is not None and runner is not None:
            await _cancel(running)
            await runner.stop(grace_s=grace_s)
        self._readers.close()
        await self._journal.close()
        self._watchers.wake_all()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def runs(self) -> bool:
        """Whether this process runs the journal."""
        return self._runner is not None

    async def holder(self) -> str | None:
        """Return who runs the journal; None when nobody does."""
        return await self._journal.holder()

    async def _take_over(self) -> None:
        if self._role is Role.NEVER or not await self._journal.take():
            return
        log.info("send.runs")
        self._runner = self._make_runner(limits=self._limits)
        self._running = self._background.start(self._runner.run(), name="send.run")

    async def _listen(self) -> None:
        """Look whether others have committed, and whether there is a runner to be."""
        while True:
            await self._clock.sleep(POLL_S)
            try:
                if self._runner is None:
                    await self._take_over()
                await self._hear()
            except StorageError as error:
                log.warning("send.journal_failed", error=str(error))

    async def _hear(self) -> None:
        own = frozenset(self._own)
        others = await self._journal.commits_of_others()
        if others == self._others:
            self._seen = max(own, default=self._seen)
        else:
            while changed := await self._journal.read(
                lambda rows: rows.changed(after=self._seen, limit=BATCH)
            ):
                for revision, transfer_id in changed:
                    if revision not in self._own:
                        await self._heard(transfer_id)
                    self._seen = revision
            self._others = others
        self._own.difference_update(own)

    async def _heard(self, transfer_id: TransferId) -> None:
        """Another process has written this row."""
        if self._runner is not None:
            self._runner.touch(transfer_id)
        self._watchers.wake(transfer_id)
        found = await self._journal.read(lambda rows: rows.find(transfer_id))
        if found is not None:
            self.changed(found)

    # --- what is told ----------------------------------------------------------------------------------

    def changed(self, found: Dispatch | Removed) -> None:
        """Wake and tell everybody here: a transfer is in another state."""
        self._watchers.wake(found.id)
        self._readers.tell(found if isinstance(found, Removed) else Changed(found))

    def progressed(self, transfer_id: TransferId, snapshot: Snapshot) -> None:
        """Tell those who follow how far a transfer is."""
        self._readers.tell(
            Progress(
                id=transfer_id,
                done=snapshot.done,
                size=snapshot.size,
                speed=snapshot.speed,
                eta_s=snapshot.eta_s,
            )
        )

    async def events(self) -> AsyncGenerator[Happening, None]:
        """Yield what happens from now on, until the manager stops. Close it to let go.

        State changes are never dropped; progress is replaced by newer progress. After `Lagged` everything that had not
        ended is as it says; what ended meanwhile is in the journal.
        """
        with self._readers.following() as reader:
            async with aclosing(reader.batches()) as batches:
                async for lagged, batch in batches:
                    if lagged:
                        yield Lagged(tuple(await self._live()))
                    for happening in batch:
                        yield happening

    async def _live(self) -> Sequence[Dispatch]:
        query = JournalQuery(live=True)
        return [
            row for _, row in await self._journal.read(lambda rows: rows.list(query, after=None, limit=BATCH))
        ]

    # --- queueing --------------------------------------------------------------------------------------

    async def queue(
        self,
        path: "str | os.PathLike[str]",
        to: str,
        *,
        priority: Priority = Priority.NORMAL,
        if_exists: IfExists = IfExists.REPLACE,
        on_change: OnChange = OnChange.RESTART,
        id: str | None = None,  # noqa: A002 - the word of the interface
        later: bool = False,
    ) -> TransferId:
        """Write a transfer down; when this returns it will be sent, and can be waited for.

        The same content for the same target joins the transfer that is under way, and gives it the higher of both
        priorities; other content takes its place.

        Args:
            path: of a local file.
            to: `REMOTE:PATH`; a path that ends with `/` is a folder.
            priority: how urgent it is.
            if_exists: what is done about a file that has the target's name.
            on_change: what is done when the file changes while it is sent.
            id: the transfer's id, so that somebody may wait for it before it is queued. Queueing again under an id
                that is known changes nothing.
            later: whether the remote may be set up later, and judge the name when its turn comes; the transfer is
                blocked, or rejected, then.

        Returns: the id; another than `id` when it joined another transfer, which both ids name from now on.

        Raises:
            InvalidRequest: no such remote, a name that it does not take, or no file that can be sent.
            OSError: the file is missing or may not be read.
            StorageError: the journal could not be written; nothing is queued.
        """
        asked = _check_id(id)
        place = self._files.absolute(os.fspath(path))
        remote, target = parse_target(to, PurePath(place).name)
        where = self._remotes.get(remote)
        if where is None and not later:
            raise InvalidRequest.of(
                "to", f"there is no remote {remote!r}; haulier remote list shows those there are"
            )
        source = await self._files.look(place)
        transfer = Transfer(
            id=TransferId(self._ids.row_id()) if asked is None else asked,
            direction=Direction.UPLOAD,
            line=remote,
            size=source.size,
            queued_at=self._clock.now(),
            priority=priority,
        )
        row = Dispatch(
            transfer=transfer,
            target=target,
            path=place,
            source=source,
            if_exists=if_exists,
            on_change=on_change,
        )
        if where is not None and not later:
            where.check(row.outgoing)
        return await self._insert(row)

    async def retry(self, transfer_id: str) -> TransferId:
        """Queue a new transfer of the same file, as it is now, to the same place; the old result stays.

        Raises:
            TransferNotFound · TransferRemoved
            InvalidRequest: it has not ended, or the file cannot be sent.
            OSError · StorageError
        """
        row = await self._require(transfer_id)
        if row.live:
            raise InvalidRequest.of("transfer", f"{row.id} has not ended; there is nothing to retry")
        source = await self._files.look(row.path)
        new = again(row, TransferId(self._ids.row_id()), source, now=self._clock.now())
        return await self._insert(new)

    async def _insert(self, row: Dispatch) -> TransferId:
        queued, changed = await self._write(partial(insert, row))
        for each in changed:
            self._told(each)
        self._watchers.wake(row.id)
        log.info("send.queued", transfer=queued, remote=row.remote, joined=queued != row.id)
        return queued

    def _told(self, row: Dispatch | Removed) -> None:
        """We have written this row: tell it here, and let the runner look, if it is here."""
        self.changed(row)
        if self._runner is not None:
            self._runner.touch(row.id)

    async def _write(self, work: Callable[[JournalRows], T]) -> T:
        def noting(rows: JournalRows) -> tuple[T, range]:
            before = rows.revision()
            result = work(rows)
            return result, range(before + 1, rows.revision() + 1)

        result, revisions = await self._journal.write(noting)
        self._own.update(revisions)
        return result

    # --- looking ---------------------------------------------------------------------------------------

    async def get(self, transfer_id: str) -> TransferView | None:
        """Return how a transfer stands; None when there is none of that id, or no more."""
        found = await self._journal.read(lambda rows: rows.find(TransferId(transfer_id)))
        return self._view(found) if isinstance(found, Dispatch) else None

    async def list(
        self,
        *,
        remote: str | None = None,
        live: bool | None = None,
        after: int | None = None,
        limit: int = LIST,
    ) -> tuple[Sequence[TransferView], int | None]:
        """Return a page of transfers, the newest first, and after what the next page begins; None: this is the last."""
        query = JournalQuery(remote=remote, live=live)
        found = await self._journal.read(lambda rows: rows.list(query, after=after, limit=limit + 1))
        views = [replace(self._view(row), number=number) for number, row in found[:limit]]
        return views, found[limit - 1][0] if len(found) > limit else None

    def _view(self, row: Dispatch) -> TransferView:
        if self._runner is None:
            return TransferView(row, row.transfer.snapshot)
        snapshot = self._runner.snapshot(row.id) or row.transfer.snapshot
        return TransferView(row, snapshot, self._runner.order.place(row.id))

    async def wait(self, transfer_id: str, timeout_s: float | None = None) -> Dispatch:
        """Return the transfer's row once it has ended, however long ago that was.

        Errors that can pass are not raised here; whoever wants to see them follows `events`.

        Args:
            transfer_id: of a transfer, perhaps of one that is about to be queued.
            timeout_s: seconds; None waits for as long as it takes.

        Raises:
            TransferNotFound: nobody has queued it, after `unknown_s` seconds.
            TransferRemoved: it was removed, before or meanwhile.
            TransferTimeout: it has not ended in time, and goes on.
        """
        began = self._clock.monotonic()
        row = await self._wait_known(TransferId(transfer_id), timeout_s)
        log.info("send.wait", transfer=row.id, phase=row.transfer.phase.value)
        with self._watchers.watching(row.id) as woken:
            while True:
                woken.clear()
                row = await self._require(row.id)
                if not row.live:
                    waited_s = self._clock.monotonic() - began
                    log.info(
                        "send.waited",
                        transfer=row.id,
                        outcome=row.transfer.outcome,
                        waited_s=round(waited_s, 3),
                    )
                    return row
                left_s = None if timeout_s is None else timeout_s - (self._clock.monotonic() - began)
                if left_s is None:
                    await woken.wait()
                elif left_s <= 0:
                    raise self._too_late(row)
                else:  # and look once more, for the word of a change may come late
                    await wait_or_sleep(woken, self._clock, left_s)

    def _too_late(self, row: Dispatch) -> TransferTimeout:
        snapshot = self._view(row).snapshot
        return TransferTimeout(row.id, row.transfer.phase, snapshot.done, snapshot.size, row.error)

    async def _wait_known(self, transfer_id: TransferId, timeout_s: float | None) -> Dispatch:
        began = self._clock.monotonic()
        bound_s = self._unknown_s if timeout_s is None else min(self._unknown_s, timeout_s)
        with self._watchers.watching(transfer_id) as woken:
            while True:
                woken.clear()
                found = await self._journal.read(lambda rows: rows.find(transfer_id))
                if found is not None:
                    return require(found)
                waited_s = self._clock.monotonic() - began
                if waited_s >= bound_s:
                    raise TransferNotFound(transfer_id, waited_s)
                await wait_or_sleep(woken, self._clock, bound_s - waited_s)

    async def _require(self, transfer_id: str) -> Dispatch:
        found = await self._journal.read(lambda rows: rows.find(TransferId(transfer_id)))
        if found is None:
            raise TransferNotFound(transfer_id, 0.0)
        return require(found)

    # --- what is wanted --------------------------------------------------------------------------------

    async def cancel(self, transfer_id: str, *, wait: bool = True) -> Dispatch:
        """Give a transfer up. One that has ended is returned unchanged; past the point of no return it goes on.

        Args:
            transfer_id: of the transfer.
            wait: whether to wait for its end. Only this process can bring that about, and only if it runs the journal.

        Returns: the row; once it has ended, with what truly happened.

        Raises:
            TransferNotFound · TransferRemoved · StorageError
        """
        row = await self._change(transfer_id, lambda row: row.want(Wanted.CANCEL))
        return await self.wait(row.id) if wait and self.runs else row

    async def pause(self, transfer_id: str) -> Dispatch:
        """Let a transfer rest until it is resumed, and keep what the remote has. Raises as `cancel`."""
        return await self._change(transfer_id, lambda row: row.want(Wanted.PAUSE))

    async def resume(self, transfer_id: str) -> Dispatch:
        """Let a transfer that is paused or blocked go on. Raises as `cancel`."""
        return await self._change(transfer_id, lambda row: row.want(Wanted.RUN))

    async def set_priority(self, transfer_id: str, priority: Priority) -> Dispatch:
        """Set how urgent it is; what it has waited counts on. Raises as `cancel`."""
        return await self._change(transfer_id, lambda row: row.prioritize(priority))

    async def bump(self, transfer_id: str) -> Dispatch:
        """Make it the first of its priority. Raises as `cancel`."""
        now = self._clock.now()
        return await self._change(transfer_id, lambda row: row.bump(now=now))

    async def remove(self, transfer_id: str) -> None:
        """Cancel it, if it has not ended, and forget it; that it was there is known for the retention time.

        Raises:
            TransferNotFound · StorageError
        """
        now = self._clock.now()
        found = await self._write(partial(remove, TransferId(transfer_id), now))
        if found is None:
            raise TransferNotFound(transfer_id, 0.0)
        self._told(found)

    async def _change(self, transfer_id: str, change: Callable[[Dispatch], Dispatch]) -> Dispatch:
        found, changed = await self._write(partial(change_row, TransferId(transfer_id), change))
        if found is None:
            raise TransferNotFound(transfer_id, 0.0)
        row = require(found)
        if changed:
            self._told(row)
        return row

    def set_bandwidth(self, bytes_per_s: float | None) -> None:
        """Bound the bytes per second of all transfers that run here, from now on; None is no bound."""
        self._bandwidth.change(bytes_per_s)

    def set_slots(self, slots: SlotLimits) -> None:
        """Set how many transfers run at once here, from now on; those that run already go on."""
        self._limits = replace(self._limits, slots=slots)
        if self._runner is not None:
            self._runner.change_slots(slots)


def parse_target(to: str, filename: str) -> tuple[str, str]:
    """Return the remote and the name there that `REMOTE:PATH` means for a file of that name.

    Raises:
        InvalidRequest
    """
    remote, colon, path = to.partition(":")
    if not colon or not remote:
        raise InvalidRequest.of("to", f"{to!r} must be REMOTE:PATH")
    path = path.lstrip("/")
    return remote, path + filename if not path or path.endswith("/") else path


def _check_id(text: str | None) -> TransferId | None:
    if text is None:
        return None
    if not 0 < len(text) <= MAX_ID or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidRequest.of("id", f"must be 1 to {MAX_ID} visible ASCII characters")
    return TransferId(text)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task})
