"""Request bodies: the port `Body` on top of any ASGI server, and faster on our own.

Rule 1: whoever reads a body asks `open_body`, or `open_pieces` to read by pulling, and knows neither server nor protocol.
Rule 2: only an announced end is an end; whatever else stops a body is named by its `BodyEnd`.
Rule 3: pieces reach `deliver` in order, one at a time, and bytes that arrived before a cut reach it too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final, Protocol

from haulier.core.digest import Buffer
from haulier.ports import Body, BodyEnd, Deliver

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Headers = Iterable[tuple[bytes, bytes]]
Interim = Callable[[int, Headers], None]
"""Sends an interim (1xx) response. Raises ValueError for what is not one."""

BODY_EXTENSION: Final = "haulier.body"
"""In `scope["extensions"]` on our own server, for a body of known length: its `FastBody`."""
INTERIM_EXTENSION: Final = "haulier.interim"
"""In `scope["extensions"]` on our own server, for HTTP/1.1: an `Interim`."""
CONNECTION_EXTENSION: Final = "haulier.connection"
"""In `scope["extensions"]` on our own server: a dict that lives as long as the connection."""
TRAILERS_EXTENSION: Final = "haulier.trailers"
"""In `scope["extensions"]` on our own server: the list of trailers, complete when the body is."""

MALFORMED: Final = "haulier.malformed"
"""In the disconnect message of our own server: whether the body broke HTTP's rules, and its sender is still there."""

BODY_SILENCE_S: Final = 60.0
"""A body from which nothing comes for so long is cut: nginx's client_body_timeout."""


def open_body(scope: Scope, receive: Receive, *, silence_s: float = BODY_SILENCE_S) -> Body:
    """Return the request's body, by the fastest way that this server and this request allow.

    Args:
        scope: The ASGI scope of the request.
        receive: The ASGI `receive` of the request; nobody else may read from it.
        silence_s: How long the ordinary way waits for a message. The fast way has its connection's limit.
    """
    fast: FastBody | None = scope.get("extensions", {}).get(BODY_EXTENSION)
    return AsgiBody(scope, receive, silence_s=silence_s) if fast is None else fast


def open_pieces(scope: Scope, receive: Receive, *, silence_s: float = BODY_SILENCE_S) -> "AsgiBody":
    """As `open_body`, for whoever pulls pieces, as a parser does: only messages can be pulled, so this is one copy slower."""
    return AsgiBody(scope, receive, silence_s=silence_s)


def announced_length(scope: Scope) -> int | None:
    """Return how long the body will be; None when its sender does not say.

    Source: RFC 9112 section 6.3: a request without both fields has no body (in HTTP/2 it may have).
    """
    fields = dict(scope["headers"])
    if b"transfer-encoding" in fields:
        return None
    length = fields.get(b"content-length")
    if length is not None:
        return int(length)
    return 0 if str(scope.get("http_version", "1.1")).startswith("1") else None


class AsgiBody:
    """A body as ASGI messages: of unknown length, or on a server that is not ours."""

    def __init__(self, scope: Scope, receive: Receive, *, silence_s: float = BODY_SILENCE_S) -> None:
        self._length = announced_length(scope)
        self._messages = receive
        self._silence_s = silence_s
        self._received = 0
        self._last = False
        """Whether the last message has come."""
        self._stopped = False
        self._wait: asyncio.Timeout | None = None

    @property
    def length(self) -> int | None:
        """Announced bytes; None when the sender does not say."""
        return self._length

    async def receive(self, deliver: Deliver, *, limit: int | None = None) -> BodyEnd:
        """Hand every piece to `deliver`, in order, until the body ends; to be called once."""
        received = 0
        while True:
            piece = await self.next_piece()
            if isinstance(piece, BodyEnd):
                return piece
            room = len(piece) if limit is None else limit - received
            if piece[:room]:
                await handed_over(deliver, memoryview(piece)[:room])
            if len(piece) > room:
                return BodyEnd.LIMIT
            received += len(piece)

    async def next_piece(self) -> bytes | BodyEnd:
        """Return what comes next, perhaps nothing, or why nothing more comes: for whoever reads by pulling."""
        if self._last:
            return self._announced_end()
        message = await self._next()
        if isinstance(message, BodyEnd):
            return message
        self._last = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        self._received += len(piece)
        return piece

    def stop(self) -> None:
        """Make a running or later `receive` end with `STOPPED`; harmless when it has ended."""
        self._stopped = True
        if self._wait is not None and not self._wait.expired():  # else it is ending already
            self._wait.reschedule(asyncio.get_running_loop().time())

    async def _next(self) -> MutableMapping[str, Any] | BodyEnd:
        if self._stopped:
            return BodyEnd.STOPPED
        try:
            async with asyncio.timeout(self._silence_s) as self._wait:
                message = await self._messages()
        except TimeoutError:
            return self._unannounced_end()
        finally:
            self._wait = None
        if message["type"] != "http.disconnect":
            return message
        return BodyEnd.MALFORMED if message.get(MALFORMED) else BodyEnd.CUT

    def _unannounced_end(self) -> BodyEnd:
        return BodyEnd.STOPPED if self._stopped else BodyEnd.CUT

    def _announced_end(self) -> BodyEnd:
        # Some servers end a body of a request to upgrade (`curl --http2`) at once, without its bytes.
        whole = self._length is None or self._received == self._length
        return BodyEnd.COMPLETE if whole else BodyEnd.CUT


