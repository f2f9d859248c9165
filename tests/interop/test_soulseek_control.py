"""The control API of a node over a real connection: what it refuses, what it lists, what it tells, what outlives a full disk."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from haulier.adapters.node_beside import NodeOfDirectory
from haulier.cli.soulseek_node import running
from haulier.core.errors import StorageUnavailable
from haulier.core.news import News
from haulier.core.values import replace
from haulier.ports import PeerTransfer
from haulier.sharing import ControlSettings, controlled
from haulier.soulseek import control
from haulier.soulseek.node import Node
from tests.support.ports import free_port
from tests.support.soulseek import (
    DEADLINE_S,
    Network,
    eventually,
    make_file,
    network,
    sha256_of,
    slow_lane,
)

pytestmark = pytest.mark.slow

FILES = 5


class Scene:
    """Alice, who shares files and uploads them slowly; bob, who is controlled."""

    def __init__(self, net: Network, alice: Node, bob: Node, folder: Path) -> None:
        self.net = net
        self.alice = alice
        self.bob = bob
        self.folder = folder

    @asynccontextmanager
    async def controlled(self, node: Node) -> AsyncIterator[httpx2.AsyncClient]:
        """Control a node."""
        where = self.directory(node)
        async with controlled(node, ControlSettings(), where):
            url = json.loads((where / "control.json").read_text())["url"]
            token = (where / "control.token").read_text().strip()
            headers = {"Authorization": f"Bearer {token}"}
            async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=DEADLINE_S) as client:
                yield client

    def directory(self, node: Node) -> Path:
        where = self.folder / f"node-{node.settings.identity.user}"
        where.mkdir(exist_ok=True)
        return where

    def wanted(self, number: int, user: str = "alice") -> dict[str, str]:
        """What bob's download of a file is asked for with."""
        return {"user": user, "file": f"Music\\{number}", "target": str(self.folder / f"got{number}")}

    async def slow(self) -> Node:
        """Carol, who shares the same and comes to no end."""
        rules = replace(slow_lane(2_000), slots=1)
        return await self.net.node("carol", self.folder / "Music", rules=rules)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    for number in range(FILES):
        make_file(tmp_path / "Music" / f"{number}", 300_000, seed=number)
    async with network(tmp_path) as net:
        rules = replace(slow_lane(10_000_000), slots=1)
        alice = await net.node("alice", tmp_path / "Music", rules=rules)
        yield Scene(net, alice, await net.node("bob"), tmp_path)


class FullDisk:
    """Lets a node's store keep nothing until there is room."""

    def __init__(self, node: Node, patch: pytest.MonkeyPatch) -> None:
        self._full = True
        store = node.ledger._store
        save = store.save

        async def unlucky(transfers: Sequence[PeerTransfer]) -> None:
            if self._full:
                raise StorageUnavailable("database or disk is full")
            await save(transfers)

        patch.setattr(store, "save", unlucky)

    def make_room(self) -> None:
        self._full = False


def wanting(size: str) -> bytes:
    """Return what asks for a download of a file that has such a size."""
    return b'{"user":"alice","file":"a","target":"/a","size":' + size.encode() + b"}"


