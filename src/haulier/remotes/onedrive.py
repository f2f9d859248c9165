"""OneDrive and SharePoint, by Microsoft Graph v1.0: one PUT for small files, an upload session for others.

Rule 1: the address of a session is a secret that needs no other credential, and is never shown a token.
Rule 2: a fragment that was answered with an error may have been kept: the session is asked before anything is sent again.
Rule 3: a session is gone after the last fragment; when its answer was lost, the item tells whether that was us.
Rule 4: what is to be done about an existing file is always said: Graph's own default is to fail.
Rule 5: a refused token is fetched anew once; then somebody has to sign in.

Source: Microsoft Graph documentation, "driveItem: createUploadSession", "Upload small files", "driveItem resource type".
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from haulier.body.answers import Answer
from haulier.core.digest import Buffer
from haulier.core.errors import InvalidRequest, PeerBlocked, PeerBusy, PeerRefused, RemoteSessionLost
from haulier.core.outgoing import (
    Checksum,
    Held,
    IfExists,
    Outgoing,
    RemoteLimits,
    RemoteSession,
    Stored,
    Summing,
)
from haulier.core.quick_xor import QuickXor
from haulier.core.ranges import Ranges
from haulier.core.transfer import Obstacle
from haulier.core.values import dataclass
from haulier.remotes.answers import PASSING, RetryTable, read_json
from haulier.remotes.calls import Calls, asking_after, check_base_url
from haulier.remotes.onedrive_names import why_forbidden
from haulier.remotes.sessions import EMPTY, Sessions
from haulier.sending_ports import Cargo

if TYPE_CHECKING:
    import ssl

GRAPH: Final = "https://graph.microsoft.com/v1.0"
MIB: Final = 1024 * 1024
ONE_PUT: Final = 4_000_000
"""Bytes below which a file goes in one request; Graph says 4 MB, and has said 250 MB since."""
GRID: Final = 327_680
"""Fragments are a multiple of 320 KiB, but for the last."""
LARGEST: Final = 60 * MIB - 1
MAX_SIZE: Final = 250 * 1024**3
MAX_PATH: Final = 400
"""Characters of a path, names of folders and all."""
HASH_ASKS: Final = 4
"""Times that an item is asked for a hash that it does not have yet; then its size has to do."""
HASH_WAIT_S: Final = 1.0
SAME_TIME_S: Final = 1.0
"""Graph keeps times by the second on some drives."""

_RANGE: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,18})?")

TABLE: Final = RetryTable(
    passing=PASSING | {416},
    lost=frozenset({404, 410}),
    obstacle_slugs={
        "InvalidAuthenticationToken": Obstacle.AUTH,
        "unauthenticated": Obstacle.AUTH,
        "accessDenied": Obstacle.AUTH,
        "quotaLimitReached": Obstacle.QUOTA,
        "insufficientStorage": Obstacle.QUOTA,
    },
    lost_slugs=frozenset({"uploadSessionNotFound", "itemNotFound"}),
)
"""416 is asked about: part of the fragment is there already."""

Tokens = Callable[[bool], Awaitable[str]]
"""Returns an access token; with True, another one than the last, which was refused."""


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


class OneDriveRemote:
    """See the head of this file.

    Args:
        tokens: where access tokens come from.
        drive_id: whose drive; the signed-in person's own when not given.
        base_url: where Graph is.
        hash_wait_s: between two questions for a hash.
        tls: what certificates are trusted; the machine's, when not given.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        drive_id: str | None = None,
        base_url: str = GRAPH,
        hash_wait_s: float = HASH_WAIT_S,
        tls: "ssl.SSLContext | None" = None,
    ) -> None:
        base = check_base_url(base_url)
        self._drive = f"{base}/drives/{quote(drive_id, safe='')}" if drive_id else f"{base}/me/drive"
        self._sessions = Sessions(f"onedrive {self._drive}")
        self._tokens = tokens
        self._hash_wait_s = hash_wait_s
        self._calls = Calls(base, TABLE, tls=tls)

    @property
    def limits(self) -> RemoteLimits:
        """Fragments in order, on the grid."""
        return RemoteLimits(
            max_size=MAX_SIZE, grid=GRID, first_chunk=10 * MIB, least_chunk=GRID, most_chunk=LARGEST
        )

    def check(self, outgoing: Outgoing) -> None:
        """Refuse names that OneDrive refuses, with the reason."""
        if len(outgoing.name) > MAX_PATH:
            raise InvalidRequest.of("target", f"must be at most {MAX_PATH} characters, folders and all")
        for segment in outgoing.name.split("/"):
            reason = why_forbidden(segment)
            if reason:
                raise InvalidRequest.of("target", f"OneDrive refuses {segment!r}: {reason}")
        if outgoing.size > MAX_SIZE:
            raise InvalidRequest.of("size", "must be at most 250 GiB")

    async def probe(self) -> None:
        """Ask for the drive."""
        await self._ask("GET", self._drive, accept=(200,))

    async def create(self, outgoing: Outgoing) -> RemoteSession:
        """Begin an upload session, where the file is not small."""
        if outgoing.size < ONE_PUT:
            return self._sessions.keep(
                {"name": outgoing.name}, chunk_size=max(1, outgoing.size), commits_itself=True
            )
        item = {
            "@microsoft.graph.conflictBehavior": str(outgoing.if_exists),
            "name": outgoing.filename,
            "fileSize": outgoing.size,
            # Here, for a later PATCH makes a second version, which counts against the quota.
            "fileSystemInfo": {"lastModifiedDateTime": _time(outgoing.modified_at)},
        }
        try:
            answer = await self._ask(
                "POST", f"{self._at(outgoing.name)}:/createUploadSession", json={"item": item}, accept=(200,)
            )
        except PeerBusy as error:
            raise _told_exists(error, outgoing) from error
        return self._sessions.keep(
            {"url": read_json(answer, _upload_url)}, chunk_size=None, commits_itself=True
        )

    async def offset(self, outgoing: Outgoing, session: RemoteSession) -> Held:
        """Ask the session; when it is gone, look for the file that it may have made."""
        url = self._sessions.read(session).get("url")
        if url is None:
            stored = await self._find(outgoing)
            return Held(ranges=_up_to(outgoing.size if stored else 0), stored=stored)
        try:
            answer = await self._calls.ask("GET", url, accept=(200,), of_session=True)
        except RemoteSessionLost:
            stored = await self._find(outgoing)
            if stored is None:
                raise
            return Held(ranges=_up_to(outgoing.size), stored=stored)
        expected = _next_expected(answer)
        if expected is None:
            raise RemoteSessionLost("it does not tell what it expects")
        return Held(ranges=_up_to(min(expected, outgoing.size)))

    async def send(self, outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> Stored | None:
        """Put a fragment, or the whole file."""
        url = self._sessions.read(session).get("url")
        if url is None:
            return await self._put_whole(outgoing, cargo)
        headers = {"Content-Range": f"bytes {cargo.start}-{cargo.stop - 1}/{outgoing.size}"}
        try:
            answer = await self._calls.bring("PUT", url, cargo, headers=headers, accept=(200, 201, 202))
        except RemoteSessionLost:
            # Perhaps this is the second time, and the first one made the file.
            with asking_after():
                stored = await self._find(outgoing) if cargo.stop == outgoing.size else None
            if stored is None:
                raise
            return stored
        if answer.status_code == 202:
            expected = _next_expected(answer)
            if cargo.stop == outgoing.size or (expected is not None and expected < cargo.stop):
                raise PeerBusy(202, f"bytes up to {expected} of {cargo.stop} were kept")
            return None
        return await self._made(outgoing, answer)

    async def commit(self, outgoing: Outgoing, session: RemoteSession, checksum: Checksum | None) -> Stored:
        """Find the file that the last fragment made; make an empty one."""
        stored = await self._find(outgoing)
        if stored is not None and (outgoing.size or outgoing.if_exists is IfExists.REPLACE):
            return stored
        if outgoing.size:
            raise RemoteSessionLost("the file is not there")
        return await self._put_whole(outgoing, EMPTY)

    async def verify(self, outgoing: Outgoing, stored: Stored) -> Stored:
        """Ask for the item until it has a hash, for a few seconds."""
        found = (await self._item(stored.name)).stored
        for _ in range(HASH_ASKS - 1):
            if found.checksum is not None:
                break
            await asyncio.sleep(self._hash_wait_s)
            found = (await self._item(stored.name)).stored
        return found

    async def cancel(self, outgoing: Outgoing, session: RemoteSession) -> None:
        """Delete the session."""
        url = self._sessions.read(session).get("url")
        if url is not None:
            with suppress(RemoteSessionLost):
                await self._calls.ask("DELETE", url, accept=(204,), of_session=True)

    def summing(self, outgoing: Outgoing, session: RemoteSession) -> Summing | None:
        """Return the hash that OneDrive tells."""
        return QuickXorSum()

    async def close(self) -> None:
        """Close all connections."""
        await self._calls.close()

    async def _put_whole(self, outgoing: Outgoing, cargo: Cargo) -> Stored:
        behaviour = f"@microsoft.graph.conflictBehavior={outgoing.if_exists}"
        url = f"{self._at(outgoing.name)}:/content?{behaviour}"
        kind = {"Content-Type": outgoing.content_type or "application/octet-stream"}

        async def put(credentials: Mapping[str, str]) -> Answer:
            return await self._calls.bring(
                "PUT",
                url,
                cargo,
                headers=kind,
                credentials=credentials,
                accept=(200, 201),
                of_session=False,
            )

        try:
            return await self._made(outgoing, await self._signed_in(put))
        except PeerBusy as error:
            raise _told_exists(error, outgoing) from error

    async def _made(self, outgoing: Outgoing, answer: Answer) -> Stored:
        """Read the item that an answer describes; it may describe none."""
        if answer.content.strip():
            return read_json(answer, lambda document: _Item.read(document, outgoing.name)).stored
        with asking_after():
            return (await self._item(outgoing.name)).stored

    async def _find(self, outgoing: Outgoing) -> Stored | None:
        """Return the item if it can be what this transfer has made."""
        try:
            item = await self._item(outgoing.name)
        except PeerRefused as error:
            if error.status != 404:
                raise
            return None
        return item.stored if item.is_of(outgoing) else None

    async def _item(self, name: str) -> "_Item":
        answer = await self._ask("GET", self._at(name), accept=(200,))
        return read_json(answer, lambda document: _Item.read(document, name))

    def _at(self, name: str) -> str:
        return f"{self._drive}/root:/{quote(name)}"

    async def _ask(self, method: str, url: str, **parts: Any) -> Answer:
        async def ask(credentials: Mapping[str, str]) -> Answer:
            return await self._calls.ask(method, url, credentials=credentials, **parts)

        return await self._signed_in(ask)

    async def _signed_in(self, request: Callable[[Mapping[str, str]], Awaitable[Answer]]) -> Answer:
        try:
            return await request(_bearer(await self._tokens(False)))
        except PeerBlocked as error:
            if error.obstacle is not Obstacle.AUTH:
                raise
        return await request(_bearer(await self._tokens(True)))


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _up_to(size: int) -> Ranges:
    return Ranges.of([(0, size)])


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """A file or folder as Graph tells it."""

    stored: Stored
    is_file: bool
    modified_at: float
    written_at: float

    @classmethod
    def read(cls, document: dict[str, Any], name: str) -> "_Item":
        file = document.get("file") or {}
        told = (file.get("hashes") or {}).get("quickXorHash")
        folder = name.rsplit("/", 1)[0] + "/" if "/" in name else ""
        return cls(
            stored=Stored(
                name=folder + str(document.get("name", name.rsplit("/", 1)[-1])),
                id=str(document["id"]),
                size=document.get("size"),
                etag=document.get("eTag"),
                checksum=None if told is None else Checksum("quickXorHash", str(told)),
            ),
            is_file="file" in document,
            modified_at=_seconds((document.get("fileSystemInfo") or {}).get("lastModifiedDateTime")),
            written_at=_seconds(document.get("lastModifiedDateTime")),
        )

    def is_of(self, outgoing: Outgoing) -> bool:
        """Whether it can be what a transfer made: its size, and its time, or written since it was begun."""
        if not self.is_file or self.stored.size != outgoing.size:
            return False
        if abs(self.modified_at - outgoing.modified_at) <= SAME_TIME_S:
            return True
        return outgoing.size < ONE_PUT and self.written_at >= int(outgoing.intended_at)


def _members(document: dict[str, Any]) -> dict[str, Any]:
    """Return the members with names in lower case: some drives write them in PascalCase."""
    return {str(name).lower(): value for name, value in document.items()}


def _upload_url(document: dict[str, Any]) -> str:
    url = _members(document)["uploadurl"]
    if not isinstance(url, str):
        raise TypeError("uploadUrl is no text")
    return url


def _next_expected(answer: Answer) -> int | None:
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


def _told_exists(error: PeerBusy, outgoing: Outgoing) -> Exception:
    """Return the error of a 409: the name is taken for good, or by another open session, which passes."""
    if error.status == 409 and "nameAlreadyExists" in error.detail and outgoing.if_exists is IfExists.FAIL:
        return PeerRefused(409, "target-exists", f"there is a file {outgoing.name} already")
    return error
