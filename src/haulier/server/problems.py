"""Errors become RFC 9457 problem details here, and nowhere else.

Rule 1: `TABLE` has a row for every leaf of the error tree that can leave by HTTP, `NEVER_BY_HTTP` names the
        rest; a test walks the tree.
Rule 2: what is not in the table answers 500 with an instance id and none of its text.
Rule 3: no path of ours and no library's words leave the service; rows of storage errors have their own text.
"""

import asyncio
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from haulier.core.errors import (
    AccessDenied,
    AssetNotFound,
    BodyCut,
    BodyMalformed,
    CapsuleNotFound,
    CapsuleTaken,
    ChunkConflict,
    ChunkOutOfRange,
    ChunksMissing,
    ChunkTooLong,
    ChunkTooShort,
    ConfigError,
    ContentInvalid,
    DigestMalformed,
    DigestMismatch,
    DirectoryNotCreatable,
    FieldProblem,
    FileEmpty,
    FileMissing,
    HaulierError,
    HookUnavailable,
    IdempotencyKeyReused,
    ImageUnusable,
    InvalidRequest,
    JournalBusy,
    LaneFailed,
    LanesFailed,
    LengthExceeded,
    LengthInconsistent,
    LinkNotFound,
    NameNotAccepted,
    NodeBusy,
    OffsetMismatch,
    PeerBlocked,
    PeerBusy,
    PeerCorrupted,
    PeerRefused,
    PeerUnreachable,
    PeerUnreadable,
    QueueFull,
    QuotaExceeded,
    RecordNotFound,
    RemoteHeld,
    RemoteSessionLost,
    ServiceStopping,
    SourceChanged,
    StorageFull,
    StorageNotWritable,
    StorageUnavailable,
    TokenNotFound,
    TransferNotFound,
    TransferRemoved,
    TransferTimeout,
    TypeNotAccepted,
    Unauthenticated,
    UploadBusy,
    UploadComplete,
    UploadGone,
    UploadNotFound,
    UploadRefused,
    VisitorNotFound,
    WaitTimeout,
)
from haulier.core.values import dataclass, replace
from haulier.logs import get_logger
from haulier.server.addresses import PUBLIC_URL, base_url, socket_url
from haulier.server.errors import (
    CodingNotSupported,
    FormMalformed,
    HeadTimeout,
    HeadTooLarge,
    HostRefused,
    MediaTypeRefused,
    MethodNotAllowed,
    NotLocal,
    OriginRefused,
    PreconditionFailed,
    RangeNotSatisfiable,
    RateLimited,
    RefusedByHost,
    RequestMalformed,
    RouteNotFound,
    TargetTooLong,
    TusVersionRefused,
)
from haulier.server.requests import request_info

log = get_logger()

MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How one kind of error is told."""

    slug: str
    status: int
    title: str
    fields: tuple[str, ...] = ()
    """The error's attributes that become members."""
    detail: str | None = None
    """Said instead of the error's own text."""
    retry_after_s: int | None = None
    uri: str | None = None
    """The type, where somebody else has registered one; None: our own page."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of members that are not those of the attributes."""


INTERNAL: Final = Row(
    slug="internal-error",
    status=500,
    title="Something went wrong on our side",
    detail="The service failed in a way nobody planned for. Its log has the cause under this instance.",
)

