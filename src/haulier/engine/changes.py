"""Who waits for what: a wake-up that cannot be missed.

Rule 1: a watcher registers before it reads; so a change after the read wakes it, and a change before
        the read is in what it reads. A wake-up carries no result; the row does.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from haulier.core.session import SessionId


class Changes:
    """Wakes the watchers of a session, here and, by a word, in other processes."""

    def __init__(self, awake: asyncio.Event, tell: Callable[[SessionId], None]) -> None:
        """`awake` is set when somebody begins to watch; `tell` brings a change to other processes."""
        self._awake = awake
        self._tell = tell
        self._watchers: dict[SessionId, dict[asyncio.Event, None]] = {}
        # Dicts, not sets: the order of waking is the order of asking, so that schedules can be replayed.

    @contextmanager
    def watching(self, session_id: SessionId) -> Iterator[asyncio.Event]:
        """Return an event that every change sets; the watcher clears it before it reads."""
        event = asyncio.Event()
        self._watchers.setdefault(session_id, {})[event] = None
        self._awake.set()
        try:
            yield event
        finally:
            watchers = self._watchers[session_id]
            del watchers[event]
            if not watchers:
                del self._watchers[session_id]

    def watched(self) -> Collection[SessionId]:
        """Return the sessions that somebody watches."""
        return self._watchers.keys()

    def notify(self, session_id: SessionId) -> None:
        """Something about the session was changed here: everybody may want to know."""
        self.wake(session_id)
        self._tell(session_id)

    def wake(self, session_id: SessionId) -> None:
        """Something about the session is new in this process."""
        for event in self._watchers.get(session_id, ()):
            event.set()

    def wake_all(self) -> None:
        """Wake everybody, for instance because the service ends."""
        for session_id in list(self._watchers):
            self.wake(session_id)
