"""What a request is made of, when it is over."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from haulier.engine.whole import ReadAhead
from haulier.server.http.asgi import FastBody, open_body
from haulier.server.http.exchange import BodyWire, Messages, without_ring
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
    assert not {RequestResponseCycle, Messages, FastBody, BodyWire} & left


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
    assert not {HaulierHttpProtocol, Exit, RequestResponseCycle, asyncio.TimerHandle} & left


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


async def test_a_request_that_fails_leaves_none_either() -> None:
    async def fail(*_: Any) -> Any:
        raise RuntimeError

    cycle: Any = SimpleNamespace(receive=None)
    scope: dict[str, Any] = {"extensions": {"body": cycle}}
    with pytest.raises(RuntimeError):
        await without_ring(cycle, fail)(scope, fail, fail)
    assert scope == {"extensions": {}}
    assert not hasattr(cycle, "receive")
