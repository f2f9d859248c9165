"""One request with a body, and its answer, on one connection; blocking, for a thread of its own.

Rule 1: an answer may come before the body is over. One that refuses ends the sending, and the connection with
        it; any other waits until all bytes are out.
Rule 2: a connection that breaks while sending may still hold an answer (413, 507): what can be read is read first.
Rule 3: bytes go from the page cache to the socket by `sendfile`; over TLS, and from what is no file, in pieces.
Rule 4: nothing waits for ever: silence of the other side, in either direction, ends the exchange.
"""

import os
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

import h11

from haulier.body.answers import Answer, Fields, Headers
from haulier.core.errors import InvalidRequest, PeerUnreachable
from haulier.core.text import is_field_name, is_field_value
from haulier.sending_ports import Cargo

PIECE: Final = 256 * 1024
"""Bytes that are read and handed over at once where `sendfile` cannot be used; they stay in the CPU's cache."""
BURST: Final = 4 * 1024 * 1024
"""Bytes after which an early answer is looked for, even if the socket takes more without a pause."""
TELL: Final = 1024 * 1024
"""Bytes after which progress is told; more often, nobody could see a difference."""
TELL_S: Final = 0.1
"""Seconds between two words of progress, as bars are drawn ten times a second: each wakes the event loop, and whoever listens
there, which costs more than sending a megabyte."""
MAX_ANSWER: Final = 1024 * 1024
"""Bytes of an answer's body that are read. Answers to bodies are results and problems, never files."""
MAX_HEAD: Final = 64 * 1024
"""Bytes of an answer's head, and of that of each interim response. Precedent: curl takes 100 KiB for a header."""
MAX_INTERIM: Final = 1024 * 1024
"""Bytes before the answer: interim responses tell progress once a second or so, and 104 takes a hundred bytes: three hours."""
READ: Final = 64 * 1024
LEFT: Final = "it closed the connection without an answer"

WOULD_BLOCK: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
"""Methods of which nobody expects a body; one of no bytes is not announced. Source: RFC 9110 section 8.6."""


