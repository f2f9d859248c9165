"""The requests of tus: what each method does to the uploads of the service.

Rule 1: a request is read and checked whole before an upload is touched, except for its body.
Rule 2: looking for the offset, appending and terminating ask a running PATCH to let go; they never wait for its end.
Rule 3: an upload that was begun elsewhere and takes appends is continued here by the same rules; whoever has its own
        token needs no other.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from haulier.core.digest import parse_digest_name
from haulier.core.errors import (
    AccessDenied,
    HaulierError,
    InvalidRequest,
    LengthExceeded,
    OffsetMismatch,
    RecordNotFound,
    UploadComplete,
    UploadGone,
    UploadNotFound,
)
from haulier.core.record import AssetKind, Record
from haulier.core.session import Concat, Mode, SessionId, SessionStatus
from haulier.core.upload import BeginUpload, Upload
from haulier.engine.body_checks import BodyCheck
from haulier.engine.whole import ReadAhead
from haulier.ports import Body
from haulier.server.access import TUS, caller_of
from haulier.server.addresses import Fields, base_url, fields_of, joined
from haulier.server.answers import CREATED, Answer
from haulier.server.bodies import is_empty, require_plain_body, whole_number
from haulier.server.errors import MediaTypeRefused, MethodNotAllowed, TusVersionRefused
from haulier.server.frequent import FrequentRoute
from haulier.server.http.asgi import open_body
from haulier.server.inputs import query_of
from haulier.server.metadata import METADATA, describe, read_metadata
from haulier.server.records import RecordRoutes
from haulier.server.requests import note_upload, request_info
from haulier.server.services import Services
from haulier.server.tails import add_tail_route
from haulier.server.tus.checksums import ALGORITHMS, check_of, reads_trailers
from haulier.server.tus.headers import (
    CONCAT,
    MEDIA_TYPE,
    VERSION,
    imf_date,
    read_concat,
)

DIALECT: Final = "tus"
"""How problems are told here; see `haulier.server.problems`."""
EXTENSIONS: Final = (
    "creation", "creation-with-upload", "creation-defer-length", "expiration", "checksum", "termination"
)  # fmt: skip
"""What is possible on every storage and every server."""
TRAILER_EXTENSION: Final = "checksum-trailer"
CONCAT_EXTENSIONS: Final = ("concatenation", "concatenation-unfinished")

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
"""What an upload's id may look like; anything else is unknown without a look."""
_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST")

Headers = dict[str, str]
Handler = Callable[[Request], Awaitable[Response]]


