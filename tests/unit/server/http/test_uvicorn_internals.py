"""What protocol.py, exchange.py and serving.py rely on of uvicorn and httptools beyond their options.

A test that fails here says: read uvicorn's change before raising its version; tests/interop/test_data_path.py
then says what it broke.
"""

import asyncio
import inspect
from typing import Any

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import Server, ServerState

from haulier.server.http.exchange import Exchange
from haulier.server.http.protocol import HaulierHttpProtocol


async def nobody(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("no request was made")


def source(thing: Any) -> str:
    return inspect.getsource(thing)


@pytest.fixture
async def protocol() -> HttpToolsProtocol:
    return HttpToolsProtocol(uvicorn.Config(nobody, log_config=None), ServerState(), {})


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


class TestProtocol:
    async def test_it_has_the_state_that_we_read(self, protocol: HttpToolsProtocol) -> None:
        wanted = {
            "parser",
            "cycle",
            "flow",
            "pipeline",
            "headers",
            "scope",
            "loop",
            "server_state",
            "logger",
            "server",
        }
        assert wanted <= set(vars(protocol))
        assert isinstance(protocol.parser, httptools.HttpRequestParser)
        assert protocol.cycle is None

    @pytest.mark.parametrize(
        ("name", "signature"),
        [
            ("__init__", ["self", "config", "server_state", "app_state", "_loop"]),
            ("connection_made", ["self", "transport"]),
            ("connection_lost", ["self", "exc"]),
            ("shutdown", ["self"]),
            ("timeout_keep_alive_handler", ["self"]),
            ("on_message_begin", ["self"]),
            ("on_url", ["self", "url"]),
            ("on_header", ["self", "name", "value"]),
            ("on_headers_complete", ["self"]),
            ("on_body", ["self", "body"]),
            ("on_message_complete", ["self"]),
            ("on_response_complete", ["self"]),
            ("_start_asgi_task", ["self", "cycle", "app"]),
        ],
    )
    def test_the_methods_that_we_extend_exist_as_they_were(self, name: str, signature: list[str]) -> None:
        assert parameters(getattr(HttpToolsProtocol, name)) == signature
        assert name in vars(HaulierHttpProtocol)

    def test_it_has_no_other_reports_that_we_would_have_to_extend(self) -> None:
        reports = {name for name in vars(HttpToolsProtocol) if name.startswith("on_")}
        ours = {name for name in vars(HaulierHttpProtocol) if name.startswith("on_")}
        assert reports - ours == set()

    def test_a_request_runs_in_a_task_that_the_end_of_the_server_waits_for(self) -> None:
        text = source(HttpToolsProtocol._start_asgi_task)
        assert "self.loop.create_task(cycle.run_asgi(app))" in text
        assert "self.tasks.add(task)" in text

    def test_no_timer_of_its_own_is_set_but_at_the_end_of_an_answer(self) -> None:
        # `on_response_complete` is ours, so that there is none at all.
        assert source(HttpToolsProtocol).count("call_later") == 1
        assert "call_later" in source(HttpToolsProtocol.on_response_complete)

    def test_a_disconnect_is_told_to_the_cycle(self) -> None:
        text = source(HttpToolsProtocol.connection_lost)
        assert "self.cycle.disconnected = True" in text
        assert "self.cycle.message_event.set()" in text


class TestCycle:
    @pytest.fixture(params=[RequestResponseCycle, Exchange])
    async def cycle(
        self, protocol: HttpToolsProtocol, request: pytest.FixtureRequest
    ) -> RequestResponseCycle:
        made: RequestResponseCycle = request.param(
            scope={},
            transport=None,
            flow=None,
            logger=protocol.logger,
            access_logger=protocol.logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=lambda: None,
        )
        return made

    async def test_it_has_the_state_that_we_read_and_write(self, cycle: RequestResponseCycle) -> None:
        assert cycle.body == bytearray()
        assert cycle.more_body is True
        assert cycle.disconnected is False
        assert cycle.response_started is False
        assert cycle.response_complete is False
        assert cycle.waiting_for_100_continue is False
        assert cycle.keep_alive is True

    def test_keep_alive_is_read_when_the_answer_starts_and_when_it_ends(self) -> None:
        # _limit_keep_alive changes it before the one, and relies on close() at the other.
        text = source(RequestResponseCycle.send)
        assert text.count("self.keep_alive") == 3
        assert (
            "if not self.keep_alive:\n                    self.transport.close()\n                self.on_response()"
            in text
        )

    @pytest.mark.parametrize("cycle", [RequestResponseCycle], indirect=True)
    async def test_it_forgets_what_arrived_before_a_disconnect(self, cycle: RequestResponseCycle) -> None:
        # The reason for our `receive`; when this fails, it can go.
        cycle.body += b"abc"
        cycle.disconnected = True
        cycle.transport = None  # type: ignore[assignment] # not needed for a disconnect
        assert (await cycle.receive())["type"] == "http.disconnect"

    @pytest.mark.parametrize("cycle", [Exchange], indirect=True)
    async def test_our_receive_does_not(self, cycle: RequestResponseCycle) -> None:
        cycle.body += b"abc"
        cycle.disconnected = True
        assert await cycle.receive() == {"type": "http.request", "body": b"abc", "more_body": True}
        assert await cycle.receive() == {"type": "http.disconnect"}

    @pytest.mark.parametrize("cycle", [Exchange], indirect=True)
    async def test_our_receive_tells_the_end_of_a_whole_body_before_the_disconnect(
        self, cycle: RequestResponseCycle
    ) -> None:
        cycle.more_body = False
        cycle.disconnected = True
        assert await cycle.receive() == {"type": "http.request", "body": b"", "more_body": False}
        assert await cycle.receive() == {"type": "http.disconnect"}


class TestFlowControl:
    def test_pausing_and_resuming_may_be_repeated(self) -> None:
        calls = []

        class Transport:
            def pause_reading(self) -> None:
                calls.append("pause")

            def resume_reading(self) -> None:
                calls.append("resume")

        flow = FlowControl(Transport())  # type: ignore[arg-type]
        for step in (flow.resume_reading, flow.pause_reading, flow.pause_reading, flow.resume_reading):
            step()
        assert calls == ["pause", "resume"]
        assert flow.read_paused is False


class TestServer:
    def test_the_methods_that_we_extend_exist_as_they_were(self) -> None:
        assert parameters(Server.startup) == ["self", "sockets"]
        assert parameters(Server.shutdown) == ["self", "sockets"]
        assert parameters(Server.handle_exit) == ["self", "sig", "frame"]

    def test_only_handle_exit_collects_the_signals_that_are_raised_again(self) -> None:
        # Ours collects none, so a graceful stop ends with 0.
        assert source(Server).count("_captured_signals") == 3
        assert "_captured_signals.append(sig)" in source(Server.handle_exit)

    def test_its_state_has_the_fields_of_every_answer(self) -> None:
        assert ServerState().default_headers == []

    async def test_a_server_without_sockets_starts_and_makes_its_protocols_as_we_do(self) -> None:
        started = source(Server.startup)
        assert "for sock in sockets:" in started
        for part in ("config=config", "server_state=self.server_state", "app_state=self.lifespan.state"):
            assert part in started

    async def test_a_running_server_has_servers_to_close(self) -> None:
        assert "for server in self.servers:\n            server.close()" in source(Server.shutdown)


class Reports:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.seen.append((name, value))

    def on_headers_complete(self) -> None:
        self.seen.append("head")

    def on_body(self, body: bytes) -> None:
        self.seen.append(body)

    def on_message_complete(self) -> None:
        self.seen.append("end")


class TestParser:
    """httptools: what the reports mean, on which trailers and upgrades rely."""

    def test_trailers_are_reported_between_head_and_end(self) -> None:
        reports = Reports()
        parser = httptools.HttpRequestParser(reports)
        head = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        parser.feed_data(head + b"1\r\na\r\n0\r\nX: y\r\n\r\n")
        assert reports.seen == [(b"Transfer-Encoding", b"chunked"), "head", b"a", (b"X", b"y"), "end"]

    def test_an_upgrade_ends_the_message_and_tells_where_its_body_begins(self) -> None:
        reports = Reports()
        parser = httptools.HttpRequestParser(reports)
        head = b"PUT / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\n"
        with pytest.raises(httptools.HttpParserUpgrade) as upgrade:
            parser.feed_data(memoryview(head + b"abc"))
        assert upgrade.value.args == (len(head),)
        assert reports.seen[-2:] == ["head", "end"]
        assert parser.should_upgrade()

    def test_what_a_report_raises_is_the_context_of_the_error(self) -> None:
        class Angry(Reports):
            def on_headers_complete(self) -> None:
                raise LookupError

        with pytest.raises(httptools.HttpParserCallbackError) as error:
            httptools.HttpRequestParser(Angry()).feed_data(b"GET / HTTP/1.1\r\n\r\n")
        assert isinstance(error.value.__context__, LookupError)
