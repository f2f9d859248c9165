"""The client and the real service (rows and bytes in memory) over a network that fails as planned."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from haulier.client import Client, Record
from haulier.core.errors import PeerCorrupted, PeerRefused, PeerUnreachable, SourceChanged
from haulier.core.retry import RetryPolicy
from haulier.engine.planning import UploadLimits
from tests.support.faults import (
    Fault,
    FaultyTransport,
    answer,
    changed_answer,
    cut_answer,
    flip_byte,
    lose_answer,
    lose_request,
)
from tests.support.files import MIB, make_file, sha256
from tests.support.service import ORIGIN, MemoryService, with_server

CHUNK = 256 * 1024
FORCE_CHUNKS = {"why": "a file with metadata goes in chunks, however small"}
EAGER = RetryPolicy(retries=5, base_s=0)


class World:
    """A service, a way to it that fails, and files."""

    def __init__(self, folder: Path) -> None:
        self.service = MemoryService(limits=UploadLimits(chunk_size=CHUNK))
        self.way = FaultyTransport(httpx2.ASGITransport(app=with_server(self.service.app(local_users=True))))
        self.home = folder / "home"
        self.large = make_file(folder / "large.bin", 2 * MIB + 5, seed=1)
        self.small = make_file(folder / "small.bin", 1000, seed=2)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with Client(ORIGIN, home=self.home, retry=EAGER, transport=self.way) as client:
            yield client

    async def put(self, client: Client, path: Path, metadata: dict[str, str] | None = None) -> Record:
        record = await client.upload(path, metadata=metadata)
        assert record.digest == {"sha-256": sha256(path)}
        assert record.status == "completed"
        return record

    async def records(self, client: Client) -> list[Record]:
        return [record async for record in client.list()]

    @property
    def parts(self) -> list[Path]:
        return list(self.large.parent.glob(".haulier-*.part"))

    @property
    def kept_states(self) -> int:
        return len(list((self.home / "uploads").glob("*")))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    async with made.service.lifespan():
        yield made


PASSING = {
    "lost answer": lose_answer,
    "lost request": lose_request,
    "busy": answer(423, "upload-busy", Retry_After="0"),
    "restarting": answer(503, "storage-unavailable", Retry_After="0"),
    "bad gateway": answer(502, "none"),
    "too many": answer(429, "quota-exceeded"),
    "internal": answer(500, "internal-error"),
}
STEPS = ["POST /api/uploads$", "PUT .*/chunks/3$", "GET /api/uploads/", "POST .*/finish$"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
async def test_what_passes_is_outlived_at_every_step(world: World, step: str, fault: Fault) -> None:
    async with world.client() as client:
        world.way.plan(step, fault, fault)
        await world.put(client, world.large, FORCE_CHUNKS)
        assert len(await world.records(client)) == 1
    assert world.kept_states == 0


async def test_a_chunk_whose_answer_was_lost_is_not_sent_again(world: World) -> None:
    async with world.client() as client:
        world.way.plan("PUT .*/chunks/", lose_answer, lose_answer, lose_answer)
        await world.put(client, world.large, FORCE_CHUNKS)
    assert [world.way.count(f"PUT .*/chunks/{index}$") for index in range(9)] == [1] * 9


async def test_without_a_fault_the_state_is_asked_once(world: World) -> None:
    async with world.client() as client:
        await world.put(client, world.large, FORCE_CHUNKS)
    assert world.way.count("GET /api/uploads/") == 1


@pytest.mark.parametrize("slug", ["upload-gone", "upload-not-found"])
async def test_a_lost_session_is_begun_anew(world: World, slug: str) -> None:
    async with world.client() as client:
        world.way.plan("PUT .*/chunks/5", answer(410 if slug == "upload-gone" else 404, slug))
        await world.put(client, world.large, FORCE_CHUNKS)
    assert world.way.count("POST /api/uploads$") == 2


async def test_sessions_that_are_lost_again_and_again_are_an_error(world: World) -> None:
    async with world.client() as client:
        world.way.plan("PUT .*/chunks/5", *[answer(410, "upload-gone")] * 3)
        with pytest.raises(PeerRefused, match="upload-gone"):
            await world.put(client, world.large, FORCE_CHUNKS)


@pytest.mark.parametrize(
    ("status", "slug"), [(413, "quota-exceeded"), (507, "storage-full"), (403, "not-local")]
)
async def test_a_refusal_is_final_and_the_upload_can_go_on_later(
    world: World, status: int, slug: str
) -> None:
    async with world.client() as client:
        world.way.plan("PUT .*/chunks/5", answer(status, slug))
        with pytest.raises(PeerRefused) as refused:
            await world.put(client, world.large, FORCE_CHUNKS)
        assert (refused.value.status, refused.value.slug) == (status, slug)
        assert world.kept_states == 1
        before = world.way.count("PUT .*/chunks/")
        await world.put(client, world.large, FORCE_CHUNKS)
    assert world.way.count("POST /api/uploads$") == 2
    # The five that may have been under way at the refusal, and not those that were acknowledged.
    assert world.way.count("PUT .*/chunks/") - before <= 9 - before + 5


async def test_silence_for_ever_is_unreachable_and_the_upload_can_go_on_later(world: World) -> None:
    async with world.client() as client:
        world.way.plan(".*", *[lose_request] * (EAGER.retries + 1))
        with pytest.raises(PeerUnreachable):
            await world.put(client, world.large, FORCE_CHUNKS)
        await world.put(client, world.large, FORCE_CHUNKS)
        assert len(await world.records(client)) == 1


async def test_progress_renews_the_budget(world: World) -> None:
    async with world.client() as client:
        for index in range(9):
            world.way.plan(f"PUT .*/chunks/{index}$", *[lose_request] * 4)
        await world.put(client, world.large, FORCE_CHUNKS)


@pytest.mark.parametrize("pattern", ["PUT .*/chunks/3$", "PATCH"])
async def test_bytes_changed_on_their_way_are_never_kept(world: World, pattern: str) -> None:
    async with world.client() as client:
        world.way.plan(pattern, flip_byte)
        source = stream(b"some bytes") if pattern == "PATCH" else world.large
        with pytest.raises(PeerCorrupted):
            await client.upload(source, filename="changed", metadata=FORCE_CHUNKS)
        assert [record.status for record in await world.records(client)] != ["completed"]
        assert world.kept_states == 0
        await world.put(client, world.large, FORCE_CHUNKS)


async def test_a_chunk_that_conflicts_is_a_changed_file(world: World) -> None:
    async with world.client() as client:
        world.way.plan("PUT .*/chunks/3$", answer(409, "chunk-conflict"))
        with pytest.raises(SourceChanged):
            await world.put(client, world.large, FORCE_CHUNKS)
        assert world.way.count("DELETE /api/uploads/") == 1
        assert world.kept_states == 0


async def test_a_key_whose_record_was_deleted_since_is_not_used(world: World) -> None:
    async with world.client() as client:
        world.way.plan("POST .*/finish$", *[answer(507, "storage-full")])
        with pytest.raises(PeerRefused):
            await world.put(client, world.large, FORCE_CHUNKS)
        (upload,) = {line.split("/")[3] for line in world.way.sent if "/chunks/" in line}
        await world.way.handle_async_request(httpx2.Request("POST", f"{ORIGIN}/api/uploads/{upload}/finish"))
        (finished,) = await world.records(client)
        await client.delete(finished.id)
        record = await world.put(client, world.large, FORCE_CHUNKS)
        assert record.id != finished.id
        assert [kept.id for kept in await world.records(client)] == [record.id]


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
async def test_a_small_file_is_one_record_whatever_happens_to_its_answer(world: World, fault: Fault) -> None:
    async with world.client() as client:
        world.way.plan("PUT /api/files/", fault, fault)
        await world.put(client, world.small)
        assert len(await world.records(client)) == 1


async def test_a_small_file_changed_on_its_way_is_refused(world: World) -> None:
    async with world.client() as client:
        world.way.plan("PUT /api/files/", flip_byte)
        with pytest.raises(PeerCorrupted):
            await client.upload(world.small)
        assert all(record.status != "completed" for record in await world.records(client))


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize("step", ["POST /api/uploads$", "PATCH ", "HEAD ", "POST .*/finish$"])
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
async def test_a_stream_outlives_what_passes(world: World, step: str, fault: Fault) -> None:
    async with world.client() as client:
        if step == "HEAD ":
            world.way.plan("PATCH ", lose_answer)
        world.way.plan(step, fault, fault)
        record = await client.upload(stream(b"a" * MIB, b"b" * 9 * MIB), filename="stream.bin")
        assert record.size == 10 * MIB
        assert len(await world.records(client)) == 1


async def test_a_stream_that_fails_leaves_no_upload_behind(world: World) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a" * 9 * MIB
        raise OSError(5, "Input/output error")

    async with world.client() as client:
        with pytest.raises(OSError, match="Input/output"):
            await client.upload(broken(), filename="stream.bin")
    assert world.way.count("DELETE /api/uploads/") == 1


async def test_a_download_that_is_cut_goes_on_where_it_was(world: World, tmp_path: Path) -> None:
    async with world.client() as client:
        record = await world.put(client, world.large, FORCE_CHUNKS)
        world.way.plan("GET .*/assets/original", cut_answer(MIB), cut_answer(CHUNK))
        await client.download(record.id, tmp_path / "copy")
    assert sha256(tmp_path / "copy") == sha256(world.large)
    assert world.way.count("GET .*/assets/original") == 3


@pytest.mark.parametrize(
    "change", [lambda b: b[:-1] + b"!", lambda b: b + b"!"], ids=["other byte", "longer"]
)
async def test_a_download_of_wrong_bytes_is_never_published(
    world: World, tmp_path: Path, change: "object"
) -> None:
    assert callable(change)
    async with world.client() as client:
        record = await world.put(client, world.large, FORCE_CHUNKS)
        world.way.plan("GET .*/assets/original", changed_answer(change))
        with pytest.raises(PeerCorrupted):
            await client.download(record.id, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()
        await client.download(record.id, tmp_path / "copy")
    assert sha256(tmp_path / "copy") == sha256(world.large)
    assert world.parts == []


async def test_an_answer_that_is_not_ours_is_told_as_such(world: World) -> None:
    async with world.client() as client:
        record = await world.put(client, world.small)
        world.way.plan("GET /api/records/", changed_answer(lambda _: b"{}"))
        with pytest.raises(PeerRefused, match="unreadable-answer"):
            await client.record(record.id)


async def test_an_upload_is_watched_to_its_end(world: World) -> None:
    async with world.client() as client:
        record = await world.put(client, world.large, FORCE_CHUNKS)
        (upload,) = {line.split("/")[3] for line in world.way.sent if "/chunks/" in line}
        assert (await client.wait(upload, timeout_s=60)).result == record
        assert (await client.state(upload)).status == "committed"
        events = [state async for state in client.events(upload)]
        assert events[-1].result == record
