"""Another Haulier service, by its native API: chunks in parallel, idempotent by the transfer's id.

Rule 1: the upload's own token is shown after it was begun: it outlives the one that began it.
Rule 2: nothing is replaced there: each file that arrives is a record of its own, and the newest one counts.
"""

import hashlib
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from haulier.core.digest import Buffer, Digest, DigestName, new_hasher
from haulier.core.errors import (
    FieldProblem,
    PeerBlocked,
    PeerBusy,
    PeerCorrupted,
    PeerRefused,
    RemoteSessionLost,
    SourceChanged,
)
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
from haulier.core.ranges import Ranges
from haulier.core.secret import Secret
from haulier.core.transfer import Obstacle
from haulier.core.upload import (
    MAX_SIZE,
    check_content_type,
    check_filename,
    check_path,
    require_valid,
)
from haulier.core.values import dataclass
from haulier.remotes.answers import PASSING, RetryTable, read_json
from haulier.remotes.calls import Calls, asking_after, check_base_url
from haulier.remotes.sessions import Sessions
from haulier.sending_ports import Cargo

if TYPE_CHECKING:
    import ssl

PARALLEL: Final = 4
"""Chunks of one file at once; what the client sends as well."""
POLL_S: Final = 30
"""How long one question may wait there for a file to be finished; the service's own bound is 60."""
ASKS: Final = 20
"""Times that a file's end is waited for before the manager is told to come back: ten minutes."""

TABLE: Final = RetryTable(
    passing=PASSING - {409},
    lost=frozenset({404, 410}),
    passing_slugs=frozenset({"upload-busy", "offset-mismatch", "chunks-missing"}),
    obstacle_slugs={"quota-exceeded": Obstacle.QUOTA, "storage-full": Obstacle.QUOTA},
    lost_slugs=frozenset({"idempotency-key-reused"}),
    told_apart=frozenset({"chunk-conflict", "upload-complete", "digest-mismatch"}),
)


class DigestSum:
    """`Summing` by a digest of ours, in hex as the service tells it."""

    def __init__(self, name: DigestName) -> None:
        self._name = name
        self._hasher = new_hasher(name)

    def update(self, data: Buffer, /) -> None:
        """Take the next bytes."""
        self._hasher.update(data)

    def checksum(self) -> Checksum:
        """Return the digest in hex."""
        return Checksum(str(self._name), Digest(self._name, self._hasher.digest()).hex)