class TusRoutes:
    """The collection, where uploads are created, and the uploads."""

    def __init__(self, services: Services, records: RecordRoutes, *, max_size: int, silence_s: float) -> None:
        self._services = services
        self._uploads = services.uploads
        self._records = records
        self._max_size = max_size
        self._silence_s = silence_s

    def install(self, app: FastAPI) -> None:
        """Add the routes; one for all methods, since the header may name another one than the request line."""
        for path in (TUS, f"{TUS}/"):
            app.router.routes.append(
                FrequentRoute(path, self.collection, methods=["OPTIONS", "POST"], include_in_schema=False)
            )
        add_tail_route(app, f"{TUS}/{{upload_id:path}}", self.upload, methods=_METHODS)

    async def collection(self, request: Request) -> Response:
        """Tell what is possible, or create an upload."""
        return await self._dispatch(request, {"OPTIONS": self.tell, "POST": self.create})

    async def upload(self, request: Request) -> Response:
        """Do something with one upload."""
        handlers: Mapping[str, Handler] = {
            "DELETE": self.terminate,
            "GET": self.download,
            "HEAD": self.offset,
            "OPTIONS": self.tell,
            "PATCH": self.append,
        }
        return await self._dispatch(request, handlers)

    @staticmethod
    async def _dispatch(request: Request, handlers: Mapping[str, Handler]) -> Response:
        """Call the handler of the method that is meant.

        Source: "X-HTTP-Method-Override": its value MUST be taken for the method, the actual one ignored.
        """
        request_info(request.scope).dialect = DIALECT
        fields = fields_of(request.scope)
        method = joined(fields, b"x-http-method-override") or request.method
        handler = handlers.get(method)
        if handler is None:
            raise MethodNotAllowed(method[:32], tuple(handlers))
        if method not in {"GET", "OPTIONS"}:
            _require_version(fields)
        return await handler(request)

    # --- what is possible ----------------------------------------------------------------------------

    async def tell(self, request: Request) -> Response:
        """Tell versions, extensions and limits."""
        extensions = [*EXTENSIONS]
        if reads_trailers(request.scope):
            extensions.append(TRAILER_EXTENSION)
        if self._uploads.concatenates:
            extensions += CONCAT_EXTENSIONS
        return Response(
            headers={
                "Tus-Version": VERSION,
                "Tus-Extension": ",".join(extensions),
                "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
                "Tus-Max-Size": str(self._max_size),
                "Cache-Control": "no-store",
            }
        )

    # --- creation ------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        """Create an upload, with or without its first bytes."""
        body = ReadAhead(open_body(request.scope, request.receive, silence_s=self._silence_s))
        with_bytes = self._brings_bytes(fields_of(request.scope), body)
        asked = _read_creation(request)
        check = None
        if with_bytes:
            check = check_of(request.scope)
            room = 0 if asked.concat is Concat.FINAL else asked.size
            await _require_fit(body, room)
            if check is not None and 0 in {body.length, room}:  # nobody will receive this body, and judge it
                await check.verify(_of_nothing)
        upload = await self._take(request, asked, body, check) if with_bytes else None
        if upload is None:
            upload = await self._begin(request, asked)
        takes = upload.status is SessionStatus.OPEN and asked.concat is not Concat.FINAL
        if with_bytes and takes and body.length != 0:
            upload = await self._receive_first(request, upload.id, body, check)
        headers = {"Location": f"{base_url(request.scope)}{TUS}/{upload.id}", **_state_of(upload)}
        if with_bytes and asked.concat is not Concat.FINAL:
            headers["Upload-Offset"] = str(upload.offset)
        return Answer(CREATED, headers)

    async def _take(
        self, request: Request, asked: BeginUpload, body: ReadAhead, check: BodyCheck | None
    ) -> Upload | None:
        """Take a short file that comes with its creation in one step."""
        with self._services.metrics.receiving():
            taken = await self._uploads.take(asked, body, caller=caller_of(request), check=check)
        if taken is None:
            return None
        note_upload(taken.upload.id)
        return taken.upload

    async def _begin(self, request: Request, asked: BeginUpload) -> Upload:
        begun = await self._uploads.begin(asked, caller=caller_of(request))
        note_upload(begun.upload.id)
        return begun.upload

    @staticmethod
    def _brings_bytes(fields: Fields, body: Body) -> bool:
        """Whether the request is a creation with upload. Source: "Creation With Upload"."""
        require_plain_body(fields)
        if body.length == 0 and not _has_media_type(fields):
            return False
        _require_media_type(fields)
        return True

    async def _receive_first(
        self, request: Request, upload_id: SessionId, body: Body, check: BodyCheck | None
    ) -> Upload:
        caller = caller_of(request)
        try:
            with self._services.metrics.receiving():
                state = await self._uploads.append(upload_id, 0, body, caller=caller, check=check)
        except HaulierError as error:
            state = await self._services.abandon(upload_id, error, caller=caller)
        return state.upload

    # --- one upload ----------------------------------------------------------------------------------

    async def offset(self, request: Request) -> Response:
        """Tell where the upload goes on; a running PATCH is asked to let go first."""
        upload = await self._uploads.offset(_named(request), caller=caller_of(request))
        await self._require_kept(upload)
        size, expires_at = await self._uploads.prospect_of(upload)
        headers = {"Cache-Control": "no-store", **_state_of(upload, expires_at)}
        final = upload.spec.concat is Concat.FINAL
        if not final or upload.status is SessionStatus.COMMITTED:
            headers["Upload-Offset"] = str(upload.offset)
        if size is not None:
            headers["Upload-Length"] = str(size)
        elif not final:
            headers["Upload-Defer-Length"] = "1"
        if upload.details.raw_metadata:
            headers[METADATA] = upload.details.raw_metadata
        if upload.details.raw_concat is not None:
            headers[CONCAT] = upload.details.raw_concat
        return Response(headers=headers)

    async def append(self, request: Request) -> Response:
        """Append at the upload's end."""
        fields = fields_of(request.scope)
        require_plain_body(fields)
        _require_media_type(fields)
        offset = whole_number(joined(fields, b"upload-offset"), field="Upload-Offset")
        check = check_of(request.scope)
        upload_id = _named(request)
        body = open_body(request.scope, request.receive, silence_s=self._silence_s)
        try:
            with self._services.metrics.receiving():
                state = await self._uploads.append(
                    upload_id, offset, body, caller=caller_of(request), check=check, size=_length_of(fields)
                )
            upload = state.upload
        except UploadComplete:
            upload = await self._nothing_more(request, upload_id, offset, body)
            if check is not None:
                await check.verify(_of_nothing)
        headers = {"Upload-Offset": str(upload.offset), **_state_of(upload)}
        return Answer(HTTPStatus.NO_CONTENT, headers)

    async def _nothing_more(self, request: Request, upload_id: SessionId, offset: int, body: Body) -> Upload:
        """Answer a PATCH of an upload that is complete as any other: its offset is the end.

        Raises:
            UploadGone · UploadBusy · OffsetMismatch · LengthExceeded
        """
        upload = await self._uploads.offset(upload_id, caller=caller_of(request))
        await self._require_kept(upload)
        if offset != upload.offset:
            raise OffsetMismatch(upload.offset, offset)
        await _require_fit(body, 0, limit=upload.offset)
        return upload

    async def terminate(self, request: Request) -> Response:
        """End the upload and free its bytes; a complete one loses its record.

        Source: "Termination": 204; later requests are answered with 404 or 410.
        """
        upload_id, caller = _named(request), caller_of(request)
        upload = await self._known(request, upload_id)
        if upload.status is not SessionStatus.COMMITTED:
            try:
                await self._uploads.abort(upload_id, caller=caller)
            except UploadComplete:
                upload = await self._known(request, upload_id)
        if upload.status is SessionStatus.COMMITTED:
            if upload.details.record is None:
                raise UploadComplete(upload_id, None)
            await self._services.records.delete(upload.details.record, caller=caller)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def download(self, request: Request) -> Response:
        """Send the file of a finished upload."""
        upload = await self._known(request, _named(request))
        if caller_of(request).upload is not None:
            raise AccessDenied("download with the token of an upload")
        if upload.details.record is None:
            raise RecordNotFound(upload.id)
        return await self._records.send_asset(request, upload.details.record, AssetKind.ORIGINAL)

    async def _known(self, request: Request, upload_id: SessionId) -> Upload:
        """Return an upload that is there, complete or not; disturbs nobody.

        Raises:
            UploadNotFound · UploadGone
        """
        state = await self._uploads.state(upload_id, caller=caller_of(request))
        upload = state.upload
        if upload.status.gone:
            raise UploadGone(upload.id, upload.status, upload.error)
        await self._require_kept(upload)
        return upload

    async def _require_kept(self, upload: Upload) -> None:
        """Take an upload whose record was deleted for one that was terminated. Raises UploadGone."""
        if upload.status is SessionStatus.COMMITTED and upload.details.record is not None:
            record: Record | None = await self._services.records.result_of(upload)
            if record is None or record.deleted_at is not None:
                raise UploadGone(upload.id, "deleted", "its record was deleted")


