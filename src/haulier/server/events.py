"""Server-sent events: one upload's progress, and what happens to records.

Rule 1: a stream holds nothing for its reader: the next message is made when the last one has left. So a slow reader
        costs a connection, and one that takes nothing for a minute is cut; it comes back where it was.
Source: the WHATWG HTML standard, section "Server-sent events".
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from haulier.core.session import SessionStatus
from haulier.core.values import dataclass
from haulier.engine.uploads import UploadState
from haulier.server.schemas import StateOut

KEEP_ALIVE_S: Final = 15.0
"""A comment goes out that often: the standard's own advice against proxies that cut silent connections."""
COMMENT: Final = ": still here\n\n"
BEAT: Final = "event: beat\ndata: {}\n\n"
"""The same for `EventSource`, which shows no comments to its page."""
BEATS: Final = 240
"""Comments after which a stream ends, an hour: whoever comes back is asked again who it is."""
STUCK_S: Final = 60.0
"""How long a reader may take nothing; as long as a sender may be silent."""


class _Over(Exception):
    """The client hung up or takes nothing, or the stream is old enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One event. Without data its reader is told nothing, but comes back with its id."""

    name: str = ""
    data: str = ""
    """One line."""
    id: str | None = None


class EventStream(Response):
    """Messages as they come, and comments while none do."""

    media_type = "text/event-stream"

    def __init__(
        self,
        messages: AsyncGenerator[Message, None],
        *,
        sleep: Callable[[float], Awaitable[None]],
        alive: str = COMMENT,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._messages = messages
        self._sleep = sleep
        self._alive = alive
        self._id: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send events until there are no more or the client left."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # Closed here, not when it is collected: its watcher must not outlive the client.
        with contextlib.suppress(_Over):
            async with aclosing(self._messages):
                await self._stream(receive, send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream(self, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                others = [group.create_task(self._keep_alive(send)), group.create_task(_hang_up(receive))]
                await self._send_all(send)
                for task in others:
                    task.cancel()
        except* _Over as over:
            raise _Over from over

    async def _send_all(self, send: Send) -> None:
        async for message in self._messages:
            if message.data:
                lines = [f"event: {message.name}\n", f"data: {message.data}\n\n"]
                await _send(send, self._id_line(message.id) + "".join(lines))
            else:
                self._id = message.id

    async def _keep_alive(self, send: Send) -> None:
        for _ in range(BEATS):
            await self._sleep(KEEP_ALIVE_S)
            await _send(send, self._id_line(self._id) + self._alive)
        raise _Over

    def _id_line(self, of: str | None) -> str:
        self._id = None
        return "" if of is None else f"id: {of}\n"


async def merged(
    first: AsyncGenerator[Message, None], *others: AsyncGenerator[Message, None]
) -> AsyncGenerator[Message, None]:
    """Yield the messages of several streams as they come; ends with the first one, and closes all."""
    loop = asyncio.get_running_loop()
    # Tasks owned here: each is awaited before this ends.
    next_of = {loop.create_task(_next(stream)): stream for stream in (first, *others)}
    try:
        while first in next_of.values():
            done, _ = await asyncio.wait(next_of, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                stream, message = next_of.pop(task), task.result()
                if message is not None:
                    yield message
                    next_of[loop.create_task(_next(stream))] = stream
    finally:
        for task in next_of:
            task.cancel()
        await asyncio.gather(*next_of, return_exceptions=True)
        for stream in (first, *others):
            await stream.aclose()


async def _next(stream: AsyncGenerator[Message, None]) -> Message | None:
    return await anext(stream, None)


async def upload_messages(
    first: UploadState,
    states: AsyncGenerator[UploadState, None],
    present: Callable[[UploadState], Awaitable[StateOut]],
) -> AsyncGenerator[Message, None]:
    """Yield `state` first and when the status changes, `progress` in between, `result` last."""
    status: SessionStatus | None = None
    async with aclosing(states):
        async for state in _with_first(first, states):
            name = _name(state, status)
            status = state.upload.status
            yield Message(name=name, data=(await present(state)).model_dump_json(by_alias=True))


async def _with_first(
    first: UploadState, states: AsyncGenerator[UploadState, None]
) -> AsyncIterator[UploadState]:
    yield first
    async for state in states:
        yield state


def _name(state: UploadState, before: SessionStatus | None) -> str:
    if not state.upload.status.live:
        return "result"
    return "progress" if state.upload.status is before else "state"


async def _send(send: Send, text: str) -> None:
    try:
        async with asyncio.timeout(STUCK_S):
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
    except TimeoutError:
        raise _Over from None


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _Over
