"""Whose turn it is, among processes that may die: for fakes that stand for several of them."""

import asyncio
from collections import deque
from dataclasses import field

from haulier.core.values import dataclass


@dataclass(eq=False, slots=True)
class Turn:
    """A place in the queue, of `who`; the first one has its turn."""

    who: object
    came: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Turns:
    """One at a time, in the order of asking."""

    def __init__(self) -> None:
        self._queue: deque[Turn] = deque()

    async def take(self, who: object) -> Turn:
        """Wait for a turn of `who`; a cancelled wait leaves nothing behind."""
        turn = Turn(who)
        self._queue.append(turn)
        if self._queue[0] is not turn:
            try:
                await turn.came
            except asyncio.CancelledError:
                self.leave(turn)
                raise
        return turn

    def leave(self, turn: Turn) -> None:
        """End a turn, or give up its place; harmless when it has none any more."""
        if turn not in self._queue:
            return
        first = self._queue[0] is turn
        self._queue.remove(turn)
        if first and self._queue and not self._queue[0].came.done():
            self._queue[0].came.set_result(None)

    def drop(self, who: object) -> None:
        """Take all places of `who` away: it is dead."""
        for turn in [turn for turn in self._queue if turn.who is who]:
            self.leave(turn)
