"""A service in memory, and a client that may use it."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.support.service import MemoryService


@pytest.fixture
def service() -> MemoryService:
    """The service's parts."""
    return MemoryService()


@pytest.fixture
async def client(service: MemoryService) -> AsyncIterator[httpx2.AsyncClient]:
    """A caller that the open mode lets in."""
    async with service.client() as client:
        yield client
