"""What a request is made of, when it is over."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from haulier.engine.whole import ReadAhead
from haulier.server.http.asgi import FastBody, open_body
from haulier.server.http.exchange import BodyWire, Exchange
from haulier.server.http.protocol import HaulierHttpProtocol
from haulier.server.http.transport import Exit

REQUEST = b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nbytes"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nbytes"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = ReadAhead(open_body(scope, receive))
    await Response(await body.whole())(scope, receive, send)


async def stream(scope: Any, receive: Any, send: Any) -> None:
    message = await receive()
    await Response(message["body"])(scope, receive, send)


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[int]:
    config = uvicorn.Config(app, log_config=None, server_header=False, date_header=False)
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: HaulierHttpProtocol(config, ServerState(), {}), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def port(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    async with serving(request.param) as port:
        yield port


async def left_by(ask: Callable[[], Awaitable[None]]) -> set[type]:
    """Ask some times; return the types of what only the garbage collector finds afterwards."""
    await ask()  # whatever is only made once
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await ask()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return {type(thing) for thing in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("port", [echo, stream], indirect=True, ids=["direct body", "messages"])
async def test_no_ring_of_a_request_that_is_over_waits_for_the_garbage_collector(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask() -> None:
        writer.write(REQUEST)
        assert await reader.readexactly(len(ANSWER)) == ANSWER

    left = await left_by(ask)
    writer.close()
    assert not {Exchange, FastBody, BodyWire} & left


@pytest.mark.parametrize("port", [echo, stream], indirect=True, ids=["direct body", "messages"])
@pytest.mark.parametrize(
    "request_", [REQUEST, REQUEST[:-2], b"rubbish\r\n\r\n"], ids=["answered", "cut", "refused"]
)
async def test_no_ring_of_a_connection_that_is_over_waits_for_it_either(
    port: int, request_: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Queue[None]()
    lost = HaulierHttpProtocol.connection_lost

    def note(self: HaulierHttpProtocol, exc: Exception | None) -> None:
        lost(self, exc)
        ended.put_nowait(None)

    monkeypatch.setattr(HaulierHttpProtocol, "connection_lost", note)

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_)
        writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(5):
            await ended.get()

    left = await left_by(ask)
    assert not {HaulierHttpProtocol, Exit, Exchange, asyncio.TimerHandle} & left


@pytest.mark.parametrize("behind", [0, 1, 3])
async def test_a_request_is_told_that_its_client_has_left_whatever_was_sent_behind_it(behind: int) -> None:
    ended = asyncio.Event()

    async def wait_for_the_end(_scope: Any, receive: Any, _send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.set()

    async with serving(wait_for_the_end) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST * (1 + behind))
        writer.close()
        async with asyncio.timeout(5):
            await ended.wait()


async def test_a_ring_would_be_found() -> None:
    class Ring:
        def __init__(self) -> None:
            self.self = self

    async def ask() -> None:
        Ring()

    assert Ring in await left_by(ask)


class Written:
    """A transport and its flow, of which we see what was written."""

    write_paused = False

    def __init__(self) -> None:
        self.data = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.data += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def new_cycle(request: pytest.FixtureRequest) -> Callable[..., Any]:
    def make(kind: type[RequestResponseCycle], *, method: str = "PUT", keep_alive: bool = True) -> Any:
        return kind(
            scope={"method": method, "extensions": {"body": {}}},  # type: ignore[typeddict-item]
            transport=Written(),  # type: ignore[arg-type]
            flow=Written(),  # type: ignore[arg-type]
            logger=logging.getLogger(request.node.name),
            access_logger=logging.getLogger(request.node.name),
            access_log=False,
            default_headers=[(b"date", b"today")],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=lambda: None,
        )

    return make


START = "http.response.start"
BODY = "http.response.body"
LENGTH = (b"content-length", b"3")


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": START, "status": status, "headers": list(headers)}


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": BODY, "body": body, "more_body": more}


@pytest.mark.parametrize("method", ["PUT", "HEAD"])
@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([start(LENGTH, (b"location", b"/\xe9 \t~"), status=201), part(b"abc")], id="plain"),
        pytest.param([start(LENGTH), part(b"a", more=True), part(b"bc")], id="in parts"),
        pytest.param([start(LENGTH), {"type": BODY, "body": b"abc"}], id="more is not said"),
        pytest.param([start((b"content-length", b"0")), {"type": BODY}], id="no body is said"),
        pytest.param([start(), part(b"abc")], id="of unknown length"),
        pytest.param([{"type": START, "status": 200}, part(b"abc")], id="no headers are said"),
        pytest.param([start(status=204), part(b"")], id="no content"),
        pytest.param([start(LENGTH, (b"connection", b"close")), part(b"abc")], id="ends the connection"),
        pytest.param([start((b"transfer-encoding", b"chunked")), part(b"abc")], id="chunked"),
        pytest.param([start((b"Content-Length", b"3"), (b"x_y", b"")), part(b"abc")], id="capital letters"),
        pytest.param([start(LENGTH, LENGTH), part(b"abc")], id="length twice"),
        pytest.param([start(LENGTH, (b"a b", b"")), part(b"abc")], id="bad name"),
        pytest.param([start(LENGTH, (b"a", b"b\r\nc: d")), part(b"abc")], id="bad value"),
        pytest.param([start((b"content-length", b"x")), part(b"abc")], id="bad length"),
        pytest.param([start(LENGTH), part(b"ab")], id="too short"),
        pytest.param([start(LENGTH), part(b"abcd")], id="too long"),
        pytest.param([part(b"abc")], id="no start"),
        pytest.param([start(LENGTH), start(LENGTH)], id="two starts"),
        pytest.param([start(LENGTH), part(b"abc"), part(b"abc")], id="two bodies"),
        pytest.param([start(LENGTH), part(b"abc"), part(b"")], id="something behind the end"),
    ],
)
async def test_an_answer_is_the_one_that_uvicorn_would_send(
    messages: list[dict[str, Any]], method: str, new_cycle: Callable[..., Any], *, keep_alive: bool
) -> None:
    seen = []
    for kind in (RequestResponseCycle, Exchange):
        cycle = new_cycle(kind, method=method, keep_alive=keep_alive)
        refused = None
        try:
            for message in messages:
                await cycle.send(message)
        except (RuntimeError, ValueError) as error:
            refused = type(error)
        ended = (cycle.response_started, cycle.response_complete, cycle.message_event.is_set())
        seen.append((cycle.transport.data, cycle.transport.closed, cycle.keep_alive, ended, refused))
    assert seen[0] == seen[1]


async def test_who_has_left_is_sent_nothing(new_cycle: Callable[..., Any]) -> None:
    cycle = new_cycle(Exchange)
    cycle.disconnected = True
    await cycle.send(start(LENGTH))
    assert cycle.transport.data == b""


async def fail(*_: Any) -> None:
    raise RuntimeError("broke")


async def say_nothing(*_: Any) -> None:
    """Return without an answer."""


async def stop_halfway(_scope: Any, _receive: Any, send: Any) -> None:
    await send(start(LENGTH))


async def fail_halfway(_scope: Any, _receive: Any, send: Any) -> None:
    await send(start(LENGTH))
    raise RuntimeError("broke")


@pytest.mark.parametrize(
    ("app", "answered"), [(fail, True), (say_nothing, True), (stop_halfway, False), (fail_halfway, False)]
)
async def test_a_request_that_fails_is_answered_or_cut_and_logged_and_leaves_no_ring(
    app: Any, new_cycle: Callable[..., Any], caplog: pytest.LogCaptureFixture, *, answered: bool
) -> None:
    cycle = new_cycle(Exchange)
    await cycle.run_asgi(app)
    assert cycle.transport.closed
    assert cycle.transport.data.startswith(b"HTTP/1.1 500 " if answered else b"HTTP/1.1 200 ")
    assert [entry.levelname for entry in caplog.records] == ["ERROR"]
    assert cycle.scope["extensions"] == {}


async def test_a_request_that_the_end_of_the_server_cuts_is_no_error(
    new_cycle: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def wait(*_: Any) -> None:
        await asyncio.Event().wait()

    cycle = new_cycle(Exchange)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(cycle.run_asgi(wait))
        await asyncio.sleep(0)
        running.cancel()
    assert (cycle.transport.data, cycle.transport.closed) == (b"", True)
    assert not caplog.records
