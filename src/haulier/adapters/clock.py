"""The real clock and real chance: the only places where time is read and identifiers are drawn."""

import asyncio
import base64
import os
import secrets
import struct
import time
from collections import deque
from typing import Final

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


_DRAWN: Final = 256
"""Ids that are drawn at once: asking the system for the chance of one takes longer than all else about it, and lets other
threads go first. 4 KiB, that nobody sees before they are an id."""
_drawn: Final[deque[tuple[int, int]]] = deque()
"""Chance that no id was made of yet, 128 bits each."""
# Two processes must never make the same ids of it.
os.register_at_fork(after_in_child=_drawn.clear)

BLOBS_A_DIRECTORY: Final = 256
"""Blob keys in a row that begin alike: a disk sink keeps those in one directory, which is made, and put on the device, for
all of them. See docs/adr/0131."""


class SystemIdentifiers:
    """Identifiers that nobody can guess, from the operating system's randomness."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._blobs_left = 0
        """Keys that still begin with `_beginning`."""
        self._beginning = 0
        """16 bits, the first ones of a key."""

    def session_id(self) -> SessionId:
        """Return 128 random bits, URL-safe; 22 characters."""
        return SessionId(base64.urlsafe_b64encode(_chance().to_bytes(16, "big"))[:22].decode("ascii"))

    def record_id(self) -> RecordId:
        """Return a UUIDv7 of now."""
        return RecordId(uuid7(self._clock.now(), _chance()))

    def blob_key(self) -> str:
        """Return a UUIDv4 in its usual text form, with 106 bits of its own."""
        if not self._blobs_left:
            self._blobs_left, self._beginning = BLOBS_A_DIRECTORY, _chance() >> 112
        self._blobs_left -= 1
        return uuid4(self._beginning << 112 | _chance() & (1 << 112) - 1)

    def row_id(self) -> str:
        """Return a UUIDv7 of now."""
        return self.record_id()

    def request_id(self) -> str:
        """Return a random UUID, by which a request is known to whoever reads the log."""
        return uuid4(_chance())

    def secret(self) -> bytes:
        """Return 256 random bits."""
        return secrets.token_bytes(SECRET_BYTES)


def _chance() -> int:
    """Return 128 random bits."""
    while True:
        try:
            high, low = _drawn.pop()
        except IndexError:
            _drawn.extend(struct.iter_unpack("QQ", os.urandom(16 * _DRAWN)))
        else:
            return high << 64 | low
