"""One attempt to bring a file to its remote.

Rule 1: the remote's offset is the truth. An attempt begins by asking for it, and after any error the next attempt does.
Rule 2: the remote's session is in the journal before its first byte is sent.
Rule 3: the open file is compared after every chunk, so that one session never gets bytes of two revisions; and before the last
        bytes of a request that may make the file, so that none is made of two.
Rule 4: the point of no return is in the journal before the last byte of the request that may make the file goes. For one
        without a body it is taken back when there was not even a connection. Where the last byte makes the file, only another
        session takes it back: one that says that it holds less may be about to make the file nevertheless.
Rule 5: one that is cancelled while a session is begun waits for the answer, for a bounded time: what is begun there and
        not known here nobody can take away. The end of the process waits for nobody.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from haulier.core.dispatch import Dispatch
from haulier.core.errors import PeerUnreachable, RemoteSessionLost, SourceChanged
from haulier.core.outgoing import (
    Checksum,
    ChunkPace,
    Held,
    RemoteSession,
    Stored,
    Summing,
    VerifyMode,
    VerifyPolicy,
)
from haulier.core.transfer import Outcome, Phase, Step, Transfer
from haulier.core.values import dataclass, replace
from haulier.engine.background import finish_anyway, finish_if_soon
from haulier.engine.following import Following
from haulier.engine.send_rows import Change
from haulier.engine.tasks import tasks
from haulier.machine import Clock
from haulier.sending_ports import Cargo, LocalFiles, OpenSource, Remote, Throttle


class Desk(Protocol):
    """What keeps the row of an attempt."""

    async def save(self, change: Change, *, durable: bool = True) -> Dispatch:
        """Change the row in the journal, whatever others have written into it meanwhile, and return it."""
        ...

    def progress(self, sent: int) -> None:
        """`sent` bytes have gone, those included that the remote has confirmed, or had before."""

    def accept(self) -> None:
        """The remote has the file: from now on this attempt is not to be stopped."""

    def answer_s(self) -> float:
        """Return how many seconds one that is stopped waits for the answer that tells what was begun."""
        ...

    def require_free(self) -> None:
        """Raise RemoteHeld when the remote has asked everybody here to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptPorts:
    """What an attempt works with."""

    remote: Remote
    policy: VerifyPolicy
    files: LocalFiles
    clock: Clock
    throttle: Throttle


