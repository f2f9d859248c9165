"""tus servers of three makers as remotes: the promises of `Remote`, and what is special about tus."""

import json
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import httpx2
import pytest

from haulier.core.errors import PeerBlocked, PeerBusy, PeerRefused, PeerUnreachable, RemoteSessionLost
from haulier.core.outgoing import Held, Stored
from haulier.core.ranges import Ranges
from haulier.core.secret import Secret
from haulier.core.transfer import Obstacle
from haulier.remotes.tus import TusRemote
from haulier.sending_ports import Remote
from haulier.testing import RemoteContract
from haulier.testing.remote_contract import Sources, delivery_of
from tests.interop.remotes.faults import NetworkFaults, deliver
from tests.interop.remotes.servers import Server, answers, running
from tests.support.components import require
from tests.support.fault_plan import Drop, Flow, Plan
from tests.support.fault_proxy import FaultProxy
from tests.support.fleet import BEHIND_A_PROXY
from tests.support.ports import free_port
from tests.support.processes import ServeProcess, serving

MIB = 1024 * 1024
CHUNK = 8 * MIB
NODE = Path(__file__).parents[1] / "node"
TUSPYSERVER = """
import sys
import uvicorn
from fastapi import FastAPI
from tuspyserver import create_tus_router
app = FastAPI()
app.include_router(create_tus_router(prefix="files", files_dir=sys.argv[1]))
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
"""


def node_server(folder: Path) -> tuple[Server, str]:
    port = free_port()
    if not (NODE / "node_modules").is_dir():
        require("npm packages of tests/interop/node")
    command = [require("node"), str(NODE / "server.js"), str(folder / "files"), str(port)]
    url = f"http://127.0.0.1:{port}/files"
    return Server(command, folder, ready=answers(f"http://127.0.0.1:{port}/")), url


def python_server(folder: Path) -> tuple[Server, str]:
    port = free_port()
    command = [sys.executable, "-c", TUSPYSERVER, str(folder / "files"), str(port)]
    return Server(
        command, folder, ready=answers(f"http://127.0.0.1:{port}/")
    ), f"http://127.0.0.1:{port}/files/"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    server, url = node_server(tmp_path_factory.mktemp("node"))
    with running(server):
        yield server, url


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    server, url = python_server(tmp_path_factory.mktemp("python"))
    with running(server):
        yield server, url


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    with serving(tmp_path_factory.mktemp("haulier") / "data", BEHIND_A_PROXY) as made:
        yield made


def read_file(server: Server, stored: Stored) -> bytes:
    """Return what a foreign server has on its disk: one knows no GET, another fails for names that are not Latin."""
    return (server.folder / "files" / str(stored.id).rsplit("/", 1)[-1]).read_bytes()


async def fetch(url: str) -> bytes:
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.get(url)
    assert answer.status_code == 200
    return answer.content


class _Tus(RemoteContract):
    SEVERAL_CHUNKS = 2 * CHUNK + 5
    FORBIDDEN = ("a\0b", "a//b", "../a", "x" * 4097)

    @pytest.fixture
    async def remote(self, url: str) -> AsyncIterator[TusRemote]:
        made = TusRemote(url)
        yield made
        await made.close()

    async def read_back(self, remote: Remote, stored: Stored) -> bytes:
        return await fetch(str(stored.id))


class TestOurs(_Tus):
    @pytest.fixture
    def url(self, service: ServeProcess) -> str:
        return f"{service.url}/tus/"


class TestOursInParts(TestOurs):
    @pytest.fixture
    async def remote(self, url: str) -> AsyncIterator[TusRemote]:
        made = TusRemote(url, parallel=3)
        yield made
        await made.close()


class TestNode(_Tus):
    @pytest.fixture
    def url(self, node: tuple[Server, str]) -> str:
        self.server = node[0]
        return node[1]

    async def read_back(self, remote: Remote, stored: Stored) -> bytes:
        return read_file(self.server, stored)


class TestPython(_Tus):
    @pytest.fixture
    def url(self, python: tuple[Server, str]) -> str:
        self.server = python[0]
        return python[1]

    async def read_back(self, remote: Remote, stored: Stored) -> bytes:
        return read_file(self.server, stored)


class _Faults(NetworkFaults):
    SEVERAL_CHUNKS = 2 * CHUNK + 5
    CUT_AT = MIB

    async def read_back(self, remote: Remote, stored: Stored) -> bytes:
        return await fetch(str(stored.id))


class TestFaultsOfOurs(_Faults):
    @pytest.fixture
    async def proxy(self, service: ServeProcess) -> AsyncIterator[FaultProxy]:
        async with FaultProxy(service.port) as made:
            yield made

    @pytest.fixture
    async def remote(self, proxy: FaultProxy) -> AsyncIterator[TusRemote]:
        made = TusRemote(f"{proxy.url}/tus/")
        yield made
        await made.close()


