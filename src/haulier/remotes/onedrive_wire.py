"""What Microsoft Graph's answers about files and upload sessions say, and what requests say to it.

Source: Microsoft Graph documentation, "driveItem resource type", "driveItem: createUploadSession".
"""

import re
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote

from haulier.body.answers import Answer
from haulier.core.digest import Buffer
from haulier.core.errors import PeerBusy
from haulier.core.outgoing import Checksum, Stored
from haulier.core.quick_xor import QuickXor
from haulier.core.values import dataclass
from haulier.remotes.answers import read_json

SAME_TIME_S: Final = 1.0
"""Graph keeps times by the second on some drives."""
TIMES: Final = (-11_644_473_600.0, 253_402_300_799.0)
"""The years 1601 to 9999: what a file there can have, and what can be written."""

_FRACTION: Final = re.compile(r"\.[0-9]+")
_RANGE: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,18})?")


class QuickXorSum:
    """`Summing` by quickXorHash."""

    def __init__(self) -> None:
        self._hash = QuickXor()

    def update(self, data: Buffer, /) -> None:
        """Take the next bytes."""
        self._hash.update(data)

    def checksum(self) -> Checksum:
        """Return it as Graph tells it."""
        return Checksum("quickXorHash", self._hash.text())


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A file or folder as Graph tells it."""

    stored: Stored
    """Its id is the item's address, for whoever asks for it may be signed in elsewhere by then."""
    is_file: bool
    mark: str
    """Another one after each change of its content, and for each other item."""
    modified_at: float | None
    """What its sender has given it, if anything; by the second."""
    download: str | None
    """Where its content can be read without credentials, for a while."""

    @classmethod
    def read(cls, document: dict[str, Any], drive: str, name: str) -> "Item":
        """Read one of a drive that was asked for by `name`, whose folder it is in. Raises KeyError: it has no id."""
        file = document.get("file") or {}
        told = (file.get("hashes") or {}).get("quickXorHash")
        folder = name.rsplit("/", 1)[0] + "/" if "/" in name else ""
        item_id = str(document["id"])
        download = document.get("@microsoft.graph.downloadUrl")
        # A cTag is kept when only properties change. Not every drive tells one.
        version = document.get("cTag") or document.get("eTag") or ""
        return cls(
            stored=Stored(
                name=folder + str(document.get("name", name.rsplit("/", 1)[-1])),
                id=f"{drive}/items/{quote(item_id, safe='')}",
                size=document.get("size"),
                etag=document.get("eTag"),
                checksum=None if told is None else Checksum("quickXorHash", str(told)),
            ),
            is_file="file" in document,
            mark=f"{item_id} {version}",
            modified_at=_seconds((document.get("fileSystemInfo") or {}).get("lastModifiedDateTime")),
            download=None if download is None else str(download),
        )

    def has_time(self, seconds: float) -> bool:
        """Whether it is as old as a file that was sent as so old."""
        return self.modified_at is not None and abs(self.modified_at - _within(seconds)) <= SAME_TIME_S


def bearer(token: str) -> dict[str, str]:
    """Return the credentials of a request."""
    return {"Authorization": f"Bearer {token}"}


def at(drive: str, name: str) -> str:
    """Return the address of a path."""
    return f"{drive}/root:/{quote(name)}"


def drive_of(address: str) -> str:
    """Return the drive of an item."""
    return address.rpartition("/items/")[0]


def numbered(name: str, number: int) -> str:
    """Return the name that Graph would give a file whose own name is taken."""
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem} {number}{path.suffix}"))


def time_text(seconds: float) -> str:
    """Return a time, seconds since the epoch, in Graph's words; the nearest that it knows."""
    return datetime.fromtimestamp(_within(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def told(answer: Answer, drive: str, name: str) -> Stored | None:
    """Read the item that an answer describes; it may describe none."""
    if not answer.content.strip():
        return None
    return read_json(answer, lambda document: Item.read(document, drive, name)).stored


def is_taken(error: PeerBusy) -> bool:
    """Whether a 409 says that there is a file of that name; others pass, such as that of another open session."""
    return error.status == 409 and "nameAlreadyExists" in error.detail


def upload_url(document: dict[str, Any]) -> str:
    """Read the address of a session. Raises KeyError, TypeError: there is none."""
    url = _members(document)["uploadurl"]
    if not isinstance(url, str):
        raise TypeError("uploadUrl is no text")
    return url


def next_expected(answer: Answer) -> int | None:
    """Return the first byte that a session expects; None when it does not say.

    Raises:
        PeerUnreadable: it is no answer of a session.
    """
    if not answer.content.strip():
        return None
    ranges = read_json(answer, lambda document: list(_members(document).get("nextexpectedranges") or []))
    found = [_RANGE.fullmatch(str(text).strip()) for text in ranges]
    starts = [int(match[1]) for match in found if match is not None]
    return min(starts) if starts else None


def _members(document: dict[str, Any]) -> dict[str, Any]:
    """Return the members with names in lower case: some drives write them in PascalCase."""
    return {str(name).lower(): value for name, value in document.items()}


def _within(seconds: float) -> float:
    return min(max(seconds, TIMES[0]), TIMES[1])


def _seconds(text: object) -> float | None:
    try:
        # Graph tells up to seven digits of a second.
        return datetime.fromisoformat(_FRACTION.sub("", str(text))).timestamp()
    except ValueError:
        return None
