"""The one error tree.

```
HaulierError
├── RequestError            the caller's fault; nothing was changed unless the error says so
│   ├── InvalidRequest          fields that are missing, malformed or out of bounds
│   ├── Unauthenticated         no credentials, or bad ones
│   ├── AccessDenied            known, but not allowed
│   ├── CapsuleNotFound · UploadNotFound · RecordNotFound · AssetNotFound · VisitorNotFound · LinkNotFound
│   ├── UploadGone              aborted, expired or failed
│   ├── UploadComplete          committed already
│   ├── UploadBusy              somebody else is at it; try again
│   ├── ChunkConflict · ChunkOutOfRange · ChunkTooLong · ChunkTooShort · ChunksMissing
│   ├── OffsetMismatch · LengthExceeded · LengthInconsistent · FileEmpty · FileMissing · TypeNotAccepted · NameNotAccepted
│   ├── ContentInvalid          what a file holds is not what it should be
│   ├── DigestMismatch · DigestMalformed
│   ├── IdempotencyKeyReused
│   ├── UploadRefused           the operator's own rules, told by a hook
│   ├── BodyCut                 the body ended before its announced end
│   ├── BodyMalformed           the body cannot be read any further
│   ├── QuotaExceeded
│   ├── CapsuleTaken · TokenNotFound
│   ├── TransferNotFound · TransferRemoved
│   └── JournalBusy             another process runs the journal
├── WaitTimeout             the deadline of a wait passed; the work goes on
├── TransferTimeout         the deadline of a wait passed; the transfer goes on
├── NodeBusy                another process is that peer already
├── SourceChanged           a local file changed while it was being sent
├── StorageError            our own back end; `retryable` says whether trying again can help
│   ├── StorageFull · StorageUnavailable · StorageNotWritable · DirectoryNotCreatable
│   ├── HookUnavailable         the operator's own rules could not be asked
│   ├── QueueFull               too much is waiting already
│   └── ServiceStopping         this process is about to end; what arrived is kept
├── PeerError               a remote service or peer refused or broke its protocol
│   ├── PeerRefused · PeerUnreachable
│   ├── PeerUnreadable          somebody on the way has answered in its place; try again
│   ├── PeerBusy                what passes by itself; try again
│   ├── RemoteHeld              it has asked others to wait, and so all of us
│   ├── PeerBlocked             somebody has to do something first: quota, credentials, a conflict
│   ├── RemoteSessionLost       what had been begun there is gone; begin anew
│   ├── PeerCorrupted           what it holds is not what was sent
│   └── LaneFailed · LanesFailed    one asset of a photograph and its pictures, and all that failed
├── ImageUnusable           a local image that no smaller pictures can be made of
└── ConfigError             the operator's fault; the process does not start
```

Leaves carry fields; their text is built from the fields. Programming mistakes stay `TypeError` and
`AssertionError`. One module although it is long: it is the tree above, leaf by leaf.

Rule 1: the fields of an error are its annotations, those of its family first, and it is made as a dataclass is. But all errors
        share one `__init__`: they are made seldom and declared at each start, where code of its own for each of them would
        take a command longer than its work.
"""

import re
from collections.abc import Mapping
from inspect import get_annotations
from types import MappingProxyType
from typing import Any, ClassVar, Final, dataclass_transform, get_origin

from haulier.core.transfer import Obstacle
from haulier.core.values import dataclass


@dataclass_transform(eq_default=False)
class HaulierError(Exception):
    """Root of everything Haulier raises on purpose."""

    retryable: ClassVar[bool] = False
    """Whether the same call can succeed later without being changed."""
    field_names: ClassVar[tuple[str, ...]] = ()
    """In the order in which they are given."""

    def __init_subclass__(cls) -> None:
        """Add the fields of a leaf to those of its family.

        Raises:
            TypeError: its annotations are text (`from __future__ import annotations`), in which no constant can be told.
        """
        own = get_annotations(cls)
        if any(isinstance(kind, str) for kind in own.values()):
            raise TypeError(f"{cls.__name__} is declared with annotations that are text")
        constant: object = ClassVar
        fields = [name for name, kind in own.items() if get_origin(kind) is not constant]
        cls.field_names = tuple(dict.fromkeys((*cls.field_names, *fields)))

    def __init__(self, *values: Any, **named: Any) -> None:
        """Take the fields, in their order or by name; those that have a default may be left out.

        Raises:
            TypeError: others were given, or too few.
        """
        given = dict(zip(self.field_names, values, strict=False))
        if (
            len(values) > len(self.field_names)
            or given.keys() & named
            or named.keys() - set(self.field_names)
        ):
            raise TypeError(
                f"{type(self).__name__} has the fields {self.field_names}, not {values} and {named}"
            )
        given |= named
        missing = [name for name in self.field_names if name not in given and not hasattr(type(self), name)]
        if missing:
            raise TypeError(f"{type(self).__name__} needs {', '.join(missing)}")
        vars(self).update(given)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.field_names)})"