class Attempt:
    """Takes a row that has its slot to its end; whatever stops it comes out as an error."""

    def __init__(self, row: Dispatch, desk: Desk, ports: AttemptPorts) -> None:
        self.row = row
        self.chunk: ChunkPace | None = None
        """How long chunks are, where that is left to us."""
        self._was_past = row.transfer.past_return
        """Whether an attempt before this one may have made the file already."""
        self._desk = desk
        self._ports = ports
        self._remote = ports.remote
        self._sent = 0
        """Bytes of the file that have gone, or were there. A chunk that arrives changes nothing about it."""

    async def run(self) -> None:
        """Send, commit, verify, and end as succeeded."""
        now = self._ports.clock.now()
        await self._save(lambda row: _requested(row, now=now))
        if self.row.stored is not None:
            # All of it is there, and nothing is read any more: the file may have gone, or be another one by now.
            await self._accept(self.row.stored, self.row.sum)
            return
        async with self._opened() as source:
            await self._move(Transfer.initialize)
            self._remote.check(self.row.outgoing)
            try:
                await self._bring(source, await self._ask())
            except RemoteSessionLost:
                # Once: a remote that loses every session is one that fails, and is let rest.
                await self._bring(source, await self._create())

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[OpenSource]:
        source = await self._ports.files.open(self.row.path)
        try:
            if source.fingerprint != self.row.source:
                raise SourceChanged(self.row.path, "it is another revision than the one that was queued")
            yield source
        finally:
            await source.close()

    async def _ask(self) -> Held:
        session, outgoing = self.row.session, self.row.outgoing
        if session is None:
            return await self._create()
        held = await self._remote.offset(outgoing, session)
        has_all = held.stored is not None or 0 < outgoing.size == held.ranges.prefix
        if has_all and session.commits_itself and not self._was_past:
            # Rule 4: what would have made it never went. Somebody else's file is not taken for ours.
            raise RemoteSessionLost("there is a file already, and it was not made by this transfer")
        return held

    async def _create(self) -> Held:
        if self.row.transfer.phase is not Phase.INITIALIZING:
            await self._move(lambda transfer: transfer.requeue().request().initialize())
        # Rule 5; the session of before is the one that can be cancelled until this is saved.
        await finish_if_soon(self._begin_session(), within_s=self._desk.answer_s)
        return Held()

    async def _begin_session(self) -> None:
        session = await self._remote.create(self.row.outgoing)
        await finish_anyway(
            self._save(lambda row: replace(row, session=session, transfer=row.transfer.start_over()))
        )

    async def _bring(self, source: OpenSource, held: Held) -> None:
        session = self.row.session
        assert session is not None
        total = _total(source, self._remote.summing(self.row.outgoing, session))
        if held.stored is not None:
            total.allow(source.size)
            await self._accept(held.stored, await self._sum(total))
            return
        sending = _Sending(source, session, held, total)
        now = self._ports.clock.now()
        # Rule 4.
        undecided = session.commits_itself
        await self._save(
            lambda row: row.confirmed(row.transfer.begin(sending.done, now=now, undecided=undecided), now=now)
        )
        self._sent = sending.done
        async with tasks() as group:
            summed = group.create_task(self._sum(total))
            stored = await self._send(sending)
            total.allow(source.size)
            checksum = await summed
        await source.check()
        if stored is None:
            async with self._passing_return():
                stored = await self._remote.commit(self.row.outgoing, session, checksum)
        await self._accept(stored, checksum)

    async def _sum(self, total: Following[Checksum]) -> Checksum | None:
        return await total.run() if self._ports.policy.sums else None

    async def _send(self, sending: "_Sending") -> Stored | None:
        if sending.session.chunk_size is None:
            return await self._send_in_order(sending)
        return await self._send_in_any_order(sending, sending.missing())

    async def _send_in_order(self, sending: "_Sending") -> Stored | None:
        size, position, stored = sending.source.size, sending.done, None
        self.chunk = ChunkPace.start(self._remote.limits, self.row.pace)
        while position < size:
            stop = min(position + self.chunk.size, size)
            began = self._ports.clock.monotonic()
            stored = await self._send_chunk(sending, position, stop, last=stop == size)
            self.chunk = self.chunk.took(stop - position, self._ports.clock.monotonic() - began)
            await self._confirm(sending.source, stop - position)
            position = stop
        return stored

    async def _send_in_any_order(self, sending: "_Sending", missing: list[tuple[int, int]]) -> Stored | None:
        left, made = len(missing), list[Stored]()
        chunks = iter(missing)

        async def take() -> None:
            nonlocal left
            for start, stop in chunks:
                left -= 1
                stored = await self._send_chunk(sending, start, stop, last=not left)
                made.extend([] if stored is None else [stored])
                await self._confirm(sending.source, stop - start)

        async with tasks() as group:
            for _ in range(min(self._remote.limits.parallel, len(missing))):
                group.create_task(take())
        return made[-1] if made else None

    async def _send_chunk(self, sending: "_Sending", start: int, stop: int, *, last: bool) -> Stored | None:
        self._desk.require_free()
        sending.total.allow(stop)
        gone = 0

        def moved(count: int) -> None:
            nonlocal gone
            self._sent += count - gone
            gone = count
            self._desk.progress(self._sent)

        async def before_end() -> None:
            await sending.source.check()
            await self._pass_return()

        cargo = Cargo(
            source=sending.source,
            start=start,
            stop=stop,
            throttle=self._ports.throttle,
            moved=moved,
            before_end=before_end if last and sending.session.commits_itself else None,
        )
        stored = await self._remote.send(self.row.outgoing, sending.session, cargo)
        moved(cargo.size)
        return stored

    async def _confirm(self, source: OpenSource, count: int) -> None:
        """The remote holds `count` bytes more, and they are of the file that was opened."""
        await source.check()
        now, pace = self._ports.clock.now(), None if self.chunk is None else self.chunk.size
        await self._save(
            lambda row: replace(
                row.confirmed(row.transfer.confirm(row.transfer.done + count, now=now), now=now), pace=pace
            ),
            durable=False,
        )

    @asynccontextmanager
    async def _passing_return(self) -> AsyncIterator[None]:
        """Around a request without a body that may make the file."""
        first = not self.row.transfer.past_return
        await self._pass_return()
        try:
            yield
        except PeerUnreachable as error:
            if first and not self._was_past and not error.sent:
                await self._move(Transfer.turn_back)
            raise

    async def _pass_return(self) -> None:
        """From the next byte on the remote may make the file. What is to be stopped stands here until it is."""
        if self.row.transfer.past_return:
            return
        now = self._ports.clock.now()
        await self._save(lambda row: row if row.to_be_stopped else row.moved(row.transfer.advance(), now=now))
        if self.row.to_be_stopped and self.row.live:
            await asyncio.get_running_loop().create_future()

    async def _accept(self, stored: Stored, checksum: Checksum | None) -> None:
        """The remote has the file: compare, and come to the end."""
        self._desk.accept()
        now, size = self._ports.clock.now(), self.row.source.size
        await self._save(
            lambda row: replace(
                row.confirmed(_verifying(row.transfer, size, now=now), now=now), stored=stored, sum=checksum
            )
        )
        outgoing, policy, session = self.row.outgoing, self._ports.policy, self.row.session
        # Without the session, which a journal of before may lack here, what was told at the end is all there is.
        if policy.mode is not VerifyMode.OFF and session is not None:
            stored = await self._remote.verify(outgoing, session, stored)
        policy.compare(outgoing, checksum, stored)
        now = self._ports.clock.now()
        await self._save(
            lambda row: replace(
                row.moved(row.transfer.end(Outcome.SUCCEEDED, now=now), now=now), stored=stored, session=None
            )
        )

    async def _move(self, change: Callable[[Transfer], Transfer]) -> None:
        now = self._ports.clock.now()
        await self._save(lambda row: row.moved(change(row.transfer), now=now))

    async def _save(self, change: Change, *, durable: bool = True) -> None:
        self.row = await self._desk.save(change, durable=durable)