async def handed_over(deliver: Deliver, piece: Buffer) -> None:
    """Deliver a piece, and return once it may be reused."""
    pending = deliver(piece)
    if pending is not None:
        await pending


class Wire(Protocol):
    """What a `FastBody` needs from the connection that it comes through."""

    def attach(self, body: "FastBody") -> Buffer:
        """Route the rest of the body to `body.feed`; return what had arrived before."""
        ...

    def detach(self, body: "FastBody") -> None:
        """Take note that nobody reads this body any more."""

    def pause_reading(self) -> None:
        """Stop reading from the connection; may be repeated."""

    def resume_reading(self) -> None:
        """Read again; may be repeated."""


class FastBody:
    """A body of known length on our own protocol: pieces go from the receive buffer to `deliver`.

    The connection calls `feed` and `cut`; the application calls `receive` and `stop`. Nothing is copied
    unless `deliver` returned an awaitable and more arrives before it is done.
    """

    def __init__(self, wire: Wire, length: int) -> None:
        self._wire = wire
        self.length = length
        """Announced bytes."""
        self._wanted = 0
        """Bytes up to the announced end or the limit, whichever comes first."""
        self._missing = 0
        """Bytes of these that have not arrived; 0 before and after `receive`, so that `feed` drops them."""
        self._deliver: Deliver | None = None
        self._pending: Awaitable[None] | None = None
        self._backlog = bytearray()
        self._failure: BaseException | None = None
        self._stopped = False
        self._cut = False
        self._changed: asyncio.Event | None = None
        """What `receive` waits for; a short body is here before anybody waits."""

    async def receive(self, deliver: Deliver, *, limit: int | None = None) -> BodyEnd:
        """Hand every piece to `deliver`, in order, until the body ends; to be called once."""
        if self._stopped:
            return BodyEnd.STOPPED
        self._deliver = deliver
        self._wanted = self._missing = self.length if limit is None else min(self.length, limit)
        try:
            self.feed(self._wire.attach(self))
            return await self._pump()
        finally:
            self._missing = 0
            self._deliver = None  # it may be a method of whoever has this body
            self._wire.detach(self)

    def stop(self) -> None:
        """Make a running or later `receive` end with `STOPPED`; harmless when it has ended."""
        self._stopped = True
        self._tell()

    def cut(self) -> None:
        """Take note that nothing more will arrive; what has arrived is still delivered."""
        self._cut = True
        self._tell()

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set()

    def feed(self, piece: Buffer) -> None:
        """Take the next bytes from the wire, which are valid during this call only."""
        piece = memoryview(piece)[: self._missing]
        if not piece:
            return
        self._missing -= len(piece)
        if self._pending is None and not self._backlog:
            self._hand_over(piece)
        else:
            self._backlog += piece
            self._wire.pause_reading()
        if not self._missing:
            self._tell()

    def _hand_over(self, piece: Buffer) -> None:
        assert self._deliver is not None
        try:
            self._pending = self._deliver(piece)
        except BaseException as error:  # noqa: BLE001 - raised again where `receive` is awaited
            self._failure = error
            self._missing = 0
        if self._pending is not None or self._failure is not None:
            self._wire.pause_reading()
            self._tell()

    async def _pump(self) -> BodyEnd:
        while True:
            if self._pending is not None:
                await self._pending
                self._pending = None
            elif self._failure is not None:
                raise self._failure
            elif self._backlog:
                piece, self._backlog = self._backlog, bytearray()
                self._hand_over(piece)
            else:
                end = self._end()
                if end is not None:
                    return end
                await self._wait()

    def _end(self) -> BodyEnd | None:
        if not self._missing:
            return BodyEnd.COMPLETE if self._wanted == self.length else BodyEnd.LIMIT
        if self._stopped:
            return BodyEnd.STOPPED
        return BodyEnd.CUT if self._cut else None

    async def _wait(self) -> None:
        changed = self._changed = self._changed or asyncio.Event()
        changed.clear()
        self._wire.resume_reading()
        try:
            await changed.wait()
        except asyncio.CancelledError:
            if self._pending is not None:  # a write that has begun is finished
                await self._pending
            raise
