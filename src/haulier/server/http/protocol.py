"""HTTP/1.1 on uvicorn: its httptools protocol, with a body path that copies nothing.

Rule 1: a body of known length whose `FastBody` is being received never meets the parser: slices of the
        one receive buffer go to `deliver`. A fresh parser reads what follows it.
Rule 2: whoever is answered can read the answer: a connection on which more may arrive is closed by
        sending our end, discarding theirs for a while, and only then closing (RFC 9112 section 9.6).
Rule 3: a trailer is never a header.
Rule 4: every wait for the client has a limit: heads, bodies (their silence and their speed), the time between requests,
        the goodbye.
Rule 5: an answer that is being given is never mixed with another: bytes that cannot be read as HTTP
        behind a request that is being served only end the connection after its answer.

One module although it is long: it is the life of one connection, phase by phase.

What is relied on of uvicorn beyond its options is listed in tests/unit/server/http/test_uvicorn_internals.py.
"""

import asyncio
import re
from enum import Enum, auto
from typing import Any, ClassVar, Final
from urllib.parse import unquote
from uuid import uuid4

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from haulier.core.digest import Buffer
from haulier.core.errors import RequestError
from haulier.server.errors import CodingNotSupported, HeadTimeout, RequestMalformed
from haulier.server.http.asgi import (
    BODY_EXTENSION,
    CONNECTION_EXTENSION,
    INTERIM_EXTENSION,
    TRAILERS_EXTENSION,
    FastBody,
)
from haulier.server.http.exchange import BodyWire, Exchange
from haulier.server.http.limits import BodyMeter, ConnectionLimits, HeadMeter
from haulier.server.http.refusals import refusal
from haulier.server.http.transport import Exit, Receiver, keep_in_cache, receive_buffer

_END_OF_AUTHORITY: Final = re.compile(rb"[/?#]")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_STOPPING_LINGER_S: Final = 2.0
"""How long a goodbye may take when the whole server goes: less than its 10 s."""


class _Phase(Enum):
    BETWEEN = auto()
    """Nothing of a next request has arrived."""
    HEAD = auto()
    BODY = auto()
    DEAF = auto()
    """Nothing that arrives is read as HTTP any more."""


