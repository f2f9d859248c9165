"""What an upload's own resource answers, and what the client makes of it."""

import httpx2
import pytest

from haulier.client.resource import ask_offset
from haulier.client.wire import Wire
from haulier.core.errors import PeerRefused
from haulier.core.retry import RetryPolicy


async def offset_of(headers: dict[str, str]) -> int:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers))
    wire = Wire("http://127.0.0.1:1", token=None, connections=1, policy=RetryPolicy(), transport=transport)
    async with wire:
        return await ask_offset(wire, "an-upload")


async def test_the_offset_is_read() -> None:
    assert await offset_of({"Upload-Offset": "1048576"}) == 1048576


@pytest.mark.parametrize(
    "headers", [{}, {"Upload-Offset": ""}, {"Upload-Offset": "-1"}, {"Upload-Offset": "1e3"}]
)
async def test_an_answer_without_an_offset_is_not_one_of_this_service(headers: dict[str, str]) -> None:
    with pytest.raises(PeerRefused, match="unreadable-answer"):
        await offset_of(headers)
