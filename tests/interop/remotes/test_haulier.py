"""Our own service as a remote: the promises of `Remote`, and what is special about it."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import httpx2
import pytest

from haulier.core.caller import Scope
from haulier.core.errors import PeerBlocked, PeerRefused, PeerUnreachable, SourceChanged
from haulier.core.outgoing import Held, Stored
from haulier.core.secret import Secret
from haulier.core.transfer import Obstacle
from haulier.core.values import replace
from haulier.remotes.haulier import HaulierRemote
from haulier.sending_ports import Remote
from haulier.testing import RemoteContract
from haulier.testing.remote_contract import Sources, delivery_of
from tests.interop.remotes.faults import NetworkFaults, deliver
from tests.interop.remotes.test_strange_answers import host, said
from tests.support.callers import make_token
from tests.support.fault_proxy import FaultProxy
from tests.support.files import MIB
from tests.support.processes import HAULIER, ServeProcess, environment, serving

CHUNK = 8 * MIB


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    # Through the proxy it is reached under another name.
    with serving(tmp_path_factory.mktemp("haulier") / "data", {"HAULIER_OPEN": "true"}) as running:
        yield running


@pytest.fixture
async def remote(service: ServeProcess) -> AsyncIterator[HaulierRemote]:
    made = HaulierRemote(service.url)
    yield made
    await made.close()


async def read_back(service: ServeProcess, stored: Stored) -> bytes:
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{service.url}/api/records/{stored.id}/assets/original")
    assert answer.status_code == 200
    return answer.content


class TestHaulierRemote(RemoteContract):
    SEVERAL_CHUNKS = 2 * CHUNK + 5
    FORBIDDEN = ("a\0b", "a//b", "../a", "x" * 256)

    @pytest.fixture
    def remote(self, remote: HaulierRemote) -> HaulierRemote:
        return remote

    @pytest.fixture(autouse=True)
    def _service(self, service: ServeProcess) -> None:
        self.service = service

    async def read_back(self, remote: Remote, stored: Stored) -> bytes:
        return await read_back(self.service, stored)


class TestFaults(NetworkFaults):
    SEVERAL_CHUNKS = 2 * CHUNK + 5
    CUT_AT = MIB
    WAITS_FOR_THE_DEAD = True

    @pytest.fixture
    async def proxy(self, service: ServeProcess) -> AsyncIterator[FaultProxy]:
        self.service = service
        async with FaultProxy(service.port) as made:
            yield made

    @pytest.fixture
    async def remote(self, proxy: FaultProxy) -> AsyncIterator[HaulierRemote]:
        made = HaulierRemote(proxy.url)
        yield made
        await made.close()

    async def read_back(self, remote: Remote, stored: Stored) -> bytes:
        return await read_back(self.service, stored)

    async def count(self, remote: Remote, stored: Stored) -> int | None:
        async with httpx2.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"{self.service.url}/api/records", params={"limit": "200"})
        return sum(item["digest"] == {"sha-256": stored.checksum.value} for item in answer.json()["items"])  # type: ignore[union-attr]


async def test_a_service_that_is_killed_and_comes_back_goes_on_with_what_it_acknowledged(
    tmp_path: Path, sources: Sources
) -> None:
    data = Random(31).randbytes(2 * CHUNK + 5)
    with serving(tmp_path / "data") as service:
        remote = HaulierRemote(service.url)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        await delivery.send(session, 0, CHUNK)
        service.kill()
        with pytest.raises(PeerUnreachable):
            await delivery.send(session, CHUNK, 2 * CHUNK)
        service.start()
        assert (await remote.offset(delivery.outgoing, session)).ranges.covers(0, CHUNK)
        stored = await deliver(delivery, session)
        assert await read_back(service, stored) == data
        await remote.close()


async def test_the_same_transfer_begun_again_finds_its_upload(
    remote: HaulierRemote, sources: Sources
) -> None:
    delivery = delivery_of(remote, sources, Random(32).randbytes(CHUNK + 1))
    first = await remote.create(delivery.outgoing)
    await delivery.send(first, 0, CHUNK)
    again = await remote.create(delivery.outgoing)
    assert again == first
    assert (await remote.offset(delivery.outgoing, again)).ranges.covers(0, CHUNK)


async def test_other_content_under_the_same_id_is_another_upload(
    remote: HaulierRemote, sources: Sources
) -> None:
    delivery = delivery_of(remote, sources, b"first")
    first = await remote.create(delivery.outgoing)
    changed = replace(delivery.outgoing, size=6)
    assert await remote.create(changed) != first


async def test_chunks_go_in_any_order_and_at_once(
    service: ServeProcess, remote: HaulierRemote, sources: Sources
) -> None:
    data = Random(33).randbytes(3 * CHUNK + 1)
    delivery = delivery_of(remote, sources, data)
    session = await remote.create(delivery.outgoing)
    async with asyncio.TaskGroup() as group:
        for start, stop in reversed(list(delivery.spans(session, Held()))):
            group.create_task(delivery.send(session, start, stop))
    assert await read_back(service, await delivery.finish(session)) == data


async def test_changed_bytes_of_a_chunk_that_is_held_are_told(
    remote: HaulierRemote, sources: Sources
) -> None:
    delivery = delivery_of(remote, sources, Random(34).randbytes(CHUNK))
    session = await remote.create(delivery.outgoing)
    await delivery.send(session, 0, CHUNK)
    with delivery.source.path.open("r+b") as file:
        file.write(b"other")
    with pytest.raises(SourceChanged, match="other bytes"):
        await delivery.send(session, 0, CHUNK)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServeProcess, Secret]]:
    data = tmp_path_factory.mktemp("guarded") / "data"
    token = make_token(data, "sender", Scope.OWNER).token
    with serving(data) as running:
        yield running, Secret(token)


class TestTokens:
    @pytest.mark.parametrize("token", [None, Secret("hl_wrong")], ids=["none", "a wrong one"])
    async def test_a_bad_token_blocks_until_somebody_signs_in(
        self, guarded: tuple[ServeProcess, Secret], sources: Sources, token: Secret | None
    ) -> None:
        remote = HaulierRemote(guarded[0].url, token=token)
        with pytest.raises(PeerBlocked) as told:
            await remote.probe()
        assert told.value.obstacle is Obstacle.AUTH
        with pytest.raises(PeerBlocked):
            await remote.create(delivery_of(remote, sources, b"x").outgoing)
        await remote.close()

    async def test_an_upload_outlives_the_token_that_began_it(
        self, guarded: tuple[ServeProcess, Secret], sources: Sources
    ) -> None:
        service, token = guarded
        data = Random(35).randbytes(CHUNK + 1)
        before = HaulierRemote(service.url, token=token)
        delivery = delivery_of(before, sources, data)
        session = await before.create(delivery.outgoing)
        await delivery.send(session, 0, CHUNK)
        await before.close()
        after = HaulierRemote(service.url, token=Secret("hl_expired"))
        delivery.remote = after
        stored = await delivery.finish(session)
        assert stored.checksum == delivery.checksum(session)
        await after.close()

    async def test_a_file_that_only_its_sender_sees_is_known_by_the_token_of_its_upload(
        self, guarded: tuple[ServeProcess, Secret], sources: Sources
    ) -> None:
        """Who sends on with the token of somebody else is not told that the file is not there: it is."""
        service, token = guarded
        before = HaulierRemote(service.url, token=token)
        delivery = delivery_of(before, sources, b"to be seen by its sender")
        session = await before.create(delivery.outgoing)
        stored = await delivery.make(session)
        await before.close()
        other = await asyncio.to_thread(make_token, service.data_dir, "another", Scope.OWNER)
        after = HaulierRemote(service.url, token=Secret(other.token))
        found = await after.verify(delivery.outgoing, session, stored)
        assert (found.id, found.size) == (stored.id, delivery.outgoing.size)
        assert found.checksum == delivery.checksum(session)
        await after.close()

    async def test_a_file_that_was_sent_elsewhere_waits_for_that_place(
        self, guarded: tuple[ServeProcess, Secret], service: ServeProcess, sources: Sources
    ) -> None:
        before = HaulierRemote(guarded[0].url, token=guarded[1])
        delivery = delivery_of(before, sources, b"sent before the remote was set up anew")
        session = await before.create(delivery.outgoing)
        stored = await delivery.make(session)
        await before.close()
        after = HaulierRemote(service.url)
        with pytest.raises(PeerBlocked, match="set up") as told:
            await after.verify(delivery.outgoing, session, stored)
        assert told.value.obstacle is Obstacle.CONFLICT
        await after.close()

    async def test_a_file_that_was_deleted_since_is_told_as_such(self, sources: Sources) -> None:
        state = json.dumps({"id": "u", "chunk_size": 8, "status": "committed", "result": None})

        told = said("200 OK", state, Content_Type="application/json")
        answers = {"POST": [told], "GET": [said("404 Not Found"), told]}
        async with host(lambda method, _: answers[method].pop(0)) as server:
            remote = HaulierRemote(server.url, token=Secret("hl_secret"))
            delivery = delivery_of(remote, sources, b"1")
            session = await remote.create(delivery.outgoing)
            with pytest.raises(PeerRefused, match="was stored as record r, and has been deleted since"):
                await remote.verify(delivery.outgoing, session, Stored(name="a", id="r", size=1))
            await remote.close()

    async def test_a_capsule_that_is_not_there_is_final(
        self, guarded: tuple[ServeProcess, Secret], sources: Sources
    ) -> None:
        remote = HaulierRemote(guarded[0].url, token=guarded[1], capsule="nowhere")
        with pytest.raises(PeerRefused, match="capsule-not-found"):
            await remote.create(delivery_of(remote, sources, b"x").outgoing)
        await remote.close()


def set_quota(service: ServeProcess, text: str) -> None:
    command = [
        str(HAULIER),
        "capsule",
        "set",
        "default",
        f"quota={text}",
        "--data-dir",
        str(service.data_dir),
    ]
    subprocess.run(command, check=True, capture_output=True, env=environment())


async def test_a_full_capsule_blocks_until_somebody_makes_room(
    service: ServeProcess, remote: HaulierRemote, sources: Sources
) -> None:
    delivery = delivery_of(remote, sources, b"more than one byte")
    await asyncio.to_thread(set_quota, service, "1")
    try:
        with pytest.raises(PeerBlocked) as told:
            await deliver(delivery)
        assert told.value.obstacle is Obstacle.QUOTA
    finally:
        await asyncio.to_thread(set_quota, service, "")
    assert (await deliver(delivery)).size == 18