def _named(request: Request) -> SessionId:
    """Return the upload that a request is about.

    Raises:
        UploadNotFound: no upload is called so.
    """
    name: str = request.path_params["upload_id"]
    upload_id = _known_shape(name)
    note_upload(upload_id)
    return upload_id


def _known_shape(name: str) -> SessionId:
    """Return a name that an upload can have. Raises UploadNotFound for any other."""
    if _ID.fullmatch(name) is None:
        raise UploadNotFound(name[:64].encode("utf-8", "backslashreplace").decode("utf-8"))
    return SessionId(name)


def _require_version(fields: Fields) -> None:
    """Refuse another version of the protocol before anything is done.

    Source: "Tus-Resumable": 412 with Tus-Version, and the request MUST NOT be processed.
    """
    version = joined(fields, b"tus-resumable")
    if version != VERSION:
        raise TusVersionRefused(VERSION, None if version is None else version[:32])


def _has_media_type(fields: Fields) -> bool:
    return (joined(fields, b"content-type") or "").strip().lower() == MEDIA_TYPE


def _require_media_type(fields: Fields) -> None:
    if not _has_media_type(fields):
        raise MediaTypeRefused(MEDIA_TYPE, joined(fields, b"content-type"))


async def _require_fit(body: Body, room: int | None, *, limit: int | None = None) -> None:
    """Refuse a body that is longer than what it is for, before anything is begun.

    A body of unknown length is looked at only where nothing may come: otherwise whoever stores it counts.

    Args:
        body: nobody has read it.
        room: bytes that fit; None: any number.
        limit: what the refusal names; None: `room`.
    """
    told = room if limit is None else limit
    if room is not None and body.length is not None and body.length > room:
        raise LengthExceeded(told or 0)
    if room == 0 and not await is_empty(body):
        raise LengthExceeded(told or 0)


