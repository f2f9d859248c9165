"""The real clock and real chance: the only places where time is read and identifiers are drawn."""

import asyncio
import os
import secrets
import time

from haulier.core.ids import RecordId, SessionId, uuid4, uuid7
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
        return RecordId(uuid7(self._clock.now(), _chance(8)))

    def blob_key(self) -> str:
        """Return a random UUID in its usual text form."""
        return uuid4(_chance(16))

    def row_id(self) -> str:
        """Return a UUIDv7 of now."""
        return self.record_id()

    def secret(self) -> bytes:
        """Return 256 random bits."""
        return secrets.token_bytes(SECRET_BYTES)


def _chance(size: int) -> int:
    """Return so many random bytes as a number."""
    return int.from_bytes(os.urandom(size), "big")
