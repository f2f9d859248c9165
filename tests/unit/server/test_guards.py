"""Which guard and which limits stand in front of the routes, by the settings."""

from typing import Any

import httpx2
import pytest

from tests.support.service import MemoryService, served

LIMITED: Any = {"rate_per_owner": 0.001, "rate_per_address": 0.001}


async def statuses(service: MemoryService, **settings: Any) -> list[int]:
    async with served(service.app(**settings)) as client, service.lifespan():
        return [(await client.get("/api/records")).status_code for _ in range(3)]


async def test_the_local_user_has_no_limits(service: MemoryService) -> None:
    assert await statuses(service, local_users=True, **LIMITED) == [200, 200, 200]


async def test_whoever_is_let_in_by_open_has(service: MemoryService) -> None:
    assert await statuses(service, open=True, **LIMITED) == [200, 429, 429]


async def test_who_is_not_known_has_too(service: MemoryService) -> None:
    assert await statuses(service, require_tokens=True, **LIMITED) == [401, 429, 429]


async def test_a_limit_of_0_is_none(service: MemoryService) -> None:
    none: Any = {
        "rate_per_owner": 0,
        "rate_per_address": 0,
        "max_bodies_per_owner": 0,
        "max_bodies_per_address": 0,
    }
    assert await statuses(service, open=True, **none) == [200, 200, 200]


@pytest.mark.parametrize("closing", [{"require_tokens": True}, {"public_url": "https://f.example"},
                                     {"trusted_proxies": ("10.0.0.1",)}])  # fmt: skip
async def test_every_word_that_says_others_will_call_closes_the_service(
    service: MemoryService, closing: dict[str, Any]
) -> None:
    async with served(service.app(local_users=True, **closing)) as client:
        answer: httpx2.Response = await client.get("/api/records")
    assert answer.status_code == 401
    assert answer.json()["type"].endswith("/errors/unauthenticated")


async def test_a_refusal_for_too_much_says_when_to_come_again(service: MemoryService) -> None:
    async with served(service.app(open=True, rate_per_address=0.01)) as client, service.lifespan():
        await client.get("/api/records")
        answer = await client.get("/api/records")
    assert answer.json()["type"].endswith("/errors/rate-limited")
    assert 90 < answer.json()["retry_after_s"] <= int(answer.headers["retry-after"]) <= 100