class HaulierRemote:
    """See the head of this file.

    Args:
        url: where the service is.
        token: sent as a bearer token.
        capsule: where the files go.
        digest: what both sides compute and compare; `none` leaves the size.
        tls: what certificates are trusted; the machine's, when not given.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Secret | None = None,
        capsule: str = "default",
        digest: DigestName = DigestName.SHA_256,
        tls: "ssl.SSLContext | None" = None,
    ) -> None:
        self._url = check_base_url(url)
        self._sessions = Sessions(f"haulier {self._url} {capsule}")
        self._token = token
        self._capsule = capsule
        self._digest = digest
        self._calls = Calls(self._url, TABLE, tls=tls)

    @property
    def limits(self) -> RemoteLimits:
        """Chunks in parallel; records are never replaced, so there is nothing to be kept from it."""
        return RemoteLimits(max_size=MAX_SIZE, parallel=PARALLEL, if_exists=frozenset({IfExists.REPLACE}))

    def check(self, outgoing: Outgoing) -> None:
        """Refuse names that the service would refuse."""
        require_valid(
            chain(
                check_filename(outgoing.filename),
                check_path(outgoing.name),
                () if outgoing.content_type is None else check_content_type(outgoing.content_type),
                _check_way(outgoing),
            )
        )

    async def probe(self) -> None:
        """Ask for the newest record of the capsule."""
        params = {"capsule": self._capsule, "limit": "1"}
        await self._calls.ask(
            "GET",
            f"{self._url}/api/records",
            params=params,
            credentials=self._credentials(None),
            accept=(200,),
        )

    async def create(self, outgoing: Outgoing) -> RemoteSession:
        """Begin an upload, or find the one that this transfer has begun before."""
        document: dict[str, Any] = {
            "filename": outgoing.filename,
            "path": outgoing.name,
            "size": outgoing.size,
            "mode": "chunks",
            "capsule": self._capsule,
            "digest_name": str(self._digest),
        }
        if outgoing.content_type is not None:
            document["content_type"] = outgoing.content_type
        answer = await self._calls.ask(
            "POST",
            f"{self._url}/api/uploads",
            json=document,
            headers={"Idempotency-Key": _key(outgoing)},
            credentials=self._credentials(None),
            accept=(200, 201),
        )
        return read_json(answer, self._read_begun)

    async def offset(self, outgoing: Outgoing, session: RemoteSession) -> Held:
        """Ask for the upload's state."""
        state = await self._state(session)
        if state.status in {"aborted", "expired", "failed"}:
            raise RemoteSessionLost(f"the upload is {state.status}: {state.error}")
        if state.status == "committed":
            if state.result is None:
                raise RemoteSessionLost("its record has been deleted")
            return Held(ranges=Ranges.up_to(outgoing.size), stored=state.result)
        if state.status == "finishing":
            return Held(ranges=Ranges.up_to(outgoing.size))
        return Held(ranges=state.received)

    async def send(self, outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> Stored | None:
        """Put one chunk."""
        assert session.chunk_size is not None
        index = cargo.start // session.chunk_size
        try:
            await self._calls.bring(
                "PUT",
                f"{self._upload(session)}/chunks/{index}",
                cargo,
                headers={"Content-Type": "application/octet-stream"},
                credentials=self._credentials(session),
                accept=(204,),
            )
        except PeerRefused as error:
            if error.slug == "chunk-conflict":
                raise SourceChanged(outgoing.name, "the service holds other bytes of this upload") from error
            if error.slug != "upload-complete":
                raise
        return None

    async def commit(self, outgoing: Outgoing, session: RemoteSession, checksum: Checksum | None) -> Stored:
        """Finish the upload, and wait for its record."""
        document: dict[str, Any] = {"size": outgoing.size}
        if checksum is not None:
            document["digest"] = {checksum.name: checksum.value}
        try:
            answer = await self._calls.ask(
                "POST",
                f"{self._upload(session)}/finish",
                json=document,
                credentials=self._credentials(session),
                accept=(200, 202),
                of_session=True,
            )
        except PeerRefused as error:
            if error.slug == "digest-mismatch":
                raise PeerCorrupted(outgoing.name, str(document.get("digest")), error.detail) from error
            raise
        found = read_json(answer, lambda told: _read_record(told) if "capsule" in told else None)
        if found is not None:
            return found
        with asking_after():
            return await self._wait_record(outgoing, session)

    async def verify(self, outgoing: Outgoing, session: RemoteSession, stored: Stored) -> Stored:
        """Ask for the record; who may only write keeps what the end of the upload told.

        Of a record that is hidden from our token, because it is another's than it was, the upload's own tells (rule 1).
        """
        try:
            answer = await self._calls.ask(
                "GET",
                f"{self._url}/api/records/{quote(stored.id or '', safe='')}",
                credentials=self._credentials(None),
                accept=(200,),
            )
        except PeerBlocked:
            return stored
        except PeerRefused as error:
            if error.status == 404:
                return await self._ask_upload_for(stored, session)
            if error.status != 403:
                raise
            return stored
        return read_json(answer, _read_record)

    async def _ask_upload_for(self, stored: Stored, session: RemoteSession) -> Stored:
        """Return the record as the upload that made it tells."""
        record = f"it was stored as record {stored.id}"
        try:
            state = await self._state(session)
        except RemoteSessionLost as error:
            raise PeerBlocked(
                Obstacle.CONFLICT, f"{record}, which is not to be seen here: {error.reason}"
            ) from error
        if state.result is None:
            raise PeerRefused(404, "record-deleted", f"{record}, and has been deleted since")
        return state.result

    async def cancel(self, outgoing: Outgoing, session: RemoteSession) -> None:
        """Abort the upload."""
        accept = (204, 404, 409, 410)
        await self._calls.ask(
            "DELETE", self._upload(session), credentials=self._credentials(session), accept=accept
        )

    def summing(self, outgoing: Outgoing, session: RemoteSession) -> Summing | None:
        """Return the digest that the service computes as well."""
        return None if self._digest is DigestName.NONE else DigestSum(self._digest)

    async def close(self) -> None:
        """Close all connections."""
        await self._calls.close()

    async def _state(self, session: RemoteSession, *, wait_s: int = 0) -> "_State":
        answer = await self._calls.ask(
            "GET",
            self._upload(session),
            params={"wait": str(wait_s)} if wait_s else None,
            credentials=self._credentials(session),
            accept=(200,),
            of_session=True,
        )
        return read_json(answer, _State.read)

    async def _wait_record(self, outgoing: Outgoing, session: RemoteSession) -> Stored:
        for _ in range(ASKS):
            state = await self._state(session, wait_s=POLL_S)
            if state.status == "open":
                raise PeerBusy(409, f"the upload is open again: {state.error}")
            if state.status != "finishing":
                held = await self.offset(outgoing, session)
                assert held.stored is not None
                return held.stored
        raise PeerBusy(202, "the file is still being finished there")

    def _read_begun(self, document: dict[str, Any]) -> RemoteSession:
        state = {"id": str(document["id"]), "token": document.get("token")}
        chunk_size = int(document["chunk_size"])
        if not 1 <= chunk_size <= MAX_SIZE:
            raise ValueError(f"chunks of {chunk_size} bytes")
        return self._sessions.keep(state, chunk_size=chunk_size, commits_itself=False)

    def _upload(self, session: RemoteSession) -> str:
        return f"{self._url}/api/uploads/{quote(self._sessions.read(session)['id'], safe='')}"

    def _credentials(self, session: RemoteSession | None) -> dict[str, str]:
        own = None if self._token is None else self._token.reveal()
        token = own if session is None else self._sessions.read(session).get("token") or own
        return {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})


@dataclass(frozen=True, slots=True)
class _State:
    """An upload as the service tells it."""

    status: str
    error: str
    received: Ranges
    result: Stored | None

    @classmethod
    def read(cls, document: dict[str, Any]) -> "_State":
        result = document.get("result")
        return cls(
            status=str(document["status"]),
            error=str(document.get("error") or "no reason given"),
            received=Ranges.of((int(start), int(stop)) for start, stop in document.get("received", ())),
            result=None if result is None else _read_record(result),
        )


def _key(outgoing: Outgoing) -> str:
    """Return the idempotency key: the same for the same content of the same transfer."""
    text = f"{outgoing.id}\n{outgoing.size}\n{outgoing.modified_at!r}\n{outgoing.name}"
    return f"haulier-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:48]}"


def _check_way(outgoing: Outgoing) -> Iterator[FieldProblem]:
    if outgoing.if_exists is not IfExists.REPLACE:
        yield FieldProblem("if_exists", "a Haulier service keeps every record; only replace is known there")


def _read_record(document: dict[str, Any]) -> Stored:
    digest = document.get("digest") or {}
    name, value = next(iter(digest.items()), (None, None))
    return Stored(
        name=document.get("path") or document["filename"],
        id=str(document["id"]),
        size=document["size"],
        checksum=None if name is None or value is None else Checksum(name, value),
    )
