"""The native API: begin, state, chunks, appends, finish, abort, events.

Rule 1: JSON goes through FastAPI; where bytes stream, a plain route hands the body to the engine unread.
Rule 2: looking at an upload disturbs nobody; only HEAD asks a running append to let go.
"""

from http import HTTPStatus
from typing import Annotated

from fastapi import FastAPI, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from haulier.core.errors import WaitTimeout
from haulier.core.session import SessionId
from haulier.engine.uploads import UploadState
from haulier.server.access import caller_of
from haulier.server.addresses import base_url, fields_of, joined
from haulier.server.answers import Answer, json_answer
from haulier.server.bodies import (
    body_digests,
    digest_header,
    read_json,
    require_plain_body,
    wanted_digests,
    whole_number,
)
from haulier.server.events import EventStream, upload_messages
from haulier.server.frequent import FrequentRoute
from haulier.server.http.asgi import open_body
from haulier.server.inputs import MAX_WAIT_S, BeginIn, FinishIn, flag, idempotency_key, read_digest
from haulier.server.requests import note_upload
from haulier.server.schemas import BegunOut, Document, RecordOut, StateOut, record_document
from haulier.server.services import Services

Wait = Annotated[
    float | None,
    Query(
        description="Seconds to wait for the end of the upload; clamped to 0 to 60. The answer is the state "
        "at that moment, ended or not.",
        examples=[30],
        allow_inf_nan=False,
    ),
]


