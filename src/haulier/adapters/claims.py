"""Claims inside one process: who may touch what, in order of asking."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import field

from haulier.core.session import SessionId
from haulier.core.values import dataclass

Key = tuple[SessionId, str]


class LocalClaim:
    """A held claim; see `haulier.ports.Claim`."""

    def __init__(self, claims: "LocalClaims", key: Key, *, asked: bool) -> None:
        self._claims = claims
        self._key = key
        self._asked = asked
        self._let_go: Callable[[], None] | None = None
        self._released = False

    def release(self) -> None:
        """Let go; the longest waiting claimant is next."""
        if not self._released:
            self._released = True
            self._claims._pass_on(self._key)  # noqa: SLF001 - the two classes are one thing

    def on_asked(self, let_go: Callable[[], None]) -> None:
        """Call `let_go` when this holder is asked to let go, at once when it was asked already."""
        self._let_go = let_go
        if self._asked:
            let_go()

    def ask(self) -> None:
        """Ask this holder to let go."""
        self._asked = True
        if self._let_go is not None:
            self._let_go()


@dataclass(slots=True)
class _Waiter:
    future: "asyncio.Future[LocalClaim]"
    ask: bool


@dataclass(slots=True)
class _Place:
    """One claimed thing: its holder and the queue behind it."""

    holder: LocalClaim
    waiters: deque[_Waiter] = field(default_factory=deque)


class LocalClaims:
    """`haulier.ports.Claims` for a service that is one process."""

    def __init__(self) -> None:
        self._places: dict[Key, _Place] = {}
        self._counts: dict[SessionId, int] = defaultdict(int)
        self._idle: dict[SessionId, asyncio.Event] = {}

    async def claim(self, session_id: SessionId, what: str, *, ask: bool = False) -> LocalClaim:
        """Wait for the claim; a cancelled wait leaves nothing behind."""
        key = (session_id, what)
        place = self._places.get(key)
        if place is None:
            self._counts[session_id] += 1
            claim = LocalClaim(self, key, asked=False)
            self._places[key] = _Place(claim)
            return claim
        waiter = _Waiter(asyncio.get_running_loop().create_future(), ask)
        place.waiters.append(waiter)
        if ask:
            place.holder.ask()
        return await self._wait(place, waiter)

    async def _wait(self, place: _Place, waiter: _Waiter) -> LocalClaim:
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled():
                waiter.future.result().release()
            elif waiter in place.waiters:
                place.waiters.remove(waiter)
            raise

    def _pass_on(self, key: Key) -> None:
        place = self._places[key]
        while place.waiters:
            waiter = place.waiters.popleft()
            if not waiter.future.done():
                # Whoever still waits behind the next holder and asks, asks that one too.
                asked = any(other.ask for other in place.waiters)
                place.holder = LocalClaim(self, key, asked=asked)
                waiter.future.set_result(place.holder)
                return
        del self._places[key]
        self._left(key[0])

    def _left(self, session_id: SessionId) -> None:
        self._counts[session_id] -= 1
        if not self._counts[session_id]:
            del self._counts[session_id]
            event = self._idle.pop(session_id, None)
            if event is not None:
                event.set()

    def ask_all(self, session_id: SessionId) -> None:
        """Ask every holder of this session to let go."""
        for key, place in list(self._places.items()):
            if key[0] == session_id:
                place.holder.ask()

    async def idle(self, session_id: SessionId) -> None:
        """Wait until nobody holds anything of this session."""
        while session_id in self._counts:
            await self._idle.setdefault(session_id, asyncio.Event()).wait()

    def held(self) -> frozenset[SessionId]:
        """Return the sessions of which anything is held."""
        return frozenset(self._counts)
