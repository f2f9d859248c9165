"""What each request gets from us beyond what uvicorn gives it."""

import asyncio
import re
from typing import Any, Final, Protocol

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from haulier.core.digest import Buffer
from haulier.server.http.asgi import MALFORMED, FastBody, Headers
from haulier.server.http.transport import interim_response

_NAMES: Final = re.compile(rb"[0-9a-z-]*")
_VALUES: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


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


class Exchange(RequestResponseCycle):
    """One request and its answer, as uvicorn has them, except for four things.

    Rule 1: what had arrived is told before a disconnect, which uvicorn's `receive` forgets.
    Rule 2: when it is over, nothing of it refers to itself. Otherwise all of it would stay until the garbage collector finds
            it, who takes a tenth of a short request's time.
    Rule 3: one that the end of the server cuts is no error: its connection is closed, whatever was not answered yet.
    Rule 4: an answer of known length goes a short way; whatever is not plain about it is uvicorn's to say or to send.
    """

    scope: Any  # uvicorn's own names each of its keys
    broken = False
    """Whether the body broke HTTP's rules or was silent; the connection can still be answered."""
    malformed = False
    """Whether it is because of the rules."""
    _ended = False
    """Whether the application was told the end of the body."""

    async def run_asgi(self, app: Any) -> None:
        """Have the request answered; whatever `app` raises is logged, and answered if it still can be."""
        try:
            await app(self.scope, self.receive, self.send)
            if not self.response_complete and not self.disconnected:
                await self._give_up("ASGI callable returned without completing its response.")
        except asyncio.CancelledError:
            if not self.response_complete:
                self.disconnected = True  # nothing is said in place of an answer
                self.transport.close()
        except BaseException as error:  # noqa: BLE001 - the task's end: nobody else would ever hear of it
            await self._give_up("Exception in ASGI application", error)
        finally:
            self.scope["extensions"].clear()  # the body, and whoever sends interim responses, have this
            self.on_response = _nothing  # the connection's, which has this

    async def _give_up(self, reason: str, error: BaseException | None = None) -> None:
        self.logger.error(reason, exc_info=error)
        if self.response_started:
            self.transport.close()
        else:
            await self.send_500_response()

    async def receive(self) -> Any:
        """Return the next message."""
        if self.broken and not self.body:
            return {"type": "http.disconnect", MALFORMED: self.malformed}
        message: Any = await super().receive()
        if message["type"] == "http.disconnect" and self._something_left():
            message = {"type": "http.request", "body": bytes(self.body), "more_body": self.more_body}
            self.body = bytearray()
        self._ended = self._ended or message.get("more_body") is False
        return message

    def _something_left(self) -> bool:
        return not self._ended and not self.response_complete and bool(self.body or not self.more_body)

    async def send(self, message: Any) -> None:
        """Send a part of the answer."""
        if self.disconnected or self.flow.write_paused or self.scope["method"] == "HEAD":
            await super().send(message)
        elif not self.response_started:
            head = self._plain_head(message)
            if head is None:
                await super().send(message)
            else:
                self.response_started = True
                self.waiting_for_100_continue = False
                self.transport.write(head)
        elif self._is_whole(message):
            self.transport.write(message.get("body", b""))
            self.expected_content_length = 0
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()
        else:
            await super().send(message)

    def _plain_head(self, message: Any) -> bytes | None:
        """Return the head of an answer that says its length and nothing about the connection; None: not such a one.

        All names, and all values, are judged at once: what one of them must not have, their sum must not have.
        """
        if message["type"] != "http.response.start":
            return None
        fields = [*self.default_headers, *message.get("headers", ())]
        names, values = zip(*fields, strict=True) if fields else ((), ())
        if (
            names.count(b"content-length") != 1
            or not (length := values[names.index(b"content-length")]).isdigit()
            or b"connection" in names
            or b"transfer-encoding" in names
            or _NAMES.fullmatch(b"".join(names)) is None
            or _VALUES.fullmatch(b"".join(values)) is None
        ):
            return None
        self.expected_content_length = int(length)
        self.chunked_encoding = False
        lines = [b"%b: %b\r\n" % (name, value) for name, value in fields]
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        return b"%b%b%b" % (STATUS_LINE[message["status"]], b"".join(lines), end)

    def _is_whole(self, message: Any) -> bool:
        """Whether a message is all of the answer's body."""
        return (
            message["type"] == "http.response.body"
            and self.chunked_encoding is False
            and not self.response_complete
            and not message.get("more_body", False)
            and len(message.get("body", b"")) == self.expected_content_length
        )

    def send_interim(self, status: int, headers: Headers) -> None:
        """Send an interim response before the final one.

        Raises:
            ValueError: it is none.
        """
        if self.response_started:
            raise RuntimeError("an interim response after the final one")
        if not self.disconnected and not self.transport.is_closing():
            self.transport.write(interim_response(status, headers))


def _nothing() -> None:
    """Stand in the place of `on_response` when the exchange is over."""