class RequestError(HaulierError):
    """The caller asked for something that cannot be done as asked."""


class StorageError(HaulierError):
    """Our own back end (disk, database) did not do its part."""


class PeerError(HaulierError):
    """A remote service or a peer refused, vanished or broke its protocol."""

    @property
    def retry_after_s(self) -> float:
        """What the remote asks everybody here to wait, in seconds; 0 when it does not say."""
        return 0.0

    @property
    def too_slow(self) -> bool:
        """Whether a deadline passed, here or at a gateway: less at once may pass."""
        return False


class ConfigError(HaulierError):
    """A setting that cannot work; raised before anything is started."""

    setting: str
    value: str
    expected: str
    unreachable: bool = False
    """Whether what it names is another program that does not answer: the same start may succeed later."""

    def __str__(self) -> str:
        return f"{self.setting}={self.value!r} cannot be used: {self.expected}"


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field of a request and what is wrong with it, in words that name the cure."""

    field: str
    reason: str


class InvalidRequest(RequestError):
    """One or more fields are missing, malformed or out of bounds."""

    errors: tuple[FieldProblem, ...]

    @classmethod
    def of(cls, name: str, reason: str) -> "InvalidRequest":
        """The common case: one field, one reason."""
        return cls((FieldProblem(name, reason),))

    def __str__(self) -> str:
        return "; ".join(f"{problem.field}: {problem.reason}" for problem in self.errors)


class Unauthenticated(RequestError):
    """No credentials were given, or they are not valid."""

    reason: str
    given: bool = False
    """Whether there were any."""
    ended: bool = False
    """Whether they are known, and counted once: whoever shows them is not guessing."""

    def __str__(self) -> str:
        return self.reason


class AccessDenied(RequestError):
    """The caller is known but may not do this."""

    action: str

    def __str__(self) -> str:
        return f"not allowed: {self.action}"


class CapsuleNotFound(RequestError):
    """No capsule of that name that the caller may know of."""

    capsule: str

    def __str__(self) -> str:
        return f"there is no capsule {self.capsule!r}"


class UploadNotFound(RequestError):
    """No upload of that id that the caller may know of."""

    upload: str

    def __str__(self) -> str:
        return f"there is no upload {self.upload!r}"


class VisitorNotFound(RequestError):
    """Whoever calls is no visitor who lives."""

    def __str__(self) -> str:
        return "this browser has no visitor; its first upload makes one"


class LinkNotFound(RequestError):
    """Nothing is behind a link, for whatever reason."""

    def __str__(self) -> str:
        return "nothing is behind this link: it is over, or what it opened is gone, or it is not one of ours"


class RecordNotFound(RequestError):
    """No record of that id that the caller may know of."""

    record: str

    def __str__(self) -> str:
        return f"there is no record {self.record!r}"


class AssetNotFound(RequestError):
    """The record has no readable asset of that kind."""

    record: str
    kind: str

    def __str__(self) -> str:
        return f"record {self.record!r} has no asset {self.kind!r}"


class UploadGone(RequestError):
    """The upload ended without a result: it was aborted, it expired, or it failed."""

    upload: str
    status: str
    error: str | None = None

    def __str__(self) -> str:
        return f"upload {self.upload!r} is {self.status}" + (f": {self.error}" if self.error else "")


class UploadComplete(RequestError):
    """The upload is committed; its bytes can no longer change."""

    upload: str
    record: str | None

    def __str__(self) -> str:
        return f"upload {self.upload!r} is complete" + (
            f"; its record is {self.record!r}" if self.record else ""
        )


class UploadBusy(RequestError):
    """Another request holds what this one needs, or took it over while this one ran."""

    upload: str
    reason: str
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"upload {self.upload!r} is busy: {self.reason}"


class ChunkConflict(RequestError):
    """The index holds other bytes already; nothing was written."""

    index: int

    def __str__(self) -> str:
        return f"chunk {self.index} was accepted with other bytes"


class ChunkOutOfRange(RequestError):
    """No such index in this upload."""

    index: int
    chunk_count: int

    def __str__(self) -> str:
        return f"there is no chunk {self.index}: this upload has {self.chunk_count}, counted from 0"


class ChunkTooLong(RequestError):
    """The body has more bytes than the chunk; nothing was accepted."""

    index: int
    expected: int

    def __str__(self) -> str:
        return f"chunk {self.index} must have exactly {self.expected} bytes; the body has more"


class ChunkTooShort(RequestError):
    """The body ended, whole, before the chunk was full; nothing was accepted."""

    index: int
    expected: int
    received: int

    def __str__(self) -> str:
        return f"chunk {self.index} must have exactly {self.expected} bytes; the body has {self.received}"


class BodyCut(RequestError):
    """The body ended before its announced end; what may be kept is kept."""

    received: int
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"the body ended early, after {self.received} bytes"


class BodyMalformed(RequestError):
    """The body broke the rules of its transfer; what may be kept of the bytes before that is kept."""

    received: int

    def __str__(self) -> str:
        return f"after {self.received} bytes the body breaks the rules of its transfer coding and cannot be read on"


class ChunksMissing(RequestError):
    """Finish was asked for before all bytes were there. `missing` are half-open byte ranges."""

    missing: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        return f"{sum(stop - start for start, stop in self.missing)} bytes are still missing"


class OffsetMismatch(RequestError):
    """An append did not start at the upload's end."""

    expected: int
    provided: int

    def __str__(self) -> str:
        return f"the upload continues at offset {self.expected}, not at {self.provided}"


