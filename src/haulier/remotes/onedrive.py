"""OneDrive and SharePoint, by Microsoft Graph v1.0: one PUT for small files, an upload session for others.

Rule 1: the address of a session is a secret that needs no other credential, and is never shown a token. It belongs to the
        drive that it was made in, whoever is signed in by now. So does the file that was made.
Rule 2: a fragment that was answered with an error may have been kept: the session is asked before anything is sent again.
Rule 3: what lay under the name is noted before anything is sent. When an answer was lost, a file there is ours if it is
        another one than that, and holds what was sent. No clock is asked.
Rule 4: a name that was free is sent to as one that must not be taken: nothing makes a second file, or version, of ours.
Rule 5: a session that does not let us in is asked, then begun anew with a new token, once, however much the new one takes;
        then somebody has to sign in. A process that begins forgets of whom it did so, and so does one of long ago.
Rule 6: personal drives say 400 of a session that is gone, in whatever words. Nothing about a question, or a leave, can be wrong: there
        it is always that. A fragment may be wrong, so the session is asked.

One module although it is long: each step of a transfer asks what the others have kept of it, and whether a file is its own.

Source: Microsoft Graph documentation, "driveItem: createUploadSession", "Upload small files", "driveItem resource type".
"""

from collections.abc import Awaitable, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from haulier.body.answers import Answer
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
from haulier.core.quantity import MIB
from haulier.core.ranges import Ranges
from haulier.core.transfer import Obstacle
from haulier.core.values import dataclass, replace
from haulier.remotes.answers import PASSING, RetryTable, read_json
from haulier.remotes.calls import Calls, asking_after, check_base_url
from haulier.remotes.onedrive_drive import Drives, Tokens
from haulier.remotes.onedrive_names import why_forbidden
from haulier.remotes.onedrive_wire import (
    Item,
    QuickXorSum,
    at,
    bearer,
    is_taken,
    next_expected,
    time_text,
    told,
    upload_url,
)
from haulier.remotes.sessions import EMPTY, Sessions
from haulier.sending_ports import Cargo

if TYPE_CHECKING:
    import ssl

GRAPH: Final = "https://graph.microsoft.com/v1.0"
ONE_PUT: Final = 4_000_000
"""Bytes below which a file goes in one request; Graph says 4 MB, and has said 250 MB since."""
GRID: Final = 327_680
"""Fragments are a multiple of 320 KiB, but for the last."""
LARGEST: Final = 60 * MIB - 1
MAX_SIZE: Final = 250 * 1024**3
MADE: Final = (200, 201, 204)
"""What is said when there is the file, with or without a word about it."""
BAD_REQUEST: Final = 400
MAX_PATH: Final = 400
"""Characters of a path, names of folders and all."""
HASH_WAIT_S: Final = 1.0
MAX_LATEST: Final = 1000
"""Transfers of which it is known that their session did not let us in; few are on their way at once."""

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
    lost_slugs=frozenset({"uploadSessionNotFound", "uploadSessionFailed", "itemNotFound"}),
    told_apart=frozenset({"nameAlreadyExists"}),
)
"""416 is asked about: part of the fragment is there already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """What is kept of a file that is on its way."""

    drive: str
    name: str
    """Where it goes: where it was to be, or beside that."""
    before: str | None
    """The mark of what lay there; None when nothing did."""
    url: str | None
    """Of the upload session; None where there is none."""

    @property
    def behaviour(self) -> str:
        """What is to be done about a file of that name: nothing but to replace the one that was seen (rule 4)."""
        return "fail" if self.before is None else "replace"

    def may_have_made(self, item: Item) -> bool:
        """Whether it is another file than what lay there before."""
        return item.is_file and item.mark != self.before


class _Latest:
    """Ids of transfers, as many as can matter: one that is superseded, or fails otherwise, takes leave of nobody."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}

    def __contains__(self, transfer_id: str) -> bool:
        return transfer_id in self._ids

    def add(self, transfer_id: str) -> None:
        """Keep one, and forget the oldest where there are too many."""
        self._ids[transfer_id] = None
        if len(self._ids) > MAX_LATEST:
            del self._ids[next(iter(self._ids))]

    def discard(self, transfer_id: str) -> None:
        """Forget one."""
        self._ids.pop(transfer_id, None)