TABLE: Final[Mapping[type[HaulierError], Row]] = {
    InvalidRequest: Row(
        slug="invalid-request", status=422, title="The request is not valid", fields=("errors",)
    ),
    Unauthenticated: Row(slug="unauthenticated", status=401, title="Who are you?"),
    AccessDenied: Row(slug="access-denied", status=403, title="Not allowed", fields=("action",)),
    CapsuleNotFound: Row(slug="capsule-not-found", status=404, title="No such capsule", fields=("capsule",)),
    UploadNotFound: Row(slug="upload-not-found", status=404, title="No such upload", fields=("upload",)),
    RecordNotFound: Row(slug="record-not-found", status=404, title="No such record", fields=("record",)),
    TransferNotFound: Row(
        slug="transfer-not-found", status=404, title="No such transfer", fields=("transfer",)
    ),
    TransferRemoved: Row(
        slug="transfer-not-found", status=404, title="No such transfer", fields=("transfer",)
    ),
    AssetNotFound: Row(slug="asset-not-found", status=404, title="No such asset", fields=("record", "kind")),
    LinkNotFound: Row(slug="link-not-found", status=404, title="No such link"),
    VisitorNotFound: Row(slug="visitor-not-found", status=404, title="Nobody yet"),
    UploadGone: Row(
        slug="upload-gone",
        status=410,
        title="The upload ended without a result",
        fields=("upload", "status", "error"),
    ),
    UploadComplete: Row(
        slug="upload-complete", status=409, title="The upload is complete", fields=("upload", "record")
    ),
    UploadBusy: Row(
        slug="upload-busy",
        status=423,
        title="The upload is busy",
        fields=("upload", "reason"),
        retry_after_s=1,
    ),
    ChunkConflict: Row(
        slug="chunk-conflict", status=409, title="The chunk holds other bytes", fields=("index",)
    ),
    ChunkOutOfRange: Row(
        slug="chunk-out-of-range", status=422, title="No such chunk", fields=("index", "chunk_count")
    ),
    ChunkTooLong: Row(
        slug="chunk-too-long", status=413, title="More bytes than the chunk has", fields=("index", "expected")
    ),
    ChunkTooShort: Row(
        slug="chunk-too-short",
        status=400,
        title="Fewer bytes than the chunk has",
        fields=("index", "expected", "received"),
    ),
    ChunksMissing: Row(
        slug="chunks-missing", status=409, title="Bytes are still missing", fields=("missing",)
    ),
    OffsetMismatch: Row(
        slug="offset-mismatch",
        status=409,
        title="The upload continues elsewhere",
        fields=("expected", "provided"),
    ),
    LengthExceeded: Row(
        slug="length-exceeded", status=413, title="More bytes than allowed", fields=("limit",)
    ),
    LengthInconsistent: Row(
        slug="inconsistent-upload-length",
        status=400,
        title="Two lengths for one upload",
        fields=("expected", "provided"),
    ),
    FileEmpty: Row(slug="file-empty", status=400, title="The file is empty", fields=("least",)),
    FileMissing: Row(slug="file-empty", status=400, title="There is no file"),
    ContentInvalid: Row(
        slug="content-invalid",
        status=422,
        title="The content is not what the name says",
        fields=("filename", "reason", "line", "column"),
    ),
    TypeNotAccepted: Row(
        slug="type-not-accepted",
        status=415,
        title="The capsule does not take such files",
        fields=("accepted", "provided"),
    ),
    NameNotAccepted: Row(
        slug="type-not-accepted",
        status=415,
        title="Forms do not take such files",
        fields=("filename", "accepted", "provided"),
    ),
    DigestMismatch: Row(
        slug="digest-mismatch",
        status=422,
        title="Other bytes than the digest says",
        fields=("algorithm", "expected", "actual"),
    ),
    DigestMalformed: Row(
        slug="digest-malformed", status=400, title="The digest cannot be read", fields=("field", "reason")
    ),
    IdempotencyKeyReused: Row(
        slug="idempotency-key-reused",
        status=422,
        title="The key belongs to another request",
        fields=("key",),
    ),
    BodyCut: Row(
        slug="body-cut", status=408, title="The body ended early", fields=("received",), retry_after_s=1
    ),
    BodyMalformed: Row(
        slug="malformed-body", status=400, title="The body cannot be read", fields=("received",)
    ),
    QuotaExceeded: Row(
        slug="quota-exceeded",
        status=429,
        title="A limit is reached",
        fields=("resource", "limit", "per"),
        retry_after_s=10,
    ),
    UploadRefused: Row(slug="upload-refused", status=422, title="The upload is refused", fields=("reason",)),
    HookUnavailable: Row(
        slug="hook-unavailable",
        status=503,
        title="The upload cannot be judged now",
        fields=("hook",),
        retry_after_s=5,
    ),
    StorageFull: Row(
        slug="storage-full", status=507, title="The storage is full", fields=("needed", "available")
    ),
    StorageUnavailable: Row(
        slug="storage-unavailable",
        status=503,
        title="The storage is unavailable",
        detail="Disk or database failed for now; nothing half done is left. Try again in a moment.",
        retry_after_s=5,
    ),
    StorageNotWritable: Row(
        slug="storage-not-writable",
        status=503,
        title="The storage refuses writes",
        detail="A directory of the service cannot be written. Its operator finds which one in the log.",
        retry_after_s=30,
    ),
    DirectoryNotCreatable: Row(
        slug="directory-not-creatable",
        status=500,
        title="A directory cannot be made",
        detail="A directory of the service is missing and cannot be made. Its operator finds which one in the log.",
    ),
    QueueFull: Row(
        slug="queue-full", status=503, title="Too much is waiting", fields=("work",), retry_after_s=10
    ),
    ServiceStopping: Row(
        slug="service-stopping", status=503, title="The service is stopping", retry_after_s=2
    ),
    FormMalformed: Row(
        slug="malformed-body", status=400, title="The body cannot be read", fields=("reason",)
    ),
    HostRefused: Row(slug="host-refused", status=421, title="Not our name", fields=("host",)),
    NotLocal: Row(slug="not-local", status=403, title="Only for this machine", fields=("rule", "flag")),
    OriginRefused: Row(slug="origin-refused", status=403, title="Not from that page", fields=("origin",)),
    RefusedByHost: Row(slug="refused-by-host", status=403, title="Refused by the program that serves this"),
    RateLimited: Row(
        slug="rate-limited", status=429, title="Too much at once", fields=("limit", "retry_after_s")
    ),
    TusVersionRefused: Row(
        slug="tus-version-refused",
        status=412,
        title="Another version of tus",
        fields=("supported", "provided"),
    ),
    RouteNotFound: Row(slug="route-not-found", status=404, title="Nothing is here"),
    MethodNotAllowed: Row(
        slug="method-not-allowed", status=405, title="Not with this method", fields=("allowed",)
    ),
    MediaTypeRefused: Row(
        slug="type-not-accepted",
        status=415,
        title="The media type is not accepted",
        fields=("expected", "provided"),
    ),
    PreconditionFailed: Row(
        slug="precondition-failed", status=412, title="Another file than was asked for", fields=("etag",)
    ),
    RangeNotSatisfiable: Row(
        slug="range-not-satisfiable", status=416, title="The range is outside", fields=("size",)
    ),
    RequestMalformed: Row(slug="malformed-request", status=400, title="Not a request of HTTP/1.1"),
    HeadTimeout: Row(
        slug="request-timeout",
        status=408,
        title="The request took too long to come",
        fields=("limit_s",),
        retry_after_s=1,
    ),
    TargetTooLong: Row(
        slug="target-too-long", status=414, title="The request target is too long", fields=("limit",)
    ),
    HeadTooLarge: Row(
        slug="head-too-large",
        status=431,
        title="The header fields are too large",
        fields=("limit", "limit_fields"),
    ),
    CodingNotSupported: Row(
        slug="coding-not-supported",
        status=501,
        title="The transfer coding is not supported",
        fields=("expected",),
    ),
}