class UploadRoutes:
    """The operations on one upload."""

    def __init__(self, services: Services, *, silence_s: float) -> None:
        self._services = services
        self._uploads = services.uploads
        self._silence_s = silence_s

    def install(self, app: FastAPI) -> None:
        """Add the routes."""
        one = "/api/uploads/{upload_id}"
        app.add_api_route(
            "/api/uploads",
            self.begin,
            methods=["POST"],
            status_code=201,
            response_model=BegunOut,
            operation_id="begin",
        )
        app.add_api_route(one, self.state, methods=["GET"], response_model=StateOut, operation_id="state")
        app.add_api_route(
            f"{one}/finish", self.finish, methods=["POST"], response_model=RecordOut, operation_id="finish"
        )
        app.add_api_route(one, self.abort, methods=["DELETE"], status_code=204, operation_id="abort")
        app.add_route(one, self.offset, methods=["HEAD"])
        app.router.routes += [
            FrequentRoute(one, self.append, methods=["PATCH"]),
            FrequentRoute(f"{one}/chunks/{{index}}", self.put_chunk, methods=["PUT"]),
        ]
        events = Route(f"{one}/events", self.events, methods=["GET"])
        events.methods = {"GET"}  # a HEAD, which Starlette adds, would wait for the end to say nothing
        app.router.routes.append(events)

    async def begin(self, request: Request) -> Response:
        """Begin an upload. The same `Idempotency-Key` with the same request answers the same upload."""
        wanted = await read_json(request, BeginIn, silence_s=self._silence_s)
        begun = await self._uploads.begin(
            wanted.request(key=idempotency_key(fields_of(request.scope))), caller=caller_of(request)
        )
        note_upload(begun.upload.id)
        answer = BegunOut.of(begun.upload, begun.token, base_url(request.scope))
        return JSONResponse(
            answer.model_dump(by_alias=True),
            HTTPStatus.CREATED if begun.created else HTTPStatus.OK,
            headers={"Location": answer.links.self_, "Cache-Control": "no-store"},
        )

    async def state(self, request: Request, upload_id: str, wait: Wait = None) -> Response:
        """Look at an upload, or wait for its end. Disturbs nobody."""
        state = await self._wait(request, _noted(upload_id), min(max(wait or 0.0, 0.0), MAX_WAIT_S))
        return json_answer(await self.present(request, state))

    async def finish(self, request: Request, upload_id: str) -> Response:
        """Make the upload a record. Repeating it, or waiting, gives the same result."""
        wanted = wanted_digests(fields_of(request.scope))
        asked = await read_json(request, FinishIn, silence_s=self._silence_s, empty=FinishIn())
        state = await self._uploads.finish(
            _noted(upload_id), caller=caller_of(request), digest=read_digest(asked.digest), size=asked.size
        )
        presented = await self.present_result(state, base_url(request.scope))
        if state.upload.status.live:
            return json_answer(presented, HTTPStatus.ACCEPTED)
        return json_answer(presented, headers=digest_header(state.upload.details.digest, wanted))

    async def abort(self, request: Request, upload_id: str) -> Response:
        """End the upload without a result and free its bytes. May be repeated."""
        await self._uploads.abort(_noted(upload_id), caller=caller_of(request))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def put_chunk(self, request: Request) -> Response:
        """Store one chunk; the same bytes again are fine."""
        fields = fields_of(request.scope)
        require_plain_body(fields)
        index = whole_number(request.path_params["index"], field="index")
        with self._services.metrics.receiving():
            await self._uploads.put_chunk(
                _noted(request.path_params["upload_id"]),
                index,
                open_body(request.scope, request.receive, silence_s=self._silence_s),
                caller=caller_of(request),
                digests=body_digests(fields),
                replace=flag(request, "replace"),
            )
        return Answer(HTTPStatus.NO_CONTENT, {})

    async def append(self, request: Request) -> Response:
        """Append at the upload's end."""
        fields = fields_of(request.scope)
        require_plain_body(fields)
        with self._services.metrics.receiving():
            state = await self._uploads.append(
                _noted(request.path_params["upload_id"]),
                whole_number(joined(fields, b"upload-offset"), field="Upload-Offset"),
                open_body(request.scope, request.receive, silence_s=self._silence_s),
                caller=caller_of(request),
                digests=body_digests(fields),
            )
        offset = {"Upload-Offset": str(state.upload.offset)}
        return Answer(HTTPStatus.NO_CONTENT, offset)

    async def offset(self, request: Request) -> Response:
        """Tell where an append goes on; a running one is asked to let go first."""
        upload = await self._uploads.offset(
            _noted(request.path_params["upload_id"]), caller=caller_of(request)
        )
        headers = {"Upload-Offset": str(upload.offset), "Cache-Control": "no-store"}
        if upload.size is not None:
            headers["Upload-Length"] = str(upload.size)
        return Response(headers=headers)

    async def events(self, request: Request) -> Response:
        """Tell progress, state and result as they come."""
        upload_id = _noted(request.path_params["upload_id"])
        states = self._uploads.watch(upload_id, caller=caller_of(request))
        # The first one is awaited here, so that an unknown upload is a problem and not an empty stream.
        first = await anext(states)
        messages = upload_messages(first, states, lambda state: self.present(request, state))
        return EventStream(messages, sleep=self._services.clock.sleep)

    async def present(self, request: Request, state: UploadState) -> StateOut:
        """Return the state as JSON shows it, with the record when there is one."""
        record = await self._services.records.result_of(state.upload)
        return StateOut.of(state, None if record is None else RecordOut.of(record, base_url(request.scope)))

    async def present_result(self, state: UploadState, base: str) -> Document | StateOut:
        """Return the record as JSON shows it; the state while there is none. `base`: before our paths."""
        record = await self._services.records.result_of(state.upload)
        return StateOut.of(state, None) if record is None else record_document(record, base)

    async def _wait(self, request: Request, upload_id: SessionId, timeout_s: float) -> UploadState:
        if timeout_s > 0:
            try:
                return await self._uploads.wait(upload_id, caller=caller_of(request), timeout_s=timeout_s)
            except WaitTimeout:
                pass  # the state at the deadline is the answer
        return await self._uploads.state(upload_id, caller=caller_of(request))


def _noted(upload_id: str) -> SessionId:
    note_upload(upload_id)
    return SessionId(upload_id)
