"""The requests of the IETF's resumable uploads: what each method does to the uploads of the service.

Rule 1: a request is read and checked whole before an upload is touched, except for its body.
Rule 2: looking for the offset, appending and cancelling ask a running transfer to let go; they never wait for its end.
Rule 3: only a client's own word completes an upload: a body that came whole, of a request that says it is the last.
Rule 4: the first answer to a completion is kept, and every later question is answered with it, byte by byte.
Rule 5: a limit that was told never becomes tighter while its upload lives.

Source: draft-ietf-httpbis-resumable-upload; what its versions differ in is in `versions`.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from haulier.core.digest import Digest, DigestName
from haulier.core.errors import (
    DigestMalformed,
    HaulierError,
    InvalidRequest,
    LengthExceeded,
    LengthInconsistent,
    OffsetMismatch,
    RequestError,
    UploadBusy,
    UploadComplete,
    UploadGone,
)
from haulier.core.session import SessionId, SessionStatus
from haulier.core.upload import Upload
from haulier.engine.uploads import UploadState
from haulier.server.access import RESUMABLE, caller_of
from haulier.server.addresses import base_url, fields_of, header
from haulier.server.bodies import (
    digest_header,
    file_digests,
    is_empty,
    split_promises,
    wanted_digests,
)
from haulier.server.errors import MediaTypeRefused
from haulier.server.interim import send_resumption
from haulier.server.requests import note_upload, request_info
from haulier.server.resumable.deliveries import Delivery, read_creation, require_media_type
from haulier.server.resumable.fields import read_integer, write_limits
from haulier.server.resumable.versions import MEDIA_TYPE, Version, version_of
from haulier.server.services import Services
from haulier.server.tails import add_tail_route
from haulier.server.uploads import UploadRoutes

Headers = dict[str, str]
Handler = Callable[[Request, Version], Awaitable[Response]]


class ResumableRoutes:
    """The collection, where uploads are created, and the uploads."""

    def __init__(
        self,
        services: Services,
        presenter: UploadRoutes,
        *,
        max_size: int,
        ttl_s: float,
        default_digest: DigestName,
        silence_s: float,
        interim: bool,
    ) -> None:
        self._services = services
        self._uploads = services.uploads
        self._presenter = presenter
        self._max_size = max_size
        self._ttl_s = ttl_s
        self._default = default_digest
        self._silence_s = silence_s
        self._interim = interim

    def install(self, app: FastAPI) -> None:
        """Add the routes. A PUT below the collection is a creation that names its file, as `curl -T` sends it."""
        whole: dict[str, Handler] = {"OPTIONS": self.tell, "POST": self.create, "PUT": self.create}
        for path in (RESUMABLE, f"{RESUMABLE}/"):
            app.add_route(path, _dispatcher(whole), methods=list(whole), include_in_schema=False)
        one: dict[str, Handler] = {
            "DELETE": self.cancel,
            "GET": self.answer,
            "HEAD": self.offset,
            "OPTIONS": self.tell,
            "PATCH": self.append,
            "PUT": self.create,
        }
        add_tail_route(app, f"{RESUMABLE}/{{upload_id:path}}", _dispatcher(one), methods=list(one))

    # --- what is possible ----------------------------------------------------------------------------

    async def tell(self, request: Request, version: Version) -> Response:  # noqa: ARG002 - the same for all
        """Tell that uploads can be resumed here, and within which limits.

        Source: "Limits": an answer to OPTIONS MUST include `Accept-Patch`, and SHOULD include `Upload-Limit`.
        """
        limits = {"max-size": self._max_size}
        if version.lifetime is not None:
            limits[version.lifetime] = int(self._ttl_s)
        headers = {
            "Accept-Patch": MEDIA_TYPE,
            "Upload-Limit": write_limits(limits),
            "Cache-Control": "no-store",
        }
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)

    # --- creation ------------------------------------------------------------------------------------

    async def create(self, request: Request, version: Version) -> Response:
        """Create an upload, with all of its bytes, some, or none."""
        complete = version.require_complete(request.scope)
        delivery = Delivery.read(request, version, offset=0, complete=complete, silence_s=self._silence_s)
        asked, others = read_creation(request, delivery.length, default=self._default)
        delivery = delivery.judged_by(others)
        if delivery.length == 0:
            await delivery.require_empty()
        begun = await self._uploads.begin(asked, caller=caller_of(request))
        upload = begun.upload
        note_upload(upload.id)
        if upload.status is not SessionStatus.OPEN:
            return await self._complete(request, version, upload.id)
        if not begun.created:
            await self._require_nothing_here(request, upload.id)
        if delivery.empty and not complete:
            return self._created(request, version, upload)
        state = await self._receive_first(delivery, upload)
        if complete:
            return await self._completed(request, version, state)
        return self._created(request, version, state.upload)

    async def _require_nothing_here(self, request: Request, upload_id: SessionId) -> None:
        """Refuse to send again, under the same key, what is here in part. Raises OffsetMismatch."""
        upload = await self._uploads.offset(upload_id, caller=caller_of(request))
        if upload.offset:
            request_info(request.scope).problem_headers["Location"] = _address(request, upload_id)
            raise OffsetMismatch(upload.offset, 0)

    async def _receive_first(self, delivery: Delivery, upload: Upload) -> UploadState:
        location = {
            "Location": _address(delivery.request, upload.id),
            **self._limits_of(delivery.version, upload),
        }
        known = self._tell(delivery.request, location) or upload.spec.key is not None
        try:
            return await self._receive(delivery, upload.id, final=delivery.complete)
        except HaulierError as error:
            if known:
                raise
            return await self._services.abandon(upload.id, error, caller=caller_of(delivery.request))

    def _created(self, request: Request, version: Version, upload: Upload) -> Response:
        headers = {"Location": _address(request, upload.id), **self._state_of(version, upload)}
        return Response(status_code=HTTPStatus.CREATED, headers=headers)

    # --- bytes ---------------------------------------------------------------------------------------

    async def _receive(self, delivery: Delivery, upload_id: SessionId, *, final: bool) -> UploadState:
        """Append a body, telling how far it has come. Raises as `UploadService.append`."""

        def progressed(position: int) -> None:
            self._tell(delivery.request, {"Upload-Offset": str(position)})

        with self._services.metrics.receiving():
            try:
                async with self._telling_end(delivery.request, delivery.version, upload_id):
                    return await self._uploads.append(
                        upload_id,
                        delivery.offset,
                        delivery.body,
                        caller=caller_of(delivery.request),
                        digests=delivery.digests,
                        final=final,
                        size=delivery.length,
                        progressed=progressed if delivery.version.progress else None,
                    )
            except LengthExceeded as error:
                await self._require_unsaid(delivery, upload_id, error)
                raise

    @asynccontextmanager
    async def _telling_end(
        self, request: Request, version: Version, upload_id: SessionId
    ) -> AsyncIterator[None]:
        """Let a refusal say when it is one of the whole file: nothing that is sent could mend it.

        Source: "Upload Append", server behavior: the answer of a completion MUST have `Upload-Complete: ?1`, "allowing
        clients to identify whether a response, in particular error responses, is related to the resumable upload itself
        or the processing".
        """
        try:
            yield
        except UploadGone:
            raise  # it had ended before
        except RequestError:
            with suppress(HaulierError):  # who may not know of it any more hears the refusal only
                state = await self._uploads.state(upload_id, caller=caller_of(request))
                if version.tells_end and state.upload.status is SessionStatus.FAILED:
                    request_info(request.scope).problem_headers |= version.tell_complete(True)
            raise

    async def _require_unsaid(self, delivery: Delivery, upload_id: SessionId, error: LengthExceeded) -> None:
        """End an upload whose sender has sent more than it said; one that the service bounds stays as it was.

        Source: "Upload Append", server behavior: "marking the upload resource invalid and rejecting any further
        interaction with it".

        Raises:
            LengthInconsistent: it was said.
        """
        caller, length = caller_of(delivery.request), delivery.body.length
        upload = (await self._uploads.state(upload_id, caller=caller)).upload
        if upload.size is None and delivery.length is None:
            return
        provided = error.limit + 1 if length is None else delivery.offset + length
        refusal = LengthInconsistent(error.limit, provided)
        await self._uploads.fail(upload_id, str(refusal), caller=caller)
        raise refusal from error

    async def append(self, request: Request, version: Version) -> Response:
        """Append at the upload's end."""
        require_media_type(request, version)
        offset = read_integer(header(request.scope, b"upload-offset"))
        if offset is None:
            raise InvalidRequest.of("Upload-Offset", "must be a whole number, from 0 on")
        complete = version.require_complete(
            request.scope, otherwise=True if version.complete_unless_said else None
        )
        delivery = Delivery.read(
            request, version, offset=offset, complete=complete, silence_s=self._silence_s
        )
        # What the whole must be is said with its last bytes only.
        promised, others = split_promises(
            file_digests(fields_of(request.scope)) if complete else (), None, default=self._default
        )
        delivery = delivery.judged_by(others)
        upload_id = _named(request)
        try:
            state = await self._receive(delivery, upload_id, final=complete and promised is None)
        except (UploadComplete, UploadBusy) as error:
            return await self._after_the_end(delivery, upload_id, error)
        if promised is not None:
            _require_end(state.upload, promised)
            return await self._complete(request, version, upload_id, digest=promised)
        if complete:
            return await self._completed(request, version, state)
        return Response(status_code=version.appended, headers=self._state_of(version, state.upload))

    async def _after_the_end(self, delivery: Delivery, upload_id: SessionId, error: HaulierError) -> Response:
        """Answer an append to an upload that has its last byte: nothing is changed any more.

        Source: "Upload Append": a document that is not empty is an inconsistent length; for others the answer of
        the completion is what a client looks for that has missed it.
        """
        caller, body = caller_of(delivery.request), delivery.body
        upload = (await self._uploads.state(upload_id, caller=caller)).upload
        if upload.status is SessionStatus.OPEN:
            raise error
        if delivery.offset != upload.offset:
            raise OffsetMismatch(upload.offset, delivery.offset)
        if not await is_empty(body):
            raise LengthInconsistent(upload.offset, upload.offset + (body.length or 1))
        if not delivery.complete:
            raise UploadComplete(upload_id, upload.details.record)
        return await self._complete(delivery.request, delivery.version, upload_id)

    # --- one upload ----------------------------------------------------------------------------------

    async def offset(self, request: Request, version: Version) -> Response:
        """Tell where the upload goes on; a running transfer is asked to let go first."""
        _require_bare(request, version)
        upload = await self._uploads.offset(_named(request), caller=caller_of(request))
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=self._look(request, version, upload))

    async def answer(self, request: Request, version: Version) -> Response:
        """As `offset`; of a complete upload also tell again what its completion was answered with."""
        _require_bare(request, version)
        upload = await self._uploads.offset(_named(request), caller=caller_of(request))
        if upload.status is not SessionStatus.COMMITTED:
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=self._look(request, version, upload))
        state = await self._uploads.state(upload.id, caller=caller_of(request))
        answer = await self._completed(request, version, state)
        answer.status_code = HTTPStatus.OK
        return answer

    async def cancel(self, request: Request, version: Version) -> Response:
        """End the upload and free its bytes, a running transfer first."""
        _require_bare(request, version)
        upload_id, caller = _named(request), caller_of(request)
        state = await self._uploads.state(upload_id, caller=caller)
        if version.forgets and state.upload.status.gone:
            raise UploadGone(upload_id, state.upload.status, state.upload.error)
        await self._uploads.abort(upload_id, caller=caller)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    # --- completion ----------------------------------------------------------------------------------

    async def _complete(
        self, request: Request, version: Version, upload_id: SessionId, *, digest: Digest | None = None
    ) -> Response:
        """Take the upload's end for the file's; `digest` is what that must have. Repeated, it changes nothing."""
        caller = caller_of(request)
        state = await self._uploads.state(upload_id, caller=caller)
        size = state.upload.offset if state.upload.size is None else None
        async with self._telling_end(request, version, upload_id):
            state = await self._uploads.finish(upload_id, caller=caller, digest=digest, size=size)
        return await self._completed(request, version, state)

    async def _completed(self, request: Request, version: Version, state: UploadState) -> Response:
        """Return the answer of a completion: the record, or while that takes long the state."""
        upload = state.upload
        headers = self._look(request, version, upload)
        headers["Location"] = _address(request, upload.id)
        if upload.status.live:
            shown = await self._presenter.present(request, state)
            return _json(shown.model_dump_json(by_alias=True), HTTPStatus.ACCEPTED, headers)
        kept = upload.answer or await self._keep_answer(request, state)
        answer: dict[str, Any] = json.loads(kept)
        return _json(answer["body"], answer["status"], headers)

    async def _keep_answer(self, request: Request, state: UploadState) -> str:
        presented = await self._presenter.present(request, state)
        body = (presented.result or presented).model_dump_json(by_alias=True)
        answer = json.dumps({"status": HTTPStatus.CREATED.value, "body": body}, ensure_ascii=False)
        return await self._uploads.keep_answer(state.upload.id, answer, caller=caller_of(request))

    # --- what answers say ----------------------------------------------------------------------------

    def _look(self, request: Request, version: Version, upload: Upload) -> Headers:
        """Return all that is told to who asks for the upload."""
        return {
            **self._state_of(version, upload),
            **digest_header(upload.details.digest, wanted_digests(fields_of(request.scope))),
        }

    def _state_of(self, version: Version, upload: Upload) -> Headers:
        complete = upload.status in {SessionStatus.FINISHING, SessionStatus.COMMITTED}
        headers = {
            "Upload-Offset": str(upload.offset),
            **version.tell_complete(complete),
            "Cache-Control": "no-store",
            **self._limits_of(version, upload),
        }
        if upload.size is not None:
            headers["Upload-Length"] = str(upload.size)
        if upload.details.record is not None:
            headers["Haulier-Record"] = upload.details.record
        return headers

    def _limits_of(self, version: Version, upload: Upload) -> Headers:
        """Return what an upload is limited by. It is as it was at its begin, but for its time, which activity adds to."""
        if version.lifetime is None:
            return {}
        spec, most = upload.spec, self._max_size
        limits = {"max-size": most if spec.max_size is None else min(most, spec.max_size)}
        if spec.min_size:
            limits["min-size"] = spec.min_size
        if upload.status is SessionStatus.OPEN:
            limits[version.lifetime] = max(0, int(upload.expires_at - self._services.clock.now()))
        return {"Upload-Limit": write_limits(limits)}

    def _tell(self, request: Request, headers: Headers) -> bool:
        """Send a 104 to a client that reads it; return whether it was sent."""
        return self._interim and send_resumption(request.scope, headers)