_IANA: Final = "https://iana.org/assignments/http-problem-types#"
_RESUMABLE: Final[Mapping[type[HaulierError], Mapping[str, Any]]] = {
    InvalidRequest: {"status": 400},
    # A 5xx lets its clients ask for the offset and go on; after a 4xx they give up.
    BodyCut: {"status": 503},
}
_OFFSETS: Final = {"expected": "expected-offset", "provided": "provided-offset"}
_SINCE_6: Final[Mapping[type[HaulierError], Mapping[str, Any]]] = {
    **_RESUMABLE,
    OffsetMismatch: {"uri": f"{_IANA}mismatching-upload-offset", "names": _OFFSETS},
    UploadComplete: {"status": 400, "uri": f"{_IANA}completed-upload"},
}
DIALECTS: Final[Mapping[str, Mapping[type[HaulierError], Mapping[str, Any]]]] = {
    "tus": {
        # Its clients know 400 for whatever cannot be read.
        InvalidRequest: {"status": 400},
        # They take other 4xx than 409 and 423 for final, and forget the upload; this one can be continued.
        BodyCut: {"status": 503},
        # "460 Checksum Mismatch".
        DigestMismatch: {"status": 460},
    },
    # What is not active is unknown there: "it MUST respond with 404".
    "resumable-3": {**_RESUMABLE, UploadGone: {"status": 404}},
    "resumable-6": _SINCE_6,
    "resumable-7": {**_SINCE_6, LengthInconsistent: {"uri": f"{_IANA}inconsistent-upload-length"}},
}
"""Where a protocol tells a problem otherwise than everybody else: the changes to its row."""