class LengthExceeded(RequestError):
    """More bytes than the upload, or the service, takes. Nothing past `limit` was stored."""

    limit: int
    filename: str | None = None
    """Which of several files it is."""

    def __str__(self) -> str:
        found = "more bytes" if self.filename is None else f"{self.filename!r} has more bytes"
        return f"{found} than the {self.limit} that are allowed"


class LengthInconsistent(RequestError):
    """What a request says about the length of its upload contradicts itself, or what was said before."""

    expected: int
    """Bytes, as was said first; or that are here already."""
    provided: int

    def __str__(self) -> str:
        return (
            f"the length of the upload cannot be {self.provided} where {self.expected} bytes are said or here"
        )


def _bytes(count: int) -> str:
    return "byte" if count == 1 else "bytes"


class FileEmpty(RequestError):
    """No bytes at all, where the capsule, or the form that has `filename`, wants at least `least`."""

    least: int
    filename: str | None = None

    def __str__(self) -> str:
        if self.filename is not None:
            return f"{self.filename!r} is empty; forms take files that have something in them"
        return f"the file is empty; this capsule takes files from {self.least} {_bytes(self.least)} on"


class FileMissing(RequestError):
    """A form without any file."""

    def __str__(self) -> str:
        return "the form has no file; give it at least one part with a file name"


class ContentInvalid(RequestError):
    """A file's content is not what its name says. Line and column count from 1, where there is a place."""

    filename: str
    reason: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        column = "" if self.column is None else f", column {self.column}"
        place = "" if self.line is None else f" (line {self.line}{column})"
        return f"{self.filename}: {self.reason}{place}"


class TypeNotAccepted(RequestError):
    """The capsule does not take files of this media type. `accepted` are patterns like `image/*`."""

    accepted: tuple[str, ...]
    provided: str

    def __str__(self) -> str:
        return f"this capsule takes {', '.join(self.accepted)}, not {self.provided}"


class NameNotAccepted(RequestError):
    """The form endpoint takes no files whose names end so. `accepted` are extensions with their dots."""

    filename: str
    accepted: tuple[str, ...]
    provided: str
    """The extension; empty for none."""

    def __str__(self) -> str:
        found = f"ends in {self.provided}" if self.provided else "has no extension"
        return f"{self.filename!r} {found}; forms take files that end in {', '.join(self.accepted)}"


