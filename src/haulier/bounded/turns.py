"""Whose job is next: one line after the other, first come first served within a line.

Rule 1: who brings a thousand files delays nobody who brings one by more than a turn.
Rule 2: places are counted only as given and returned; a waiter that is cancelled in the moment of its turn
        passes it on.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class TurnsFull(Exception):
    """As many are waiting as may; a signal inside this package."""


class FairTurns:
    """So many at a time, the others in lines; for one event loop."""

    def __init__(self, places: int, *, waiting: int) -> None:
        assert places > 0
        self._free = places
        self._room = waiting
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(map(len, self._lines.values()))

    @asynccontextmanager
    async def turn(self, line: str) -> AsyncIterator[None]:
        """Wait for a turn in that line, and hold it.

        Raises:
            TurnsFull: there is no room to wait.
        """
        await self._take(line)
        try:
            yield
        finally:
            self._next()

    async def _take(self, line: str) -> None:
        if self._free:
            self._free -= 1
            return
        if self.waiting >= self._room:
            raise TurnsFull
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(line, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(line, turn)
            else:
                self._next()
            raise

    def _next(self) -> None:
        """Give a place to the next waiter; nobody waits while one is free."""
        while self._lines:
            line, turns = self._lines.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._lines[line] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _forget(self, line: str, turn: asyncio.Future[None]) -> None:
        turns = self._lines.get(line)
        if turns is None or turn not in turns:
            return  # its place was passed over already
        turns.remove(turn)
        if not turns:
            del self._lines[line]
