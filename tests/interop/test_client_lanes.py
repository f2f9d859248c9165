"""A photograph and its pictures on two lanes, from the client to the real service, over a network that fails as planned."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from haulier.client import Client, Progress, Record
from haulier.client.lanes import TwoLanes
from haulier.core.errors import (
    ImageUnusable,
    LaneFailed,
    LanesFailed,
    PeerRefused,
    PeerUnreachable,
    SourceChanged,
)
from haulier.core.retry import RetryPolicy
from tests.support import pictures
from tests.support.files import sha256
from tests.support.service import ORIGIN, MemoryService, with_server

ASSETS: Final = ["original", "display", "thumbnail", "placeholder"]
Way = Callable[[httpx2.Request, str | None], str | None]
"""What to do with a request, given the asset that it is about: pass it (None), refuse it, or lose it."""


class Road(httpx2.AsyncBaseTransport):
    """The way to the service; knows which asset each request is about."""

    def __init__(self, service: httpx2.AsyncBaseTransport) -> None:
        self._service = service
        self._assets: dict[str, str] = {}
        self.refused: set[tuple[str, str]] = set()
        """Method and asset of requests that are refused for good; `record` for the last call."""
        self.bodies: list[str] = []
        """The asset of each chunk that was sent."""
        self.first: Callable[[str, str], Any] | None = None
        """Awaited before each request."""
        self.finished: set[str] = set()
        self.changed = asyncio.Event()
        """Set when an asset has come to its end."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        content = await request.aread()
        upload = request.url.path.split("/")[3] if request.url.path.startswith("/api/uploads/") else None
        asset = self._assets.get(upload or "", "")
        if request.method == "POST" and request.url.path == "/api/uploads":
            asset = json.loads(content).get("asset", "")
        if request.method == "POST" and request.url.path == "/api/records":
            asset = "record"
        if self.first is not None:
            await self.first(request.method, asset)
        if (request.method, asset) in self.refused:
            problem = {"type": f"{ORIGIN}/errors/access-denied", "detail": f"not {asset}"}
            return httpx2.Response(403, json=problem, request=request)
        if request.method == "PUT":
            self.bodies.append(asset)
        response = await self._service.handle_async_request(
            httpx2.Request(request.method, request.url, headers=request.headers, content=content)
        )
        if request.url.path.endswith("/finish"):
            self.finished.add(asset)
            self.changed.set()
        if request.method == "POST" and request.url.path == "/api/uploads":
            answer = json.loads(await response.aread())
            self._assets[answer.get("id", "")] = asset
            return httpx2.Response(response.status_code, headers=response.headers, json=answer)
        return response

    async def wait_for(self, *assets: str) -> None:
        """Wait until these have come to their ends."""
        while not self.finished >= set(assets):
            self.changed.clear()
            await self.changed.wait()


class World:
    """A service, the way to it, and a photograph."""

    def __init__(self, folder: Path) -> None:
        self.service = MemoryService()
        self.road = Road(httpx2.ASGITransport(app=with_server(self.service.app(local_users=True))))
        self.home = folder / "home"
        self.photo = folder / "photo.jpg"
        self.photo.write_bytes(pictures.stored("jpg", pictures.picture(640, 480)))

    def client(self) -> Client:
        return Client(ORIGIN, home=self.home, retry=RetryPolicy(retries=1, base_s=0), transport=self.road)

    async def records(self, client: Client) -> list[Record]:
        return [record async for record in client.list()]

    @property
    def kept_keys(self) -> int:
        return len(list((self.home / "uploads").glob("*")))

    @property
    def used(self) -> int:
        capsule = self.service.database._rows.capsules["default"]
        return capsule.used + capsule.reserved

    def require_nothing_left(self) -> None:
        """Fail unless everything that arrived is freed."""
        disk = self.service.sink.disk
        assert (disk.parts, disk.blobs, self.used) == ({}, {}, 0)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    async with made.service.lifespan():
        yield made


def causes(failures: tuple[LaneFailed, ...]) -> dict[str, tuple[str, type[Exception]]]:
    return {str(failed.asset): (str(failed.lane), type(failed.cause)) for failed in failures}


async def require_whole(world: World, client: Client, record: Record) -> None:
    """Fail unless the record has all four assets, each of them its own bytes."""
    assert record == await client.record(record.id)
    assert [asset.kind for asset in record.assets] == ASSETS
    assert record.status == "completed"
    original = record.assets[0]
    assert record.digest == {"sha-256": sha256(world.photo)}
    assert (original.width, original.height, original.size) == (640, 480, world.photo.stat().st_size)
    assert [(asset.width, asset.height) for asset in record.assets[1:]] == [(640, 480), (512, 384), (32, 24)]
    assert record.assets[3].data_url is not None
    for asset in record.assets:
        target = world.home / f"{record.id}.{asset.kind}"
        await client.download(record.id, target, kind=asset.kind)
        assert asset.digest == {"sha-256": sha256(target)}


