"""The messages between peers: searching, browsing, and agreeing on transfers.

Rule 1: what is compressed stays so until somebody unpacks it, off the event loop and within a bound: a peer
        that sends a bomb costs nobody a turn of the loop.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Final, Self

from haulier.core.values import dataclass
from haulier.soulseek.codec import (
    FLAG,
    NAME_LIMIT,
    TEXT,
    U32,
    U64,
    UINT8,
    UINT32,
    Blob,
    InflatingReader,
    Message,
    Number,
    Reader,
    Several,
    String,
    Structure,
    Table,
    Text,
    message,
)
from haulier.soulseek.messages import LIST_LIMIT, ORDINARY_LIMIT

SHARE_LIST: Final = 5
SEARCH_ANSWER: Final = 9
FOLDER_ANSWER: Final = 37
SHARE_LIST_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of a compressed share list: a million files are about 20 MiB. Only for lists that were asked for."""
SHARE_LIST_INFLATED_LIMIT: Final = 512 * 1024 * 1024
ANSWER_INFLATED_LIMIT: Final = 16 * 1024 * 1024
"""Bytes that an answer about a search or a folder may inflate to: about 100 000 files."""

TO_PEER: Final = Table(
    Number("<I"),
    limit=ORDINARY_LIMIT,
    limits={SHARE_LIST: SHARE_LIST_LIMIT, SEARCH_ANSWER: LIST_LIMIT, FOLDER_ANSWER: LIST_LIMIT},
)

FILES_FOUND: Final = 10_000
"""Files in an answer to a search. Clients give some hundred; in 16 MiB there is room for 800 000."""
FILES_IN_A_FOLDER: Final = 200_000
ATTRIBUTES: Final = 16
"""Of a file; five are known, and each takes far more memory than its eight bytes."""
_MARK: Final = 1
"""What each file's entry begins with."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """Something about a sound: kbit/s, seconds, whether its bit rate varies, Hz, bits."""

    code: U32
    value: U32


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file in a list: with its base name in folders, with its whole virtual path in search answers."""

    mark: Annotated[int, UINT8]
    name: Text
    size: U64
    extension: Text
    """Without the dot; may be empty."""
    attributes: Annotated[tuple[Attribute, ...], Several(Structure(Attribute), ATTRIBUTES)]

    @classmethod
    def of(cls, name: str, size: int, attributes: tuple[Attribute, ...] = ()) -> Self:
        """Return the entry of a file."""
        _, dot, extension = name.rpartition("\\")[2].rpartition(".")
        return cls(_MARK, name, size, extension if dot else "", attributes)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder and the files right in it."""

    path: Text
    files: Annotated[tuple[FileEntry, ...], Several(Structure(FileEntry), FILES_IN_A_FOLDER)]


_FILES: Final = Several(Structure(FileEntry), FILES_FOUND)
_FOLDERS: Final = Several(Structure(Folder))
_USER: Final = String(NAME_LIMIT)


class _Compressed(Message):
    """A message whose body is one zlib stream."""

    __slots__ = ()
    inflated_limit: ClassVar[int] = ANSWER_INFLATED_LIMIT

    packed: bytes

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Return the message, unopened."""
        return cls(reader.rest())  # type: ignore[call-arg] # each has `packed` for its one field

    def write(self, out: bytearray) -> None:
        """Append the stream."""
        out += self.packed

    def _open(self) -> InflatingReader:
        return InflatingReader(self.packed, limit=self.inflated_limit)


@message(4, TO_PEER)
class GetShareList(Message):
    """What do you share?"""


@message(SHARE_LIST, TO_PEER)
class ShareList(_Compressed):
    """All that a peer shares."""

    inflated_limit: ClassVar[int] = SHARE_LIST_INFLATED_LIMIT

    packed: bytes

    @classmethod
    def pack(cls, folders: Iterable[Folder], private: Iterable[Folder] = ()) -> Self:
        """Return the list of these folders."""
        out = bytearray()
        _FOLDERS.write(out, tuple(folders))
        UINT32.write(out, 0)
        _FOLDERS.write(out, tuple(private))
        return cls(zlib.compress(out))

    def folders(self) -> Iterator[tuple[Folder, bool]]:
        """Yield each folder and whether it is private, while unpacking; blocks.

        Raises:
            MalformedMessage: the list cannot be read on.
        """
        reader = self._open()
        yield from ((folder, False) for folder in _FOLDERS.iterate(reader))
        if _skip_number(reader):
            yield from ((folder, True) for folder in _FOLDERS.iterate(reader))