class DigestMismatch(RequestError):
    """Bytes arrived whole but are not the ones that the digest names (hex)."""

    algorithm: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"{self.algorithm} is {self.actual}, expected {self.expected}"

    @classmethod
    def found_in(cls, text: str | None) -> "DigestMismatch | None":
        """Return the mismatch that a text was built from, as rows keep it; None when it was another error."""
        found = _MISMATCH.fullmatch(text or "")
        return None if found is None else cls(found["algorithm"], found["expected"], found["actual"])


_MISMATCH: Final = re.compile(
    r"(?P<algorithm>[\w-]+) is (?P<actual>[0-9a-f]+), expected (?P<expected>[0-9a-f]+)"
)


class DigestMalformed(RequestError):
    """A digest field that cannot be read."""

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class IdempotencyKeyReused(RequestError):
    """The key names a live upload that was begun with another request."""

    key: str

    def __str__(self) -> str:
        return f"idempotency key {self.key!r} belongs to a different request"


class QuotaExceeded(RequestError):
    """An owner's or an address's sessions, or a capsule's bytes, are used up. `resource` is `sessions` or `bytes`."""

    resource: str
    limit: int
    per: str
    """Whose limit it is: `owner`, `address`, `capsule`, or `process` of the service."""

    def __str__(self) -> str:
        return f"the limit of {self.limit} {self.resource} per {self.per} is reached"


class UploadRefused(RequestError):
    """The operator's own rules do not take this upload; what was stored of it is gone."""

    reason: str

    def __str__(self) -> str:
        return f"the upload is refused: {self.reason}"


class CapsuleTaken(RequestError):
    """A new capsule would have the name of another one."""

    capsule: str

    def __str__(self) -> str:
        return f"there is a capsule {self.capsule!r} already"


class TokenNotFound(RequestError):
    """No token of that id."""

    token: str

    def __str__(self) -> str:
        return f"there is no token {self.token!r}"


class TransferNotFound(RequestError):
    """No transfer of that id, after waiting that long for somebody to queue it."""

    transfer: str
    waited_s: float

    def __str__(self) -> str:
        waited = f" after {self.waited_s:.1f} s" if self.waited_s >= 0.1 else ""
        return f"there is no transfer {self.transfer!r}{waited}"


class TransferRemoved(RequestError):
    """The transfer was there, and is not any more."""

    transfer: str
    reason: str

    def __str__(self) -> str:
        return f"transfer {self.transfer!r} is gone: {self.reason}"


class JournalBusy(RequestError):
    """Another process runs the journal; there is one runner at a time."""

    holder: str

    def __str__(self) -> str:
        return f"process {self.holder} runs this journal already"


class TransferTimeout(HaulierError):
    """The wait's deadline passed before the transfer ended; it goes on."""

    transfer: str
    phase: str
    sent: int
    size: int
    last_error: str | None
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        error = f"; the last error was: {self.last_error}" if self.last_error else ""
        return (
            f"transfer {self.transfer!r} is still {self.phase} with {self.sent} of {self.size} bytes{error}"
        )


class WaitTimeout(HaulierError):
    """The wait's deadline passed before the upload ended; the upload goes on."""

    status: str
    received: int
    size: int | None
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        size = "an unknown number of" if self.size is None else self.size
        return f"still {self.status} with {self.received} of {size} bytes"


class ImageUnusable(HaulierError):
    """No smaller pictures can be made of a local image; `slug` is the reason's name."""

    slug: str
    reason: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.slug})"


class LaneFailed(PeerError):
    """One asset of two lanes did not get there, and why."""

    lane: str
    """`original` or `derivatives`."""
    asset: str
    cause: Exception

    def __str__(self) -> str:
        return f"{self.asset}: {self.cause}"


class LanesFailed(PeerError):
    """What of a photograph and its pictures did not get there; what did is kept, and is not sent again."""

    failures: tuple[LaneFailed, ...]
    record: object = None
    """The record, where it could be made without what failed; as the client returns records."""

    def __str__(self) -> str:
        kept = "" if self.record is None else "; the original is stored"
        causes: dict[str, list[str]] = {}
        for failed in self.failures:
            causes.setdefault(str(failed.cause), []).append(failed.asset)
        return "; ".join(f"{', '.join(assets)}: {cause}" for cause, assets in causes.items()) + kept