async def test_four_assets_arrive_as_one_record(world: World) -> None:
    async with world.client() as client:
        record = await client.upload(world.photo, path="rome/photo.jpg", derivatives="local")
        await require_whole(world, client, record)
        assert (record.path, record.filename) == ("rome/photo.jpg", "photo.jpg")
        assert sorted(world.road.bodies) == sorted(ASSETS)
        assert world.kept_keys == 0


async def test_both_lanes_tell_how_far_they_are(world: World) -> None:
    told: list[Progress] = []
    async with world.client() as client:
        record = await client.upload(world.photo, derivatives="local", progress=told.append)
    last = {progress.lane: progress for progress in told}
    assert set(last) == {"original", "derivatives"}
    assert last["original"].done == last["original"].size == record.assets[0].size
    assert last["derivatives"].done == sum(asset.size for asset in record.assets[1:])


@pytest.mark.parametrize("asset", ASSETS)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_each_asset_may_fail_alone_and_only_it_is_sent_again(
    world: World, asset: str, method: str
) -> None:
    world.road.refused.add((method, asset))
    lane = "original" if asset == "original" else "derivatives"
    async with world.client() as client:
        with pytest.raises(LanesFailed, match=f"{asset}: not {asset}") as failed:
            await client.upload(world.photo, derivatives="local")
        assert causes(failed.value.failures) == {asset: (lane, PeerRefused)}
        assert failed.value.record is None
        assert await world.records(client) == []
        assert sorted(world.road.bodies) == sorted(set(ASSETS) - {asset})
        world.road.refused.clear()
        world.road.bodies.clear()
        record = await client.upload(world.photo, derivatives="local")
        assert world.road.bodies == [asset]
        await require_whole(world, client, record)
        assert (len(await world.records(client)), world.kept_keys) == (1, 0)


async def test_lane_a_fails_after_lane_b_is_done(world: World) -> None:
    async with world.client() as client, client.lanes(world.photo) as lanes:

        async def last(_method: str, asset: str) -> None:
            if asset == "original":
                await world.road.wait_for(*ASSETS[1:])

        world.road.first = last
        world.road.refused.add(("PUT", "original"))
        assert causes(await lanes.run()) == {"original": ("original", PeerRefused)}
        world.road.refused.clear()
        assert await lanes.run() == ()
        assert world.road.bodies[3:] == ["original"]
        await require_whole(world, client, await lanes.finalise())


async def test_lane_b_fails_after_lane_a_is_done(world: World) -> None:
    async with world.client() as client, client.lanes(world.photo) as lanes:

        async def last(_method: str, asset: str) -> None:
            if asset in ASSETS[1:]:
                await world.road.wait_for("original")

        world.road.first = last
        world.road.refused |= {("POST", asset) for asset in ASSETS[1:]}
        assert causes(await lanes.run()) == dict.fromkeys(ASSETS[1:], ("derivatives", PeerRefused))
        assert world.road.bodies == ["original"]
        world.road.refused.clear()
        assert await lanes.run() == ()
        assert sorted(world.road.bodies[1:]) == sorted(ASSETS[1:])
        await require_whole(world, client, await lanes.finalise())


@pytest.mark.parametrize(
    "refused", [(), ("display",), ("original",), ("display", "thumbnail", "placeholder")]
)
async def test_giving_up_frees_everything(world: World, refused: tuple[str, ...]) -> None:
    world.road.refused |= {("PUT", asset) for asset in refused}
    async with world.client() as client:
        async with client.lanes(world.photo) as lanes:
            assert {failed.asset for failed in await lanes.run()} == set(refused)
            await lanes.abandon()
        world.require_nothing_left()
        assert (await world.records(client), world.kept_keys) == ([], 0)
        world.road.refused.clear()
        await require_whole(world, client, await client.upload(world.photo, derivatives="local"))


async def test_leaving_without_a_word_keeps_what_is_there(world: World) -> None:
    async with world.client() as client:
        async with client.lanes(world.photo) as lanes:
            await lanes.run()
        assert world.kept_keys == 4
        world.road.bodies.clear()
        await require_whole(world, client, await client.upload(world.photo, derivatives="local"))
        assert world.road.bodies == []