def _dispatcher(handlers: dict[str, Handler]) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a path: it finds the version, and the handler of the method."""

    async def dispatch(request: Request) -> Response:
        version = version_of(request.scope)
        info = request_info(request.scope)
        info.dialect = version.dialect
        try:
            return await handlers[request.method](request, version)
        except MediaTypeRefused:
            info.problem_headers["Accept-Patch"] = MEDIA_TYPE
            raise
        except LengthExceeded as error:
            # Source: "Limits": an answer with 413 MUST include them.
            info.problem_headers["Upload-Limit"] = write_limits({"max-size": error.limit})
            raise

    return dispatch


def _named(request: Request) -> SessionId:
    """Return the upload that a request is about."""
    upload_id = SessionId(request.path_params["upload_id"])
    note_upload(upload_id)
    return upload_id


def _address(request: Request, upload_id: SessionId) -> str:
    return f"{base_url(request.scope)}{RESUMABLE}/{upload_id}"


def _json(body: str, status: int, headers: Headers) -> Response:
    return Response(body, status, media_type="application/json", headers=headers)


def _require_end(upload: Upload, promised: Digest) -> None:
    """Check that an upload can be complete now, with this digest.

    Raises:
        LengthInconsistent: something is missing.
        DigestMalformed: another digest was promised at its begin, and would be forgotten for this one.
    """
    if upload.size not in {None, upload.offset}:
        raise LengthInconsistent(upload.size or 0, upload.offset)
    expected = upload.details.expected
    if expected is not None and expected.name is not promised.name:
        raise DigestMalformed("Repr-Digest", f"must be {expected.name}, as at the upload's creation")


def _require_bare(request: Request, version: Version) -> None:
    """Refuse a question that has the fields of an answer, where a version wants that.

    Source: until -03, "Offset Retrieval" and "Upload Cancellation": MUST reject with 400.
    """
    if not version.bare_questions:
        return
    for name in ("Upload-Offset", version.completeness):
        if header(request.scope, name.lower().encode("ascii")) is not None:
            raise InvalidRequest.of(name, f"must not be sent with {request.method}")
