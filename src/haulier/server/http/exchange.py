"""What each request gets from us beyond what uvicorn gives it."""

import asyncio
from collections.abc import MutableMapping
from typing import Any, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from haulier.core.digest import Buffer
from haulier.server.http.asgi import MALFORMED, FastBody, Headers
from haulier.server.http.transport import interim_response


class DirectConnection(Protocol):
    """What a `BodyWire` needs from the connection."""

    flow: FlowControl

    def attach(self, cycle: RequestResponseCycle, body: FastBody) -> Buffer:
        """Route the rest of this request's body to `body`; return what had arrived before."""
        ...

    def detach(self, body: FastBody) -> None:
        """Take note that nobody reads this body any more."""


class BodyWire:
    """The `Wire` of one request's `FastBody`."""

    __slots__ = ("_cycle", "_protocol")

    def __init__(self, protocol: DirectConnection, cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle

    def attach(self, body: FastBody) -> Buffer:
        """Start receiving."""
        return self._protocol.attach(self._cycle, body)

    def detach(self, body: FastBody) -> None:
        """Receive no more."""
        self._protocol.detach(body)

    def pause_reading(self) -> None:
        """Stop reading."""
        self._protocol.flow.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._protocol.flow.resume_reading()


class Messages:
    """A request's `receive`. uvicorn's own forgets, at a disconnect, what had arrived before it."""

    __slots__ = ("_cycle", "_ended", "_receive", "broken", "malformed")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._receive = cycle.receive
        self._ended = False
        self.broken = False
        """Whether the body broke HTTP's rules or was silent; the connection can still be answered."""
        self.malformed = False
        """Whether it is because of the rules."""

    async def next(self) -> MutableMapping[str, Any]:
        """Return the next message."""
        cycle = self._cycle
        if self.broken and not cycle.body:
            return {"type": "http.disconnect", MALFORMED: self.malformed}
        message: MutableMapping[str, Any] = dict(await self._receive())
        if message["type"] == "http.disconnect" and self._something_left():
            message = {"type": "http.request", "body": bytes(cycle.body), "more_body": cycle.more_body}
            cycle.body = bytearray()
        self._ended = self._ended or message.get("more_body") is False
        return message

    def _something_left(self) -> bool:
        cycle = self._cycle
        return not self._ended and not cycle.response_complete and bool(cycle.body or not cycle.more_body)


def without_ring(cycle: RequestResponseCycle, app: ASGIApp) -> ASGIApp:
    """Return `app` for one request, of which nothing refers to itself any more when it is over.

    Otherwise all of it stays until the garbage collector finds it, who takes a tenth of a short request's time.

    One that the end of the server cuts is no error: its connection is closed, whatever was not answered yet.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if not cycle.response_complete:
                cycle.disconnected = True  # nothing is said in place of an answer
                cycle.transport.close()
        finally:
            scope["extensions"].clear()
            del cycle.receive  # the protocol's, by which uvicorn's own was hidden; it has the cycle

    return serve


def send_interim(cycle: RequestResponseCycle, status: int, headers: Headers) -> None:
    """Send an interim response before the final one.

    Raises:
        ValueError: it is none.
    """
    if cycle.response_started:
        raise RuntimeError("an interim response after the final one")
    if not cycle.disconnected and not cycle.transport.is_closing():
        cycle.transport.write(interim_response(status, headers))
