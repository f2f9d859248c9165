"""Fields, messages and tables of messages: how values become bytes and bytes values.

Rule 1: everything is little-endian; integers are u32 and booleans one byte unless a message says otherwise.
Rule 2: text is bytes on the wire. It is read as UTF-8 with `surrogateescape`, so that whatever came can be
        sent back byte for byte, in no matter which encoding it was.
Rule 3: nothing is allocated because a count or a length says so; only bytes that are there are read.
Rule 4: bytes behind the last known field are ignored; fields with a default may be absent at the end.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import MISSING, field, fields
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Protocol,
    Self,
    TypeVar,
    dataclass_transform,
    get_type_hints,
)

from haulier.core.errors import PeerError
from haulier.core.values import dataclass

NAME_LIMIT: Final = 256
"""Bytes of a user's name; servers allow 30 characters."""
_INFLATE_STEP: Final = 64 * 1024
"""Bytes that are inflated at a time: a bomb never gets further than one step beyond what is read."""
_BOMB: Final = "the content inflates to more than is allowed"

T = TypeVar("T")
M = TypeVar("M", bound="Message")


class MalformedMessage(PeerError):
    """Bytes that are no message of the protocol, or more of them than allowed."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class Reader:
    """Reads fields in order from bytes that are there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._data) and not self._refill(1)

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes.

        Raises:
            MalformedMessage: there are fewer.
        """
        end = self._at + size
        if end > len(self._data) and not self._refill(size):
            raise MalformedMessage(f"a field of {size} bytes goes beyond the end")
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def rest(self) -> bytes:
        """Return all that is left of bytes that are all there."""
        taken = self._data[self._at :]
        self._at = len(self._data)
        return taken

    def _refill(self, size: int) -> bool:  # noqa: ARG002 - of those that have more to come
        """Make `size` bytes available; False when that many do not come."""
        return False


class InflatingReader(Reader):
    """Reads fields of a zlib stream, a step at a time.

    Args:
        packed: The stream; bytes behind its end are ignored.
        limit: How many bytes it may inflate to.
    """

    def __init__(self, packed: bytes, *, limit: int) -> None:
        super().__init__(b"")
        self._stream = zlib.decompressobj()
        self._packed = packed
        self._fed = 0
        self._allowed = limit

    def _refill(self, size: int) -> bool:
        pieces = [self._data[self._at :]]
        have = len(pieces[0])
        if size > max(1, have + self._allowed):
            raise MalformedMessage(_BOMB)
        while have < size and (piece := self._inflate()):
            pieces.append(piece)
            have += len(piece)
        self._data, self._at = b"".join(pieces), 0
        return have >= size

    def _inflate(self) -> bytes:
        """Return the next piece; empty at the end, or where the stream is cut."""
        piece = b""
        while not piece and not self._stream.eof and (food := self._stream.unconsumed_tail or self._feed()):
            try:
                # One byte more than allowed shows that there is more, without making it.
                piece = self._stream.decompress(food, min(_INFLATE_STEP, self._allowed + 1))
            except zlib.error as error:
                raise MalformedMessage(f"the content cannot be inflated: {error}") from error
        self._allowed -= len(piece)
        if self._allowed < 0:
            raise MalformedMessage(_BOMB)
        return piece

    def _feed(self) -> bytes:
        food = self._packed[self._fed : self._fed + _INFLATE_STEP]
        self._fed += len(food)
        return food


class Kind(Protocol[T]):
    """How one field is read and written."""

    def read(self, reader: Reader) -> T:
        """Return the value; raises MalformedMessage."""
        ...

    def write(self, out: bytearray, value: T) -> None:
        """Append the value."""


@dataclass(frozen=True)
class Number:
    """An integer of one of `struct`'s formats."""

    format: str
    _struct: struct.Struct = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_struct", struct.Struct(self.format))

    def read(self, reader: Reader) -> int:
        """Return the integer."""
        value: int = self._struct.unpack(reader.take(self._struct.size))[0]
        return value

    def write(self, out: bytearray, value: int) -> None:
        """Append it."""
        out += self._struct.pack(value)


class Boolean:
    """One byte; all but 0 is true."""

    def read(self, reader: Reader) -> bool:
        """Return it."""
        return reader.take(1) != b"\0"

    def write(self, out: bytearray, value: bool) -> None:  # noqa: FBT001 - the value is what this is about
        """Append it."""
        out.append(value)


@dataclass(frozen=True)
class Blob:
    """A length and as many bytes."""

    limit: int | None = None

    def read(self, reader: Reader) -> bytes:
        """Return the bytes."""
        size = UINT32.read(reader)
        if self.limit is not None and size > self.limit:
            raise MalformedMessage(f"a text of {size} bytes where at most {self.limit} are allowed")
        return reader.take(size)

    def write(self, out: bytearray, value: bytes) -> None:
        """Append the length and the bytes."""
        assert self.limit is None or len(value) <= self.limit, (len(value), self.limit)
        UINT32.write(out, len(value))
        out += value


@dataclass(frozen=True)
class String:
    """A blob that is text; see Rule 2."""

    limit: int | None = None

    def read(self, reader: Reader) -> str:
        """Return the text."""
        return text_of(Blob(self.limit).read(reader))

    def write(self, out: bytearray, value: str) -> None:
        """Append its bytes."""
        Blob(self.limit).write(out, bytes_of(value))


