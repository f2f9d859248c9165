"""The fault proxy does what it is told, byte for byte: proved with a server that keeps what it hears."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.fault_plan import Drop, Flow, Plan, Twin
from tests.support.fault_proxy import DEADLINE_S, FaultProxy, fault_proxy

DATA = bytes(range(256)) * 4000
SHORT = bytes(range(200))


class End(asyncio.Protocol):
    """One end of a connection, which keeps all that comes."""

    def __init__(self, *, echoes: bool = False) -> None:
        self.data = b""
        self.end = ""
        """`EOF` or `reset`; empty while nothing is known of an end."""
        self._echoes = echoes
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self._echoes:
            self.transport.write(data)
        self._changed.set()

    def eof_received(self) -> None:
        self.end = "EOF"
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.end = self.end or ("reset" if exc else "closed")
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds, looking whenever something comes."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def heard(self, size: int) -> bytes:
        """Wait for so many bytes; return all that came."""
        await self.until(lambda: len(self.data) >= size)
        return self.data

    async def heard_all(self) -> tuple[bytes, str]:
        """Wait for the end; return all that came, and how it ended."""
        await self.until(lambda: bool(self.end))
        return self.data, self.end


class Server:
    """Its ends, in the order of their connections."""

    def __init__(self, *, echoes: bool) -> None:
        self.ends: list[End] = []
        self.port = 0
        self._echoes = echoes
        self._accepted = asyncio.Event()

    def accept(self) -> End:
        self.ends.append(End(echoes=self._echoes))
        self._accepted.set()
        return self.ends[-1]

    async def end(self, number: int) -> End:
        """Wait for that connection."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.ends) <= number:
                self._accepted.clear()
                await self._accepted.wait()
        return self.ends[number]


@asynccontextmanager
async def serving(*, echoes: bool = True, port: int = 0) -> AsyncIterator[Server]:
    server = Server(echoes=echoes)
    listener = await asyncio.get_running_loop().create_server(server.accept, "127.0.0.1", port)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for end in server.ends:
            end.transport.abort()


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator[End]:
    _, end = await asyncio.get_running_loop().create_connection(End, "127.0.0.1", proxy.port)
    try:
        yield end
    finally:
        end.transport.abort()


@asynccontextmanager
async def line(plan: Plan, *, echoes: bool = True) -> AsyncIterator[tuple[End, FaultProxy, End]]:
    """A client, a proxy with a plan for everybody, and the server's end."""
    async with (
        serving(echoes=echoes) as server,
        FaultProxy(server.port, plan=plan) as proxy,
        connected(proxy) as client,
    ):
        yield client, proxy, await server.end(0)


