"""Bodies that end the way a test wants."""

import asyncio
from collections.abc import Sequence

from haulier.ports import BodyEnd, Deliver


class FakeBody:
    """A `Body` of given pieces.

    With `held`, it stops before the last piece until `release` or `stop` is called; `reached` is set then.
    """

    def __init__(
        self,
        *pieces: bytes,
        end: BodyEnd = BodyEnd.COMPLETE,
        announced: bool = True,
        length: int | None = None,
        held: bool = False,
    ) -> None:
        self.pieces: Sequence[bytes] = pieces
        self.end = end
        self.length = length if length is not None else (sum(map(len, pieces)) if announced else None)
        self.reached = asyncio.Event()
        self.stopped = False
        self.receives = 0
        self._held = held
        self._go = asyncio.Event()

    def release(self) -> None:
        """Let the held piece come."""
        self._go.set()

    def stop(self) -> None:
        """End early."""
        self.stopped = True
        self._go.set()

    async def receive(self, deliver: Deliver, *, limit: int | None = None) -> BodyEnd:
        """Give the pieces, at most `limit` bytes."""
        self.receives += 1
        left = limit
        for number, piece in enumerate(self.pieces):
            if self._held and number == len(self.pieces) - 1:
                self.reached.set()
                await self._go.wait()
            if self.stopped:
                return BodyEnd.STOPPED
            taken = piece if left is None else piece[:left]
            if taken:
                awaitable = deliver(taken)
                if awaitable is not None:
                    await awaitable
            if len(taken) < len(piece):
                return BodyEnd.LIMIT
            left = None if left is None else left - len(taken)
            await asyncio.sleep(0)
        return BodyEnd.STOPPED if self.stopped else self.end