def _skip_number(reader: Reader) -> bool:
    """Skip a number that means nothing, if it is there; return whether anything follows."""
    if not reader.exhausted:
        UINT32.read(reader)
    return not reader.exhausted


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a peer has found for a search."""

    user: str
    token: int
    files: tuple[FileEntry, ...]
    slot_free: bool
    speed: int
    """Bytes per second."""
    queue_length: int
    private: tuple[FileEntry, ...] = ()


@message(SEARCH_ANSWER, TO_PEER)
class SearchAnswer(_Compressed):
    """What a peer has found."""

    packed: bytes

    @classmethod
    def pack(cls, found: Found) -> Self:
        """Return the answer that says so."""
        out = bytearray()
        _USER.write(out, found.user)
        UINT32.write(out, found.token)
        _FILES.write(out, found.files)
        FLAG.write(out, found.slot_free)
        for number in (found.speed, found.queue_length, 0):
            UINT32.write(out, number)
        _FILES.write(out, found.private)
        return cls(zlib.compress(out))

    def token(self) -> int:
        """Return the token of the search that it answers, and unpack no more than that; blocks. Raises MalformedMessage."""
        reader = self._open()
        _USER.read(reader)
        return UINT32.read(reader)

    def unpack(self) -> Found:
        """Return what it says; blocks. Raises MalformedMessage."""
        reader = self._open()
        user, token, files = _USER.read(reader), UINT32.read(reader), _FILES.read(reader)
        free, speed, queue = FLAG.read(reader), UINT32.read(reader), UINT32.read(reader)
        private = _FILES.read(reader) if _skip_number(reader) else ()
        return Found(
            user=user,
            token=token,
            files=files,
            slot_free=free,
            speed=speed,
            queue_length=queue,
            private=private,
        )


@message(15, TO_PEER)
class GetUserInfo(Message):
    """Who are you?"""


@message(16, TO_PEER)
class UserInfo(Message):
    """What a user tells of himself."""

    text: str
    picture: bytes | None
    slots: int
    queue_length: int
    slot_free: bool
    permission: int | None = None
    """Who may upload to the user: 0 to 3."""

    @classmethod
    def read(cls, reader: Reader) -> "UserInfo":
        """Return the answer."""
        text = TEXT.read(reader)
        picture = Blob().read(reader) if FLAG.read(reader) else None
        slots, queue, free = UINT32.read(reader), UINT32.read(reader), FLAG.read(reader)
        return cls(text, picture, slots, queue, free, None if reader.exhausted else UINT32.read(reader))

    def write(self, out: bytearray) -> None:
        """Append the answer."""
        TEXT.write(out, self.text)
        FLAG.write(out, self.picture is not None)
        if self.picture is not None:
            Blob().write(out, self.picture)
        UINT32.write(out, self.slots)
        UINT32.write(out, self.queue_length)
        FLAG.write(out, self.slot_free)
        if self.permission is not None:
            UINT32.write(out, self.permission)


@message(36, TO_PEER)
class GetFolder(Message):
    """What is in that folder?"""

    token: U32
    folder: Text


@dataclass(frozen=True, slots=True)
class FolderContents:
    """A folder and all below it."""

    token: U32
    folder: Text
    folders: Annotated[tuple[Folder, ...], Several(Structure(Folder))]


_CONTENTS: Final = Structure(FolderContents)


@message(FOLDER_ANSWER, TO_PEER)
class FolderAnswer(_Compressed):
    """What is in a folder."""

    packed: bytes

    @classmethod
    def pack(cls, contents: FolderContents) -> Self:
        """Return the answer that says so."""
        out = bytearray()
        _CONTENTS.write(out, contents)
        return cls(zlib.compress(out))

    def unpack(self) -> FolderContents:
        """Return what it says; blocks. Raises MalformedMessage."""
        return _CONTENTS.read(self._open())


@message(40, TO_PEER)
class TransferRequest(Message):
    """Direction 0: the peer asks for the file; 1: it is offered, with its size."""

    ASKED: ClassVar[int] = 0
    OFFERED: ClassVar[int] = 1

    direction: int
    token: int
    file: str
    size: int | None = None

    @classmethod
    def read(cls, reader: Reader) -> "TransferRequest":
        """Return the request."""
        direction, token, file = UINT32.read(reader), UINT32.read(reader), TEXT.read(reader)
        return cls(direction, token, file, _SIZE.read(reader) if direction == cls.OFFERED else None)

    def write(self, out: bytearray) -> None:
        """Append the request."""
        UINT32.write(out, self.direction)
        UINT32.write(out, self.token)
        TEXT.write(out, self.file)
        if self.size is not None:
            _SIZE.write(out, self.size)


@message(41, TO_PEER)
class TransferResponse(Message):
    """Yes, with the size when direction 0 was asked; or no, with the reason."""

    token: int
    allowed: bool
    reason: str | None = None
    size: int | None = None

    @classmethod
    def read(cls, reader: Reader) -> "TransferResponse":
        """Return the answer. Only who asked knows whether a size can be there: it is read if it is."""
        token, allowed = UINT32.read(reader), FLAG.read(reader)
        if not allowed:
            return cls(token, allowed, reason="" if reader.exhausted else TEXT.read(reader))
        rest = reader.rest()
        return cls(token, allowed, size=_SIZE.read(Reader(rest)) if len(rest) >= _SIZE_BYTES else None)

    def write(self, out: bytearray) -> None:
        """Append the answer."""
        UINT32.write(out, self.token)
        FLAG.write(out, self.allowed)
        if not self.allowed:
            TEXT.write(out, self.reason or "")
        elif self.size is not None:
            _SIZE.write(out, self.size)


_SIZE: Final = Number("<Q")
_SIZE_BYTES: Final = 8


@message(43, TO_PEER)
class QueueUpload(Message):
    """Please upload the file to me, in your time."""

    file: Text


@message(44, TO_PEER)
class PlaceInQueue(Message):
    """Where the file is in the queue, from 1."""

    file: Text
    place: U32


@message(46, TO_PEER)
class UploadFailed(Message):
    """The upload broke; it may be asked for again."""

    file: Text


@message(50, TO_PEER)
class UploadDenied(Message):
    """The file is not uploaded, and why."""

    file: Text
    reason: Text = ""


@message(51, TO_PEER)
class GetPlaceInQueue(Message):
    """Where is the file in your queue?"""

    file: Text