NEVER_BY_HTTP: Final[Mapping[type[HaulierError], str]] = {
    WaitTimeout: "a wait over HTTP answers with the state it came to",
    CapsuleTaken: "only operators make capsules, on the command line",
    TokenNotFound: "only operators name tokens, on the command line",
    TransferTimeout: "a wait over HTTP answers with the state it came to",
    JournalBusy: "a service that finds the journal held serves all the same",
    ConfigError: "it ends the process before anything listens",
    PeerRefused: "it is about a remote that we call",
    PeerUnreadable: "it is about a remote that we call",
    PeerUnreachable: "it is about a remote that we call",
    PeerCorrupted: "it is about a remote that we call",
    PeerBusy: "it is about a remote that we call",
    PeerBlocked: "it is about a remote that we call",
    RemoteSessionLost: "it is about a remote that we call",
    RemoteHeld: "it is about a remote that we call",
    NodeBusy: "only a Soulseek node ends with it",
    SourceChanged: "it is about a file that our client sends",
    ImageUnusable: "it is about a file that our client sends",
    LaneFailed: "it is about files that our client sends",
    LanesFailed: "it is about files that our client sends",
}
"""Leaves of the tree without a row, and why; one that comes anyway is an internal error."""

SLUGS: Final = frozenset(row.slug for row in TABLE.values()) | {INTERNAL.slug}
"""Every problem type of this service; each has a page under docs/errors."""

_REASONS: Final[Mapping[str, str]] = {
    "extra_forbidden": "is not a field of this request",
    "missing": "must be given",
    "int_type": "must be a whole number, not text, a fraction or a boolean",
    "string_type": "must be text",
    "bool_type": "must be true or false",
}
"""Our words for what pydantic says in its own."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing. Source: RFC 9110 section 9.2.1."""

Headers: TypeAlias = dict[str, str]


def row_of(error: BaseException, *, dialect: str | None = None) -> Row:
    """Return how to tell an error, by the rules of a protocol where it has its own."""
    kind = next((kind for kind in type(error).__mro__ if kind in TABLE), None)
    row = INTERNAL if kind is None else TABLE[kind]
    if kind is not None and dialect is not None:
        row = replace(row, **DIALECTS[dialect].get(kind, {}))
    if isinstance(error, QuotaExceeded) and error.resource == "bytes":
        # Waiting does not shrink what is stored.
        return replace(row, status=413, retry_after_s=None)
    if isinstance(error, RefusedByHost):
        return replace(row, status=error.status)
    return row


