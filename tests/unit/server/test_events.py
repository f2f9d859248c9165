"""Server-sent events of one upload."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest

from haulier.core.caller import LOCAL
from haulier.core.session import SessionStatus
from haulier.core.upload import BeginUpload
from haulier.core.values import replace
from haulier.engine.uploads import UploadState
from haulier.server.events import EventStream, upload_messages
from haulier.server.schemas import StateOut
from tests.support.service import MemoryService

DATA = b"x" * (256 * 1024 + 1)


def parse(text: str) -> list[tuple[str, Any]]:
    events = []
    for block in text.strip().split("\n\n"):
        if not block.startswith(":"):
            name, data = block.split("\n")
            events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


async def test_an_ended_upload_has_one_event_its_result(client: httpx2.AsyncClient) -> None:
    record = (await client.put("/api/files/a", content=b"hello")).json()
    state = (await client.get("/api/records")).json()["items"][0]
    assert state["id"] == record["id"]
    location = (await client.put("/api/files/b", content=b"hello")).headers["location"]
    response = await client.get(f"{location}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    ((name, data),) = parse(response.text)
    assert (name, data["status"], data["result"]["filename"]) == ("result", "committed", "b")


async def test_state_comes_first_and_the_result_last(client: httpx2.AsyncClient) -> None:
    body = {"filename": "a", "size": len(DATA), "chunk_size": 256 * 1024}
    upload = (await client.post("/api/uploads", json=body)).json()
    texts: list[str] = []

    async def listen() -> None:
        texts.append((await client.get(upload["links"]["events"])).text)

    async with asyncio.TaskGroup() as group:
        group.create_task(listen())
        await asyncio.sleep(0)
        await client.put(upload["links"]["chunks"] + "/0", content=DATA[: 256 * 1024])
        await client.put(upload["links"]["chunks"] + "/1", content=DATA[256 * 1024 :])
        await client.post(upload["links"]["finish"])
    events = parse(texts[0])
    assert events[0][0] in {"state", "result"}
    assert events[-1][0] == "result"
    assert events[-1][1]["result"]["size"] == len(DATA)


class Wire:
    """The ASGI side of a stream, with a client that stays until it is told to leave."""

    def __init__(self) -> None:
        self.text = ""
        self.ended = False
        self.left = asyncio.Event()
        self.changed = asyncio.Event()

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.text += message.get("body", b"").decode()
        self.ended = message["type"] == "http.response.body" and not message["more_body"]
        self.changed.set()

    async def wait_for(self, text: str) -> None:
        async with asyncio.timeout(60):
            while text not in self.text:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def state(service: MemoryService) -> UploadState:
    begun = await service.uploads.begin(BeginUpload(filename="a", size=1), caller=LOCAL)
    return await service.uploads.state(begun.upload.id, caller=LOCAL)


async def present(state: UploadState) -> StateOut:
    return StateOut.of(state, None)


async def never(_: float) -> None:
    await asyncio.Event().wait()


async def test_progress_is_told_between_changes_of_status(state: UploadState) -> None:
    finishing = replace(state, upload=replace(state.upload, status=SessionStatus.FINISHING))
    failed = replace(state, upload=replace(state.upload, status=SessionStatus.FAILED, error="why"))

    async def states() -> AsyncGenerator[UploadState, None]:
        for each in (state, finishing, finishing, failed):
            yield each

    wire = Wire()
    stream = EventStream(upload_messages(state, states(), present), sleep=never)
    await stream({}, wire.receive, wire.send)
    assert [name for name, _ in parse(wire.text)] == ["state", "progress", "state", "progress", "result"]
    assert parse(wire.text)[-1][1]["error"] == "why"
    assert wire.ended


async def test_a_silent_stream_is_kept_alive_by_comments_and_ends_when_its_client_leaves(
    state: UploadState,
) -> None:
    closed = asyncio.Event()
    naps: list[float] = []

    async def states() -> AsyncGenerator[UploadState, None]:
        try:
            await asyncio.Event().wait()
            yield state
        finally:
            closed.set()

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        await asyncio.sleep(0)

    wire = Wire()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(
            EventStream(upload_messages(state, states(), present), sleep=nap)({}, wire.receive, wire.send)
        )
        await wire.wait_for(": still here\n\n: still here\n\n")
        wire.left.set()
        await running
    assert naps[0] == 15.0
    assert closed.is_set()
    assert not wire.ended
