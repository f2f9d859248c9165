"""Whole-file digests that follow the accepted bytes, in worker threads.

Rule 1: a digest reads what was accepted, from the sink, in file order; so rejected, repeated and foreign
        bytes never reach it, and the order of arrival never changes it.
Rule 2: hashing state cannot be saved; whoever finds none starts again at byte 0.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import field
from functools import partial
from typing import Final

from haulier.core.digest import Buffer, Digest, DigestName, OrderedDigest
from haulier.core.errors import StorageError, UploadBusy
from haulier.core.quantity import MIB
from haulier.core.ranges import Ranges
from haulier.core.session import SessionId
from haulier.core.values import dataclass
from haulier.engine.background import Background
from haulier.logs import get_logger
from haulier.ports import ByteSink

log = get_logger()

STEP: Final = 32 * MIB
"""Bytes hashed in one go; between two steps other uploads get their turn and progress is told."""
SHARED_FROM: Final = 64 * MIB
"""Bytes from which on one worker hashes a file for all of them; a smaller one is hashed in the time that a word
from one process to another takes and its answer back."""
MAX_BEHIND: Final = 64 * MIB
"""How far a digest may fall behind before its upload is held back: what a page cache keeps easily."""


@dataclass(slots=True)
class _Follower:
    """One upload's digest on its way."""

    digest: OrderedDigest
    accepted: Ranges = Ranges()
    task: "asyncio.Task[None] | None" = None
    step: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the step that is running has ended, however."""
    failure: StorageError | None = None
    """Why it cannot go on: for whoever asks for its value. Of an upload that another process has ended nobody does."""

    @property
    def behind(self) -> int:
        return self.accepted.prefix - self.digest.frontier

    def stepped(self) -> None:
        """Wake who waits for the digest to come nearer."""
        self.step.set()
        self.step = asyncio.Event()


class Digests:
    """All followers of one process; `parallel` of them hash at a time."""

    def __init__(
        self,
        sink: ByteSink,
        background: Background,
        *,
        parallel: int,
        progressed: Callable[[SessionId], None],
    ) -> None:
        self._sink = sink
        self._background = background
        self._turns = asyncio.Semaphore(parallel)
        self._progressed = progressed
        self._followers: dict[SessionId, _Follower] = {}

    def follow(self, session_id: SessionId, name: DigestName, received: Ranges) -> None:
        """Take up an upload with what it has already, or hear of what it got in other processes."""
        if name is DigestName.NONE:
            return
        follower = self._followers.setdefault(session_id, _Follower(OrderedDigest(name)))
        follower.accepted = Ranges.of((*follower.accepted, *received))
        self._run(session_id)

    def accepted(self, session_id: SessionId, start: int, stop: int) -> None:
        """`[start, stop)` of a followed upload has been accepted."""
        follower = self._followers.get(session_id)
        if follower is not None and start < stop:
            follower.accepted = follower.accepted.add(start, stop)
            self._run(session_id)

    def followed_uploads(self) -> Collection[SessionId]:
        """Return the uploads that this process follows."""
        return self._followers.keys()

    def verified(self, session_id: SessionId) -> int:
        """Return how many bytes, from byte 0 on, are in the digest."""
        follower = self._followers.get(session_id)
        return 0 if follower is None else follower.digest.frontier

    def forget(self, session_id: SessionId) -> None:
        """The upload ended, or its bytes will change."""
        follower = self._followers.pop(session_id, None)
        if follower is not None and follower.task is not None:
            follower.task.cancel()

    def caught_up(self, session_id: SessionId) -> Awaitable[None] | None:
        """Return what to await before more bytes are taken, None when the digest keeps up.

        It never fails: a digest that cannot read is told to whoever asks for its value.
        """
        follower = self._followers.get(session_id)
        if follower is None or follower.behind <= MAX_BEHIND or follower.task is None:
            return None
        return self._come_near(follower)

    @staticmethod
    async def _come_near(follower: _Follower) -> None:
        # Not until it has caught up: then it would wait for bytes, and the bytes had waited for it.
        while follower.behind > MAX_BEHIND // 2 and follower.task is not None:
            await follower.step.wait()

    async def value(self, session_id: SessionId, name: DigestName, size: int) -> Digest:
        """Return the digest of the whole file, of which all bytes are accepted.

        Raises:
            StorageError: the bytes cannot be read now; asking again starts again.
            UploadBusy: the upload was forgotten meanwhile, for another worker has it.
        """
        follower = self._followers.get(session_id)
        if follower is None or follower.digest.name is not name:
            return await self._compute(session_id, name, size)
        if size:
            self.accepted(session_id, 0, size)
        if follower.task is not None:
            await self._wait_for(session_id, follower.task)
        if follower.failure is not None:
            raise follower.failure
        return follower.digest.value()

    @staticmethod
    async def _wait_for(session_id: SessionId, work: "asyncio.Task[None]") -> None:
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            assert caller is not None
            if work.cancelled() and not caller.cancelling():
                # Not the caller was cancelled: this must not look like an end of its own task.
                raise UploadBusy(session_id, "another worker goes on with its finish") from None
            raise

    async def _compute(self, session_id: SessionId, name: DigestName, size: int) -> Digest:
        digest = OrderedDigest(name)
        await self._advance(session_id, digest, lambda: size)
        return digest.value()

    def _run(self, session_id: SessionId) -> None:
        follower = self._followers[session_id]
        if follower.task is None and follower.behind > 0:
            follower.task = self._background.start(
                self._catch_up(session_id, follower), name=f"digest {session_id}"
            )

    async def _catch_up(self, session_id: SessionId, follower: _Follower) -> None:
        try:
            await self._advance(
                session_id, follower.digest, lambda: follower.accepted.prefix, stepped=follower.stepped
            )
        except StorageError as error:
            # Half a step may have been hashed: this follower's state cannot be used any more.
            self._followers.pop(session_id, None)
            follower.failure = error
            log.info("digest.left_off", session=session_id, error=str(error))
        finally:
            follower.task = None
            follower.stepped()

    async def _advance(
        self,
        session_id: SessionId,
        digest: OrderedDigest,
        target: Callable[[], int],
        stepped: Callable[[], None] = lambda: None,
    ) -> None:
        while digest.frontier < (stop := target()):
            stop = min(stop, digest.frontier + STEP)
            async with self._turns:
                await self._sink.scan(session_id, digest.frontier, stop, partial(_take, digest))
            stepped()
            self._progressed(session_id)


def _take(digest: OrderedDigest, piece: Buffer) -> None:
    digest.update(digest.frontier, piece)