async def _of_nothing(_consume: object) -> None:
    """Scan an empty body."""


def _length_of(fields: Fields) -> int | None:
    text = joined(fields, b"upload-length")
    return None if text is None else whole_number(text, field="Upload-Length")


def _read_creation(request: Request) -> BeginUpload:
    """Read what a creation asks for. Raises InvalidRequest and DigestMalformed."""
    fields = fields_of(request.scope)
    raw = joined(fields, b"upload-metadata")
    described = describe(read_metadata(raw))
    raw_concat = joined(fields, b"upload-concat")
    made_of = read_concat(raw_concat)
    query = query_of(request)
    digest = query.get("digest")
    return BeginUpload(
        filename=described.filename,
        size=_read_size(fields, made_of.concat),
        mode=Mode.APPEND,
        capsule=query.get("capsule", "default"),
        path=described.path,
        content_type=described.content_type,
        digest_name=None if digest is None else parse_digest_name(digest, field="digest"),
        metadata=described.texts,
        raw_metadata=raw,
        concat=made_of.concat,
        partials=tuple(map(_known_shape, made_of.partials)),
        raw_concat=raw_concat,
        protocol=DIALECT,
    )


def _read_size(fields: Fields, concat: Concat) -> int | None:
    """Return the length of a new upload, None when it is deferred, or that of others.

    Source: "Creation", POST: one of `Upload-Length` and `Upload-Defer-Length: 1` must be given. "Concatenation": the
    length MUST NOT be included in the creation of a final upload.
    """
    length, deferred = _length_of(fields), joined(fields, b"upload-defer-length")
    if concat is Concat.FINAL:
        if (length, deferred) != (None, None):
            raise InvalidRequest.of(
                "Upload-Length", "must not be given: it is the sum of the partial uploads'"
            )
        return None
    if deferred not in {None, "1"}:
        raise InvalidRequest.of("Upload-Defer-Length", "must be 1, or be left out")
    if (length is None) == (deferred is None):
        raise InvalidRequest.of("Upload-Length", "must be given, or else Upload-Defer-Length: 1")
    return length


def _state_of(upload: Upload, expires_at: float | None = None) -> Headers:
    """Return what every answer about an upload says: until when it may go on, and what it becomes.

    Source: "Upload-Expires".
    """
    headers: Headers = {}
    if upload.status is SessionStatus.OPEN:
        headers["Upload-Expires"] = imf_date(upload.expires_at if expires_at is None else expires_at)
    if upload.details.record is not None:
        headers["Haulier-Record"] = upload.details.record
    return headers
