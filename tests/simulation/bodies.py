"""Request bodies as networks deliver them: in pieces, late, cut, and told to stop."""

import asyncio
import random
from typing import Final

from haulier.core.values import dataclass
from haulier.ports import BodyEnd, Deliver

SILENT_S: Final = 60.0
"""After so much silence a server takes a body for cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How a body is to arrive."""

    cut_after: int | None = None
    """Bytes after which the connection is lost."""
    announced: bool = True
    """Whether the length is told before."""
    stall_s: float = 0.0
    """Silence before the last piece."""
    slow_s: float = 0.0
    """Silence before every piece."""


PROMPT: Final = Delivery()


class SimBody:
    """`haulier.ports.Body` of a simulated connection.

    The buffer of every piece is overwritten as soon as the port allows it: who keeps it, keeps rubbish.
    """

    def __init__(self, data: bytes, delivery: Delivery, rng: random.Random) -> None:
        self._announced = len(data) if delivery.announced else None
        self._data = data if delivery.cut_after is None else data[: delivery.cut_after]
        self._end = BodyEnd.COMPLETE if delivery.cut_after is None else BodyEnd.CUT
        self._delivery = delivery
        self._rng = rng
        self._stopped = asyncio.Event()

    @property
    def length(self) -> int | None:
        """Announced bytes."""
        return self._announced

    def stop(self) -> None:
        """Make `receive` end."""
        self._stopped.set()

    async def receive(self, deliver: Deliver, *, limit: int | None = None) -> BodyEnd:
        """Hand on pieces of 1 to 7 bytes."""
        room = len(self._data) if limit is None else limit
        position = 0
        while position < len(self._data):
            stop = min(position + self._rng.randint(1, 7), len(self._data))
            if (end := await self._arrive(last=stop == len(self._data))) is not None:
                return end
            if position >= room:
                return BodyEnd.LIMIT
            await _hand_over(self._data[position : min(stop, room)], deliver)
            position = min(stop, room)
        return BodyEnd.STOPPED if self._stopped.is_set() else self._end

    async def _arrive(self, *, last: bool) -> BodyEnd | None:
        """Wait for the next piece; return why there is none."""
        delay = self._rng.choice((0.0, 0.0, 0.001, 0.05, 0.7)) + self._delivery.slow_s
        delay += self._delivery.stall_s if last else 0.0
        try:
            async with asyncio.timeout(min(delay, SILENT_S)):
                await self._stopped.wait()
        except TimeoutError:
            return BodyEnd.CUT if delay >= SILENT_S else None
        return BodyEnd.STOPPED


async def _hand_over(piece: bytes, deliver: Deliver) -> None:
    buffer = bytearray(piece)
    held = deliver(memoryview(buffer))
    buffer[:] = b"\xee" * len(buffer)
    if held is not None:
        await held