class TestFaultsOfNode(_Faults):
    @pytest.fixture
    async def proxy(self, node: tuple[Server, str]) -> AsyncIterator[FaultProxy]:
        async with FaultProxy(httpx2.URL(node[1]).port or 0) as made:
            yield made

    @pytest.fixture
    async def remote(self, proxy: FaultProxy) -> AsyncIterator[TusRemote]:
        made = TusRemote(f"{proxy.url}/files")
        yield made
        await made.close()


class TestParts:
    """Files of parts that the server puts together."""

    async def test_their_file_has_its_address_before_the_first_byte_where_that_can_be(
        self, service: ServeProcess, sources: Sources
    ) -> None:
        data = Random(61).randbytes(2 * CHUNK + 5)
        remote = TusRemote(f"{service.url}/tus/", parallel=3)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        assert session.commits_itself
        assert len(json.loads(session.state.reveal())["parts"]) == 3
        # In any order.
        await delivery.send(session, 2 * CHUNK, 2 * CHUNK + 5)
        await delivery.send(session, 0, CHUNK)
        held = await remote.offset(delivery.outgoing, session)
        assert held == Held(ranges=Ranges.of([(0, CHUNK), (2 * CHUNK, 2 * CHUNK + 5)]))
        await delivery.send(session, CHUNK, 2 * CHUNK)
        stored = await remote.commit(delivery.outgoing, session, None)
        assert stored.id == json.loads(session.state.reveal())["final"]
        # A repetition finds it, and makes no second one.
        assert await remote.commit(delivery.outgoing, session, None) == stored
        assert (await remote.offset(delivery.outgoing, session)).stored == stored
        assert await fetch(str(stored.id)) == data
        await remote.close()

    async def test_a_part_that_was_cut_goes_on_where_it_was(
        self, python: tuple[Server, str], sources: Sources
    ) -> None:
        server, url = python
        data = Random(62).randbytes(2 * CHUNK + 5)
        async with FaultProxy(httpx2.URL(url).port or 0) as proxy:
            remote = TusRemote(f"{proxy.url}/files/", parallel=3)
            delivery = delivery_of(remote, sources, data)
            session = await remote.create(delivery.outgoing)
            assert not session.commits_itself
            await proxy.drop(Drop.RST)
            proxy.default = Plan(up=Flow(drop=Drop.FIN, after=4 * MIB))
            with pytest.raises((PeerUnreachable, PeerBusy)):
                await delivery.send(session, 0, CHUNK)
            proxy.default = Plan()
            stored = await deliver(delivery, session)
            await remote.close()
        assert read_file(server, stored) == data

    async def test_a_server_without_them_gets_its_chunks_in_order(
        self, node: tuple[Server, str], sources: Sources
    ) -> None:
        remote = TusRemote(node[1], parallel=3)
        delivery = delivery_of(remote, sources, Random(63).randbytes(2 * CHUNK + 5))
        session = await remote.create(delivery.outgoing)
        assert session.chunk_size is None
        await remote.cancel(delivery.outgoing, session)
        await remote.close()

    async def test_a_part_that_is_gone_is_begun_anew(self, service: ServeProcess, sources: Sources) -> None:
        data = Random(64).randbytes(2 * CHUNK)
        remote = TusRemote(f"{service.url}/tus/", parallel=2)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        async with httpx2.AsyncClient(trust_env=False) as http:
            part = json.loads(session.state.reveal())["parts"][0]
            assert (await http.delete(part, headers={"Tus-Resumable": "1.0.0"})).status_code == 204
        with pytest.raises(RemoteSessionLost):
            await remote.offset(delivery.outgoing, session)
        assert await fetch(str((await deliver(delivery, session)).id)) == data
        await remote.close()


@pytest.mark.parametrize("maker", ["ours", "node", "python"])
async def test_a_small_file_goes_with_the_creation_of_its_upload(
    maker: str, request: pytest.FixtureRequest, sources: Sources
) -> None:
    data = Random(65).randbytes(100_000)
    place = request.getfixturevalue("service" if maker == "ours" else maker)
    port = int(place.port if maker == "ours" else httpx2.URL(place[1]).port or 0)
    path = {"ours": "/tus/", "node": "/files", "python": "/files/"}[maker]
    async with FaultProxy(port) as proxy:
        remote = TusRemote(f"{proxy.url}{path}", one_request=True)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        before = proxy.passed_up
        stored = await delivery.send(session, 0, len(data))
        assert stored is not None
        assert proxy.passed_up - before < len(data) + 2000  # one request, and perhaps a question
        found = await fetch(str(stored.id)) if maker == "ours" else read_file(place[0], stored)
        await remote.close()
    assert found == data


