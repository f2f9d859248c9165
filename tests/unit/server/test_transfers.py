"""`/api/transfers`, and transfers on `/api/events`."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import pytest

from haulier.adapters.memory.transfer_queue import MemoryTransferQueueStore
from haulier.core.caller import Scope
from haulier.core.dispatch import Removed
from haulier.core.news import News
from haulier.core.transfer import Direction, Transfer, TransferId
from haulier.core.transfer_document import peer_document
from haulier.engine.send_watch import MAX_BEHIND
from haulier.ports import PeerTransfer
from haulier.sending_ports import JournalQuery
from haulier.server.events import Message, merged
from haulier.server.transfers import transfer_messages
from tests.support.engine import beside, until
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


async def test_a_wait_that_is_no_number_is_refused_by_its_name() -> None:
    service = MemoryService()
    async with service.client() as client:
        for wait in ("nan", "inf", "soon"):
            answer = await client.get("/api/transfers/any", params={"wait": wait})
            assert answer.status_code == 422
            assert [each["field"] for each in answer.json()["errors"]] == ["wait"]


class NodeOfTest:
    """A node beside the service, without a process."""

    def __init__(self) -> None:
        self.store = MemoryTransferQueueStore()
        self.wishes: list[tuple[str, str]] = []
        self.told = self.left = False
        """Whether all was told to who follows, and who followed has gone."""

    async def latest(self, limit: int, *, query: JournalQuery, below: int | None) -> Sequence[PeerTransfer]:
        return await self.store.latest(limit, query=query, below=below)

    async def places(self) -> Mapping[str, int]:
        return {"peer": 3}

    async def show(self, transfer: TransferId, *, wait_s: float) -> Mapping[str, Any] | None:
        kept = await self.store.find(transfer)
        return None if kept is None else peer_document(kept.transfer, kept.file)

    async def events(self) -> AsyncGenerator[News[Mapping[str, Any]] | None, None]:
        try:
            yield None
            for changed in (False, True):
                document = peer_document(of_peer("peer", 1.0).transfer, "Music\\a", place=3)
                yield News(document, changed=changed)
            self.told = True
            await asyncio.get_running_loop().create_future()
        finally:
            self.left = True

    async def act(self, transfer: TransferId, action: str) -> Mapping[str, Any] | None:
        self.wishes.append((transfer, action))
        return await self.show(transfer, wait_s=0.0)


def of_peer(name: str, queued_at: float) -> PeerTransfer:
    transfer = Transfer(
        id=TransferId(name), direction=Direction.UPLOAD, line="bob", size=5, queued_at=queued_at
    )
    return PeerTransfer(transfer=transfer, file="Music\\a")


async def test_pages_hold_the_nodes_transfers_among_the_own_ones_each_once() -> None:
    node = NodeOfTest()
    service = MemoryService(node=node)
    async with service.client() as client:
        own = []
        await node.store.save([of_peer("ancient", 1.0)])
        for number in range(3):
            own.append(await queued(service, f"own{number}"))
            at = (await service.transfers.list())[0][0].row.transfer.queued_at
            await node.store.save([of_peer(f"peer{number}", at)])
        newest_first = [*zip(reversed(own), ["peer2", "peer1", "peer0"], strict=True)]
        expected = [name for pair in newest_first for name in pair]
        for limit in (1, 2, 3, 7, 8):
            found: list[str] = []
            cursor: dict[str, str] = {}
            while True:
                page = (await client.get("/api/transfers", params={"limit": limit, **cursor})).json()
                found += [item["id"] for item in page["items"]]
                assert len(page["items"]) <= limit
                if page["next"] is None:
                    break
                cursor = {"cursor": page["next"]}
                if limit == 2 and len(found) == 2:
                    await node.store.save([of_peer("later", 10.0**10)])
            assert [name for name in found if name != "later"] == [*expected, "ancient"], limit
        of_bob = (await client.get("/api/transfers", params={"remote": "bob"})).json()["items"]
        assert {item["remote"] for item in of_bob} == {"bob"}
        assert (await client.get("/api/transfers", params={"cursor": "x"})).status_code == 422
        assert (await client.get("/api/transfers", params={"cursor": 19 * "9"})).status_code == 200


async def test_what_is_wanted_of_the_nodes_transfers_is_passed_on() -> None:
    node = NodeOfTest()
    await node.store.save([of_peer("peer", 1.0)])
    service = MemoryService(node=node)
    async with service.client() as client:
        [listed] = (await client.get("/api/transfers")).json()["items"]
        assert (listed["id"], listed["place"]) == ("peer", 3)
        shown = (await client.get("/api/transfers/peer", params={"wait": 1})).json()
        assert (shown["id"], shown["remote"], shown["direction"]) == ("peer", "bob", "upload")
        for wish, status in (("bump", 200), ("cancel", 200), ("retry", 201)):
            answer = await client.post(f"/api/transfers/peer/{wish}")
            assert (answer.status_code, answer.json()["id"]) == (status, "peer")
        assert node.wishes == [("peer", "bump"), ("peer", "cancel"), ("peer", "retry")]
        assert (await client.post("/api/transfers/none/bump")).status_code == 404


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

    async with service.client(), asyncio.timeout(60):
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


async def followed(service: MemoryService, headers: dict[str, str]) -> list[tuple[str, Any]]:
    """Return what a stream has told of transfers when there is nothing more to tell."""
    async with service.client(require_tokens=bool(headers)) as client, asyncio.timeout(60):
        following = beside(client.get("/api/events", headers=headers))
        await until(lambda: service.feed._readers)
        await settle()
        service.feed.stop()
        answer = await following
    assert answer.status_code == 200, answer.text
    events = [
        dict(line.split(": ", 1) for line in block.split("\n")) for block in answer.text.strip().split("\n\n")
    ]
    return [(it["event"], json.loads(it["data"])) for it in events if it["event"].startswith("transfer.")]


async def test_the_stream_of_events_tells_of_the_nodes_transfers_as_of_the_own_ones() -> None:
    node = NodeOfTest()
    first, *others = await followed(MemoryService(node=node), {})
    assert first == ("transfer.reset", {})
    assert [name for name, _ in others] == ["transfer.progress", "transfer.changed"]
    for _, transfer in others:
        assert (transfer["id"], transfer["remote"], transfer["place"]) == ("peer", "bob", 3)
    assert node.told
    assert node.left


async def test_who_is_no_operator_hears_nothing_of_the_nodes_transfers() -> None:
    node = NodeOfTest()
    service = MemoryService(node=node, opened=False)
    made = await service.accounts.create_token("user:ann", scope=Scope.OWNER)
    headers = {"Authorization": f"Bearer {made.secret.reveal()}"}
    assert await followed(service, headers) == []
    assert not node.told


async def test_an_id_that_json_has_to_escape_arrives_as_it_is() -> None:
    service = MemoryService()
    async with service.client(), asyncio.timeout(60):
        messages = transfer_messages(service.transfers)
        first = beside(anext(messages))
        await settle()
        service.transfers.changed(Removed(id=TransferId('a"\\b'), removed_at=1.0))
        message = await first
        assert (message.name, json.loads(message.data)) == ("transfer.removed", {"id": 'a"\\b'})
        await messages.aclose()


async def test_progress_reads_no_journal_however_many_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    service = MemoryService()
    gate = service.remote.gate("send")
    async with service.client(), asyncio.timeout(60):
        name = await queued(service, "a")
        await gate.wait_reached()
        await settle()
        followers = [transfer_messages(service.transfers) for _ in range(50)]
        waiting = [beside(anext(each)) for each in followers]
        await settle()
        view = await service.transfers.get(name)
        assert view is not None

        async def fail(*_: object) -> None:
            raise AssertionError("it was read")

        with monkeypatch.context() as patched:
            patched.setattr(service.transfers._journal, "read", fail)
            service.transfers.progressed(view.row)
            messages = [await each for each in waiting]
        assert {message.name for message in messages} == {"transfer.progress"}
        assert {json.loads(message.data)["id"] for message in messages} == {name}
        for each in followers:
            await each.aclose()
        gate.open()
        await service.transfers.wait(name)


async def test_a_reader_that_lagged_is_shown_what_has_not_ended() -> None:
    service = MemoryService()
    gate = service.remote.gate("create")
    async with service.client(), asyncio.timeout(60):
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
