"""What other processes do to the sessions that matter here, and what this process then does about it.

Rule 1: a word from another process is a hint: the row is read, and only the row is believed.
Rule 2: words may come twice, late, or about everything; a word about what is the same as before does nothing.
"""

import asyncio
from collections.abc import Collection
from typing import Final, Generic, TypeVar

from haulier.core.errors import HaulierError
from haulier.core.session import SessionId, SessionStatus
from haulier.engine.context import SessionContext
from haulier.engine.endings import Endings
from haulier.logs import get_logger
from haulier.ports import Ears, Mark

D = TypeVar("D")

FAR_S: Final = 1.0
"""How often all the sessions are looked at that are only followed here, and may be many, when nobody says which one
has changed."""
WARM_S: Final = 10.0
"""How long one of them is looked at every time after it has changed."""

log = get_logger()


class AllEars:
    """Several who hear as one."""

    def __init__(self, *ears: Ears) -> None:
        self._ears = ears

    async def wanted(self) -> None:
        """Wait until one of them cares."""
        loop = asyncio.get_running_loop()
        waiting = [loop.create_task(each.wanted()) for each in self._ears]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)

    async def hear(self, session_ids: Collection[SessionId] | None) -> None:
        """Tell all of them."""
        for each in self._ears:
            await each.hear(session_ids)


class Attention(Generic[D]):
    """Hears that others have changed rows; see `haulier.ports.Signals` for who says so."""

    def __init__(self, context: SessionContext[D], endings: Endings[D]) -> None:
        self._context = context
        self._endings = endings
        self._marks: dict[SessionId, Mark | None] = {}
        """How the sessions stood that matter here, when they were looked at last."""
        self._warm: dict[SessionId, float] = {}
        """Until when a session that is only followed here is looked at every time."""
        self._far_due = context.ports.clock.monotonic()
        self._far_changed = False

    async def wanted(self) -> None:
        """Wait until this process cares for what others do."""
        awake = self._context.awake
        while not (self._near() or self._far()):
            awake.clear()
            await awake.wait()

    async def hear(self, session_ids: Collection[SessionId] | None) -> None:
        """These sessions may have changed; None: any.

        A look that fails is logged; whoever says so says it again.
        """
        try:
            await self._look(self._concerned(session_ids))
        except HaulierError as error:
            self._marks.clear()
            log.warning("attention.failed", error=str(error))

    def _near(self) -> set[SessionId]:
        """Return the sessions for which somebody waits at this moment."""
        context = self._context
        return {*context.changes.watched(), *context.holds, *context.owed, *context.ports.claims.held()}

    def _far(self) -> Collection[SessionId]:
        return self._context.policy.remembered()

    def _concerned(self, session_ids: Collection[SessionId] | None) -> set[SessionId]:
        near, far = self._near(), self._far()
        if session_ids:
            return {it for it in session_ids if it in near or it in far}
        self._far_changed |= session_ids is None
        now = self._context.ports.clock.monotonic()
        if self._far_changed and now >= self._far_due:
            self._far_changed, self._far_due = False, now + FAR_S
            return {*near, *far}
        warm = (it for it in far if it not in self._marks or self._warm.get(it, now) > now)
        return {*near, *warm} if session_ids is None else set()

    async def _look(self, concerned: set[SessionId]) -> None:
        if not concerned:
            return
        marks = await self._context.ports.work.read(lambda tx: tx.sessions.marks(sorted(concerned)))
        for session_id in sorted(concerned):
            mark = marks.get(session_id)
            before = self._marks.get(session_id)
            if session_id not in self._marks or before != mark or self._is_asked_again(session_id, mark):
                self._marks[session_id] = mark
                self._warm[session_id] = self._context.ports.clock.monotonic() + WARM_S
                await self._changed(session_id, mark, before)
        known = {*self._near(), *self._far()}
        self._marks = {key: mark for key, mark in self._marks.items() if key in known}
        self._warm = {key: until for key, until in self._warm.items() if key in known}

    def _is_asked_again(self, session_id: SessionId, mark: Mark | None) -> bool:
        """Whether a finish that failed here is asked for: what was taken back between two looks looks the same."""
        failed = self._context.owed.get(session_id)
        return mark is not None and failed is not None and mark.asked == failed

    async def _changed(self, session_id: SessionId, mark: Mark | None, before: Mark | None) -> None:
        self._context.changes.wake(session_id)
        if mark is None and before is None:
            return  # a row that was never seen may have been added since: its absence says nothing
        if mark is None or not mark.status.live:
            self._ended(session_id, mark)
            return
        self._append(session_id, mark)
        if mark.status is SessionStatus.FINISHING and mark.holder == self._context.ports.holder:
            if self._context.owed.get(session_id) == mark.fence != mark.asked:
                return
            session = await self._context.peek(session_id)
            if session.status is SessionStatus.FINISHING and session.fence == mark.fence:
                self._endings.completing(session, take=False)
            return
        self._context.owed.pop(session_id, None)
        if session_id in self._far():
            await self._followed(session_id, mark)

    def _ended(self, session_id: SessionId, mark: Mark | None) -> None:
        """Forget it, and let every handler go that could only write what is nobody's."""
        self._context.forget(session_id)
        if mark is None or mark.status.gone:
            self._context.ports.claims.ask_all(session_id)

    def _append(self, session_id: SessionId, mark: Mark) -> None:
        """Let a running append go when another process asks for it, or has taken it."""
        fence = self._context.holds.get(session_id)
        # A mark that was read before the claim was committed says nothing about it.
        if fence is None or mark.fence < fence or (mark.fence == fence and mark.asked != fence):
            return
        if session_id in self._context.ports.claims.held():
            self._context.ports.claims.ask_all(session_id)
        else:
            # Letting go failed when it ended.
            self._context.background.start(
                self._context.release(session_id, fence), name=f"release {session_id}"
            )

    async def _followed(self, session_id: SessionId, mark: Mark) -> None:
        """Follow what others accepted, or no more when the row says that somebody else does."""
        if mark.follower == self._context.ports.holder:
            self._context.policy.found(await self._context.load(session_id))
        else:
            self._context.policy.rewound(session_id)
