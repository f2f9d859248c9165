"""What happens to records, over HTTP."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from haulier.server import events
from haulier.server.events import EventStream, Message
from tests.support.engine import until
from tests.support.service import MemoryService
from tests.unit.server.test_events import Wire, never


def parse(text: str) -> list[dict[str, str]]:
    """Return the fields of each event; comments have none."""
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    return [dict(line.split(": ", 1) for line in block if not line.startswith(":")) for block in blocks]


async def told(client: httpx2.AsyncClient, after: str | None = None, query: str = "") -> list[dict[str, str]]:
    headers = {} if after is None else {"Last-Event-ID": after}
    response = await client.get(f"/api/events?follow=false{query}", headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    return parse(response.text)


async def test_who_comes_back_is_told_what_happened_meanwhile(client: httpx2.AsyncClient) -> None:
    ((ready),) = await told(client)
    assert ready == {"id": "0-0", "event": "ready", "data": "{}"}
    record = (await client.put("/api/files/a.txt", content=b"hello")).json()
    await client.delete(f"/api/records/{record['id']}")
    first, *happened = await told(client, ready["id"])
    assert first["event"] == "ready"
    assert [each["event"] for each in happened] == ["record.created", "record.completed", "record.deleted"]
    assert [each["id"] for each in happened] == ["0-1", "0-2", "0-3"]
    document = json.loads(happened[1]["data"])
    assert document["at"].endswith("Z")
    del document["at"]
    assert document == {
        "kind": "record.completed",
        "record": record["id"],
        "capsule": "default",
        "filename": "a.txt",
        "path": None,
        "status": "completed",
        "size": 5,
        "content_type": "text/plain",
        "digest": record["digest"],
        "error": None,
        "assets": ["original"],
        "url": f"http://127.0.0.1:8000/api/records/{record['id']}",
    }
    assert [each["event"] for each in await told(client, "0-2", "&mine=true")] == ["ready", "record.deleted"]


@pytest.mark.parametrize("place", ["7-7", "first", "0-9223372036854775808", "0" * 4000])
async def test_who_knows_a_place_of_other_rows_is_told_to_look_anew(
    client: httpx2.AsyncClient, place: str
) -> None:
    """A browser that is refused for the id which another service at this address gave it never comes back."""
    await client.put("/api/files/a.txt", content=b"hello")
    ((reset),) = await told(client, place)
    assert reset["event"] == "reset"
    assert [each["event"] for each in await told(client, reset["id"])] == ["ready"]


@pytest.mark.parametrize("field", ["mine", "follow"])
async def test_what_cannot_be_followed_is_refused_by_name(client: httpx2.AsyncClient, field: str) -> None:
    response = await client.get(f"/api/events?{field}=maybe")
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


async def test_a_capsule_that_is_not_there_is_a_problem(client: httpx2.AsyncClient) -> None:
    response = await client.get("/api/events?capsule=none")
    assert (response.status_code, response.json()["capsule"]) == (404, "none")


async def test_a_stream_goes_on_until_the_service_stops(
    service: MemoryService, client: httpx2.AsyncClient
) -> None:
    async with asyncio.TaskGroup() as group:
        following = group.create_task(client.get("/api/events"))
        await until(lambda: service.feed._readers)
        await client.put("/api/files/a.txt", content=b"hello")
        service.feed.stop()
    names = [each["event"] for each in parse(following.result().text)]
    assert names[0] == "ready"


async def endless() -> Any:
    yield Message(id="0-7")
    await asyncio.Event().wait()


async def test_who_is_told_nothing_still_comes_back_to_where_it_was() -> None:
    async def nap(_: float) -> None:
        await asyncio.sleep(0)

    wire = Wire()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(EventStream(endless(), sleep=nap)({}, wire.receive, wire.send))
        await wire.wait_for("id: 0-7\n: still here\n\n: still here\n\n")
        wire.left.set()
        await running


async def test_who_cannot_see_comments_is_told_by_events_that_the_stream_lives() -> None:
    async def nap(_: float) -> None:
        await asyncio.sleep(0)

    wire = Wire()
    async with asyncio.TaskGroup() as group:
        stream = EventStream(endless(), sleep=nap, alive=events.BEAT)
        running = group.create_task(stream({}, wire.receive, wire.send))
        await wire.wait_for("id: 0-7\nevent: beat\ndata: {}\n\nevent: beat\ndata: {}\n\n")
        wire.left.set()
        await running


async def test_an_old_stream_ends_so_that_its_reader_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BEATS", 2)

    async def nap(_: float) -> None:
        await asyncio.sleep(0)

    wire = Wire()
    await EventStream(endless(), sleep=nap)({}, wire.receive, wire.send)
    assert wire.text == "id: 0-7\n: still here\n\n: still here\n\n"


async def test_a_reader_that_takes_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "STUCK_S", 0.0)

    closed, sent = [], []

    async def messages() -> Any:
        try:
            yield Message(name="a", data="{}")
            yield Message(name="b", data="{}")
        finally:
            closed.append(True)

    async def send(message: Any) -> None:
        sent.append(message.get("body"))
        if message.get("body"):
            await asyncio.Event().wait()

    await EventStream(messages(), sleep=never)({}, Wire().receive, send)
    assert (sent, closed) == ([None, b"event: a\ndata: {}\n\n"], [True])