class Address:
    """An IPv4 address; 127.0.0.1 is `01 00 00 7f`."""

    def read(self, reader: Reader) -> str:
        """Return it with dots."""
        return ".".join(str(part) for part in reversed(reader.take(4)))

    def write(self, out: bytearray, value: str) -> None:
        """Append it."""
        out += bytes(int(part) for part in reversed(value.split(".")))


@dataclass(frozen=True)
class Several(Generic[T]):
    """A count and as many values, of which there may be a limit: each takes far more memory than bytes."""

    of: Kind[T]
    limit: int | None = None

    def read(self, reader: Reader) -> tuple[T, ...]:
        """Return them."""
        return tuple(self.iterate(reader))

    def iterate(self, reader: Reader) -> Iterator[T]:
        """Yield them as they are read."""
        count = UINT32.read(reader)
        if self.limit is not None and count > self.limit:
            raise MalformedMessage(f"a list of {count} where at most {self.limit} are allowed")
        for _ in range(count):
            yield self.of.read(reader)

    def write(self, out: bytearray, value: tuple[T, ...]) -> None:
        """Append the count and the values."""
        UINT32.write(out, len(value))
        for each in value:
            self.of.write(out, each)


UINT8: Final = Number("<B")
UINT32: Final = Number("<I")
FLAG: Final = Boolean()
TEXT: Final = String()
ADDRESS: Final = Address()

U16 = Annotated[int, Number("<H")]
U32 = Annotated[int, UINT32]
I32 = Annotated[int, Number("<i")]
U64 = Annotated[int, Number("<Q")]
Flag = Annotated[bool, FLAG]
Text = Annotated[str, TEXT]
Name = Annotated[str, String(NAME_LIMIT)]
Ip = Annotated[str, ADDRESS]


def text_of(raw: bytes) -> str:
    """Return what came as text, from which `bytes_of` makes the same bytes again."""
    return raw.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """Return the bytes that text stands for."""
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class _Field:
    name: str
    kind: Kind[Any]
    optional: bool


class Message:
    """A message: fields in the order of the wire. Those that hang on others read and write themselves."""

    __slots__ = ()

    code: ClassVar[int]
    _layout: ClassVar[tuple[_Field, ...]]

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Return the message of a body.

        Raises:
            MalformedMessage: it is none.
        """
        values: dict[str, Any] = {}
        for each in cls._layout:
            if each.optional and reader.exhausted:
                break
            values[each.name] = each.kind.read(reader)
        return cls(**values)

    def write(self, out: bytearray) -> None:
        """Append the body. An optional field that is None ends it."""
        for each in self._layout:
            value = getattr(self, each.name)
            if value is None:
                return
            each.kind.write(out, value)


class Table:
    """The messages that go one way over one kind of connection, by code.

    Args:
        code: How the code is written in front of the body.
        limit: Bytes that a frame may have, the code included, unless `limits` knows its code.
        limits: Bytes by code.
    """

    def __init__(self, code: Number, *, limit: int, limits: dict[int, int] | None = None) -> None:
        self.code = code
        self._limit = limit
        self._limits = limits or {}
        self._messages: dict[int, type[Message]] = {}

    def __iter__(self) -> Iterator[type[Message]]:
        return iter(self._messages.values())

    def __contains__(self, code: int) -> bool:
        return code in self._messages

    def limit_of(self, code: int) -> int:
        """Return how long a frame of that code may be."""
        return self._limits.get(code, self._limit)

    def add(self, message: type[Message]) -> None:
        """Take in a message."""
        assert message.code not in self._messages, message
        self._messages[message.code] = message

    def decode(self, code: int, body: bytes) -> Message:
        """Return the message of a body whose code is in the table; raises MalformedMessage."""
        return self._messages[code].read(Reader(body))

    def encode(self, message: Message) -> bytes:
        """Return the whole frame."""
        assert self._messages.get(message.code) is type(message), message
        out = bytearray(4)
        self.code.write(out, message.code)
        message.write(out)
        struct.pack_into("<I", out, 0, len(out) - 4)
        return bytes(out)


@dataclass_transform(frozen_default=True)
def message(code: int, *tables: Table) -> Callable[[type[M]], type[M]]:
    """Make a class a frozen dataclass whose annotated fields are its layout, and put it into tables."""

    def build(cls: type[M]) -> type[M]:
        made = dataclass(frozen=True, slots=True)(cls)
        made.code = code
        made._layout = layout_of(made)  # noqa: SLF001 - this is its own base's
        for table in tables:
            table.add(made)
        return made

    return build


def layout_of(cls: type[Any]) -> tuple[_Field, ...]:
    """Return the fields of a dataclass that have a kind of their own."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple(
        _Field(each.name, hints[each.name].__metadata__[0], each.default is not MISSING)
        for each in fields(cls)
        if hasattr(hints[each.name], "__metadata__")
    )


class Structure(Generic[T]):
    """A dataclass inside a message, field by field."""

    def __init__(self, of: type[T]) -> None:
        self.of = of
        self._layout = layout_of(of)

    def read(self, reader: Reader) -> T:
        """Return it."""
        return self.of(*(each.kind.read(reader) for each in self._layout))

    def write(self, out: bytearray, value: T) -> None:
        """Append it."""
        for each in self._layout:
            each.kind.write(out, getattr(value, each.name))
