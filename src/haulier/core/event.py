"""What happened to records, as others are told: small, in one order, and committed with what it tells.

Rule 1: an event says what happened and to which record; whoever wants all of the record reads it.
Rule 2: positions are compared, never counted: between two neighbours any number may be missing.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import total_ordering
from typing import Any, Final

from haulier.core.record import Record, RecordId, RecordStatus
from haulier.core.values import dataclass

MAX_NUMBER: Final = 2**63 - 1
"""What the databases' integers hold."""
_POSITION: Final = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)


class EventKind(StrEnum):
    """What can happen to a record."""

    CREATED = "record.created"
    COMPLETED = "record.completed"
    FAILED = "record.failed"
    CANCELLED = "record.cancelled"
    EXPIRED = "record.expired"
    UPDATED = "record.updated"
    """It got another asset, or goes on being processed."""
    DELETED = "record.deleted"
    """It is in the trash."""
    RESTORED = "record.restored"
    ERASED = "record.erased"
    """Its bytes are gone for good."""


ENDS: Final[Mapping[RecordStatus, EventKind]] = {
    RecordStatus.CANCELLED: EventKind.CANCELLED,
    RecordStatus.EXPIRED: EventKind.EXPIRED,
    RecordStatus.FAILED: EventKind.FAILED,
}
"""How it is told that a record ended without its original."""


@total_ordering
@dataclass(frozen=True, slots=True)
class Position:
    """A place in the order of all events; whoever reads on behind it misses none and sees none twice."""

    transaction: int
    """Which transaction wrote it, where several write at once; else 0."""
    number: int

    def __str__(self) -> str:
        return f"{self.transaction}-{self.number}"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Position):
            return NotImplemented
        return (self.transaction, self.number) < (other.transaction, other.number)


START: Final = Position(0, 0)
"""Before the first event."""
ELSEWHERE: Final = Position(MAX_NUMBER, MAX_NUMBER)
"""Among no rows of ours: whoever is there has missed everything."""


def read_position(text: str) -> Position:
    """Return the position that a reader was given earlier; ELSEWHERE when nobody was ever given this one.

    That is no mistake of the reader's: browsers send the last id of whoever answered at this address before, and one
    that is refused for it never comes back.
    """
    found = _POSITION.fullmatch(text)
    if found is None or max(numbers := [int(part) for part in found.groups()]) > MAX_NUMBER:
        return ELSEWHERE
    return Position(*numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a record. Times are seconds since the epoch, UTC."""

    kind: EventKind
    record: RecordId
    capsule: str
    owner: str
    facts: Mapping[str, Any]
    """How the record stood right after it, as JSON has it."""
    created_at: float


@dataclass(frozen=True, slots=True)
class Told:
    """An event in its place."""

    position: Position
    event: Event


@dataclass(frozen=True, slots=True)
class Interest:
    """Which events somebody is to hear of."""

    kinds: frozenset[EventKind] = frozenset(EventKind)
    fact: str | None = None
    """One that they must have, in a word of letters; None: whatever they have."""

    def covers(self, event: Event) -> bool:
        """Whether this is one of them."""
        return event.kind in self.kinds and (self.fact is None or self.fact in event.facts)


EVERYTHING: Final = Interest()


def event_of(kind: EventKind, record: Record, *, now: float) -> Event:
    """Return what is told of a record."""
    digest = None if record.digest is None else {str(record.digest.name): record.digest.hex}
    return Event(
        kind=kind,
        record=record.id,
        capsule=record.capsule,
        owner=record.owner,
        facts={
            "filename": record.filename,
            "path": record.path,
            "status": str(record.status),
            "size": record.size,
            "content_type": record.content_type,
            "digest": digest,
            "error": record.error,
            "assets": [str(asset.kind) for asset in record.assets],
        },
        created_at=now,
    )


def may_miss(after: Position, kept: tuple[Position, Position] | None) -> bool:
    """Whether events behind `after` are not kept any more, or the rows are not those it was given for.

    Args:
        after: where somebody wants to read on.
        kept: the first and the last event that are kept. Of those that were removed the last one always is, so
            that whoever had seen it can go on.
    """
    if kept is None:
        return after != START
    first, last = kept
    if after > last:
        return True  # the rows are older than this position: they came back from a copy
    return after < first and first.number != 1
