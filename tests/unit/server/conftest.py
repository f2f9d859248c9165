"""A service in memory, and a client that may use it."""

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
import structlog

from tests.support.service import MemoryService


@pytest.fixture(autouse=True)
def _plain_logs() -> Iterator[None]:
    """Log like a service does: without drawings of what stood in every frame."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
def service() -> MemoryService:
    """The service's parts."""
    return MemoryService()


@pytest.fixture
async def client(service: MemoryService) -> AsyncIterator[httpx2.AsyncClient]:
    """A caller that the open mode lets in."""
    async with service.client() as client:
        yield client