@pytest.mark.parametrize("maker", ["ours", "node", "python"])
async def test_an_empty_file_is_none_before_its_end_is_told(
    maker: str, request: pytest.FixtureRequest, sources: Sources
) -> None:
    """Else who dies before its address is written down leaves a file, and sends a second one."""
    place = request.getfixturevalue("service" if maker == "ours" else maker)
    remote = TusRemote(f"{place.url}/tus/" if maker == "ours" else place[1])
    delivery = delivery_of(remote, sources, b"")
    session = await remote.create(delivery.outgoing)
    url = json.loads(session.state.reveal())["url"]
    async with httpx2.AsyncClient(trust_env=False, headers={"Tus-Resumable": "1.0.0"}) as http:
        before = (await http.head(url)).headers
        assert ("Upload-Length" in before, before["Upload-Defer-Length"]) == (False, "1")
        stored = await remote.commit(delivery.outgoing, session, None)
        assert stored == Stored(name=delivery.outgoing.name, id=url, size=0)
        after = (await http.head(url)).headers
        assert (after["Upload-Length"], after["Upload-Offset"]) == ("0", "0")
        assert "Upload-Defer-Length" not in after
    # A repetition finds it.
    assert await remote.commit(delivery.outgoing, session, None) == stored
    await remote.close()


@contextmanager
def made_by(maker: str, folder: Path) -> Iterator[tuple[Server, str]]:
    server, url = {"node": node_server, "python": python_server}[maker](folder)
    with running(server):
        yield server, url


@pytest.mark.parametrize("maker", ["node", "python"])
async def test_a_server_that_is_killed_and_comes_back_goes_on_where_it_was(
    maker: str, tmp_path: Path, sources: Sources
) -> None:
    data = Random(51).randbytes(2 * CHUNK + 5)
    with made_by(maker, tmp_path) as (server, url):
        remote = TusRemote(url)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        await delivery.send(session, 0, CHUNK)
        server.kill()
        with pytest.raises((PeerUnreachable, PeerBusy)):
            await delivery.send(session, CHUNK, 2 * CHUNK)
        server.start()
        assert (await remote.offset(delivery.outgoing, session)).ranges.prefix == CHUNK
        assert read_file(server, await deliver(delivery, session)) == data
        await remote.close()


async def test_a_chunk_that_was_damaged_on_its_way_is_sent_again(
    service: ServeProcess, sources: Sources
) -> None:
    """Our server offers checksums; so a chunk that differs from its checksum is refused whole."""
    remote = TusRemote(f"{service.url}/tus/")
    delivery = delivery_of(remote, sources, Random(52).randbytes(CHUNK + 5))
    session = await remote.create(delivery.outgoing)
    damaged = delivery_of(remote, sources, Random(53).randbytes(CHUNK + 5))
    summed, delivery.source.read = delivery.source.read, damaged.source.read  # type: ignore[method-assign]
    with pytest.raises(PeerBusy) as told:
        await delivery.send(session, 0, CHUNK)
    assert told.value.status == 460
    delivery.source.read = summed  # type: ignore[method-assign]
    assert await remote.offset(delivery.outgoing, session) == Held()
    assert await fetch(str((await deliver(delivery, session)).id)) == delivery.source.read(0, CHUNK + 5)
    await remote.close()


async def test_an_upload_that_the_server_forgot_is_begun_anew(tmp_path: Path, sources: Sources) -> None:
    data = Random(54).randbytes(CHUNK + 5)
    with made_by("node", tmp_path) as (_, url):
        remote = TusRemote(url)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        await delivery.send(session, 0, CHUNK)
        shutil.rmtree(tmp_path / "files")
        (tmp_path / "files").mkdir()
        with pytest.raises(RemoteSessionLost):
            await remote.offset(delivery.outgoing, session)
        assert await fetch(str((await deliver(delivery, session)).id)) == data
        await remote.close()


async def test_a_request_at_another_offset_is_asked_about(node: tuple[Server, str], sources: Sources) -> None:
    remote = TusRemote(node[1])
    delivery = delivery_of(remote, sources, Random(55).randbytes(100))
    session = await remote.create(delivery.outgoing)
    with pytest.raises(PeerBusy) as told:
        await delivery.send(session, 10, 20)
    assert told.value.status == 409
    await deliver(delivery, session)
    await remote.close()


async def test_a_server_without_tus_is_told(sources: Sources) -> None:
    with pytest.raises(PeerUnreachable):
        await TusRemote(f"http://127.0.0.1:{free_port()}/files").probe()


async def test_what_answers_and_speaks_no_tus_is_told(service: ServeProcess) -> None:
    remote = TusRemote(f"{service.url}/api/")
    with pytest.raises(PeerRefused, match="does not speak tus"):
        await remote.probe()
    await remote.close()


async def test_a_bad_token_blocks_until_somebody_signs_in(tmp_path: Path, sources: Sources) -> None:
    with serving(tmp_path / "data", {"HAULIER_PUBLIC_URL": "http://127.0.0.1"}) as guarded:
        remote = TusRemote(f"{guarded.url}/tus/", token=Secret("hl_wrong"))
        with pytest.raises(PeerBlocked) as told:
            await remote.create(delivery_of(remote, sources, b"x").outgoing)
        assert told.value.obstacle is Obstacle.AUTH
        await remote.close()
