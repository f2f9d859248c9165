"""Words between processes: which sessions have changed.

Rule 1: a word is a hint. Who hears one reads the row; who misses one finds out by the next slow look.
Rule 2: nothing is asked or told while nobody here cares.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, Protocol

from haulier.core.errors import StorageError
from haulier.core.session import SessionId
from haulier.logs import get_logger
from haulier.machine import Clock
from haulier.ports import Ears

POLL_S: Final = 0.1
"""How often a process on SQLite looks whether others have committed; a tenth of a second is what a person still
takes for at once."""
TELL_S: Final = 0.02
"""How long words are gathered for one notice: NOTIFY makes its transactions wait for each other."""
SLOW_LOOK_S: Final = 5.0
"""How late a word is at most that was lost with its sender."""
CHANNEL: Final = "haulier_sessions"
IDS_IN_A_NOTICE: Final = 300
"""22 characters each and a comma: below the 7999 bytes that PostgreSQL takes."""

log = get_logger()


class PolledSignals:
    """`haulier.ports.Signals` on SQLite, which tells nobody anything but counts the commits of others."""

    def __init__(self, commits_of_others: Callable[[], Awaitable[int]], clock: Clock) -> None:
        self._commits_of_others = commits_of_others
        self._clock = clock

    def tell(self, session_id: SessionId) -> None:
        """Nothing to do: a commit is its own word."""

    async def listen(self, ears: Ears) -> None:
        """Look for commits of others, one cheap question at a time, while somebody here cares."""
        seen = -1
        while True:
            await ears.wanted()
            try:
                commits = await self._commits_of_others()
            except StorageError as error:
                log.warning("signals.failed", error=str(error))
            else:
                # Without a new commit there may still be some of the last one to look at.
                await ears.hear(None if commits != seen else ())
                seen = commits
            await self._clock.sleep(POLL_S)


class Notices(Protocol):
    """The database, as far as it carries words."""

    def listen(self, channel: str) -> AsyncIterator[str | None]:
        """Yield every payload; None when some may have been missed."""
        ...

    async def notify(self, channel: str, payload: str = "") -> None:
        """Send a payload. Raises StorageError."""


class NotifiedSignals:
    """`haulier.ports.Signals` on PostgreSQL: LISTEN and NOTIFY."""

    def __init__(self, notices: Notices, clock: Clock) -> None:
        self._notices = notices
        self._clock = clock
        self._untold: dict[SessionId, None] = {}
        self._due = asyncio.Event()

    def tell(self, session_id: SessionId) -> None:
        """Put it into the next notice."""
        self._untold[session_id] = None
        self._due.set()

    async def listen(self, ears: Ears) -> None:
        """Pass on what others tell, tell what was gathered here, and look around now and then."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass_on(ears))
            group.create_task(self._tell_others())
            group.create_task(self._look_around(ears))

    async def _pass_on(self, ears: Ears) -> None:
        async with aclosing(self._notices.listen(CHANNEL)) as payloads:  # type: ignore[type-var]  # a generator
            async for payload in payloads:
                await ears.hear(None if payload is None else [SessionId(it) for it in payload.split(",")])

    async def _tell_others(self) -> None:
        while True:
            await self._due.wait()
            await self._clock.sleep(TELL_S)
            self._due.clear()
            while self._untold:
                told = list(self._untold)[:IDS_IN_A_NOTICE]
                for session_id in told:
                    del self._untold[session_id]
                await self._notify(",".join(told))

    async def _notify(self, payload: str) -> None:
        try:
            await self._notices.notify(CHANNEL, payload)
        except StorageError as error:
            log.warning("signals.failed", error=str(error))  # the others look around by themselves

    async def _look_around(self, ears: Ears) -> None:
        while True:
            await ears.wanted()
            await self._clock.sleep(SLOW_LOOK_S)
            await ears.hear(None)


class MemorySignals:
    """`haulier.ports.Signals` between the processes of a test: those with the same `room`."""

    def __init__(self, room: "list[MemorySignals] | None" = None) -> None:
        """Enter a room, or one of its own."""
        self.room: list[MemorySignals] = [] if room is None else room
        self.room.append(self)
        self._heard: dict[SessionId, None] = {}
        self._any = asyncio.Event()

    def tell(self, session_id: SessionId) -> None:
        """Let all the others hear it."""
        for other in self.room:
            if other is not self:
                other.put(session_id)

    def put(self, session_id: SessionId) -> None:
        """Hear a word."""
        self._heard[session_id] = None
        self._any.set()

    def leave(self) -> None:
        """Hear no more: the process is gone."""
        self.room.remove(self)

    async def listen(self, ears: Ears) -> None:
        """Pass on what others tell."""
        while True:
            await self._any.wait()
            self._any.clear()
            heard, self._heard = self._heard, {}
            await ears.hear(list(heard))
