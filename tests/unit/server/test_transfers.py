"""`/api/transfers`, and transfers on `/api/events`."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from haulier.engine.send_watch import MAX_BEHIND
from haulier.server.events import Message, merged
from haulier.server.transfers import transfer_messages
from tests.support.engine import beside
from tests.support.sending import settle
from tests.support.service import MemoryService

DATA = bytes(range(256)) * 1000


async def queued(service: MemoryService, name: str) -> str:
    service.files.write(f"/{name}", DATA)
    return await service.transfers.queue(f"/{name}", f"there:{name}")


async def test_transfers_are_listed_shown_and_awaited() -> None:
    service = MemoryService()
    async with service.client() as client:
        ids = [await queued(service, name) for name in ("a", "b", "c")]
        for each in ids:
            answer = await client.get(f"/api/transfers/{each}", params={"wait": 60})
            assert answer.status_code == 200
            assert answer.json()["outcome"] == "succeeded"
        first = (await client.get("/api/transfers", params={"limit": 2})).json()
        assert [item["id"] for item in first["items"]] == [ids[2], ids[1]]
        second = (await client.get("/api/transfers", params={"limit": 2, "cursor": first["next"]})).json()
        assert [item["id"] for item in second["items"]] == [ids[0]]
        assert (second["next"], second["total"], second["left_out"]) == (None, None, 0)
        assert (await client.get("/api/transfers", params={"live": True})).json()["items"] == []
        assert (await client.get("/api/transfers", params={"remote": "other"})).json()["items"] == []
        shown = (await client.get(f"/api/transfers/{ids[0]}")).json()
        promised = {
            "id", "direction", "remote", "target", "phase", "outcome", "label", "bytes", "size", "speed", "eta_s",
            "attempts", "digest", "remote_id", "error", "superseded_by", "retry_of",
        }  # fmt: skip
        assert promised <= set(shown)
        assert (shown["bytes"], shown["label"]) == (len(DATA), "Completed, Succeeded")


async def test_what_is_wanted_is_written_down_and_obeyed() -> None:
    service = MemoryService()
    gate = service.remote.gate("create")
    async with service.client() as client:
        name = await queued(service, "a")
        await gate.wait_reached()
        waited = (await client.get(f"/api/transfers/{name}", params={"wait": 0.01})).json()
        assert waited["outcome"] is None
        for wish in ("bump", "pause", "resume", "cancel"):
            answer = await client.post(f"/api/transfers/{name}/{wish}")
            assert answer.status_code == 200, wish
            assert answer.json()["id"] == name
        gate.open()
        ended = (await client.get(f"/api/transfers/{name}", params={"wait": 60})).json()
        assert ended["outcome"] == "cancelled"
        again = await client.post(f"/api/transfers/{name}/retry")
        assert (again.status_code, again.json()["retry_of"]) == (201, name)
        service.files.remove("/a")
        gone = await client.post(f"/api/transfers/{name}/retry")
        assert (gone.status_code, gone.json()["errors"][0]["field"]) == (422, "transfer")


async def test_an_unknown_transfer_is_a_problem_of_its_own() -> None:
    service = MemoryService()
    async with service.client() as client:
        name = await queued(service, "a")
        await service.transfers.wait(name)
        await service.transfers.remove(name)
        for transfer in ("never", name):
            for method, tail in (("GET", ""), ("POST", "/pause"), ("POST", "/retry")):
                answer = await client.request(method, f"/api/transfers/{transfer}{tail}")
                assert answer.status_code == 404
                assert answer.json()["type"].endswith("/errors/transfer-not-found")
                assert answer.json()["transfer"] == transfer


async def test_without_a_journal_transfers_are_unavailable_and_nothing_else() -> None:
    service = MemoryService()
    async with service.client() as client:
        await service.transfers.stop()
        close = service.transfers._journal

        class Closed:
            async def read(self, work: Any) -> Any:
                from haulier.core.errors import StorageUnavailable

                raise StorageUnavailable("closed")

        service.transfers._journal = Closed()  # type: ignore[assignment]
        assert (await client.get("/api/transfers")).status_code == 503
        assert (await client.get("/api/records")).status_code == 200
        service.transfers._journal = close


async def test_the_stream_of_events_tells_of_transfers_until_the_first_one_ends() -> None:
    service = MemoryService()
    over = asyncio.Event()

    async def records() -> AsyncGenerator[Message, None]:
        yield Message(name="ready", data="{}", id="0-1")
        await over.wait()

    found: list[Message] = []

    async def follow() -> None:
        async for message in merged(records(), transfer_messages(service.transfers)):
            found.append(message)  # noqa: PERF401 - looked at while it grows

    async with service.client(), asyncio.timeout(30):
        following = beside(follow())
        await settle()
        name = await queued(service, "a")
        await service.transfers.wait(name)
        await settle()
        await service.transfers.remove(name)
        await settle()
        over.set()
        await following
    assert {message.id for message in found} == {"0-1", None}
    names = [message.name for message in found]
    assert (names[0], names[1], names[-1]) == ("ready", "transfer.changed", "transfer.removed")
    assert "transfer.progress" in names
    ended = [message for message in found if message.name == "transfer.changed"][-1]
    assert json.loads(ended.data)["outcome"] == "succeeded"


async def test_a_reader_that_lagged_is_shown_what_has_not_ended() -> None:
    service = MemoryService()
    gate = service.remote.gate("create")
    async with service.client(), asyncio.timeout(30):
        messages = transfer_messages(service.transfers)
        first = beside(anext(messages))
        await settle()
        name = await queued(service, "a")
        await first
        await gate.wait_reached()
        view = await service.transfers.get(name)
        assert view is not None
        for _ in range(MAX_BEHIND + 1):
            service.transfers.changed(view.row)
        assert json.loads((await anext(messages)).data)["id"] == name
        await messages.aclose()
        gate.open()
        await service.transfers.wait(name)
