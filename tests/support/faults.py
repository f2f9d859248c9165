"""A way to a service on which chosen requests go wrong, as networks and proxies make them."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import httpx2

Send = Callable[[httpx2.Request], Awaitable[httpx2.Response]]
Fault = Callable[[httpx2.Request, Send], Awaitable[httpx2.Response]]


async def lose_answer(request: httpx2.Request, send: Send) -> httpx2.Response:
    """The service does it all, and nobody hears of it."""
    await (await send(request)).aread()
    raise httpx2.ReadError("connection reset")


async def lose_request(request: httpx2.Request, send: Send) -> httpx2.Response:
    """The service never hears of it."""
    raise httpx2.ConnectError("connection refused")


async def flip_byte(request: httpx2.Request, send: Send) -> httpx2.Response:
    """One byte of the body arrives changed."""
    body = bytearray(await request.aread())
    body[len(body) // 2] ^= 1
    return await send(
        httpx2.Request(request.method, request.url, headers=request.headers, content=bytes(body))
    )


async def cut_body(request: httpx2.Request, send: Send) -> httpx2.Response:
    """The service gets half of the body, over a connection of its own, which is then lost."""
    body = await request.aread()
    head = f"{request.method} {request.url.raw_path.decode()} HTTP/1.1\r\n".encode()
    head += b"".join(name + b": " + value + b"\r\n" for name, value in request.headers.raw)
    reader, writer = await asyncio.open_connection(request.url.host, request.url.port)
    writer.write(head + b"\r\n" + body[: len(body) // 2])
    await writer.drain()
    writer.write_eof()
    await reader.read()  # the service has seen the end
    writer.close()
    await writer.wait_closed()
    raise httpx2.WriteError("connection reset")


def answer(status: int, slug: str, **headers: str) -> Fault:
    """A refusal instead of the service's answer."""

    async def refuse(request: httpx2.Request, send: Send) -> httpx2.Response:
        document = {"type": f"http://127.0.0.1:8000/errors/{slug}", "detail": "as planned"}
        return httpx2.Response(
            status,
            json=document,
            headers={k.replace("_", "-"): v for k, v in headers.items()},
            request=request,
        )

    return refuse


def cut_answer(after: int) -> Fault:
    """The answer's body ends early, with a lost connection."""

    async def cut(request: httpx2.Request, send: Send) -> httpx2.Response:
        real = await send(request)
        content = await real.aread()

        async def part() -> AsyncIterator[bytes]:
            yield content[:after]
            raise httpx2.ReadError("connection reset")

        return httpx2.Response(real.status_code, headers=real.headers, content=part(), request=request)

    return cut


def changed_answer(change: Callable[[bytes], bytes]) -> Fault:
    """The answer's body arrives changed."""

    async def alter(request: httpx2.Request, send: Send) -> httpx2.Response:
        real = await send(request)
        content = change(await real.aread())

        async def whole() -> AsyncIterator[bytes]:
            yield content

        headers = [item for item in real.headers.items() if item[0] != "content-length"]
        return httpx2.Response(real.status_code, headers=headers, content=whole(), request=request)

    return alter


class FaultyTransport(httpx2.AsyncBaseTransport):
    """Sends everything through `inner`, except what was planned to fail; keeps a list of all requests."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner: Final = inner
        self._planned: list[tuple[str, Fault]] = []
        self.sent: list[str] = []

    def plan(self, pattern: str, *faults: Fault) -> None:
        """Let the next requests whose `METHOD /path` matches go wrong, one after another."""
        self._planned.extend((pattern, fault) for fault in faults)

    def count(self, pattern: str) -> int:
        """Return how many requests matched."""
        return sum(re.search(pattern, line) is not None for line in self.sent)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        line = f"{request.method} {request.url.path}"
        self.sent.append(line)
        for position, (pattern, fault) in enumerate(self._planned):
            if re.search(pattern, line):
                del self._planned[position]
                return await fault(request, self._inner.handle_async_request)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()
