"""What an upload's own resource answers, and what the client makes of it."""

import httpx2
import pytest

from haulier.client.order import Order, Report
from haulier.client.resource import MAX_SESSIONS, ask_offset, begin, begin_anew_when_lost
from haulier.client.values import Record
from haulier.client.wire import Wire
from haulier.core.digest import DigestName
from haulier.core.errors import PeerRefused, PeerUnreachable
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


BEGUN = {
    "id": "u", "record": "r", "status": "open", "mode": "chunks", "size": 5, "chunk_size": 8, "chunk_count": 1,
    "expires_at": "2026-11-22T00:00:00Z", "token": "t", "links": {},
}  # fmt: skip


class Restart:
    """A service that is down for some attempts; `pauses` are what a client waited."""

    def __init__(self, attempts: int) -> None:
        self.left = attempts
        self.pauses: list[float] = []

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.left -= 1
        if self.left >= 0:
            raise httpx2.ConnectError("connection refused", request=request)
        return httpx2.Response(201, json=BEGUN)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def wire(self) -> Wire:
        return Wire(
            "http://127.0.0.1:1",
            token=None,
            connections=1,
            policy=RetryPolicy(),
            chance=lambda: 0.5,
            sleep=self.pause,
            transport=httpx2.MockTransport(self.answer),
        )


async def test_an_upload_whose_first_contact_falls_into_a_restart_waits_for_its_end() -> None:
    restart = Restart(10)
    told: list[str | None] = []
    order = Order(filename="a", capsule="default", digest=DigestName.SHA_256)
    report = Report(lambda progress: told.append(progress.waiting), 5)
    async with restart.wire() as wire:
        begun = await begin(wire, order, mode="chunks", size=5, key="k", report=report)
    assert begun.id == "u"
    assert len(restart.pauses) == 10
    assert sum(restart.pauses) > 12  # seconds: a busy machine needs some for a start
    assert any("cannot be reached" in (why or "") for why in told)


async def test_any_other_first_contact_is_given_up_soon() -> None:
    restart = Restart(20)
    async with restart.wire() as wire:
        with pytest.raises(PeerUnreachable):
            await wire.call("GET", "/api/records")
    assert len(restart.pauses) == 3


async def test_a_session_that_is_lost_is_begun_anew_and_not_for_ever() -> None:
    keys = [1]

    async def renew() -> None:
        keys.append(keys[-1] + 1)

    async def session() -> Record:
        raise PeerRefused(410, "upload-gone", f"key {keys[-1]} leads nowhere")

    with pytest.raises(PeerRefused, match="key 3"):
        await begin_anew_when_lost(session, renew)
    assert keys == [1, 2, 3]
    assert len(keys) == MAX_SESSIONS


async def test_any_other_end_of_a_session_is_its_caller_s() -> None:
    async def renew() -> None:
        raise AssertionError("nothing is lost")

    async def session() -> Record:
        raise PeerRefused(403, "access-denied", "no")

    with pytest.raises(PeerRefused, match="access-denied"):
        await begin_anew_when_lost(session, renew)
