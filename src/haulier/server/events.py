"""One upload's progress as server-sent events.

Source: the WHATWG HTML standard, section "Server-sent events".
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from haulier.core.session import SessionStatus
from haulier.engine.uploads import UploadState
from haulier.server.schemas import StateOut

KEEP_ALIVE_S: Final = 15.0
"""A comment goes out that often: the standard's own advice against proxies that cut silent connections."""


class _ClientLeft(Exception):
    """The client hung up."""


class EventStream(Response):
    """`state` first and when the status changes, `progress` in between, `result` last."""

    media_type = "text/event-stream"

    def __init__(
        self,
        first: UploadState,
        states: AsyncGenerator[UploadState, None],
        present: Callable[[UploadState], Awaitable[StateOut]],
        *,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._first = first
        self._states = states
        self._present = present
        self._sleep = sleep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send events until the upload ended or the client left."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # Closed here, not when it is collected: its watcher must not outlive the client.
        with contextlib.suppress(_ClientLeft):
            async with contextlib.aclosing(self._states):
                await self._stream(receive, send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream(self, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                others = [group.create_task(self._keep_alive(send)), group.create_task(_hang_up(receive))]
                await self._events(send)
                for task in others:
                    task.cancel()
        except* _ClientLeft as left:
            raise _ClientLeft from left

    async def _events(self, send: Send) -> None:
        status: SessionStatus | None = None
        async for state in self._all_states():
            name = _name(state, status)
            status = state.upload.status
            document = (await self._present(state)).model_dump_json(by_alias=True)
            await _send(send, f"event: {name}\ndata: {document}\n\n")

    async def _all_states(self) -> AsyncIterator[UploadState]:
        yield self._first
        async for state in self._states:
            yield state

    async def _keep_alive(self, send: Send) -> None:
        while True:
            await self._sleep(KEEP_ALIVE_S)
            await _send(send, ": still here\n\n")


def _name(state: UploadState, before: SessionStatus | None) -> str:
    if not state.upload.status.live:
        return "result"
    return "progress" if state.upload.status is before else "state"


async def _send(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _ClientLeft