@dataclass(frozen=True, slots=True)
class _Sending:
    source: OpenSource
    session: RemoteSession
    held: Held
    total: Following[Checksum]

    @property
    def done(self) -> int:
        """Bytes that need not be sent."""
        if self.session.chunk_size is None:
            return self.held.ranges.prefix
        return self.source.size - sum(stop - start for start, stop in self.missing())

    def missing(self) -> list[tuple[int, int]]:
        """Return the chunks that the remote does not hold whole, in order; each `[start, stop)`."""
        size, length = self.source.size, self.session.chunk_size
        assert length is not None
        indexes = {
            index
            for start, stop in self.held.ranges.missing(size)
            for index in range(start // length, (stop - 1) // length + 1)
        }
        return [(index * length, min((index + 1) * length, size)) for index in sorted(indexes)]


def _requested(row: Dispatch, *, now: float) -> Dispatch:
    intended = now if row.intended_at is None else row.intended_at
    return replace(row.moved(row.transfer.request(), now=now), intended_at=intended)


def _verifying(transfer: Transfer, size: int, *, now: float) -> Transfer:
    """Return the transfer where all is sent and made, wherever it was."""
    if transfer.phase is Phase.REQUESTED:
        transfer = transfer.initialize()
    if transfer.phase is Phase.INITIALIZING:
        transfer = transfer.begin(size, now=now)
    transfer = transfer.confirm(size, now=now)
    while transfer.step is not Step.VERIFYING:
        transfer = transfer.advance()
    return transfer


def _total(source: OpenSource, summing: Summing | None) -> Following[Checksum]:
    return Following(source) if summing is None else Following(source, summing.update, summing.checksum)