class Exchange:
    """See the head of this file. `advance` is called until it is true, then `answer` once.

    Args:
        connection: non-blocking; it stays the caller's.
        head: method, target and fields, without any about the body's length.
        cargo: the body.
        url: for the texts of errors.
        silence_s: how long the other side may neither take nor give a byte.
        told: called with the number of bytes handed over, now and then and at the end.
        most: bytes of the answer's body that are read.
    """

    def __init__(
        self,
        connection: socket.socket,
        head: tuple[str, str, Fields],
        cargo: Cargo,
        *,
        url: str,
        silence_s: float,
        told: Callable[[int], None],
        most: int = MAX_ANSWER,
    ) -> None:
        self._connection = connection
        self._cargo = cargo
        self._url = url
        self._silence_ms = int(silence_s * 1000)
        self._told = told
        self._most = most
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._by_sendfile = cargo.source.descriptor is not None and not isinstance(connection, ssl.SSLSocket)
        self._pending = memoryview(self._encode(*head))
        self._position = cargo.start
        self._told_at = cargo.start
        self._tell_from = 0.0
        self._broken: OSError | None = None
        self._response: h11.Response | None = None
        self._body = bytearray()
        self._before = 0
        """Bytes that came while there was no answer."""
        self._answered = False
        self._poll = select.poll()

    @property
    def unsent(self) -> int:
        """Bytes of the body that have not been handed over, and are still wanted."""
        return 0 if self._refused or self._broken else self._cargo.stop - self._position

    def advance(self, allowance: int | None, kept: int = 0) -> bool:
        """Send up to `allowance` bytes (None: until a throttle is set), and read the answer; true when it is over.

        The last `kept` bytes of the cargo stay behind.

        Raises:
            PeerUnreachable: the connection broke, was silent for too long, or carries an endless answer.
            SourceChanged: the source is shorter than the cargo.
            OSError: the source cannot be read.
        """
        stop = self._cargo.stop - kept
        if allowance is not None:
            stop = min(self._position + allowance, stop)
        while not self._is_over:
            if self._sends(stop):
                self._send(stop)
            pauses = self.unsent and (self._position >= stop or (allowance is None and self._is_throttled()))
            if not self._is_over:
                self._wait(stop, at_most_ms=0 if pauses else self._silence_ms)
            if pauses and self.unsent:
                return False
        return True

    def answer(self) -> Answer:
        """Return what was answered."""
        assert self._response is not None
        return Answer(
            status_code=self._response.status_code,
            headers=Headers(
                [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._response.headers]
            ),
            content=bytes(self._body),
            keeps_alive=self._broken is None
            and self._http.our_state is h11.DONE
            and self._http.their_state is h11.DONE,
        )

    @property
    def _refused(self) -> bool:
        return self._response is not None and self._response.status_code >= 300

    @property
    def _is_over(self) -> bool:
        # An answer that came early and refuses nothing is worth nothing before the body is out.
        return self._answered and (self._refused or self._all_out)

    @property
    def _all_out(self) -> bool:
        return self._position == self._cargo.stop and not self._pending

    def _is_throttled(self) -> bool:
        return self._cargo.throttle is not None and self._cargo.throttle.piece is not None

    def _sends(self, stop: int) -> bool:
        return not self._refused and self._broken is None and bool(self._pending or self._position < stop)

    def _encode(self, method: str, target: str, fields: Fields) -> bytes:
        announced = bool(self._cargo.size) or method not in BODILESS
        length = [("Content-Length", str(self._cargo.size))] if announced else []
        try:
            request = h11.Request(method=method, target=target, headers=[*fields, *length])
            encoded = self._http.send(request)
        except (h11.LocalProtocolError, UnicodeEncodeError):
            raise InvalidRequest.of("request", f"HTTP cannot carry {_what_of(fields)}") from None
        assert encoded is not None
        return encoded

    def _send(self, stop: int) -> None:
        """Hand over bytes until the socket takes no more."""
        stop = min(stop, self._position + BURST)
        try:
            while (self._pending or self._position < stop) and self._send_some(stop):
                pass
        except WOULD_BLOCK:
            pass
        except (ConnectionError, TimeoutError, ssl.SSLError) as error:
            self._broken = error
        self._finish_sending()
        self._tell()

    def _send_some(self, stop: int) -> bool:
        """Hand over what goes in one step; return whether more is worth a try."""
        if self._pending:
            # Asked again after a part: over TLS that is one record, and says nothing about the socket.
            self._pending = self._pending[self._connection.send(self._pending) :]
        elif self._by_sendfile:
            return self._send_file(stop)
        else:
            piece = self._cargo.source.read(self._position, min(self._position + PIECE, stop))
            self._pending = memoryview(piece)
            self._position += len(piece)
        return True

    def _send_file(self, stop: int) -> bool:
        descriptor, wanted = self._cargo.source.descriptor, stop - self._position
        assert descriptor is not None
        try:
            sent = os.sendfile(self._connection.fileno(), descriptor, self._position, wanted)
        except (*WOULD_BLOCK, ConnectionError, TimeoutError):
            raise
        except OSError:  # a file system that does not know it; or a bad disk, which reading will tell
            sent = 0
        # At the file's end, too, nothing is sent: then reading tells that it is shorter than it was.
        self._by_sendfile = sent > 0
        self._position += sent
        # Only a part went: the socket is full, and to be told so by another call costs as much as to wait.
        return sent in {0, wanted}

    def _finish_sending(self) -> None:
        """Let h11 know that the body is out: only then may another request follow on this connection."""
        if self._all_out and self._http.our_state is h11.SEND_BODY:
            # Counted once, as announced: h11 takes as long over each piece as the kernel does.
            self._http.send_with_data_passthrough(h11.Data(data=_Count(self._cargo.size)))  # type: ignore[arg-type]
            self._http.send(h11.EndOfMessage())

    def _tell(self) -> None:
        count, now = self._position - self._told_at, time.monotonic()
        due = count >= TELL and now >= self._tell_from
        if due or self._position == self._cargo.stop > self._told_at:
            self._told_at, self._tell_from = self._position, now + TELL_S
            self._told(self._position - self._cargo.start)

    def _wait(self, stop: int, *, at_most_ms: int) -> None:
        """Wait until bytes can go or come; take those that came."""
        wanted = select.POLLIN | (select.POLLOUT if self._sends(stop) else 0)
        self._poll.register(self._connection, wanted)
        ready = self._poll.poll(at_most_ms)
        if not ready and at_most_ms:
            if self._refused:
                self._end_early("it was silent for too long")
                return
            raise PeerUnreachable(self._url, "it was silent for too long", too_slow=True)
        if ready and ready[0][1] & ~select.POLLOUT:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._connection.recv(READ)
        except WOULD_BLOCK:
            return
        except OSError as error:
            self._broken = self._broken or error
            data = b""
        self._before += len(data) if self._response is None else 0
        try:
            self._http.receive_data(data)
            self._take_events()
        except h11.RemoteProtocolError as error:
            # Of an end before any answer h11 tells in which of its states that is none.
            self._end_early(str(error) if data or self._response is not None else LEFT)
        if self._response is None and self._before > MAX_INTERIM:
            self._end_early("it says everything but an answer")
        if not data and not self._is_over:
            self._end_early(LEFT)

    def _take_events(self) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Response):
                self._response = event
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > self._most:
                    del self._body[self._most :]
                    self._end_early(f"its answer is longer than {self._most} bytes")
                    return
            elif isinstance(event, h11.EndOfMessage):
                self._answered = True
                return
            elif not isinstance(event, h11.InformationalResponse):
                return

    def _end_early(self, reason: str) -> None:
        """What was said before the end is an answer, if it refuses; half a success is none."""
        if not self._refused:
            raise PeerUnreachable(self._url, str(self._broken or reason))
        self._broken = self._broken or ConnectionAbortedError(reason)
        self._answered = True


def _what_of(fields: Fields) -> str:
    """Name what HTTP cannot carry, and never tell it: it may be a secret."""
    wrong = [
        name for name, value in fields if not is_field_name(name) or (value and not is_field_value(value))
    ]
    return (
        f"the header {wrong[0]!r}: its value, or its name"
        if wrong
        else "the address, or these headers together"
    )


class _Count:
    """Stands for bytes that went another way."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count
