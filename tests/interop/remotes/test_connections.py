"""Which connections the calls to a remote use."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from haulier.remotes.answers import RetryTable
from haulier.remotes.calls import BODIES, CONTROL_CONNECTIONS, Calls
from haulier.remotes.sessions import cargo_of

BODY = b"12345"


class Counting:
    """A server that counts connections, and answers a request when it may."""

    def __init__(self) -> None:
        self.connections = 0
        self.bodies_may_end = asyncio.Event()
        self.bodies = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"PUT"):
                    await reader.readexactly(len(BODY))
                    self.bodies += 1
                    await self.bodies_may_end.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()


@asynccontextmanager
async def counting() -> AsyncIterator[tuple[Counting, Calls, str]]:
    counted = Counting()
    running = await asyncio.start_server(counted.serve, "127.0.0.1", 0, backlog=BODIES + CONTROL_CONNECTIONS)
    url = f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    calls = Calls(url, RetryTable())
    try:
        yield counted, calls, url
    finally:
        await calls.close()
        running.close()


async def test_a_body_goes_on_the_connection_of_the_call_before_it() -> None:
    async with counting() as (counted, calls, url):
        counted.bodies_may_end.set()
        await calls.ask("GET", url)
        await calls.bring("PUT", url, cargo_of(BODY), headers={})
        await calls.ask("GET", url)
        assert counted.connections == 1


async def test_a_call_waits_for_no_body_however_many_there_are() -> None:
    async with counting() as (counted, calls, url), asyncio.TaskGroup() as group:
        sent = [
            group.create_task(calls.bring("PUT", url, cargo_of(BODY), headers={})) for _ in range(BODIES + 9)
        ]
        answers = [await calls.ask("GET", url) for _ in range(2 * CONTROL_CONNECTIONS)]
        assert {answer.status_code for answer in answers} == {200}
        assert (counted.bodies <= BODIES, any(body.done() for body in sent)) == (True, False)
        counted.bodies_may_end.set()
