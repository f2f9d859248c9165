"""Frames out of a stream of bytes and into one, without any I/O.

Rule 1: a frame that is too long is refused as soon as its length and code are read, before any of its body is
        kept.
Rule 2: a frame of an unknown code is skipped as it comes, and kept nowhere but in a count.
Rule 3: a known frame whose body cannot be read is an event, not an error: the next frame begins where this one
        ends all the same, so its reader may go on or close.
Rule 4: nothing behind the frame that is being read is asked for (`wanted`), so that a stream can change what
        it carries after any frame.
"""

from collections.abc import Iterator
from struct import calcsize, unpack_from
from typing import Final

from haulier.core.values import dataclass
from haulier.soulseek.codec import MalformedMessage, Message, Table

_LENGTH: Final = 4
READ_SIZE: Final = 64 * 1024
"""Bytes that are read at most at a time."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame of a known code whose body is not what it should be."""

    code: int
    reason: str


Event = Message | Unreadable


class Frames:
    """One side of a connection: takes what arrived, gives messages; takes messages, gives what to send.

    Args:
        incoming: What may come.
        outgoing: What may be sent.
    """

    def __init__(self, incoming: Table, outgoing: Table) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._head = _LENGTH + calcsize(incoming.code.format)
        self._buffer = bytearray()
        self._frame: int | None = None
        """The length of the frame whose head has been judged, with the length itself."""
        self._skip = 0
        self._out = bytearray()
        self._limits: dict[int, int] = {}
        self._unknown = 0
        self.fault: MalformedMessage | None = None

    def take_unknown(self) -> int:
        """Return how many frames of unknown codes have begun since the last call."""
        unknown, self._unknown = self._unknown, 0
        return unknown

    @property
    def wanted(self) -> int:
        """How many bytes can be read now without reading beyond a frame; at least 1."""
        missing = self._skip or (self._frame or self._head) - len(self._buffer)
        return min(max(1, missing), READ_SIZE)

    def limit(self, code: int, size: int | None) -> None:
        """Let frames of that code be no longer than `size`; None: as long as its table says."""
        if size is None:
            self._limits.pop(code, None)
        else:
            self._limits[code] = size

    def switch(self, incoming: Table, outgoing: Table) -> None:
        """From the next frame on, other messages come and go."""
        assert not self._buffer, "what follows must not have been read"
        self._incoming, self._outgoing = incoming, outgoing
        self._head = _LENGTH + calcsize(incoming.code.format)

    def receive_data(self, data: bytes) -> None:
        """Take what arrived; after a fault it goes nowhere."""
        if self.fault is not None:
            return
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._buffer += data[skipped:] if skipped else data

    def events(self) -> Iterator[Event]:
        """Yield what is complete."""
        while self.fault is None:
            if self._frame is None and not self._judge():
                return
            assert self._frame is not None
            if len(self._buffer) < self._frame:
                return
            yield self._next()

    def send(self, message: Message) -> None:
        """Add a message to what is to be sent."""
        self._out += self._outgoing.encode(message)

    def data_to_send(self) -> bytes:
        """Return what is to be sent, once."""
        data, self._out = bytes(self._out), bytearray()
        return data

    def should_close(self) -> bool:
        """Whether nothing that arrives can be understood any more; `fault` says why."""
        return self.fault is not None

    def _judge(self) -> bool:
        """Read the head of the next known frame, skipping unknown ones; False when it is not there yet."""
        while not self._skip and len(self._buffer) >= self._head:
            (length,) = unpack_from("<I", self._buffer)
            (code,) = unpack_from(self._incoming.code.format, self._buffer, _LENGTH)
            reason = self._refusal(length, code)
            if reason is not None:
                self.fault = MalformedMessage(reason)
                self._buffer.clear()
                return False
            if code in self._incoming:
                self._frame = _LENGTH + length
                return True
            self._begin_to_skip(_LENGTH + length)
        return False

    def _refusal(self, length: int, code: int) -> str | None:
        if length < self._head - _LENGTH:
            return f"a frame of {length} bytes, in which no code has room"
        limit = self._limits.get(code, self._incoming.limit_of(code))
        return (
            f"a frame of {length} bytes, code {code}, of which {limit} are allowed"
            if length > limit
            else None
        )

    def _begin_to_skip(self, size: int) -> None:
        self._unknown += 1
        here = min(size, len(self._buffer))
        del self._buffer[:here]
        self._skip = size - here

    def _next(self) -> Event:
        assert self._frame is not None
        (code,) = unpack_from(self._incoming.code.format, self._buffer, _LENGTH)
        body = bytes(self._buffer[self._head : self._frame])
        del self._buffer[: self._frame]
        self._frame = None
        try:
            return self._incoming.decode(code, body)
        except MalformedMessage as error:
            return Unreadable(code, error.reason)