def problem_response(
    scope: Scope, error: BaseException, *, instance: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer that tells `error`."""
    row = row_of(error, dialect=request_info(scope).dialect)
    # A name that was refused is not repeated as if it were ours.
    ours = PUBLIC_URL in scope or not isinstance(error, HostRefused)
    base = base_url(scope) if ours else socket_url(scope)
    document: dict[str, Any] = {
        "type": row.uri or f"{base}/errors/{row.slug}",
        "title": row.title,
        "status": row.status,
        "detail": row.detail or str(error),
        "instance": instance,
    }
    # A problem's `status` member is HTTP's: an upload's own status goes by another name.
    names = {"status": "upload_status", **row.names}
    members = {names.get(name, name): getattr(error, name) for name in row.fields}
    document |= {name: _plain(value) for name, value in members.items()}
    return Response(
        json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace"),
        status_code=row.status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **_headers_of(error, row), **(headers or {})},
    )


def _headers_of(error: BaseException, row: Row) -> Headers:
    headers: Headers = {}
    if row.retry_after_s is not None:
        headers["Retry-After"] = str(row.retry_after_s)
    if isinstance(error, OffsetMismatch):
        headers["Upload-Offset"] = str(error.expected)
    elif isinstance(error, TusVersionRefused):
        headers["Tus-Version"] = error.supported
    elif isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    elif isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    elif isinstance(error, MediaTypeRefused):
        headers["Accept"] = error.expected
    elif isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = _challenge(error)
    elif isinstance(error, RateLimited):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    return headers


def _challenge(error: Unauthenticated) -> str:
    """Return what tells a client how to say who it is.

    Source: RFC 6750 section 3: a request without credentials is told of no error.
    """
    if not error.given:
        return 'Bearer realm="haulier"'
    # Our own words only: nothing of what was sent may end the quotes.
    return f'Bearer realm="haulier", error="invalid_token", error_description="{error.reason}"'


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, FieldProblem):
        return {"field": value.field, "reason": value.reason}
    return value


class ProblemAnswers:
    """ASGI middleware: whatever is raised below becomes a problem, once, and is logged, once."""

    def __init__(self, app: ASGIApp, *, new_instance: Callable[[], str]) -> None:
        self._app = app
        self._new_instance = new_instance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and answer what comes out as an error."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        info = request_info(scope)
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if info.status:
                # Too late for words: the server cuts the connection, so that nobody takes it for whole.
                raise
            await self._answer(scope, receive, send, error)
        except asyncio.CancelledError:
            # The server ends, and waits for no request any more: this is no mistake of ours. Whoever only asked may ask
            # again. What was to be changed may be changed by now, or later: to say anything of it would be a guess.
            if not info.status and scope["method"] in _SAFE:
                await self._answer(scope, receive, send, ServiceStopping())
            else:
                info.problem = TABLE[ServiceStopping].slug
            raise

    async def _answer(self, scope: Scope, receive: Receive, send: Send, error: Exception) -> None:
        error = _as_ours(scope, error)
        info = request_info(scope)
        row = row_of(error, dialect=info.dialect)
        instance = f"urn:uuid:{self._new_instance()}"
        info.problem, info.instance = row.slug, instance
        if row is INTERNAL:
            log.error("request.failed", instance=instance, exc_info=error)
        elif row.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("request.failed", problem=row.slug, instance=instance, error=repr(error))
        else:
            info.error = str(error)
        await problem_response(scope, error, instance=instance, headers=info.problem_headers)(
            scope, receive, send
        )


def _as_ours(scope: Scope, error: Exception) -> Exception:
    """Translate the frameworks' own errors into the tree."""
    if isinstance(error, RequestValidationError):
        # FastAPI says first where a field is, and last which of several; a field may be called `path`, too.
        located = ({**each, "loc": each["loc"][1:2]} for each in error.errors())
        return InvalidRequest(tuple(field_problems(located)))
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.NOT_FOUND:
        return RouteNotFound(scope["path"])
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(scope["method"], tuple(_allowed_methods(scope)))
    return error


def field_problems(errors: Iterable[Mapping[str, Any]]) -> Iterator[FieldProblem]:
    """Yield pydantic's findings in our words' shape: the field as the caller wrote it, and the reason."""
    for error in errors:
        place = ".".join(map(str, error["loc"]))[:256]
        yield FieldProblem(place or "body", _REASONS.get(error["type"], error["msg"]))


def _allowed_methods(scope: Scope) -> list[str]:
    # Several routes share a path, one method each; a framework names the methods of the first only.
    routes = (route for route in scope["app"].routes if isinstance(route, Route))
    fitting = (route for route in routes if route.matches(scope)[0] is not Match.NONE)
    return sorted({method for route in fitting for method in route.methods or ()})
