"""Words between servers: late, in any order, and sometimes lost."""

import asyncio
import random
from typing import Final

from haulier.core.session import SessionId
from haulier.ports import Ears

LATE_S: Final = (0.0, 0.0, 0.02, 0.1, 0.3)
LOST: Final = 0.1
"""Share of the words that nobody hears."""
LOOK_AROUND_S: Final = 5.0
"""How often a server looks at everything, since words are lost."""


class SimSignals:
    """`haulier.ports.Signals` of one server."""

    def __init__(self, room: "list[SimSignals]", rng: random.Random) -> None:
        self._room = room
        self._rng = rng
        self._heard: dict[SessionId, None] = {}
        self._any = asyncio.Event()
        room.append(self)

    def tell(self, session_id: SessionId) -> None:
        """Let the others hear it some time, perhaps."""
        for other in self._room:
            if other is not self and self._rng.random() >= LOST:
                asyncio.get_running_loop().call_later(self._rng.choice(LATE_S), other.put, session_id)

    def put(self, session_id: SessionId) -> None:
        """Hear a word."""
        self._heard[session_id] = None
        self._any.set()

    def leave(self) -> None:
        """Be dead."""
        self._room.remove(self)

    async def listen(self, ears: Ears) -> None:
        """Pass on what is heard, and look around now and then, however much is heard."""
        loop = asyncio.get_running_loop()
        next_look = loop.time() + LOOK_AROUND_S
        while True:
            try:
                async with asyncio.timeout_at(next_look):
                    await self._any.wait()
            except TimeoutError:
                next_look = loop.time() + LOOK_AROUND_S
                await ears.hear(None)
                continue
            self._any.clear()
            heard, self._heard = self._heard, {}
            await ears.hear(list(heard))
