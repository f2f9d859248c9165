"""The server process: ports, signals, exit codes."""

import asyncio
import os
import select
import signal
import socket
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from haulier.core.errors import ConfigError
from haulier.server.http.serving import HaulierServer, listen, port_holder
from tests.support.engine import beside
from tests.support.raw_http import DEADLINE_S, served


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


class TestPorts:
    def test_a_port_in_use_names_its_holder_and_the_cure(self) -> None:
        with listening() as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError) as error:
                listen("127.0.0.1", port)
        assert (error.value.setting, error.value.value) == ("port", str(port))
        assert f"process {os.getpid()} (" in error.value.expected
        assert "--port" in error.value.expected

    def test_the_holder_of_a_free_port_is_nobody(self) -> None:
        with listening() as taken:
            port = taken.getsockname()[1]
        assert port_holder(port) is None

    def test_every_address_of_a_name_is_taken_with_one_port(self) -> None:
        sockets = listen("localhost", 0)
        try:
            assert len({bound.getsockname()[1] for bound in sockets}) == 1
        finally:
            for bound in sockets:
                bound.close()

    @pytest.mark.parametrize(
        ("host", "why"), [("no such host", "listen on"), ("203.0.113.7", "no address of this machine")]
    )
    def test_an_address_that_is_not_ours_is_refused_in_words(self, host: str, why: str) -> None:
        with pytest.raises(ConfigError, match=why):
            listen(host, 0)

    def test_a_port_that_needs_privileges_is_refused_in_words(self) -> None:
        start = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
        if os.geteuid() == 0 or start == 0:
            pytest.skip("this user may listen on every port")
        with pytest.raises(ConfigError, match="privileges"):
            listen("127.0.0.1", start - 1)


class TestSaving:
    async def test_a_save_that_breaks_skips_neither_the_close_nor_the_end_of_the_lifespan(self) -> None:
        ready, ended = asyncio.Event(), []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["type"] == "lifespan"
            for word in ("startup", "shutdown"):
                await receive()
                ended.append(word)
                await send({"type": f"lifespan.{word}.complete"})

        async def breaks() -> None:
            raise ValueError("ours")

        config = uvicorn.Config(app, log_config=None, lifespan="on")
        server = HaulierServer(config, on_ready=lambda _port: ready.set(), on_stopping=breaks)
        bound = listening()
        with capture_logs() as logs:
            serving = beside(server.serve(sockets=[bound]))
            await ready.wait()
            server.should_exit = True
            await asyncio.wait_for(serving, DEADLINE_S)
        assert ended == ["startup", "shutdown"]
        assert bound.fileno() == -1
        assert [line["event"] for line in logs] == ["server.saving_failed"]


class TestSignals:
    """`served` itself checks that SIGTERM ends with 0."""

    @pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
    def test_an_idle_server_ends_with_0(self, sign: signal.Signals) -> None:
        with served("tests.support.body_server") as server:
            server.process.send_signal(sign)
            assert server.process.wait(DEADLINE_S) == 0

    def test_a_signal_passed_on_twice_at_once_is_one(self) -> None:
        with served("tests.support.body_server") as server:
            server.process.terminate()
            server.process.terminate()
            assert server.process.wait(DEADLINE_S) == 0

    def test_idle_connections_do_not_hold_it_up(self) -> None:
        with served("tests.support.body_server") as server, server.line() as line:
            line.put("/", b"abc")
            line.answer()
            server.process.terminate()
            assert line.ended()
            assert server.process.wait(DEADLINE_S) == 0

    def test_a_second_signal_ends_the_waiting(self) -> None:
        with served("tests.support.body_server", expected=1) as server, server.line() as line:
            line.put("/?id=a&deliver=gated", b"abc")
            server.wait_until("/known?id=a", True)
            server.process.terminate()
            while not select.select([line.socket], [], [], 0.05)[0]:
                server.process.terminate()
            assert server.process.wait(DEADLINE_S) == 1
