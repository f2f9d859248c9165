"""S3 and what speaks like it: one PUT for small files, parts in any order for others.

Rule 1: botocore signs everything and reads the answers to short calls; bodies go to addresses that it has signed. All
        of it is sent by the body writer.
Rule 2: an object carries our mark in its metadata, so that after a lost answer ours is told from another's.
Rule 3: orphans cost money: a session that is begun again aborts what it had begun before, a cancel aborts, too.
Rule 4: a part that is listed with another size than the grid's is not ours to trust, and is sent again.

One module although it is long: one key's life, from its name to its sum, and what S3's words mean on the way.
"""

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, TypeVar

import google_crc32c
from aiobotocore.config import AioConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own
    CredentialRetrievalError,
    HTTPClientError,
    ParamValidationError,
)
from botocore.parsers import ResponseParserError

from haulier.body.answers import Answer
from haulier.core.digest import Buffer, DigestName, new_hasher
from haulier.core.errors import (
    InvalidRequest,
    PeerBlocked,
    PeerBusy,
    PeerError,
    PeerRefused,
    PeerUnreachable,
    PeerUnreadable,
    RemoteSessionLost,
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
from haulier.core.quantity import MIB
from haulier.core.ranges import Ranges
from haulier.core.retry import parse_retry_after
from haulier.core.secret import Secret
from haulier.core.transfer import Obstacle
from haulier.engine.tasks import in_thread
from haulier.remotes.answers import PASSING, RetryTable, Told
from haulier.remotes.calls import Calls, asking_after, check_base_url
from haulier.remotes.s3_client import Keys, OwnClient
from haulier.remotes.s3_clock import REFUSING, ClockFollowed, ServerClock, signed_at
from haulier.remotes.s3_session import MAX_LISTING, OwnSession
from haulier.remotes.sessions import EMPTY, Sessions
from haulier.sending_ports import Cargo

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")

ONE_PUT: Final = 16 * MIB
"""Bytes below which a file goes in one request."""
LEAST_PART: Final = 8 * MIB
MAX_PARTS: Final = 10_000
MAX_SIZE: Final = 5 * 1024**4
"""5 TiB. Source: Amazon S3 user guide, multipart upload limits."""
MAX_KEY: Final = 1024
"""Bytes of UTF-8. Source: Amazon S3 user guide, object keys."""
PARALLEL: Final = 4
SIGNED_S: Final = 3600
"""Seconds that a signed address is good for: it is made right before its request."""
SUM_PIECE: Final = MIB
MAX_NAMES: Final = 1000
"""Names that are tried when a file must not replace another."""

MD5: Final = "md5"
MD5_OF_PARTS: Final = "md5-of-parts"
"""What an ETag is: of an object put at once, and of one made of parts."""

TABLE: Final = RetryTable(
    passing=PASSING - {409},
    passing_slugs=frozenset(
        {
            "RequestTimeout",
            "SlowDown",
            "InternalError",
            "ServiceUnavailable",
            "RequestTimeTooSkewed",
            "OperationAborted",
            "ConditionalRequestConflict",
            "InvalidPart",
            "BadDigest",
            "XAmzContentChecksumMismatch",
        }
    ),
    obstacle_slugs={
        "InvalidAccessKeyId": Obstacle.AUTH,
        "SignatureDoesNotMatch": Obstacle.AUTH,
        "AccessDenied": Obstacle.AUTH,
        "ExpiredToken": Obstacle.AUTH,
        "InvalidToken": Obstacle.AUTH,
        "TokenRefreshRequired": Obstacle.AUTH,
        "QuotaExceeded": Obstacle.QUOTA,
        "XMinioStorageFull": Obstacle.QUOTA,
        "InsufficientStorage": Obstacle.QUOTA,
    },
    lost_slugs=frozenset({"NoSuchUpload"}),
)
"""`InvalidPart`, `BadDigest`: a part was damaged on its way, or is not there any more; it is asked for and sent again."""


def part_size(size: int) -> int:
    """Return the parts' size: 10 000 of them are enough, in whole MiB."""
    needed = -(-size // MAX_PARTS)
    return max(LEAST_PART, -(-needed // MIB) * MIB)


class EtagSum:
    """`Summing` of the ETag: MD5 of the object, or of its parts' MD5s with their number."""

    def __init__(self, part: int | None) -> None:
        self._part = part
        self._hasher = new_hasher(DigestName.MD5)
        self._filled = 0
        self._parts: list[bytes] = []

    def update(self, data: Buffer, /) -> None:
        """Take the next bytes."""
        view = memoryview(data)
        while self._part is not None and self._filled + len(view) >= self._part:
            cut = self._part - self._filled
            self._hasher.update(view[:cut])
            self._end_part()
            view = view[cut:]
        self._hasher.update(view)
        self._filled += len(view)

    def checksum(self) -> Checksum:
        """Return the ETag, without its quotes."""
        if self._part is None:
            return Checksum(MD5, self._hasher.digest().hex())
        if self._filled:
            self._end_part()
        total = hashlib.md5(b"".join(self._parts), usedforsecurity=False).hexdigest()
        return Checksum(MD5_OF_PARTS, f"{total}-{len(self._parts)}")

    def _end_part(self) -> None:
        self._parts.append(self._hasher.digest())
        self._hasher, self._filled = new_hasher(DigestName.MD5), 0


class S3Remote:
    """See the head of this file.

    Args:
        url: the endpoint.
        bucket: which must exist.
        region: for signatures.
        prefix: put before every name.
        path_style: the bucket in the path; None: where the endpoint is not Amazon's.
        checksums: whether bodies carry a CRC-32C that the service compares; None: where the endpoint is
            Amazon's. Others take it and cannot tell it again, which an upload of parts needs (SeaweedFS 4.48).
        keys: access key and secret key; botocore looks for them where it always does, when not given.
        tls: what certificates are trusted; the machine's, when not given.
    """

    def __init__(
        self,
        url: str,
        *,
        bucket: str,
        region: str = "us-east-1",
        prefix: str = "",
        path_style: bool | None = None,
        checksums: bool | None = None,
        keys: tuple[Secret, Secret] | None = None,
        tls: "ssl.SSLContext | None" = None,
    ) -> None:
        self._url = check_base_url(url)
        self._sessions = Sessions(f"s3 {self._url} {bucket} {prefix}")
        self._bucket = bucket
        self._prefix = prefix
        self._calls = Calls(self._url, TABLE, tls=tls, most=MAX_LISTING)
        amazon = ".amazonaws.com" in self._url
        self._checksums = amazon if checksums is None else checksums
        by_path = not amazon if path_style is None else path_style
        self._clock = ServerClock()
        config = AioConfig(
            region_name=region,
            signature_version="s3v4",
            s3={"addressing_style": "path" if by_path else "virtual"},
            retries={"total_max_attempts": 1, "mode": "standard"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            http_session_cls=partial(OwnSession, self._calls.relay, self._clock),
        )
        self._client = OwnClient(self._url, config, keys, self._clock.follow_in)

    @property
    def limits(self) -> RemoteLimits:
        """Parts in parallel."""
        return RemoteLimits(max_size=MAX_SIZE, parallel=PARALLEL)

    def check(self, outgoing: Outgoing) -> None:
        """Refuse keys that are too long, or that listings could not name."""
        key = self._prefix + outgoing.name
        if len(key.encode("utf-8", "surrogatepass")) > MAX_KEY:
            raise InvalidRequest.of("target", f"must be at most {MAX_KEY} bytes of UTF-8, with its prefix")
        if _UNLISTED.search(key):
            raise InvalidRequest.of("target", f"{outgoing.name!r} has characters that XML cannot carry")
        outgoing.check_segments()
        if outgoing.size > MAX_SIZE:
            raise InvalidRequest.of("size", f"must be at most {MAX_SIZE} bytes (5 TiB)")

    async def probe(self) -> None:
        """Ask for the bucket."""
        try:
            await self._ask("head_bucket")
        except PeerRefused as error:
            if error.status != 404:
                raise
            raise PeerRefused(404, "NoSuchBucket", f"there is no bucket {self._bucket!r}; make it") from error

    async def create(self, outgoing: Outgoing) -> RemoteSession:
        """Choose the key, and begin a multipart upload where one is worth it."""
        key = await self._choose_key(outgoing)
        if outgoing.size < ONE_PUT:
            return self._sessions.keep({"key": key}, chunk_size=max(1, outgoing.size), commits_itself=True)
        await self._abort_leftovers(key, since=outgoing.intended_at)
        more: dict[str, Any] = {"ChecksumAlgorithm": "CRC32C"} if self._checksums else {}
        more |= _content_type(outgoing)
        begun = await self._ask("create_multipart_upload", Key=key, Metadata=_marks(outgoing), **more)
        state = {"key": key, "upload": _member(begun, "UploadId")}
        return self._sessions.keep(state, chunk_size=part_size(outgoing.size), commits_itself=False)

    async def offset(self, outgoing: Outgoing, session: RemoteSession) -> Held:
        """List the parts; of a whole file, look whether it is there."""
        state = self._sessions.read(session)
        if "upload" not in state:
            return Held(stored=await self._find(outgoing, session))
        try:
            parts = [part async for part in self._parts(state)]
        except RemoteSessionLost:
            # Perhaps it has been completed, and the answer was lost.
            stored = await self._find(outgoing, session)
            if stored is None:
                raise
            return Held(ranges=Ranges.up_to(outgoing.size), stored=stored)
        return Held(ranges=Ranges.of(_span(part, outgoing, session) for part in parts))

    async def send(self, outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> Stored | None:
        """Put a part, or the whole file."""
        state = self._sessions.read(session)
        if "upload" not in state:
            return await self._put_whole(outgoing, session, cargo)
        assert session.chunk_size is not None
        number = cargo.start // session.chunk_size + 1
        params = {"Key": state["key"], "UploadId": state["upload"], "PartNumber": number}
        await self._bring("upload_part", {**params, **await self._crc(cargo)}, cargo)
        return None

    async def commit(self, outgoing: Outgoing, session: RemoteSession, checksum: Checksum | None) -> Stored:
        """Complete the upload of all parts; a whole file is found, an empty one made."""
        state = self._sessions.read(session)
        if "upload" in state:
            return await self._complete(outgoing, session)
        stored = await self._find(outgoing, session)
        if stored is None and outgoing.size:
            raise RemoteSessionLost("the object is not there")
        return stored or await self._put_whole(outgoing, session, EMPTY)

    async def verify(self, outgoing: Outgoing, session: RemoteSession, stored: Stored) -> Stored:
        """Ask for the object's head."""
        try:
            key = self._sessions.read(session)["key"]
        except RemoteSessionLost as error:
            raise PeerBlocked(Obstacle.CONFLICT, f"{stored.name} was stored; {error.reason}") from error
        return _describe(stored.name, await self._ask("head_object", Key=key))

    async def cancel(self, outgoing: Outgoing, session: RemoteSession) -> None:
        """Abort the multipart upload."""
        state = self._sessions.read(session)
        if "upload" not in state:
            return
        try:
            await self._ask(
                "abort_multipart_upload", of_session=True, Key=state["key"], UploadId=state["upload"]
            )
        except RemoteSessionLost:
            return

    def summing(self, outgoing: Outgoing, session: RemoteSession) -> Summing | None:
        """Return what makes the ETag that S3 gives."""
        return EtagSum(session.chunk_size if "upload" in self._sessions.read(session) else None)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
        await self._calls.close()

    async def _choose_key(self, outgoing: Outgoing) -> str:
        wanted = self._prefix + outgoing.name
        if outgoing.if_exists is IfExists.REPLACE or not await self._exists(wanted):
            return wanted
        if outgoing.if_exists is IfExists.FAIL:
            raise PeerRefused(412, "target-exists", f"there is an object {outgoing.name} already")
        path = PurePosixPath(wanted)
        for number in range(1, MAX_NAMES):
            name = str(path.with_name(f"{path.stem} ({number}){path.suffix}"))
            if not await self._exists(name):
                return name
        raise PeerRefused(412, "target-exists", f"{MAX_NAMES} names like {outgoing.name} are taken")

    async def _exists(self, key: str) -> bool:
        try:
            await self._ask("head_object", Key=key)
        except PeerRefused as error:
            if error.status != 404:
                raise
            return False
        return True

    async def _find(self, outgoing: Outgoing, session: RemoteSession) -> Stored | None:
        """Return the object if it bears our mark."""
        key = self._sessions.read(session)["key"]
        try:
            head = await self._ask("head_object", Key=key)
        except PeerRefused as error:
            if error.status != 404:
                raise
            return None
        ours = head.get("Metadata", {}).get(MARK) == _mark(outgoing)
        if not ours or head.get("ContentLength") != outgoing.size:
            return None
        return _describe(key.removeprefix(self._prefix), head)

    async def _put_whole(self, outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> Stored:
        key = self._sessions.read(session)["key"]
        params = {
            "Key": key,
            "Metadata": _marks(outgoing),
            **_content_type(outgoing),
            **_condition(outgoing),
            **await self._crc(cargo),
        }
        try:
            answer = await self._bring("put_object", params, cargo)
        except PeerRefused as error:
            raise _told_exists(error, outgoing) from error
        etag = answer.headers.get("ETag", "").strip('"')
        return Stored(name=key.removeprefix(self._prefix), size=outgoing.size, etag=etag)

    async def _complete(self, outgoing: Outgoing, session: RemoteSession) -> Stored:
        state = self._sessions.read(session)
        name = state["key"].removeprefix(self._prefix)
        try:
            spans = [(_span(part, outgoing, session), part) async for part in self._parts(state)]
            if not Ranges.of(span for span, _ in spans).covers(0, outgoing.size):
                raise PeerBusy(409, "parts are missing")
            made = await self._ask(
                "complete_multipart_upload",
                of_session=True,
                Key=state["key"],
                UploadId=state["upload"],
                MultipartUpload={"Parts": [_named(part) for (start, stop), part in spans if start < stop]},
                **_condition(outgoing),
            )
        except RemoteSessionLost:
            with asking_after():
                stored = await self._find(outgoing, session)
            if stored is None:
                raise
            return stored
        except PeerRefused as error:
            raise _told_exists(error, outgoing) from error
        return Stored(name=name, size=outgoing.size, etag=made.get("ETag", "").strip('"'))

    async def _parts(self, state: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        after: int | None = 0
        while after is not None:
            page = await self._ask(
                "list_parts",
                of_session=True,
                Key=state["key"],
                UploadId=state["upload"],
                **({"PartNumberMarker": after} if after else {}),
            )
            for part in page.get("Parts", []):
                yield part
            following = page.get("NextPartNumberMarker") if page.get("IsTruncated") else None
            if following is not None and following <= after:
                raise PeerUnreadable(200, "a page of its list leads back to one before it")
            after = following

    async def _abort_leftovers(self, key: str, *, since: float) -> None:
        """Abort uploads of this key that an attempt of ours began, and could not write down."""
        try:
            page = await self._ask("list_multipart_uploads", Prefix=key)
        except PeerBlocked:
            # The keys may send, and not list. If they may do neither, the next call says so.
            return
        except PeerRefused as error:
            # rclone says 404 when there are none; others do not know the call. Nobody is harmed by what stays.
            if error.status not in {404, 405, 501}:
                raise
            return
        for upload in page.get("Uploads", []):
            begun: datetime | None = upload.get("Initiated")
            # S3 tells whole seconds, of its own clock.
            intended = datetime.fromtimestamp(int(since), UTC) + self._clock.ahead
            if upload.get("Key") == key and begun and begun >= intended:
                state = {"key": key, "upload": _member(upload, "UploadId")}
                try:
                    await self._ask(
                        "abort_multipart_upload", of_session=True, Key=key, UploadId=state["upload"]
                    )
                except (RemoteSessionLost, PeerBlocked):
                    continue

    async def _crc(self, cargo: Cargo) -> dict[str, str]:
        """Return the checksum that goes before the bytes: they are read twice, from the page cache."""
        if not self._checksums:
            return {}
        return {"ChecksumCRC32C": await in_thread(_crc32c, cargo)}

    async def _bring(self, operation: str, params: Mapping[str, Any], cargo: Cargo) -> Answer:
        async def bring(client: Any) -> Answer:
            url = await client.generate_presigned_url(
                operation, Params={"Bucket": self._bucket, **params}, ExpiresIn=SIGNED_S
            )
            answer = await self._calls.bring(
                "PUT", url, cargo, headers=_signed_headers(params), accept=(200, *REFUSING)
            )
            self._clock.check(answer, signed_at(url))
            return self._calls.judge(answer, accept=(200,), of_session=True, url=url)

        return await self._signed(bring, of_session=False)

    async def _ask(self, operation: str, *, of_session: bool = False, **params: Any) -> dict[str, Any]:
        async def ask(client: Any) -> dict[str, Any]:
            answer: dict[str, Any] = await getattr(client, operation)(Bucket=self._bucket, **params)
            return answer

        return await self._signed(ask, of_session=of_session)

    async def _signed(self, request: Callable[[Any], Awaitable[T]], *, of_session: bool) -> T:
        """Make a request; once more when the service's clock, or other keys than those refused, may be signed by now."""
        signed_with: Keys = ()
        try:
            client, signed_with = await self._taken()
            return await self._told(request(client), of_session=of_session)
        except ClockFollowed:
            pass
        except PeerBlocked as error:
            if error.obstacle is not Obstacle.AUTH or not await self._client.finds_others(signed_with):
                raise
        client, _ = await self._taken()
        return await self._told(request(client), of_session=of_session)

    async def _taken(self) -> tuple[Any, Keys]:
        return await self._told(self._client.take(), of_session=False)

    async def _told(self, answer: Awaitable[T], *, of_session: bool) -> T:
        """Return what botocore returns; its errors are told as ours."""
        try:
            return await answer
        except (ResponseParserError, ValueError, OverflowError) as error:
            # Of numbers and times botocore lets through what its readers say.
            raise PeerUnreadable(200, "the answer is not what was asked for") from error
        except (BotoCoreError, ClientError) as error:
            raise self._translated(error, of_session=of_session) from error

    def _translated(self, error: Exception, *, of_session: bool) -> PeerError:
        """Translate botocore's errors, in this one place."""
        if isinstance(error, ClientError):
            told, meta = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
            fields, code = meta.get("HTTPHeaders", {}), told.get("Code", "unknown")
            return TABLE.error_of(
                Told(
                    meta.get("HTTPStatusCode", 400),
                    _SAID_BY_HEAD.get(code, (code, ""))[0],
                    _SAID_BY_HEAD.get(code, ("", told.get("Message")))[1] or str(error),
                    parse_retry_after(fields.get("retry-after"), date=fields.get("date")),
                ),
                of_session=of_session,
            )
        if isinstance(error, HTTPClientError | ConnectionError):
            # Of whoever gives keys: our own requests go another way.
            return PeerUnreachable(self._calls.host, type(error).__name__)
        if isinstance(error, ParamValidationError):
            return PeerRefused(400, type(error).__name__, str(error))
        if isinstance(error, CredentialRetrievalError):
            # Not in its words: they are those of a program that prints secrets.
            return PeerBlocked(Obstacle.AUTH, f"keys cannot be had from {error.kwargs['provider']}")
        # All others are about what is set up on this machine for the AWS tools.
        return PeerBlocked(Obstacle.AUTH, str(error))


MARK: Final = "haulier-transfer"
"""Name of the metadata that tells our objects from others'."""
_SAID_BY_HEAD: Final = {
    "400": ("InvalidToken", "the keys are refused; perhaps they have expired"),
    "403": ("AccessDenied", "the keys are refused, or may not do this"),
    "404": ("NotFound", "it is not there"),
}
"""What a status means that is all we are told: answers to HEAD have no body, and botocore makes the status a code."""
_UNLISTED: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What listings cannot tell. Source: XML 1.0 section 2.2; line breaks and tabs come back as something else."""
_ETAG: Final = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")


def _mark(outgoing: Outgoing) -> str:
    text = f"{outgoing.id}\n{outgoing.size}\n{outgoing.modified_at!r}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _marks(outgoing: Outgoing) -> dict[str, str]:
    # `mtime` as rclone writes and reads it.
    return {MARK: _mark(outgoing), "mtime": f"{outgoing.modified_at:.9f}"}


def _content_type(outgoing: Outgoing) -> dict[str, str]:
    return {} if outgoing.content_type is None else {"ContentType": outgoing.content_type}


def _condition(outgoing: Outgoing) -> dict[str, str]:
    return {} if outgoing.if_exists is IfExists.REPLACE else {"IfNoneMatch": "*"}


def _signed_headers(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields that botocore has signed into an address, and that must go with it."""
    names = {
        "ContentType": "Content-Type",
        "IfNoneMatch": "If-None-Match",
        "ChecksumCRC32C": "x-amz-checksum-crc32c",
    }
    fields = {field: params[name] for name, field in names.items() if name in params}
    return fields | {f"x-amz-meta-{name}": value for name, value in params.get("Metadata", {}).items()}


def _told_exists(error: PeerRefused, outgoing: Outgoing) -> PeerError:
    if error.status != 412:
        return error
    if outgoing.if_exists is IfExists.RENAME:
        return RemoteSessionLost("somebody has taken the name meanwhile")
    return PeerRefused(412, "target-exists", f"there is an object {outgoing.name} already")


def _span(part: Mapping[str, Any], outgoing: Outgoing, session: RemoteSession) -> tuple[int, int]:
    """Return the bytes of a part; none when it is not the grid's (rule 4)."""
    assert session.chunk_size is not None
    start = (_member(part, "PartNumber") - 1) * session.chunk_size
    stop = min(start + session.chunk_size, outgoing.size)
    return (start, stop) if _member(part, "Size") == stop - start else (0, 0)


def _member(answer: Mapping[str, Any], name: str) -> Any:
    """Return what every such answer has; raises PeerUnreadable when it has it not."""
    if name not in answer:
        raise PeerUnreadable(200, f"the answer has no {name}")
    return answer[name]


def _named(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part[name] for name in ("PartNumber", "ETag", "ChecksumCRC32C") if part.get(name)}


def _describe(name: str, head: Mapping[str, Any]) -> Stored:
    etag = head.get("ETag", "").strip('"')
    # With keys of its own, or the customer's, S3 gives ETags that are no MD5.
    plain = (
        not str(head.get("ServerSideEncryption", "")).startswith("aws:kms")
        and "SSECustomerAlgorithm" not in head
    )
    known = plain and _ETAG.fullmatch(etag) is not None
    return Stored(
        name=name,
        id=head.get("VersionId") or etag,
        size=_member(head, "ContentLength"),
        etag=etag,
        checksum=Checksum(MD5_OF_PARTS if "-" in etag else MD5, etag) if known else None,
    )


def _crc32c(cargo: Cargo) -> str:
    """Return CRC-32C of the cargo in base64; blocks."""
    value, source = 0, cargo.source
    for low in range(cargo.start, cargo.stop, SUM_PIECE):
        value = google_crc32c.extend(value, source.read(low, min(low + SUM_PIECE, cargo.stop)))
    return base64.b64encode(value.to_bytes(4, "big")).decode("ascii")
