"""Visitors on rows in memory, for what stands in front of them."""

from haulier.adapters.memory_rows import MemoryDatabase
from haulier.core.upload import UploadDetails
from haulier.engine.visitors import VisitorService
from haulier.ports import Clock, UnitOfWork
from haulier.testing import ManualClock, SeededIdentifiers

SECRET = b"s" * 32
TTL_S = 30 * 24 * 3600.0


def visitor_service(
    work: UnitOfWork[UploadDetails] | None = None, clock: Clock | None = None, *, seed: int = 2000
) -> VisitorService:
    """Return the use cases, on rows of their own where none are given."""
    clock = clock or ManualClock()
    rows = work or MemoryDatabase[UploadDetails]()
    return VisitorService(rows, clock, SeededIdentifiers(clock, seed), secret=SECRET, ttl_s=TTL_S)
