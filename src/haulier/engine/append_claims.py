"""Who appends to a session, among all processes: the row says it, under a fence.

Rule 1: a claim names the fence that it saw, and moves it; of those who saw the same one, one gets it.
Rule 2: a holder that lives is asked and waited for; what a dead one had is taken under the lock of its whole part.
"""

import asyncio
import contextlib
from functools import partial
from typing import Final, Generic, TypeVar

from haulier.core.errors import UploadBusy
from haulier.core.session import Session
from haulier.engine.background import SETTLE_S
from haulier.engine.context import SessionContext
from haulier.ports import Transaction

D = TypeVar("D")

LET_GO_S: Final = SETTLE_S
"""How long a newer request waits for a holder in another process that lives: as long as its last step may take."""
LOOK_S: Final = 0.5
"""How often it looks whether that holder still lives, which nobody would tell it."""


class AppendClaims(Generic[D]):
    """The row's side of an append's claim; inside a process `Claims` has put the requests in order before."""

    def __init__(self, context: SessionContext[D]) -> None:
        self._context = context
        self._work = context.ports.work

    async def take(self, session: Session[D], holder: str | None) -> Session[D]:
        """Move the fence to `holder`, once no other worker that lives appends; return the session.

        Raises:
            UploadBusy: another worker does not let go.
        """
        clock, asked = self._context.ports.clock, -1
        deadline = clock.monotonic() + LET_GO_S
        with self._context.changes.watching(session.id) as changed:
            while (taken := await self._try_take(session, holder)) is None:
                changed.clear()
                session = await self._context.peek(session.id)
                self._context.require_open(session)
                self._context.refuse_when_stopping()
                if clock.monotonic() > deadline:
                    raise UploadBusy(session.id, "another process appends to it and does not let go")
                if await self._context.may_take(session.holder):
                    continue
                if asked < session.fence:
                    asked = session.fence
                    await self._work.write(partial(_ask, session), frees=True)
                    self._context.ports.signals.tell(session.id)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await changed.wait()
        return taken

    async def _try_take(self, session: Session[D], holder: str | None) -> Session[D] | None:
        own = self._context.ports.holder
        if session.holder in {None, own}:
            return await self._claim(session, holder)
        if not await self._context.may_take(session.holder):
            return None
        # Its holder is dead, as far as anybody can tell: its range is free, or it can still write there.
        async with self._context.writing(session.id, 0, None):
            return await self._claim(session, holder)

    async def _claim(self, session: Session[D], holder: str | None) -> Session[D] | None:
        now, holds = self._context.now(), self._context.holds
        if holder is not None:
            # Before the row says so: should its answer be lost, the row is let go of when somebody asks.
            holds[session.id] = session.fence + 1
            self._context.awake.set()
        claimed = await self._work.write(
            lambda tx: tx.sessions.claim(session.id, session.fence, holder, now=now), frees=True
        )
        if claimed is None and holder is not None:
            holds.pop(session.id, None)
        return claimed

    async def let_go(self, session: Session[D]) -> None:
        """Say in the row that nobody appends any more, unless the row says so already."""
        if self._context.holds.get(session.id) == session.fence:
            await self._context.release(session.id, session.fence)


async def _ask(session: Session[D], tx: Transaction[D]) -> bool:
    return await tx.sessions.ask(session.id, session.fence)