class OneDriveRemote:
    """See the head of this file.

    Args:
        tokens: where access tokens come from.
        drive_id: whose drive; the signed-in person's own when not given.
        base_url: where Graph is.
        rewritten: endings of files, in lower case and without a dot, that SharePoint rewrites when they arrive.
        hash_wait_s: between two questions for a hash.
        tls: what certificates are trusted; the machine's, when not given.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        drive_id: str | None = None,
        base_url: str = GRAPH,
        rewritten: frozenset[str] = frozenset(),
        hash_wait_s: float = HASH_WAIT_S,
        tls: "ssl.SSLContext | None" = None,
    ) -> None:
        base = check_base_url(base_url)
        self._base = base
        # What stood under "onedrive" had less in it.
        self._sessions = Sessions(f"onedrive 2 {base}")
        self._rewritten = rewritten
        self._calls = Calls(base, TABLE, tls=tls)
        self._downloads = Calls(base, TABLE, tls=tls, most=ONE_PUT)
        self._drives = Drives(self._calls, base, tokens, drive_id=drive_id, hash_wait_s=hash_wait_s)
        self._doubted = _Latest()
        """Transfers whose session did not let a fragment in, and was not asked yet."""
        self._renewed = _Latest()
        """Those that began another session because of that."""

    @property
    def limits(self) -> RemoteLimits:
        """Fragments in order, on the grid."""
        return RemoteLimits(
            max_size=MAX_SIZE,
            grid=GRID,
            first_chunk=10 * MIB,
            least_chunk=GRID,
            most_chunk=LARGEST,
            folds_case=True,
        )

    def check(self, outgoing: Outgoing) -> None:
        """Refuse names that OneDrive refuses, with the reason."""
        _check_length(outgoing.name)
        for segment in outgoing.name.split("/"):
            reason = why_forbidden(segment)
            if reason:
                raise InvalidRequest.of("target", f"OneDrive refuses {segment!r}: {reason}")
        if outgoing.size > MAX_SIZE:
            raise InvalidRequest.of("size", "must be at most 250 GiB")

    async def probe(self) -> None:
        """Ask for the drive."""
        await self._drives.probe()

    async def create(self, outgoing: Outgoing) -> RemoteSession:
        """Look at what is there, and begin an upload session, where the file is not small."""
        drive = await self._drives.current()
        name, before = await self._choose(outgoing, drive)
        begun = _Begun(drive=drive, name=name, before=before, url=None)
        if self._goes_whole(outgoing):
            return self._keep(begun, chunk_size=max(1, outgoing.size))
        item = {
            "@microsoft.graph.conflictBehavior": begun.behaviour,
            "name": PurePosixPath(name).name,
            "fileSize": outgoing.size,
            # Here, for a later PATCH makes a second version, which counts against the quota.
            "fileSystemInfo": {"lastModifiedDateTime": time_text(outgoing.modified_at)},
        }
        answer = await self._drives.ask(
            "POST",
            f"{at(drive, name)}:/createUploadSession",
            json={"item": item},
            accept=(200,),
            renew=outgoing.id in self._renewed,
        )
        url = read_json(answer, self._upload_url)
        return self._keep(replace(begun, url=url), chunk_size=None)

    async def _choose(self, outgoing: Outgoing, drive: str) -> tuple[str, str | None]:
        """Return the name that a file goes to, and the mark of what lies there."""
        there = await self._drives.find(drive, outgoing.name)
        if there is None:
            return outgoing.name, None
        if outgoing.if_exists is IfExists.RENAME:
            name = await self._drives.free_name(drive, outgoing.name)
            _check_length(name)
            return name, None
        if outgoing.if_exists is IfExists.FAIL or not there.is_file:
            kind = "file" if there.is_file else "folder"
            raise PeerRefused(409, "target-exists", f"there is a {kind} {outgoing.name} already")
        return outgoing.name, there.mark

    def _goes_whole(self, outgoing: Outgoing) -> bool:
        """Whether it is sent in one request. What is rewritten is known by its time, which only a session can give it."""
        if outgoing.size and self._is_rewritten(outgoing):
            return False
        return outgoing.size < ONE_PUT

    def _is_rewritten(self, outgoing: Outgoing) -> bool:
        return PurePosixPath(outgoing.name).suffix.lower().lstrip(".") in self._rewritten

    def _upload_url(self, document: dict[str, Any]) -> str:
        url = upload_url(document)
        if not self._is_address(url):
            raise TypeError("uploadUrl is no address that we send to")
        return url

    def _is_address(self, url: str) -> bool:
        """Whether it can be asked: what does not go to Graph in clear, does not go in clear elsewhere either."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return False
        return bool(parts.hostname) and parts.scheme in {"https", urlsplit(self._base).scheme}

    def _keep(self, begun: _Begun, *, chunk_size: int | None) -> RemoteSession:
        state = {"drive": begun.drive, "name": begun.name, "before": begun.before, "url": begun.url}
        return self._sessions.keep(state, chunk_size=chunk_size, commits_itself=True)

    def _begun(self, session: RemoteSession) -> _Begun:
        state = self._sessions.read(session)
        return _Begun(drive=state["drive"], name=state["name"], before=state["before"], url=state["url"])

    async def offset(self, outgoing: Outgoing, session: RemoteSession) -> Held:
        """Ask the session; when it is gone, look whether `commit` may find a file that it has made."""
        begun = self._begun(session)
        if begun.drive != await self._drives.current():
            raise RemoteSessionLost("it was begun elsewhere: in another drive, when another was signed in")
        if begun.url is None:
            return Held(
                ranges=Ranges.up_to(outgoing.size if await self._may_be_there(outgoing, begun) else 0)
            )
        try:
            answer = await self._of_session(outgoing, begun, self._ask_session(begun.url))
        except RemoteSessionLost:
            if not await self._may_be_there(outgoing, begun):
                raise
            return Held(ranges=Ranges.up_to(outgoing.size))
        expected = next_expected(answer)
        if expected is None and await self._may_be_there(outgoing, begun):
            return Held(ranges=Ranges.up_to(outgoing.size))
        if expected is None:
            # It would hold the name against the next one.
            await self._give_up(begun)
            raise RemoteSessionLost("it does not tell what it expects")
        return Held(ranges=Ranges.up_to(min(expected, outgoing.size)))

    async def send(self, outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> Stored | None:
        """Put a fragment, or the whole file."""
        begun = self._begun(session)
        if begun.url is None:
            return await self._put_whole(outgoing, begun, cargo)
        headers = {"Content-Range": f"bytes {cargo.start}-{cargo.stop - 1}/{outgoing.size}"}
        last = cargo.stop == outgoing.size
        try:
            answer = await self._put_fragment(outgoing, begun, cargo, headers)
        except RemoteSessionLost:
            # Perhaps this is the second time, and the first one made the file.
            with asking_after():
                if not last or not await self._may_be_there(outgoing, begun):
                    raise
            return None
        except PeerBusy as error:
            if last and is_taken(error):
                return None
            raise
        self._doubted.discard(outgoing.id)
        if answer.status_code == 202:
            expected = next_expected(answer)
            if last or (expected is not None and expected < cargo.stop):
                raise PeerBusy(202, f"bytes up to {expected} of {cargo.stop} were kept")
            return None
        self._forget(outgoing)
        return told(answer, begun.drive, begun.name)

    async def _put_fragment(
        self, outgoing: Outgoing, begun: _Begun, cargo: Cargo, headers: Mapping[str, str]
    ) -> Answer:
        assert begun.url is not None
        request = self._bring_fragment(begun.url, cargo, headers)
        if outgoing.id in self._doubted or outgoing.id in self._renewed:
            return await self._of_session(outgoing, begun, request)
        try:
            return await request
        except PeerBlocked as error:
            if error.obstacle is not Obstacle.AUTH:
                raise
            self._doubted.add(outgoing.id)
            raise PeerBusy(401, f"the session is asked whether it lets us in: {error}") from error

    async def _bring_fragment(self, url: str, cargo: Cargo, headers: Mapping[str, str]) -> Answer:
        try:
            return await self._calls.bring("PUT", url, cargo, headers=headers, accept=(*MADE, 202))
        except PeerRefused as error:
            # Rule 6. Of one that goes on it is what it says.
            if error.status == BAD_REQUEST:
                with asking_after():
                    await self._ask_session(url)
            raise

    async def _ask_session(self, url: str) -> Answer:
        """Ask a session where it is. Raises RemoteSessionLost: also for a 400 (rule 6)."""
        try:
            return await self._calls.ask("GET", url, accept=(200,), of_session=True)
        except PeerRefused as error:
            if error.status != BAD_REQUEST:
                raise
            raise RemoteSessionLost(str(error)) from error

    async def commit(self, outgoing: Outgoing, session: RemoteSession, checksum: Checksum | None) -> Stored:
        """Find the file that the last fragment made; make an empty one."""
        begun = self._begun(session)
        stored = await self._find(outgoing, begun, checksum)
        if stored is None and not outgoing.size:
            stored = await self._put_whole(outgoing, begun, EMPTY)
            with asking_after():
                stored = stored or await self._find(outgoing, begun, checksum)
        self._forget(outgoing)
        if stored is None:
            await self._give_up(begun)
            raise RemoteSessionLost(f"what lies under {begun.name} is not what was sent")
        return stored

    async def verify(self, outgoing: Outgoing, session: RemoteSession, stored: Stored) -> Stored:
        """Ask for the item until it has a hash, for a few seconds."""
        try:
            self._begun(session)
        except RemoteSessionLost as error:
            raise PeerBlocked(Obstacle.CONFLICT, f"{stored.name} was stored; {error.reason}") from error
        found = await self._drives.hashed(await self._drives.find_again(stored))
        if found is None:
            raise PeerRefused(404, "itemNotFound", f"{stored.name} was there, and is no more")
        return found.stored

    async def cancel(self, outgoing: Outgoing, session: RemoteSession) -> None:
        """Delete the session, in whoever's drive it is."""
        await self._give_up(self._begun(session))
        self._forget(outgoing)

    def summing(self, outgoing: Outgoing, session: RemoteSession) -> Summing | None:
        """Return the hash that OneDrive tells."""
        return QuickXorSum()

    async def close(self) -> None:
        """Close all connections."""
        await self._downloads.close()
        await self._calls.close()

    def _forget(self, outgoing: Outgoing) -> None:
        self._doubted.discard(outgoing.id)
        self._renewed.discard(outgoing.id)

    async def _give_up(self, begun: _Begun) -> None:
        if begun.url is not None:
            # One that lets us in no more is as good as gone.
            with suppress(RemoteSessionLost, PeerBlocked):
                await self._calls.ask("DELETE", begun.url, accept=(204, BAD_REQUEST), of_session=True)

    async def _of_session(self, outgoing: Outgoing, begun: _Begun, request: Awaitable[Answer]) -> Answer:
        """Return the answer of a session. Raises also what follows when it does not let us in (rule 5)."""
        try:
            return await request
        except PeerBlocked as error:
            if error.obstacle is not Obstacle.AUTH:
                raise
            self._doubted.discard(outgoing.id)
            if outgoing.id in self._renewed:
                self._renewed.discard(outgoing.id)
                raise
            self._renewed.add(outgoing.id)
            # It would hold the name against the next one.
            await self._give_up(begun)
            raise RemoteSessionLost(f"it does not let us in: {error}") from error

    async def _put_whole(self, outgoing: Outgoing, begun: _Begun, cargo: Cargo) -> Stored | None:
        """Send all in one request; None when `commit` has to tell whether the file there is it."""
        behaviour = f"@microsoft.graph.conflictBehavior={begun.behaviour}"
        url = f"{at(begun.drive, begun.name)}:/content?{behaviour}"
        kind = {"Content-Type": outgoing.content_type or "application/octet-stream"}

        async def put(token: str) -> Answer:
            return await self._calls.bring(
                "PUT",
                url,
                cargo,
                headers=kind,
                credentials=bearer(token),
                accept=MADE,
                of_session=False,
            )

        try:
            return told(await self._drives.signed_in(put), begun.drive, begun.name)
        except PeerBusy as error:
            if is_taken(error):
                return None
            raise

    async def _may_be_there(self, outgoing: Outgoing, begun: _Begun) -> bool:
        """Whether what lies under the name can be what was sent; `commit` tells."""
        item = await self._drives.find(begun.drive, begun.name)
        if item is None or not begun.may_have_made(item):
            return False
        return item.stored.size == outgoing.size or self._is_rewritten(outgoing)

    async def _find(self, outgoing: Outgoing, begun: _Begun, checksum: Checksum | None) -> Stored | None:
        """Return the file that was made of what was sent; None when there is none, or another one (rule 3)."""
        item = await self._drives.find(begun.drive, begun.name)
        if item is None or not begun.may_have_made(item):
            return None
        if checksum is not None:
            item = await self._drives.hashed(item)
        ours = item is not None and await self._is_ours(item, outgoing, begun, checksum)
        return item.stored if item is not None and ours else None

    async def _is_ours(
        self, item: Item, outgoing: Outgoing, begun: _Begun, checksum: Checksum | None
    ) -> bool:
        """Whether a file that was not there before is what was sent."""
        found = item.stored.checksum
        if found is not None and found == checksum:
            return True
        differs = found is not None and checksum is not None
        if begun.url is not None:
            # What came in fragments has the time that we gave it, which tells where no hash does.
            same_size = item.stored.size == outgoing.size and not differs
            return item.has_time(outgoing.modified_at) and (same_size or self._is_rewritten(outgoing))
        if differs or item.stored.size != outgoing.size:
            return False
        return checksum is None or await self._read_sum(item) == checksum

    async def _read_sum(self, item: Item) -> Checksum | None:
        """Return the hash of a small file that has none there; None where it cannot be read."""
        if item.download is None or not self._is_address(item.download):
            return None
        try:
            answer = await self._downloads.ask("GET", item.download, accept=(200,))
        except (PeerRefused, PeerBlocked):
            return None
        total = QuickXorSum()
        total.update(answer.content)
        return total.checksum()


def _check_length(name: str) -> None:
    if len(name) > MAX_PATH:
        raise InvalidRequest.of(
            "target", f"must be at most {MAX_PATH} characters, folders and the number of a free name and all"
        )
