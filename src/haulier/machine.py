"""What everything takes from the machine as an argument: time and randomness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from haulier.core.record import RecordId
    from haulier.core.session import SessionId

NEW_OBJECTS: Final = 20_000
"""So many start the garbage collector of a process of ours; they take some 2 MiB. It is more than two hundred requests have, or
than a command loads while it runs, and nearly none of those is garbage."""


class Clock(Protocol):
    """Time as an argument; nothing else in core and engine reads a clock."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC; may step."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some fixed point; never steps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that long; may be cancelled."""


class Identifiers(Protocol):
    """Randomness as an argument."""

    def session_id(self) -> SessionId:
        """Return 128 random bits, URL-safe."""
        ...

    def record_id(self) -> RecordId:
        """Return a UUIDv7."""
        ...

    def blob_key(self) -> str:
        """Return a key that no blob has; a UUID, which may begin as those before it do."""
        ...

    def row_id(self) -> str:
        """Return a UUIDv7, for rows that are named by nothing else."""
        ...

    def secret(self) -> bytes:
        """Return 32 random bytes that nobody can guess."""
        ...