PLANS = {
    "plain": Plan(),
    "1-byte segments": Plan(up=Flow(segment=1), down=Flow(segment=1)),
    "delay": Plan(up=Flow(delay_s=0.001), down=Flow(delay_s=0.001)),
    "trickle": Plan(up=Flow(segment=7, pause_s=0.0001), down=Flow(segment=5, pause_s=0.0001)),
    "repeated at once": Plan(twin=Twin.AT_ONCE),
    "repeated after the answer": Plan(twin=Twin.AFTER_ANSWER),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
async def test_all_bytes_come_through_in_order_and_so_do_both_ends(plan: Plan) -> None:
    data = DATA[:5000]
    async with line(plan) as (client, proxy, server):
        client.transport.write(data)
        client.transport.write_eof()
        assert await server.heard_all() == (data, "EOF")
        assert await client.heard_all() == (data, "EOF")
        assert (proxy.passed_up, proxy.passed_down) == (len(data), len(data))


async def test_bytes_in_both_directions_do_not_wait_for_each_other() -> None:
    async with line(Plan()) as (client, _, server):
        client.transport.write(DATA)
        assert await client.heard(len(DATA)) == DATA
        assert server.data == DATA


CUTS = [(Drop.FIN, "EOF"), (Drop.RST, "reset")]


@pytest.mark.parametrize(("drop", "end"), CUTS)
@pytest.mark.parametrize("after", [0, 1, 70_001])
async def test_a_cut_on_the_way_up_lets_exactly_so_many_bytes_through(
    drop: Drop, end: str, after: int
) -> None:
    plan = Plan(up=Flow(drop=drop, after=after))
    async with line(plan, echoes=False) as (client, proxy, server):
        client.transport.write(DATA)
        assert await server.heard_all() == (DATA[:after], end)
        assert await client.heard_all() == (b"", end)
        assert (proxy.passed_up, proxy.links[0].dropped) == (after, drop)


@pytest.mark.parametrize(("drop", "end"), CUTS)
@pytest.mark.parametrize("after", [0, 1, 70_001])
async def test_a_cut_on_the_way_down_lets_exactly_so_many_bytes_through(
    drop: Drop, end: str, after: int
) -> None:
    async with line(Plan(down=Flow(drop=drop, after=after))) as (client, proxy, server):
        client.transport.write(DATA)
        assert await client.heard_all() == (DATA[:after], end)
        heard, server_end = await server.heard_all()
        assert server_end == end
        assert DATA.startswith(heard)
        assert proxy.passed_down == after


async def test_bytes_that_were_let_through_outlive_the_reset() -> None:
    """Even those of a receiver that looks only when the reset is there already."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with FaultProxy(listener.getsockname()[1]) as proxy, connected(proxy) as client:
            client.transport.write(DATA[:50_000])
            await proxy.wait_passed(up=50_000)
            await proxy.drop(Drop.RST)
            end, _ = listener.accept()
            with end:
                assert await asyncio.to_thread(_read_all, end) == (DATA[:50_000], "reset")


def _read_all(end: socket.socket) -> tuple[bytes, str]:
    end.settimeout(DEADLINE_S)
    data = b""
    try:
        while piece := end.recv(65536):
            data += piece
    except ConnectionResetError:
        return data, "reset"
    return data, "EOF"


async def test_a_stall_keeps_both_sides_open_and_loses_nothing() -> None:
    async with line(Plan(up=Flow(drop=Drop.STALL, after=5))) as (client, proxy, server):
        client.transport.write(SHORT)
        assert await server.heard(5) == SHORT[:5]
        await proxy.wait(lambda: proxy.links[0].dropped is Drop.STALL)
        assert (client.end, server.end, proxy.links[0].over) == ("", "", False)
        proxy.resume()
        assert await client.heard(200) == SHORT


async def test_a_stalled_line_can_be_cut() -> None:
    async with line(Plan(up=Flow(drop=Drop.STALL, after=5)), echoes=False) as (client, proxy, server):
        client.transport.write(SHORT)
        await server.heard(5)
        await proxy.drop(Drop.FIN)
        assert await client.heard_all() == (b"", "EOF")
        assert await server.heard_all() == (SHORT[:5], "EOF")


async def test_of_a_half_open_line_the_server_never_learns() -> None:
    plan = Plan(up=Flow(drop=Drop.HALF_OPEN, after=5))
    async with serving(echoes=False) as server:
        async with FaultProxy(server.port) as proxy:
            proxy.plan(plan)
            async with connected(proxy) as client:
                client.transport.write(SHORT)
                assert await client.heard_all() == (b"", "reset")
            async with connected(proxy) as later:
                later.transport.write(SHORT)
                await proxy.wait_passed(up=205)
                await (await server.end(1)).heard(200)
            assert (server.ends[0].data, server.ends[0].end) == (SHORT[:5], "")
        assert await server.ends[0].heard_all() == (SHORT[:5], "EOF")  # the proxy has ended


@pytest.mark.parametrize(("drop", "end"), CUTS)
async def test_all_connections_can_be_cut_while_they_run(drop: Drop, end: str) -> None:
    async with serving() as server, FaultProxy(server.port) as proxy:
        async with connected(proxy) as first, connected(proxy) as second:
            for client in (first, second):
                client.transport.write(SHORT)
                await client.heard(200)
            await proxy.drop(drop)
            for one in (first, second, *server.ends):
                assert await one.heard_all() == (SHORT, end)
        async with connected(proxy) as third:  # later ones are as good as ever
            third.transport.write(SHORT)
            assert await third.heard(200) == SHORT


async def test_connections_get_their_plans_in_order_and_then_the_default() -> None:
    async with serving() as server, FaultProxy(server.port) as proxy:
        proxy.plan(*(Plan(down=Flow(drop=Drop.FIN, after=after)) for after in (3, 7)))
        for expected in (SHORT[:3], SHORT[:7], SHORT):
            async with connected(proxy) as client:
                client.transport.write(SHORT)
                client.transport.write_eof()
                assert await client.heard_all() == (expected, "EOF")


async def test_bytes_can_be_written_one_by_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plan = Plan(up=Flow(segment=1))
        async with FaultProxy(listener.getsockname()[1], plan=plan) as proxy, connected(proxy) as client:
            client.transport.write(SHORT)
            await proxy.wait_passed(up=200)
            end, _ = listener.accept()
            with end:
                # Behind the first ten, which a connection may always send, the kernel joins what must wait.
                # Source: linux/tcp.h; tcpi_data_segs_in is at byte 152 of struct tcp_info.
                info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                assert int.from_bytes(info[152:156], sys.byteorder) >= 10


@pytest.mark.parametrize("twin", Twin)
async def test_a_twin_sends_everything_twice_and_its_answers_reach_nobody(twin: Twin) -> None:
    async with (
        serving() as server,
        FaultProxy(server.port, plan=Plan(twin=twin)) as proxy,
        connected(proxy) as client,
    ):
        client.transport.write(SHORT[:150])
        await client.heard(150)
        client.transport.write(SHORT[150:])
        assert await client.heard(200) == SHORT
        repeater = proxy.links[0].twin
        assert repeater is not None
        await proxy.wait(lambda: repeater.answers == SHORT)
        assert [end.data for end in server.ends] == [SHORT, SHORT]
        assert client.data == SHORT


async def test_a_twin_that_waits_for_the_answer_repeats_nothing_before_it() -> None:
    async with (
        serving(echoes=False) as server,
        FaultProxy(server.port, plan=Plan(twin=Twin.AFTER_ANSWER)) as proxy,
        connected(proxy) as client,
    ):
        client.transport.write(SHORT)
        await proxy.wait_passed(up=200)
        await server.end(1)
        await (await server.end(0)).heard(200)
        assert [end.data for end in server.ends] == [SHORT, b""]


async def test_a_server_that_is_down_refuses_and_is_reached_when_it_is_back() -> None:
    async with serving() as server:
        port = server.port
    async with FaultProxy(port) as proxy:
        async with connected(proxy) as client:
            assert await client.heard_all() == (b"", "reset")
        async with serving(port=port), connected(proxy) as client:
            client.transport.write(SHORT)
            assert await client.heard(200) == SHORT


async def test_a_reset_by_one_side_is_a_reset_for_the_other() -> None:
    async with line(Plan()) as (client, proxy, server):
        client.transport.write(SHORT)
        await client.heard(200)
        end = client.transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.transport.abort()
        assert await server.heard_all() == (SHORT, "reset")
        await proxy.wait(lambda: proxy.links[0].over)


async def test_several_servers_get_connections_in_turn() -> None:
    async with serving() as first, serving() as second, FaultProxy(first.port, second.port) as proxy:
        for _ in range(4):
            async with connected(proxy) as client:
                client.transport.write(SHORT)
                await client.heard(200)
        assert [len(server.ends) for server in (first, second)] == [2, 2]


CLIENT = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as line:
    line.sendall(bytes(100_000))
    try:
        line.recv(1)
    except ConnectionResetError:
        print("reset")
"""


def test_a_foreign_client_is_cut_from_a_thread() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, fault_proxy(listener.getsockname()[1]) as proxy:
        client = subprocess.Popen([sys.executable, "-c", CLIENT, str(proxy.port)], stdout=subprocess.PIPE)
        proxy.wait(up=100_000)
        proxy.drop(Drop.RST)
        out, _ = client.communicate(timeout=DEADLINE_S)
        assert out == b"reset\n"
        assert [link.dropped for link in proxy.links] == [Drop.RST]
