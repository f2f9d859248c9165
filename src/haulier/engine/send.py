"""The upload manager: queues local files for remotes, and lets anyone wait for the one true result.

Rule 1: a result is kept, not announced. Whoever waits reads the row; only if it has not ended does he wait for its change,
        and he began to listen before he looked.
Rule 2: `queue` never waits for the network, and a transfer that it has returned is in the journal.
Rule 3: one process runs the journal. All others read it, add rows and write down what they want; what they wait for they
        hear of by looking every `POLL_S` whether somebody has committed.
Rule 4: a journal that was removed or replaced is let go within `POLL_S`: nothing is sent or told from the old one any more,
        and whoever opens the new one can run it.

One module although it is long: it is the whole interface, and most of it is what each operation promises.
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from enum import Enum
from functools import partial
from pathlib import PurePath
from typing import Any, Final, Self, TypeVar

from haulier.core.dispatch import MAX_ID, UNSEEN, Dispatch, Fingerprint, OnChange, Removed, Wanted, again
from haulier.core.errors import (
    InvalidRequest,
    JournalBusy,
    StorageError,
    TransferNotFound,
    was_replaced,
)
from haulier.core.given import given_path, given_text, given_text_or_none, require_number
from haulier.core.outgoing import IfExists
from haulier.core.retry import Chance
from haulier.core.transfer import Direction, Phase, Priority, Snapshot, Transfer, TransferId
from haulier.core.values import dataclass, replace
from haulier.core.verdict import fail
from haulier.engine.background import Background, finish_anyway
from haulier.engine.send_journal import SharedJournal
from haulier.engine.send_rows import Change, change_row, insert, insert_ended, remove, require
from haulier.engine.send_runner import BATCH, SendLimits, SendRunner
from haulier.engine.send_waiting import AGAIN_S, WaitingRoom
from haulier.engine.send_watch import Changed, Happening, Hindered, Lagged, Progress, Readers, Watchers
from haulier.engine.slots import SlotLimits
from haulier.engine.throttle import Bandwidth, checked_bandwidth
from haulier.logs import get_logger
from haulier.machine import Clock, Identifiers
from haulier.sending_ports import Journal, JournalPage, JournalQuery, JournalRows, LocalFiles, Remotes

log = get_logger()
T = TypeVar("T")
E = TypeVar("E", bound=Enum)

POLL_S: Final = 0.2
"""How often a process looks whether others have committed: soon enough for people, and one cheap statement."""
UNKNOWN_S: Final = 5.0
"""How long a wait for an id that nobody has queued yet waits for that to happen."""
STOP_GRACE_S: Final = 30.0
"""How long transfers that are past the point of no return may take to come to their end."""
WRITE_S: Final = 20.0
"""How long a write may take that nobody waits for any more: twice as long as another process may hold the journal."""
LIST: Final = 100
"""Rows of a page."""
MOST_ROWS: Final = 2**63 - 2
"""More than any journal has; SQLite counts no further."""


_ID: Final = re.compile(rf"[!-.0-~]{{1,{MAX_ID}}}")
"""All visible characters but the one that ends an id in `/api/transfers/ID`, percent-encoded too."""


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
        self._file = journal
        self._readers = Readers()
        self._journal = SharedJournal(journal, hindered=self._hindered)
        self._remotes = remotes
        self._files = files
        self._clock = clock
        self._ids = ids
        self._role = role
        self._limits = limits or SendLimits()
        self._bandwidth = Bandwidth(clock, self._limits.bandwidth)
        self._watchers = Watchers()
        self._waiting = WaitingRoom(
            self._journal, self._watchers, clock, unknown_s=unknown_s, snapshot=self._snapshot
        )
        self._background = Background()
        self._changing = asyncio.Lock()
        """Held by who starts or stops it: two who start it would be two runners in one process, which one lock lets in."""
        self._ending = False
        """Whether somebody began to stop it; not all of it may have been done, if he was cancelled."""
        self._listening: asyncio.Task[None] | None = None
        """From the start to the end of the stop."""
        self._running: asyncio.Task[None] | None = None
        self._runner: SendRunner | None = None
        self._make_runner = partial(
            SendRunner,
            self._journal,
            remotes,
            files=files,
            clock=clock,
            chance=chance,
            throttle=self._bandwidth,
            audience=self,
        )
        self._take_at = 0.0
        self._flowing: dict[TransferId, Dispatch] = {}
        """What the runner has written last of those whose bytes flow, while that is another process."""
        self._asked_at = 0
        """The revision of the journal at which a bandwidth was asked for that is obeyed here."""

    # --- its life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin; harmless when it has begun.

        Raises:
            JournalBusy: another process runs the journal, and this one has to.
            ConfigError · StorageError
        """
        async with self._changing:
            if self._ending:
                await self._stop(0.0)
            if self._listening is None:
                await self._start()

    async def _start(self) -> None:
        await self._file.open()
        try:
            self._readers.reopen()
            await self._journal.begin()
            self._asked_at, _ = await self._journal.read(lambda rows: rows.bandwidth())
            await self._take_over()
            if self._role is Role.REQUIRED and self._runner is None:
                raise JournalBusy(await self._file.holder() or "unknown")
        except BaseException:
            await self._file.close()
            raise
        self._waiting.open = True
        self._listening = self._background.start(self._listen(), name="send.listen")

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Save what runs, and let go of the journal; a second call is harmless, and `start` works again.

        Whoever still waits for a transfer then gets StorageUnavailable: it goes on, but not here. When this is cancelled,
        the next call goes on with it.

        Args:
            grace_s: seconds that transfers past the point of no return have to come to their end.
        """
        require_number("grace_s", grace_s, what="a number of seconds")
        async with self._changing:
            await self._stop(grace_s)

    async def _stop(self, grace_s: float) -> None:
        if self._listening is None:
            return
        self._ending = True
        await _cancel(self._listening)
        await self._end_running(grace_s)
        self._readers.close()
        self._waiting.open = False
        await self._file.close()
        self._watchers.wake_all()
        self._listening, self._ending = None, False

    async def _end_running(self, grace_s: float) -> None:
        running, self._running = self._running, None
        if running is not None:
            await _cancel(running)
        if self._runner is not None:
            await self._runner.stop(grace_s=grace_s)
            self._runner = None  # not before: whoever is cancelled here leaves it to the next who ends it

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def runs(self) -> bool:
        """Whether this process runs the journal."""
        return self._runner is not None

    @property
    def limits(self) -> SendLimits:
        """How many run at once here, and how long things are kept."""
        return self._limits

    async def holder(self) -> str | None:
        """Return who runs the journal; None when nobody does."""
        return await self._file.holder()

    async def _take_over(self) -> None:
        if self._role is Role.NEVER or self._clock.monotonic() < self._take_at or not await self._file.take():
            return
        log.info("send.runs")
        self._flowing.clear()
        self._runner = self._make_runner(limits=self._limits)
        self._running = self._background.start(self._run(self._runner), name="send.run")

    async def _run(self, runner: SendRunner) -> None:
        """Run the journal; whatever mistake of ours ends that, somebody else can, and in a while so can we."""
        try:
            await runner.run()
        except Exception:
            log.exception("send.runner_failed")
            await runner.stop(grace_s=STOP_GRACE_S)
            self._take_at = self._clock.monotonic() + AGAIN_S
            self._runner = None
            await self._file.give_up()

    async def _listen(self) -> None:
        """Look whether others have committed, whether there is a runner to be, and whether it is the same journal still."""
        while True:
            await self._clock.sleep(POLL_S)
            try:
                if self._runner is None:
                    await self._take_over()
                if await self._journal.hear(self._heard):
                    await self._obey_bandwidth()
            except StorageError as error:
                if was_replaced(error):
                    await self._let_go(error)
                    return
                log.warning("send.journal_failed", error=str(error))
            except Exception:
                log.exception("send.listen_failed")

    async def _obey_bandwidth(self) -> None:
        asked_at, bytes_per_s = await self._journal.read(lambda rows: rows.bandwidth())
        if asked_at > self._asked_at:
            self._asked_at = asked_at
            log.info("send.bandwidth", bytes_per_s=bytes_per_s)
            self.set_bandwidth(bytes_per_s)

    async def _let_go(self, error: StorageError) -> None:
        """The journal is not the one that was opened: stop what runs at once, for nothing of it could be kept."""
        self._journal.note(error)
        await self._end_running(0.0)
        await self._file.give_up()  # whoever has the new one waits for that
        self._watchers.wake_all()

    async def _heard(self, transfer_id: TransferId) -> None:
        """Another process has written this row."""
        if self._runner is not None:
            self._runner.touch(transfer_id)
        self._watchers.wake(transfer_id)
        before = self._flowing.pop(transfer_id, None)
        found = await self._journal.read(lambda rows: rows.find(transfer_id))
        if found is None:
            return
        if isinstance(found, Dispatch) and self._only_moved(found, before):
            self.progressed(found)
        else:
            self.changed(found)

    def _only_moved(self, found: Dispatch, before: Dispatch | None) -> bool:
        """Return whether only figures are new in what the runner, another process, has written."""
        if self._runner is not None or found.transfer.phase is not Phase.IN_PROGRESS:
            return False
        self._flowing[found.id] = found
        return before is not None and found.only_moved_from(before)

    # --- what is told ----------------------------------------------------------------------------------

    def changed(self, found: Dispatch | Removed) -> None:
        """Tell everybody here that a transfer is in another state, and wake those who wait for its end if that is one."""
        if isinstance(found, Removed) or not found.live:
            self._watchers.wake(found.id)
        self._readers.tell(found if isinstance(found, Removed) else Changed(found))

    def _hindered(self, error: StorageError | None) -> None:
        if was_replaced(error):
            log.warning("send.journal_replaced", error=str(error))
        self._readers.tell(Hindered(error))

    def progressed(self, row: Dispatch) -> None:
        """Tell those who follow how far a transfer is."""
        self._readers.tell(Progress(row))

    async def events(self, *, anew: bool = True) -> AsyncGenerator[Happening, None]:
        """Yield what happens from now on, until the manager stops. Close it to let go.

        State changes are never dropped; progress is replaced by newer progress. After `Lagged` everything that had not
        ended is as it says; what ended meanwhile is in the journal.

        Args:
            anew: whether `Lagged` has what has not ended; else it has no rows, and costs nothing.
        """
        with self._readers.following() as reader:
            if self._journal.error is not None:
                yield Hindered(self._journal.error)
            async with aclosing(reader.batches()) as batches:
                async for lagged, batch in batches:
                    if lagged:
                        yield Lagged(tuple(await self._live()) if anew else ())
                    for happening in batch:
                        yield happening

    async def _live(self) -> Sequence[Dispatch]:
        query, after, live = JournalQuery(live=True), None, list[Dispatch]()
        while True:
            page = await self._journal.read(partial(_read_page, query, after, BATCH))
            live += [row for _, row in page.rows]
            if page.next is None:
                return live
            after = page.next

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
            id: the transfer's id, so that somebody may wait for it before it is queued. Queueing the same content for the
                same target again under an id that is known changes nothing; anything else under it is refused.
            later: whether the remote may be set up later, and judge the name when its turn comes; the transfer is
                blocked, or rejected, then.

        Returns: the id; another than `id` when it joined another transfer, which both ids name from now on.

        Raises:
            InvalidRequest: no such remote, a name that it does not take or that is no UTF-8, no file that can be sent, none
                of the choices that there are, or an id of another transfer.
            TransferRemoved: the id is of a transfer that was removed.
            SourceChanged: the file was written to while it was looked at.
            OSError: the file is missing or may not be read.
            StorageError: the journal could not be written; nothing is queued.
        """
        asked = _check_id(id)
        priority = _choice(Priority, priority, "priority")
        if_exists = _choice(IfExists, if_exists, "if_exists")
        on_change = _choice(OnChange, on_change, "on_change")
        place, remote, target = self._place(path, to)
        where = self._remotes.get(remote)
        if where is None and not later:
            raise InvalidRequest.of(
                "to", f"there is no remote {remote!r}; haulier remote list shows those there are"
            )
        source = await self._files.look(place)
        row = replace(
            self._begun(asked, remote, target, place, source, priority),
            if_exists=if_exists,
            on_change=on_change,
        )
        if where is not None and not later:
            where.check(row.outgoing)
        return await self._insert(row)

    async def queue_failed(
        self,
        path: "str | os.PathLike[str]",
        to: str,
        error: Exception,
        *,
        id: str,  # noqa: A002 - the word of the interface
    ) -> TransferId:
        """Write down what could not be queued, as a transfer that has ended: it shows why, and can be retried.

        Raises:
            InvalidRequest: no target, a name that is no UTF-8, or no id.
            StorageError
        """
        place, remote, target = self._place(path, to)
        row = self._begun(_check_id(id), remote, target, place, UNSEEN)
        failed = fail(row, error, now=self._clock.now())
        await self._write(partial(insert_ended, failed), lambda new: [failed] if new else [], wake=failed.id)
        return failed.id

    def _place(self, path: "str | os.PathLike[str]", to: str) -> tuple[str, str, str]:
        """Return the file's absolute path, the remote and the name there. Raises InvalidRequest."""
        place = given_text("path", self._files.absolute(given_path("path", path)))
        return place, *parse_target(given_text("to", to), PurePath(place).name)

    def _begun(  # noqa: PLR0917 - what makes a transfer
        self,
        asked: TransferId | None,
        remote: str,
        target: str,
        place: str,
        source: Fingerprint,
        priority: Priority = Priority.NORMAL,
    ) -> Dispatch:
        transfer = Transfer(
            id=TransferId(self._ids.row_id()) if asked is None else asked,
            direction=Direction.UPLOAD,
            line=remote,
            size=source.size,
            queued_at=self._clock.now(),
            priority=priority,
        )
        return Dispatch(transfer=transfer, target=target, path=place, source=source)

    async def retry(self, transfer_id: str) -> TransferId:
        """Queue a new transfer of the same file, as it is now, to the same place; the old result stays.

        Raises:
            TransferNotFound · TransferRemoved
            InvalidRequest: it has not ended, or the file cannot be sent.
            SourceChanged · OSError · StorageError
        """
        row = await self._require(transfer_id)
        if row.live:
            raise InvalidRequest.of("transfer", f"{row.id} has not ended; there is nothing to retry")
        source = await self._files.look(row.path)
        new = again(row, TransferId(self._ids.row_id()), source, now=self._clock.now())
        return await self._insert(new)

    async def _insert(self, row: Dispatch) -> TransferId:
        def told(result: tuple[TransferId, list[Dispatch]]) -> list[Dispatch]:
            return result[1]

        queued, _ = await self._write(partial(insert, row), told, wake=row.id)
        log.info("send.queued", transfer=queued, remote=row.remote, joined=queued != row.id)
        return queued

    async def _write(
        self,
        work: Callable[[JournalRows], T],
        told: Callable[[T], Iterable[Dispatch | Removed]],
        *,
        wake: TransferId | None = None,
    ) -> T:
        """Write, and tell here what was written: both or neither, also when whoever asked is cancelled meanwhile.

        What the journal has taken and nobody was told would lie there until the next start: our own commits are not
        heard.
        """

        async def write_and_tell() -> T:
            result = await self._journal.write(work)
            for row in told(result):
                self.changed(row)
                if self._runner is not None:
                    self._runner.touch(row.id)
            if wake is not None:
                self._watchers.wake(wake)
            return result

        return await finish_anyway(write_and_tell(), deadline_s=WRITE_S)

    # --- looking ---------------------------------------------------------------------------------------

    async def get(self, transfer_id: str) -> TransferView | None:
        """Return how a transfer stands; None when there is none of that id, or no more."""
        asked = _named(transfer_id)
        found = await self._journal.read(lambda rows: rows.find(asked))
        return self.view(found) if isinstance(found, Dispatch) else None

    async def list(
        self,
        *,
        remote: str | None = None,
        live: bool | None = None,
        after: int | None = None,
        limit: int = LIST,
    ) -> tuple[Sequence[TransferView], int | None]:
        """Return a page of transfers, the newest first, and after what the next page begins; None: this is the last."""
        require_number("limit", limit, what="a number of rows from 1 on", least=1, most=MOST_ROWS, whole=True)
        if after is not None:
            require_number("after", after, what="what the page before told, or None", whole=True)
            after = min(after, MOST_ROWS)
        query = JournalQuery(
            remote=given_text_or_none("remote", remote),
            live=None if live is None else bool(live),
        )
        page = await self._journal.read(partial(_read_page, query, after, limit))
        return [replace(self.view(row), number=number) for number, row in page.rows], page.next

    def view(self, row: Dispatch) -> TransferView:
        """Return a row as people are shown it: with how far it is at this moment, where this process runs the journal."""
        place = None if self._runner is None else self._runner.order.place(row.id)
        return TransferView(row, self._snapshot(row), place)

    def _snapshot(self, row: Dispatch) -> Snapshot:
        running = None if self._runner is None else self._runner.snapshot(row.id)
        return row.transfer.snapshot if running is None else running

    async def wait(self, transfer_id: str, timeout_s: float | None = None) -> Dispatch:
        """Return the transfer's row once it has ended, however long ago that was.

        Errors that can pass are not raised here, those of the journal neither; whoever wants to see them follows
        `events`.

        Args:
            transfer_id: of a transfer, perhaps of one that is about to be queued.
            timeout_s: seconds; None waits for as long as it takes.

        Raises:
            TransferNotFound: nobody has queued it, after `unknown_s` seconds.
            TransferRemoved: it was removed, before or meanwhile.
            TransferTimeout: it has not ended in time, and goes on.
            StorageUnavailable: the manager has stopped, or was never started; the transfer is as it was.
        """
        if timeout_s is not None:
            require_number("timeout_s", timeout_s, what="a number of seconds, or None")
        return await self._waiting.wait(_named(transfer_id), timeout_s)

    async def _require(self, transfer_id: str) -> Dispatch:
        asked = _named(transfer_id)
        return require(await self._journal.read(lambda rows: rows.find(asked)), asked)

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
        """Set how urgent it is; what it has waited counts on. Raises as `cancel`, and InvalidRequest."""
        wanted = _choice(Priority, priority, "priority")
        return await self._change(transfer_id, lambda row: row.prioritize(wanted))

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
        found = await self._write(
            partial(remove, _named(transfer_id), now), lambda found: [] if found is None else [found]
        )
        if found is None:
            raise TransferNotFound(transfer_id, 0.0)

    async def _change(self, transfer_id: str, change: Change) -> Dispatch:
        asked = _named(transfer_id)
        found, _ = await self._write(
            partial(change_row, asked, change),
            lambda result: [result[0]] if result[0] is not None and result[1] else [],
        )
        return require(found, asked)

    def set_bandwidth(self, bytes_per_s: float | None) -> None:
        """Bound the bytes per second of all transfers that run here, from now on; None is no bound."""
        self._bandwidth.change(bytes_per_s)
        self._limits = replace(self._limits, bandwidth=bytes_per_s)

    async def ask_bandwidth(self, bytes_per_s: float | None) -> None:
        """Ask whoever runs the journal now to bound what it sends in a second; None is no bound. Raises StorageError."""
        bound = checked_bandwidth(bytes_per_s)
        await self._journal.write(lambda rows: rows.ask_bandwidth(bound))
        await self._obey_bandwidth()

    def set_slots(self, slots: SlotLimits) -> None:
        """Set how many transfers run at once here, from now on; those that run already go on."""
        if not isinstance(slots, SlotLimits):
            raise InvalidRequest.of("slots", f"must be SlotLimits, not {slots!r}")
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


def _named(transfer_id: str) -> TransferId:
    """Return what may be an id. Raises InvalidRequest."""
    return TransferId(given_text("transfer_id", transfer_id))


def _check_id(text: Any) -> TransferId | None:
    if text is None:
        return None
    if not isinstance(text, str) or not _ID.fullmatch(text) or text in {".", ".."}:
        raise InvalidRequest.of(
            "id", f"must be 1 to {MAX_ID} visible ASCII characters, without / and not . or .."
        )
    return TransferId(text)


def _choice(kind: type[E], given: E, field: str) -> E:
    """Return one of the choices; whoever has no type checker may give anything. Raises InvalidRequest."""
    try:
        return kind(given)
    except ValueError:
        known = ", ".join(f"{kind.__name__}.{each.name}" for each in kind)
        raise InvalidRequest.of(field, f"must be one of {known}, not {given!r}") from None


def _read_page(query: JournalQuery, after: int | None, limit: int, rows: JournalRows) -> JournalPage:
    return rows.list(query, after=after, limit=limit)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task})