class TestRefusals:
    @pytest.mark.parametrize(
        ("method", "path", "body", "status", "slug"),
        [
            ("GET", "/nowhere", b"", 404, "route-not-found"),
            ("GET", "/transfers/none/bump/more", b"", 404, "route-not-found"),
            ("GET", "/transfers/none", b"", 404, "transfer-not-found"),
            ("POST", "/transfers/none/cancel", b"", 404, "transfer-not-found"),
            ("DELETE", "/downloads", b"", 405, "method-not-allowed"),
            ("POST", "/downloads", b"[" * 60_000, 422, "invalid-request"),
            ("POST", "/downloads", b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 422, "invalid-request"),
            ("POST", "/downloads", b"[]", 422, "invalid-request"),
            ("POST", "/downloads", b"\xff", 422, "invalid-request"),
            (
                "POST",
                "/downloads",
                b'{"user":"alice","file":"a","target":"/a\\ud800"}',
                422,
                "invalid-request",
            ),
            ("POST", "/downloads", wanting(str(2**63)), 422, "invalid-request"),
            ("POST", "/downloads", wanting("-1"), 422, "invalid-request"),
            ("POST", "/downloads", wanting('"5"'), 422, "invalid-request"),
            ("POST", "/downloads", wanting("true"), 422, "invalid-request"),
            ("POST", "/downloads", b" " * (64 * 1024 + 1), 422, "invalid-request"),
            ("GET", "/transfers/none?wait=soon", b"", 404, "transfer-not-found"),
            ("GET", "/search?words=a&wait=inf", b"", 422, "invalid-request"),
            ("GET", "/search?words=a&wait=nan", b"", 422, "invalid-request"),
        ],
    )
    async def test_each_is_a_problem_that_says_which(
        self, scene: Scene, method: str, path: str, body: bytes, status: int, slug: str
    ) -> None:
        async with scene.controlled(scene.bob) as client:
            answer = await client.request(method, path, content=body)
            assert answer.headers["content-type"] == "application/problem+json"
            problem = answer.json()
            assert (answer.status_code, problem["status"], problem["type"]) == (
                status,
                status,
                f"/errors/{slug}",
            )
            assert problem["detail"]
        assert scene.bob.downloads.live == []


async def test_lists_hold_so_many_and_say_how_many_more_there_are(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "LISTED", 2)
    slow = await scene.slow()
    async with scene.controlled(scene.bob) as bob, scene.controlled(slow) as carol:
        for number in range(FILES):
            assert (await bob.post("/downloads", json=scene.wanted(number, "carol"))).status_code == 201
        await eventually(lambda: len(slow.uploads.live) == FILES, "all wait at carol's")
        for client, path in ((bob, "/downloads"), (bob, "/transfers"), (carol, "/uploads")):
            listed = (await client.get(path)).json()
            live = [it for it in listed["items"] if it["outcome"] is None]
            assert (len(live), listed["left_out"]) == (2, FILES - 2), path
            assert listed["total"] == len(listed["items"]) + FILES - 2
            assert listed["next"] is None
        assert (await carol.get("/downloads")).json() == {
            "items": [], "next": None, "total": 0, "left_out": 0,
        }  # fmt: skip


