"""The real clock and real chance: the only places where time is read and identifiers are drawn."""

import asyncio
import secrets
import time
import uuid

from haulier.core.ids import RecordId, SessionId
from haulier.core.secret import SECRET_BYTES
from haulier.machine import Clock


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC; may step."""
        return time.time()  # noqa: TID251 - this is the clock that all others ask

    def monotonic(self) -> float:
        """Return seconds since some fixed point; never steps."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait that long; may be cancelled."""
        await asyncio.sleep(seconds)


class SharedClock(SystemClock):
    """The wall time of whoever tells it, carried on by this machine's monotonic clock; its own until it is told.

    For machines that judge each other's rows by their age: whatever their own clocks say, and do, they agree.
    """

    def __init__(self) -> None:
        self._began_at: float | None = None

    def now(self) -> float:
        """Return seconds since the epoch, UTC; steps only when it is told."""
        return super().now() if self._began_at is None else self._began_at + self.monotonic()

    def tell(self, now: float, *, at: float) -> float:
        """Take `now` for the wall time at the moment `at` of the monotonic clock; return how far this one was ahead."""
        ahead = self.now() - (now + self.monotonic() - at)
        self._began_at = now - at
        return ahead


class SystemIdentifiers:
    """Identifiers that nobody can guess, from the operating system's randomness."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def session_id(self) -> SessionId:
        """Return 128 random bits, URL-safe; 22 characters."""
        return SessionId(secrets.token_urlsafe(16))

    def record_id(self) -> RecordId:
        """Return a UUIDv7 of now."""
        return RecordId(uuid7(self._clock.now(), secrets.randbits(62)))

    def blob_key(self) -> str:
        """Return a random UUID in its usual text form."""
        return str(uuid.uuid4())

    def row_id(self) -> str:
        """Return a UUIDv7 of now."""
        return self.record_id()

    def secret(self) -> bytes:
        """Return 256 random bits."""
        return secrets.token_bytes(SECRET_BYTES)


def uuid7(now: float, chance: int) -> str:
    """Return the UUIDv7 of that time, from 62 random bits.

    The 12 bits behind the milliseconds are their fraction, so that ids of one process sort by time more
    finely than by the millisecond.
    Source: RFC 9562 sections 5.7 and 6.2, method 3.
    """
    ticks = int(now * 1000 * 4096)
    milliseconds, fraction = divmod(ticks, 4096)
    value = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62
    return str(uuid.UUID(int=value | chance & (1 << 62) - 1))