class SourceChanged(HaulierError):
    """A local file is not what it was when its upload began; two revisions are never mixed."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path} changed while it was being sent: {self.reason}"


class StorageFull(StorageError):
    """No room: nothing of this request was accepted; the session stays usable."""

    needed: int
    available: int | None = None
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        room = "" if self.available is None else f", {self.available} are free"
        return f"no room for {self.needed} bytes{room}"


class StorageUnavailable(StorageError):
    """Disk or database failed for now; nothing half done is left."""

    reason: str
    lost: bool = False
    """Whether bytes that had been taken are gone, so that what needs them can never succeed."""
    replaced: bool = False
    """Whether the file that is open no longer has its name: what is written to it is lost, and trying again is no use."""
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"storage is unavailable: {self.reason}"


def was_replaced(error: BaseException | None) -> bool:
    """Whether something failed because a file that is open lost its name; see `StorageUnavailable.replaced`."""
    return isinstance(error, StorageUnavailable) and error.replaced


class StorageNotWritable(StorageError):
    """A directory refuses writes."""

    directory: str
    reason: str = "permission denied"
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"{self.directory} is not writable: {self.reason}"


class DirectoryNotCreatable(StorageError):
    """A directory is missing and cannot be made."""

    directory: str
    reason: str

    def __str__(self) -> str:
        return f"{self.directory} cannot be created: {self.reason}"


class QueueFull(StorageError):
    """Too many wait for the same work already; nothing of this request is left."""

    work: str
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"too many wait for {self.work}; try again in a moment"


class HookUnavailable(StorageError):
    """The operator's own rules could not be asked; nothing was decided."""

    hook: str
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"{self.hook} does not answer"


class ServiceStopping(StorageError):
    """This process is about to end; what arrived is kept, and an upload that has an address or a key can be continued."""

    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return "the service is stopping; continue in a moment, or send again what has no address and no key"


class PeerRefused(PeerError):
    """The remote answered with a problem. `slug` is its problem type, `detail` its own words."""

    status: int
    slug: str
    detail: str
    fields: Mapping[str, object] = MappingProxyType({})

    def __str__(self) -> str:
        return f"{self.detail} ({self.slug}, {self.status})"


class PeerUnreadable(PeerError):
    """A good answer that is not in the remote's words: a sign-in page of a network, a proxy's page."""

    status: int
    detail: str
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"{self.detail} (unreadable-answer, {self.status}; it can pass)"


class NodeBusy(HaulierError):
    """Another process of this machine runs the node of a data directory, or is logged in under its name."""

    what: str
    holder: str

    def __str__(self) -> str:
        return (
            f"process {self.holder} runs {self.what} already; stop that one, or use it through its --data-dir"
        )


class PeerUnreachable(PeerError):
    """No answer, after all retries."""

    url: str
    reason: str
    too_slow: bool = False
    sent: bool = True
    """Whether something of this call may have arrived; False when there was not even a connection."""
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"{self.url} cannot be reached: {self.reason}"


class PeerBusy(PeerError):
    """The remote cannot now; the same can succeed later, after asking where it stands."""

    status: int
    detail: str
    retry_after_s: float = 0.0
    retryable: ClassVar[bool] = True

    @property
    def too_slow(self) -> bool:
        """Whether a gateway gave up waiting: less at once may pass."""
        return self.status == 504

    def __str__(self) -> str:
        return f"{self.detail} ({self.status}; it can pass)"


class RemoteHeld(PeerError):
    """The remote has asked another request to wait, and so all of ours."""

    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return "the remote asks to wait"


class PeerBlocked(PeerError):
    """The remote will refuse until somebody has acted: made room, signed in, moved what is in the way."""

    obstacle: Obstacle
    detail: str

    def __str__(self) -> str:
        return f"{self.detail} ({self.obstacle})"


class RemoteSessionLost(PeerError):
    """What had been begun at the remote is gone: it expired, or was cancelled there. Begin anew."""

    reason: str
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"the remote's session is gone: {self.reason}"


class PeerCorrupted(PeerError):
    """What the remote holds, or sent, is not what the digest names."""

    what: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"{self.what} has digest {self.actual}, expected {self.expected}"