class TestOnAFullDisk:
    async def test_what_cannot_be_written_down_is_refused_and_not_begun(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk = FullDisk(scene.bob, monkeypatch)
        async with scene.controlled(scene.bob) as bob:
            refused = await bob.post("/downloads", json=scene.wanted(0))
            assert (refused.status_code, refused.json()["type"]) == (503, "/errors/storage-unavailable")
            assert scene.bob.downloads.live == []
            for path in ("/downloads", "/transfers", "/uploads"):
                listed = await bob.get(path)
                assert (listed.status_code, listed.json()["items"]) == (200, [])
            assert scene.alice.uploads.live == []
            disk.make_room()
            begun = await asyncio.gather(*(bob.post("/downloads", json=scene.wanted(0)) for _ in range(2)))
            [one, same] = [answer.json() for answer in begun]
            assert one["id"] == same["id"]
            ended = (await bob.get(f"/transfers/{one['id']}?wait=60")).json()
            assert ended["outcome"] == "succeeded"
            [listed] = (await bob.get("/downloads")).json()["items"]
            assert listed["id"] == one["id"]
        assert sha256_of(scene.folder / "got0") == sha256_of(scene.folder / "Music" / "0")

    async def test_what_runs_goes_on_and_is_shown_as_it_is(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with scene.controlled(scene.bob) as bob:
            begun = (await bob.post("/downloads", json=scene.wanted(0))).json()
            disk = FullDisk(scene.bob, monkeypatch)
            ended = (await bob.get(f"/transfers/{begun['id']}?wait=60")).json()
            assert ended["outcome"] == "succeeded"
            assert [it["outcome"] for it in (await bob.get("/downloads")).json()["items"]] == ["succeeded"]
            disk.make_room()

    async def test_a_retry_that_cannot_be_written_down_is_not_begun_either(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with scene.controlled(scene.bob) as bob:
            begun = (await bob.post("/downloads", json={**scene.wanted(0), "file": "Music\\none"})).json()
            ended = (await bob.get(f"/transfers/{begun['id']}?wait=60")).json()
            assert ended["outcome"] == "rejected"
            await scene.bob.ledger.flush()
            disk = FullDisk(scene.bob, monkeypatch)
            assert (await bob.post(f"/transfers/{begun['id']}/retry")).status_code == 503
            assert scene.bob.downloads.live == []
            disk.make_room()


class TestEvents:
    async def test_each_change_is_told_as_it_is_kept(self, scene: Scene) -> None:
        async with (
            scene.controlled(scene.bob) as bob,
            scene.controlled(scene.alice) as alice,
            bob.stream("GET", "/events") as of_bob,
            alice.stream("GET", "/events") as of_alice,
        ):
            assert of_bob.headers["content-type"] == "application/x-ndjson"
            downs, ups = of_bob.aiter_lines(), of_alice.aiter_lines()
            ready = {"event": "ready", "transfer": None}
            assert (json.loads(await anext(downs)), json.loads(await anext(ups))) == (ready, ready)
            begun = (await bob.post("/downloads", json=scene.wanted(0))).json()
            down = await _told(downs, lambda it: it["outcome"] is not None)
            up = await _told(ups, lambda it: it["outcome"] is not None)
            assert {it["id"] for it in down} == {begun["id"]}
            assert (down[0]["phase"], down[-1]["outcome"]) == ("queued", "succeeded")
            assert (up[-1]["remote"], up[-1]["label"]) == ("bob", "Completed, Succeeded")
            assert (await bob.get(f"/transfers/{begun['id']}")).json() == down[-1]

    async def test_one_that_waits_is_told_with_its_place(self, scene: Scene) -> None:
        slow = await scene.slow()
        async with scene.controlled(slow) as carol, carol.stream("GET", "/events") as stream:
            lines = stream.aiter_lines()
            for number in range(FILES):
                await scene.bob.downloads.fetch("carol", f"Music\\{number}", scene.folder / f"got{number}")
            found = await _told(lines, lambda it: (it["place"] or 0) > 1)
            assert found[-1]["phase"] == "queued"

    async def test_so_many_follow_and_no_more(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(control, "FOLLOWERS", 1)
        async with scene.controlled(scene.bob) as bob, AsyncExitStack() as stack:
            first = await stack.enter_async_context(bob.stream("GET", "/events"))
            assert json.loads(await anext(first.aiter_lines()))["event"] == "ready"
            refused = await bob.get("/events")
            assert (refused.status_code, refused.json()["type"]) == (503, "/errors/queue-full")
            await stack.aclose()
            await eventually(lambda: not scene.bob.ledger.followers, "who has hung up is forgotten")

    async def test_silence_is_told_too(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(control, "BEAT_S", 0.05)
        async with scene.controlled(scene.bob) as bob, bob.stream("GET", "/events") as stream:
            lines = stream.aiter_lines()
            names = [json.loads(await anext(lines))["event"] for _ in range(3)]
            assert names == ["ready", "beat", "beat"]

    async def test_neither_they_nor_other_long_answers_keep_a_node_from_ending(self, scene: Scene) -> None:
        async with AsyncExitStack() as stack:
            bob = await stack.enter_async_context(scene.controlled(scene.bob))
            begun = (await bob.post("/downloads", json={**scene.wanted(0), "user": "nobody"})).json()
            events = asyncio.get_running_loop().create_task(_read(bob, "/events"))
            search = asyncio.get_running_loop().create_task(_read(bob, "/search?words=nothing&wait=300"))
            wait = asyncio.get_running_loop().create_task(_read(bob, f"/transfers/{begun['id']}?wait=60"))
            await eventually(
                lambda: bool(scene.bob.ledger.followers and scene.bob.inquiries.searches),
                "both are under way",
            )
            async with asyncio.timeout(DEADLINE_S):
                await stack.aclose()
                assert "ready" in await events
                await search
                assert json.loads(await wait)["type"] == "/errors/service-stopping"


async def _read(client: httpx2.AsyncClient, path: str) -> str:
    """Read until it ends, or is cut, over a connection that nobody closes here."""
    text = ""
    try:
        async with (
            httpx2.AsyncClient(base_url=client.base_url, headers=client.headers, timeout=400) as own,
            own.stream("GET", path) as answer,
        ):
            async for piece in answer.aiter_text():
                text += piece
    except httpx2.TransportError:
        pass
    return text


async def _told(lines: AsyncIterator[str], enough: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Return the transfers that a stream tells of until one is enough."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(DEADLINE_S):
        async for line in lines:
            told = json.loads(line)
            if told["event"] in {"changed", "progress"}:
                found.append(told["transfer"])
                if enough(found[-1]):
                    break
    return found


class TestAServiceBeside:
    """What `haulier serve` on the node's data directory hears."""

    async def test_it_hears_changes_while_the_node_runs_and_is_told_to_look_when_that_begins_and_ends(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("haulier.adapters.node_news.LOOK_S", 0.05)
        beside = NodeOfDirectory(scene.directory(scene.bob))
        heard: list[News[Any] | None] = []

        async def listen() -> None:
            async for news in beside.events():
                heard.append(news)  # noqa: PERF401 - looked at while it grows

        listening = asyncio.get_running_loop().create_task(listen())
        try:
            for _ in range(2):
                heard.clear()
                async with scene.controlled(scene.bob) as bob:
                    await eventually(lambda: heard == [None], "it is told to look anew")
                    begun = (await bob.post("/downloads", json=scene.wanted(0))).json()
                    await eventually(lambda: _ended(heard), "the end is told")
                    documents = [it.value for it in heard if it is not None]
                    assert {it["id"] for it in documents} == {begun["id"]}
                    (scene.folder / "got0").unlink(missing_ok=True)
                await eventually(lambda: heard[-1] is None, "it is told to look anew")
        finally:
            await beside.close()
            async with asyncio.timeout(DEADLINE_S):
                await listening

    async def test_the_node_is_asked_once_for_all_and_not_at_all_when_nobody_listens(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("haulier.adapters.node_news.LOOK_S", 0.05)
        beside = NodeOfDirectory(scene.directory(scene.bob))
        async with scene.controlled(scene.bob):
            assert len(scene.bob.ledger.followers) == 0
            first, second = beside.events(), beside.events()
            async with asyncio.timeout(DEADLINE_S):
                assert await anext(first) is None
                waiting = asyncio.get_running_loop().create_task(anext(second))
                await scene.bob.downloads.fetch("alice", "Music\\0", scene.folder / "got0")
                assert await anext(first) is not None
                assert await waiting is not None
            assert len(scene.bob.ledger.followers) == 1
            await first.aclose()
            assert len(scene.bob.ledger.followers) == 1
            await second.aclose()
            await eventually(lambda: not scene.bob.ledger.followers, "nobody follows any more")
        await beside.close()


def _ended(heard: list[News[Any] | None]) -> bool:
    return any(news is not None and news.value["outcome"] is not None for news in heard)


async def test_no_proxy_is_told_the_token(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with scene.controlled(scene.bob):
        node = running(scene.directory(scene.bob), None, None)
        assert node is not None
        assert (await node.get("/status"))["user"] == "bob"
        assert [line async for line in node.lines("/search", {"words": "nothing", "wait": "0"})] == []
