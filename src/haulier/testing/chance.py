"""Time that stands still and chance that repeats, for tests and simulations."""

import asyncio
import base64
import random
import uuid
from heapq import heappop, heappush

from haulier.core.ids import uuid7
from haulier.core.record import RecordId
from haulier.core.secret import SECRET_BYTES
from haulier.core.session import SessionId
from haulier.machine import Clock


class ManualClock:
    """A `Clock` that moves when it is told to."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        """Start at `now`, seconds since the epoch; the monotonic clock starts at 0."""
        self._wall = now
        self._monotonic = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return self._wall

    def monotonic(self) -> float:
        """Return seconds since this clock was made, without the steps of the wall."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was advanced that far; none and less than none only let others run."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heappush(self._sleepers, (self._monotonic + seconds, self._count, woken))
        await woken

    @property
    def sleepers(self) -> int:
        """How many wait, so that a test can wait until somebody sleeps."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    @property
    def next_wake_s(self) -> float | None:
        """Seconds to the next sleeper's end, None when nobody sleeps: how far a simulation can jump."""
        deadlines = [deadline for deadline, _, woken in self._sleepers if not woken.done()]
        return min(deadlines) - self._monotonic if deadlines else None

    def advance(self, seconds: float) -> None:
        """Move both clocks on and wake who is due, in the order of their deadlines.

        They run when the caller next waits, and find the clocks at their new times.
        """
        self._wall += seconds
        self._monotonic += seconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, woken = heappop(self._sleepers)
            if not woken.done():  # a sleeper that was cancelled
                woken.set_result(None)

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back; nobody wakes."""
        self._wall += seconds


class SeededIdentifiers:
    """`Identifiers` that repeat for the same seed."""

    def __init__(self, clock: Clock, seed: int = 0) -> None:
        """Draw from `seed`; record ids also carry the time of `clock`."""
        self._clock = clock
        self._random = random.Random(seed)

    def session_id(self) -> SessionId:
        """Return 22 URL-safe characters."""
        return SessionId(base64.urlsafe_b64encode(self._random.randbytes(16)).rstrip(b"=").decode("ascii"))

    def record_id(self) -> RecordId:
        """Return a UUIDv7 of now."""
        return RecordId(uuid7(self._clock.now(), self._random.getrandbits(62)))

    def blob_key(self) -> str:
        """Return a UUID in hex, without hyphens."""
        return uuid.UUID(bytes=self._random.randbytes(16), version=4).hex

    def row_id(self) -> str:
        """Return a UUIDv7 of now."""
        return self.record_id()

    def secret(self) -> bytes:
        """Return 32 bytes, the same for the same seed."""
        return self._random.randbytes(SECRET_BYTES)
