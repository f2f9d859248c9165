"""What the Soulseek node beside the service tells, as a server tells it that is not quite the one we know."""

import asyncio
import json

from haulier.adapters.node_news import NodeNews

DEADLINE_S = 60

ODD = [
    b"",
    b"not json",
    b'{"event": "changed", "tran',
    b"[]",
    b"7",
    b'{"transfer": {"id": "a"}}',
    b'{"event": "changed"}',
    b'{"event": "changed", "transfer": "a"}',
    b'{"event": "progress", "transfer": {"id": 7}}',
    b'{"event": "of a later version", "transfer": {"id": "a"}}',
]


async def test_lines_that_nobody_understands_are_passed_over() -> None:
    told = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        good = json.dumps({"event": "changed", "transfer": {"id": "b"}}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"\n".join([*ODD, good, b""]))
        await told.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        news = NodeNews(lambda: (f"http://127.0.0.1:{port}", "secret"))
        events = news.events()
        async with asyncio.timeout(DEADLINE_S):
            first = await anext(events)
            told.set()
            await events.aclose()
            await news.close()
    assert first is not None
    assert (first.value, first.changed) == ({"id": "b"}, True)