async def test_the_last_call_may_fail_and_be_repeated(world: World) -> None:
    world.road.refused.add(("POST", "record"))
    async with world.client() as client:
        with pytest.raises(PeerRefused):
            await client.upload(world.photo, derivatives="local")
        assert await world.records(client) == []
        world.road.refused.clear()
        world.road.bodies.clear()
        await require_whole(world, client, await client.upload(world.photo, derivatives="local"))
        assert world.road.bodies == []


async def test_a_record_whose_answer_was_lost_is_found_by_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TwoLanes.finalise

    async def lose(lanes: TwoLanes) -> Record:
        await real(lanes)
        raise PeerUnreachable(ORIGIN, "the answer was lost")

    async with world.client() as client:
        monkeypatch.setattr(TwoLanes, "finalise", lose)
        with pytest.raises(PeerUnreachable):
            await client.upload(world.photo, derivatives="local")
        monkeypatch.setattr(TwoLanes, "finalise", real)
        (made,) = await world.records(client)
        record = await client.upload(world.photo, derivatives="local")
        assert (record.id, world.kept_keys) == (made.id, 0)
        await require_whole(world, client, record)


async def test_a_cancel_keeps_what_is_there(world: World) -> None:
    async with world.client() as client:
        reached = asyncio.Event()

        async def stop(_method: str, asset: str) -> None:
            if asset == "record":
                reached.set()
                await asyncio.Event().wait()

        world.road.first = stop
        upload = asyncio.get_running_loop().create_task(client.upload(world.photo, derivatives="local"))
        await reached.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        world.road.first = None
        world.road.bodies.clear()
        await require_whole(world, client, await client.upload(world.photo, derivatives="local"))
        assert world.road.bodies == []


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("cut.jpg", pictures.stored("jpg", pictures.picture(600, 400))[:-900], "image-broken"),
        ("bomb.png", pictures.huge("png"), "image-too-large"),
        ("vector.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format-unsupported"),
    ],
)
async def test_an_image_without_pictures_is_stored_and_told(
    world: World, tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(data)
    async with world.client() as client:
        with pytest.raises(LanesFailed, match="the original is stored") as failed:
            await client.upload(tmp_path / name, derivatives="local")
        record = failed.value.record
        assert isinstance(record, Record)
        assert [asset.kind for asset in record.assets] == ["original"]
        assert record.status == "completed"
        assert causes(failed.value.failures) == dict.fromkeys(ASSETS[1:], ("derivatives", ImageUnusable))
        assert {failure.cause.slug for failure in failed.value.failures} == {reason}  # type: ignore[attr-defined]
        assert world.kept_keys == 0


async def test_a_photograph_that_changes_meanwhile_is_a_cause_in_its_lane(world: World) -> None:
    async with world.client() as client:
        changed = False

        async def change(_method: str, asset: str) -> None:
            nonlocal changed
            if asset == "original" and not changed:
                changed = True
                world.photo.write_bytes(pictures.stored("jpg", pictures.picture(64, 48)))

        world.road.first = change
        with pytest.raises(LanesFailed) as failed:
            await client.upload(world.photo, derivatives="local")
        assert causes(failed.value.failures)["original"] == ("original", SourceChanged)


async def test_what_is_no_image_goes_its_usual_way(world: World, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"text")
    async with world.client() as client:
        record = await client.upload(tmp_path / "a.txt", derivatives="local")
        assert [asset.kind for asset in record.assets] == ["original"]
        with pytest.raises(Exception, match="must be server, local or none"):
            await client.upload(tmp_path / "a.txt", derivatives="somebody")


async def test_a_key_of_ones_own_makes_the_call_repeatable(world: World) -> None:
    async with world.client() as client:
        first = await client.upload(world.photo, derivatives="local", key="k")
        again = await client.upload(world.photo, derivatives="local", key="k")
        assert (again.id, len(await world.records(client))) == (first.id, 1)
        assert not (world.home / "uploads").exists()


async def test_a_hundred_at_once_are_each_read_back_at_once(world: World, tmp_path: Path) -> None:
    photos = []
    for number in range(100):
        photo = tmp_path / f"photo{number}.jpg"
        photo.write_bytes(pictures.stored("jpg", pictures.picture(40 + number, 40)))
        photos.append(photo)

    async def send(client: Client, photo: Path) -> str:
        record = await client.upload(photo, derivatives="local")
        read = await client.record(record.id)
        assert read == record
        assert [asset.kind for asset in read.assets] == ASSETS
        assert read.digest == {"sha-256": sha256(photo)}
        assert record.id in {row.id for row in await world.records(client)}
        return record.id

    async with world.client() as client:
        found = await asyncio.gather(*(send(client, photo) for photo in photos))
    assert len(set(found)) == 100
