"""The messages of the server, in both directions, and those that open a connection between peers.

Codes mean different things in the two directions, so each direction has its table. Fields with a default may
be absent at the end of what others send.

One module although it is long: it is a list, to be read beside a trace of packets.
"""

from hashlib import md5
from typing import Annotated, Final, Self

from haulier.soulseek.codec import (
    ADDRESS,
    FLAG,
    I32,
    NAME_LIMIT,
    TEXT,
    U16,
    U32,
    UINT32,
    Flag,
    Ip,
    Message,
    Name,
    Number,
    Reader,
    Several,
    String,
    Table,
    Text,
    message,
)

ORDINARY_LIMIT: Final = 1024 * 1024
"""Bytes of an ordinary message: file names are far shorter, lists have limits of their own."""
LIST_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of a list that a server pushes: the public one names tens of thousands of users and rooms."""
INIT_LIMIT: Final = 16 * 1024
"""Bytes of the message that opens a connection, which comes from anybody."""

MAJOR_VERSION: Final = 177
MINOR_VERSION: Final = 1

PEER: Final = "P"
FILE: Final = "F"

OFFLINE_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - not listened on: it says that a user is not there

TO_SERVER: Final = Table(Number("<I"), limit=ORDINARY_LIMIT)
FROM_SERVER: Final = Table(
    Number("<I"), limit=ORDINARY_LIMIT, limits={64: LIST_LIMIT, 69: LIST_LIMIT, 160: LIST_LIMIT}
)
INIT: Final = Table(Number("<B"), limit=INIT_LIMIT)

ConnectionType = Annotated[str, String(limit=16)]
Names = Annotated[tuple[str, ...], Several(String(NAME_LIMIT))]
Texts = Annotated[tuple[str, ...], Several(String())]


# --- to the server -----------------------------------------------------------------------------------


@message(1, TO_SERVER)
class Login(Message):
    """The first message."""

    user: Text
    password: Text
    major: U32
    digest: Text
    minor: U32

    @classmethod
    def of(cls, user: str, password: str) -> Self:
        """Return the login of this version."""
        return cls(user, password, MAJOR_VERSION, md5_of(user + password), MINOR_VERSION)


@message(2, TO_SERVER)
class SetWaitPort(Message):
    """The port that others reach us on."""

    port: U32
    obfuscation: U32 = 0
    obfuscated_port: U32 = 0


@message(3, TO_SERVER)
class GetPeerAddress(Message):
    """Where is the user?"""

    user: Name


@message(5, TO_SERVER)
class WatchUser(Message):
    """Tell of the user now, and when the status changes."""

    user: Name


@message(6, TO_SERVER)
class UnwatchUser(Message):
    """Tell no more."""

    user: Name


@message(7, TO_SERVER)
class GetUserStatus(Message):
    """Is the user there?"""

    user: Name


@message(18, TO_SERVER)
class ConnectToPeer(Message):
    """Let the user connect to us and bring the token."""

    token: U32
    user: Name
    type: ConnectionType


@message(23, TO_SERVER)
class AcknowledgePrivateMessage(Message):
    """It need not be sent again."""

    id: U32


@message(26, TO_SERVER)
class FileSearch(Message):
    """Ask everybody."""

    token: U32
    query: Text


@message(28, TO_SERVER)
class SetStatus(Message):
    """1 away, 2 online."""

    status: I32


@message(32, TO_SERVER)
class Ping(Message):
    """The link lives."""


@message(35, TO_SERVER)
class SharedCounts(Message):
    """How much we share."""

    folders: U32
    files: U32


@message(36, TO_SERVER)
class GetUserStats(Message):
    """How much does the user share, and how fast?"""

    user: Name


@message(42, TO_SERVER)
class UserSearch(Message):
    """Ask one user."""

    user: Name
    token: U32
    query: Text


@message(64, TO_SERVER)
class GetRoomList(Message):
    """Which rooms are there?"""


@message(71, TO_SERVER)
class HaveNoParent(Message):
    """Whether we look for a place in the search tree."""

    wanted: Flag


@message(92, TO_SERVER)
class CheckPrivileges(Message):
    """For how long are we privileged?"""


@message(100, TO_SERVER)
class AcceptChildren(Message):
    """Whether others may hang below us in the search tree."""

    accepted: Flag


@message(103, TO_SERVER)
class WishlistSearch(Message):
    """Ask everybody, by a timer."""

    token: U32
    query: Text


@message(121, TO_SERVER)
class SendUploadSpeed(Message):
    """Bytes per second of an upload that is done."""

    speed: U32


@message(126, TO_SERVER)
class BranchLevel(Message):
    """Where we are in the search tree."""

    level: U32


@message(127, TO_SERVER)
class BranchRoot(Message):
    """Who is at the root of our part of the search tree."""

    user: Name


@message(1001, TO_SERVER)
class CannotConnect(Message):
    """We did not reach the user who let us be asked by `ConnectToPeer`."""

    token: U32
    user: Name


# --- from the server ---------------------------------------------------------------------------------


@message(1, FROM_SERVER)
class LoginAnswer(Message):
    """Whether we are in; then a greeting, else the reason."""

    accepted: bool
    text: str
    """The greeting, or one of the reasons that begin with `INVALID`, `EMPTY` or `SVR`."""
    detail: str | None = None
    """With some reasons."""
    ip: str = OFFLINE_ADDRESS
    """Ours, as the server sees it."""
    digest: str = ""
    """Of our password."""
    supporter: bool = False

    @classmethod
    def read(cls, reader: Reader) -> "LoginAnswer":
        """Return the answer."""
        if not FLAG.read(reader):
            return cls(False, TEXT.read(reader), None if reader.exhausted else TEXT.read(reader))
        greeting = TEXT.read(reader)
        rest = [None if reader.exhausted else kind.read(reader) for kind in (ADDRESS, TEXT, FLAG)]
        return cls(True, greeting, None, str(rest[0] or OFFLINE_ADDRESS), str(rest[1] or ""), bool(rest[2]))

    def write(self, out: bytearray) -> None:
        """Append the answer."""
        FLAG.write(out, self.accepted)
        TEXT.write(out, self.text)
        if self.accepted:
            ADDRESS.write(out, self.ip)
            TEXT.write(out, self.digest)
            FLAG.write(out, self.supporter)
        elif self.detail is not None:
            TEXT.write(out, self.detail)


@message(3, FROM_SERVER)
class PeerAddress(Message):
    """Where a user is; 0.0.0.0 with port 0 when offline."""

    user: Name
    ip: Ip
    port: U32
    obfuscation: U32 = 0
    obfuscated_port: U16 = 0


@message(5, FROM_SERVER)
class WatchedUser(Message):
    """What is known of a user; nothing more when there is none of that name."""

    user: Name
    exists: Flag
    status: Annotated[int | None, UINT32] = None
    speed: U32 = 0
    uploads: U32 = 0
    reserved: U32 = 0
    files: U32 = 0
    folders: U32 = 0
    country: Annotated[str | None, String()] = None
    """Of those that are online."""


@message(7, FROM_SERVER)
class UserStatus(Message):
    """0 offline, 1 away, 2 online."""

    user: Name
    status: U32
    privileged: Flag = False


@message(18, FROM_SERVER)
class ConnectRequest(Message):
    """A user asks that we connect and bring the token."""

    user: Name
    type: ConnectionType
    ip: Ip
    port: U32
    token: U32
    privileged: Flag = False
    obfuscation: U32 = 0
    obfuscated_port: U32 = 0


@message(22, FROM_SERVER)
class PrivateMessage(Message):
    """Sent again after each login until it is acknowledged."""

    id: U32
    sent_at: U32
    user: Name
    text: Text
    new: Flag = True


@message(26, FROM_SERVER)
class SearchRequest(Message):
    """A user searches."""

    user: Name
    token: U32
    query: Text


@message(36, FROM_SERVER)
class UserStats(Message):
    """How much a user shares."""

    user: Name
    speed: U32
    uploads: U32
    reserved: U32
    files: U32
    folders: U32


@message(41, FROM_SERVER)
class Relogged(Message):
    """Somebody else has logged in under our name; the link ends."""


@message(64, FROM_SERVER)
class RoomList(Message):
    """No rooms: each of the lists in it is empty. What others send of it is not looked at."""

    def write(self, out: bytearray) -> None:
        """Append the counts of seven lists."""
        out += bytes(7 * 4)


@message(69, FROM_SERVER)
class PrivilegedUsers(Message):
    """Who is privileged."""

    users: Names


@message(83, FROM_SERVER)
class ParentMinimumSpeed(Message):
    """Of the search tree."""

    speed: U32


@message(84, FROM_SERVER)
class ParentSpeedRatio(Message):
    """Of the search tree."""

    ratio: U32


@message(92, FROM_SERVER)
class PrivilegesLeft(Message):
    """For how long we are privileged."""

    seconds: U32


@message(104, FROM_SERVER)
class WishlistInterval(Message):
    """How often a wish may be searched."""

    seconds: U32


@message(160, FROM_SERVER)
class ExcludedPhrases(Message):
    """What no answer to a search may hold."""

    phrases: Texts


@message(1001, FROM_SERVER)
class CannotConnectNotice(Message):
    """A user did not reach us."""

    token: U32


# --- between peers -----------------------------------------------------------------------------------


@message(0, INIT)
class PierceFireWall(Message):
    """This is the connection that you asked for by `ConnectToPeer`."""

    token: U32


@message(1, INIT)
class PeerInit(Message):
    """Who connects, and what for. The name is not authenticated."""

    user: Name
    type: ConnectionType
    token: U32 = 0


def md5_of(text: str) -> str:
    """Return the digest that logins carry; it protects nothing and is only what the protocol asks for."""
    return md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
