"""Visitors on rows in memory, for what stands in front of them."""

from haulier.adapters.access import GrantedAccess
from haulier.adapters.memory.rows import MemoryDatabase
from haulier.core.upload import UploadDetails
from haulier.engine.accounts import Accounts
from haulier.engine.janitor import People
from haulier.engine.visitors import VisitorService
from haulier.machine import Clock
from haulier.ports import UnitOfWork
from haulier.testing import ManualClock, SeededIdentifiers

SECRET = b"s" * 32
TTL_S = 30 * 24 * 3600.0


def visitor_service(
    work: UnitOfWork[UploadDetails] | None = None,
    clock: Clock | None = None,
    *,
    seed: int = 2000,
    ttl_s: float = TTL_S,
    opened: bool = True,
) -> VisitorService:
    """Return the use cases, on rows of their own where none are given."""
    clock = clock or ManualClock()
    rows = work or MemoryDatabase[UploadDetails]()
    access = GrantedAccess(clock, opened=opened)
    return VisitorService(rows, clock, SeededIdentifiers(clock, seed), access, secret=SECRET, ttl_s=ttl_s)


def people(work: UnitOfWork[UploadDetails], clock: Clock) -> People:
    """Return all who are forgotten after a time."""
    return People(visitor_service(work, clock), Accounts(work, clock, SeededIdentifiers(clock, 3000)))