class HaulierHttpProtocol(HttpToolsProtocol):
    """One connection of our server; see the rules above."""

    limits: ClassVar[ConnectionLimits] = ConnectionLimits()
    cycle: Exchange

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._phase = _Phase.BETWEEN
        self._since = 0.0
        """When the phase began; in BODY and DEAF: when something arrived last."""
        self._timer: asyncio.TimerHandle | None = None
        self._goodbye_until = 0.0
        self._stopping = False
        self._replaying = False
        self._meter = HeadMeter(self.limits)
        self._speed = BodyMeter(self.limits)
        self._connection: dict[str, Any] = {}
        """What the application remembers about this connection."""
        self._trailers: list[tuple[bytes, bytes]] = []
        self._wants_keep_alive = False
        self._body_left: int | None = 0
        """Bytes of this body still to come; None while unknown (chunked)."""
        self._direct: FastBody | None = None
        self._served: RequestResponseCycle | None = None
        """The request that the application was given last; others may have been read behind it."""

    # --- connection ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows what asyncio gives
        """Take the connection over; its transport reads into our buffer from here on."""
        self._exit = Exit(transport, self._close)
        super().connection_made(self._exit)
        keep_in_cache(transport)
        # uvloop refuses a protocol that is both kinds, so the receiver is an object of its own.
        transport.set_protocol(Receiver(self, self._exit, receive_buffer(self.loop)))
        self._since = self.loop.time()
        self._schedule(self._shortest_wait())

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application what its client did; a `FastBody` first gets what had arrived."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        super().connection_lost(exc)  # which tells the request that was read last
        if self._served is not None and not self._served.response_complete:
            self._served.disconnected = True
            self._served.message_event.set()
        self.pipeline.clear()
        self._exit.lost()  # nothing refers back to us any more: all is freed now, not by the collector
        direct, self._direct = self._direct, None
        if direct is not None:
            direct.cut()

    def shutdown(self) -> None:
        """Close as soon as the request that is being served is answered."""
        self._stopping = True
        if self._serving():
            super().shutdown()
        else:
            self._exit.close_now()

    def timeout_keep_alive_handler(self) -> None:
        """Leave it to our own timer, which knows bodies and heads in progress."""

    def _serving(self) -> bool:
        cycle: Exchange | None = self.cycle  # uvicorn's annotation leaves the None out
        return cycle is not None and not cycle.response_complete

    # --- bytes ---------------------------------------------------------------------------------------

    def bytes_received(self, view: memoryview) -> None:
        """Take what arrived; `view` is valid during this call only."""
        if self._phase is _Phase.DEAF:
            self._since = self.loop.time()
            return
        if self._direct is not None:
            view = self._feed_direct(self._direct, view)
        if view:
            self._parse(view)

    def _feed_direct(self, body: FastBody, view: memoryview) -> memoryview:
        assert self._body_left is not None
        self._since = self.loop.time()
        piece = view[: self._body_left]
        self._body_left -= len(piece)
        self._speed.count(len(piece))
        body.feed(piece)
        if not self._body_left:
            self._direct = None
            self._message_ended()
            self.cycle.more_body = False
            self.cycle.message_event.set()
        return view[len(piece) :]

    def _parse(self, view: memoryview) -> None:
        try:
            self.parser.feed_data(view)
            self._meter.fed(len(view))
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade()
            self._parse(view[upgrade.args[0] :])
        except RequestError as error:
            self._refuse(error)
        except httptools.HttpParserError as error:
            # What a report of the parser raises comes out as the cause of its own error.
            reason = error.__context__
            self._refuse(reason if isinstance(reason, RequestError) else RequestMalformed())
        else:
            if self._phase is _Phase.BODY:
                self._since = self.loop.time()

    def _ignore_upgrade(self) -> None:
        """Go on with the request's body, which the parser takes for another protocol.

        Source: RFC 9110 section 7.8: a server may ignore Upgrade. `curl --http2 -T` sends one.
        """
        framing = (
            "transfer-encoding: chunked" if self._body_left is None else f"content-length: {self._body_left}"
        )
        self._renew_parser()
        self._replaying = True
        self.parser.feed_data(f"POST / HTTP/1.1\r\n{framing}\r\n\r\n".encode())

    def _renew_parser(self) -> None:
        self.parser = httptools.HttpRequestParser(self)

    # --- the parser's reports ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._replaying:
            return
        self.url, self.headers = b"", []
        self.expect_100_continue = False
        self._phase = _Phase.HEAD
        self._since = self.loop.time()
        self._meter.begin()
        self._trailers = []

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        if not self._replaying:
            self._meter.count_target(self.url, url)
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field: a header, or after the head a trailer."""
        if self._replaying:
            return
        self._meter.count(len(name) + len(value), fields=1)
        name = name.lower()
        if self._phase is _Phase.BODY:
            self._trailers.append((name, value))
        else:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole: hand the request to the application, with our extensions."""
        if self._replaying:
            self._replaying = False
            return
        self._meter.reported()
        version = self.parser.get_http_version()
        self._check_framing(version)
        if not self.url.startswith(b"/"):
            self._prefer_name_in_target()
        self._wants_keep_alive = version != "1.0" and self.parser.should_keep_alive()
        exchange = self._exchange(version)
        before: Exchange | None = self.cycle  # uvicorn's annotation leaves the None out
        self.cycle = exchange
        self._phase = _Phase.BODY
        self._since = self.loop.time()
        self._speed.begin(self._since, held_s=self._exit.held_s())
        self._limit_keep_alive()
        if before is None or before.response_complete:
            self._start_asgi_task(exchange, self.app)
        else:  # it has its turn when all before it are answered
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))

    def _exchange(self, version: str) -> Exchange:
        """Return the request whose head is whole."""
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        extensions: dict[str, Any] = {
            CONNECTION_EXTENSION: self._connection,
            TRAILERS_EXTENSION: self._trailers,
        }
        scope: Any = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": self.parser.get_method().decode("ascii"),
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "headers": self.headers,
            "state": self.app_state.copy(),
            "extensions": extensions,
        }
        exchange = Exchange(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=self._wants_keep_alive,
            on_response=self.on_response_complete,
        )
        if self._body_left is not None:
            extensions[BODY_EXTENSION] = FastBody(BodyWire(self, exchange), self._body_left)
        if version == "1.1":
            extensions[INTERIM_EXTENSION] = exchange.send_interim
        return exchange

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._served = cycle
        super()._start_asgi_task(cycle, app)

    def _prefer_name_in_target(self) -> None:
        """Let the name in a target of absolute form stand for Host, so that no rule judges another one.

        Source: RFC 9112 section 3.2.2.
        """
        _, absolute, rest = self.url.partition(b"://")
        if absolute:
            authority = _END_OF_AUTHORITY.split(rest, maxsplit=1)[0]
            self.headers[:] = [field for field in self.headers if field[0] != b"host"]
            self.headers.append((b"host", authority))
            if not rest.startswith(b"/", len(authority)):  # RFC 9110 section 4.2.3: no path is the root's
                end = len(self.url) - len(rest) + len(authority)
                self.url = b"%s/%s" % (self.url[:end], self.url[end:])

    def _check_framing(self, version: str) -> None:
        """Take the body's length, and whether its sender waits to be asked for it, from the fields that the parser has judged.

        The parser lets 0.9 and 2.0 pass as well, in whose names nobody sends these fields with this meaning.

        Source: RFC 9112 sections 2.3, 6.1 and 6.3.
        """
        if version not in {"1.0", "1.1"}:
            raise RequestMalformed
        self._body_left = 0
        for name, value in self.headers:
            if name == b"content-length":
                self._body_left = int(value)
            elif name == b"transfer-encoding":
                self._body_left = None
                if value.lower() != b"chunked":
                    raise CodingNotSupported("chunked")
                if version == "1.0":  # which has no transfer codings
                    raise RequestMalformed
            elif name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True

    def on_body(self, body: bytes) -> None:
        """A piece of a body that nobody receives directly."""
        self._meter.reported()
        if self._body_left is not None:
            self._body_left -= len(body)
        self._speed.count(len(body))
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self.parser.should_upgrade():
            return
        self._message_ended()
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        """An answer is whole: read on, and have the next request answered if it has come already."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def _message_ended(self) -> None:
        self._phase = _Phase.BETWEEN
        self._since = self.loop.time()
        self._limit_keep_alive()

    def _limit_keep_alive(self) -> None:
        """Announce the connection's end in an answer that comes before the end of the body (Rule 2)."""
        cycle = self.cycle
        if cycle.response_started or self._stopping:
            return
        if self._phase is _Phase.BODY:
            drained = self._body_left is not None and self._body_left <= self.limits.drain_bytes
            # Who waits for 100 and gets something else may send the body or not: nobody could tell.
            cycle.keep_alive = self._wants_keep_alive and drained and not cycle.waiting_for_100_continue
        else:
            cycle.keep_alive = self._wants_keep_alive

    # --- the direct way of a body --------------------------------------------------------------------

    def attach(self, cycle: RequestResponseCycle, body: FastBody) -> Buffer:
        """Route the rest of this request's body to `body`; return what had arrived before."""
        ahead, cycle.body = cycle.body, bytearray()
        if not cycle.more_body:
            return ahead
        assert cycle is self.cycle  # a later request is parsed only behind the end of this one
        if cycle.disconnected or self._phase is not _Phase.BODY:
            body.cut()
            return ahead
        if cycle.waiting_for_100_continue:
            cycle.waiting_for_100_continue = False
            self._limit_keep_alive()
            if not ahead:
                self._exit.write(_CONTINUE)
        self._direct = body
        self._speed.begin(self.loop.time(), held_s=self._exit.held_s())
        self._renew_parser()
        return ahead

    def detach(self, body: FastBody) -> None:
        """Throw the rest of a body away that nobody wants, or leave it to the goodbye."""
        if self._direct is not body:
            return
        self._limit_keep_alive()
        if self.cycle.keep_alive:
            self.flow.resume_reading()
        else:
            self.flow.pause_reading()

    # --- ends ----------------------------------------------------------------------------------------

    def _refuse(self, error: RequestError) -> None:
        """Answer what is not HTTP, or too much or too slow of it."""
        if self._phase is _Phase.BODY and self._serving():
            self._break_body(malformed=True)
            return
        self._phase = _Phase.DEAF
        if self._serving():
            self.cycle.keep_alive = False
            return
        instance = f"urn:uuid:{uuid4()}"
        self.logger.info("refused a request (%s): %s", instance, error)
        headers = self.server_state.default_headers
        self._exit.write(refusal(error, self.server, headers, instance=instance))
        self._exit.close()

    def _break_body(self, *, malformed: bool) -> None:
        """Let the application find its body cut; it may still answer."""
        self._phase = _Phase.DEAF
        self.cycle.keep_alive = False
        direct, self._direct = self._direct, None
        if direct is not None:
            direct.cut()
        exchange = self.cycle
        exchange.broken = True
        exchange.malformed = malformed
        exchange.message_event.set()

    def _close(self) -> None:
        """Close so that what was written last can be read (Rule 2); called by the transport."""
        if self._phase is _Phase.BETWEEN and not self.flow.read_paused and not self.pipeline:
            self._exit.close_now()
            return
        self._phase = _Phase.DEAF
        self._direct = None
        self._since = self.loop.time()
        self._goodbye_until = self._since + (_STOPPING_LINGER_S if self._stopping else self.limits.linger_s)
        self._exit.say_goodbye()
        self.flow.resume_reading()
        self._schedule(min(self.limits.linger_silence_s, self._goodbye_until - self._since))

    # --- time ----------------------------------------------------------------------------------------

    def _shortest_wait(self) -> float:
        waits = (self.limits.head_s, self.limits.keep_alive_s, self.limits.body_silence_s)
        return min(*waits, self.limits.body_window_s)

    def _schedule(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(delay_s, self._check_time)

    def _check_time(self) -> None:
        # One lazy timer a connection: it looks at least once in every phase before that phase's limit.
        now = self.loop.time()
        if self._waits_for_us():
            self._since = now
        due = self._due()
        if now >= due or self._too_slow(now):
            self._expire()
        else:
            self._schedule(min(due - now, self._shortest_wait()))

    def _too_slow(self, now: float) -> bool:
        if self._phase is not _Phase.BODY:
            return False
        held_s = self._exit.held_s()
        if self.cycle.waiting_for_100_continue:
            self._speed.begin(now, held_s=held_s)
        return self._speed.too_slow(now, held_s=held_s)

    def _waits_for_us(self) -> bool:
        if self._phase is _Phase.BODY:
            return self.flow.read_paused or self.cycle.waiting_for_100_continue
        return self._serving() or (self._phase is _Phase.DEAF and not self._exit.is_closing())

    def _due(self) -> float:
        match self._phase:
            case _Phase.BETWEEN:
                return self._since + self.limits.keep_alive_s
            case _Phase.HEAD:
                return self._since + self.limits.head_s
            case _Phase.BODY:
                return self._since + self.limits.body_silence_s
            case _Phase.DEAF:
                return min(self._since + self.limits.linger_silence_s, self._goodbye_until)

    def _expire(self) -> None:
        if self._phase is _Phase.HEAD:
            self._refuse(HeadTimeout(self.limits.head_s))
        elif self._phase is _Phase.BODY and self._serving():
            self._break_body(malformed=False)
            self._schedule(self._shortest_wait())
        else:
            self._exit.abort()


def protocol_with(limits: ConnectionLimits) -> type[HaulierHttpProtocol]:
    """Return the protocol with these limits; uvicorn wants a class."""
    return type("HaulierHttpProtocol", (HaulierHttpProtocol,), {"limits": limits})
