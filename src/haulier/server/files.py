"""One request, one file: `PUT /api/files/{filename}`, what `curl -T` sends.

Rule 1: it is an append upload like any other; who knows its address (by an idempotency key, or by a 104)
        goes on after a cut, and what nobody can go on with is given up at once.
Rule 2: the body is the whole file, so the digests of body and file are the same promise.
"""

from http import HTTPStatus
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from haulier.core.digest import Digest, DigestName, new_hasher, parse_digest_name
from haulier.core.errors import HaulierError, InvalidRequest, OffsetMismatch
from haulier.core.session import Mode, SessionId, SessionStatus
from haulier.core.upload import BeginUpload, Upload
from haulier.core.values import dataclass
from haulier.engine.policy import TakenUpload
from haulier.engine.uploads import UploadState
from haulier.engine.whole import ReadAhead
from haulier.ports import Body
from haulier.server.access import caller_of
from haulier.server.addresses import base_url, fields_of, joined
from haulier.server.answers import CREATED, json_answer
from haulier.server.bodies import (
    body_digests,
    digest_header,
    file_digests,
    last_segment,
    require_plain_body,
    split_promises,
    wanted_digests,
)
from haulier.server.frequent import FrequentRoute
from haulier.server.http.asgi import open_body
from haulier.server.inputs import idempotency_key, query_of
from haulier.server.interim import send_resumption, spoken_version
from haulier.server.requests import note_upload, request_info
from haulier.server.schemas import Document, StateOut, record_document
from haulier.server.services import Services
from haulier.server.tails import add_tail_route
from haulier.server.uploads import UploadRoutes

PREFIX: Final = "/api/files/"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A PUT, read and checked except for its body."""

    begin: BeginUpload
    digests: tuple[Digest, ...]
    """What the body must have beside `begin.expected`."""
    wanted: tuple[DigestName, ...]


class FileRoutes:
    """The one-request way."""

    def __init__(
        self,
        services: Services,
        uploads: UploadRoutes,
        *,
        default_digest: DigestName,
        silence_s: float,
        interim: bool,
    ) -> None:
        self._services = services
        self._uploads = services.uploads
        self._presenter = uploads
        self._default = default_digest
        self._silence_s = silence_s
        self._interim = interim

    def install(self, app: FastAPI) -> None:
        """Add the route; its name may have slashes and line ends, so that those are refused in words."""
        add_tail_route(app, PREFIX + "{filename:path}", self.put, methods=["PUT"], kind=FrequentRoute)

    async def put(self, request: Request) -> Response:
        """Store a whole file."""
        body = ReadAhead(open_body(request.scope, request.receive, silence_s=self._silence_s))
        asked = self._read(request, body.length)
        base = base_url(request.scope)
        taken = await self._take(request, asked, body)
        if taken is not None:
            document = record_document(taken.record, base)
            return self._answer(base, taken.upload, document, asked, created=True)
        begun = await self._uploads.begin(asked.begin, caller=caller_of(request))
        note_upload(begun.upload.id)
        if begun.upload.status is SessionStatus.OPEN:
            offset = 0 if begun.created else await self._offset(request, begun.upload.id)
            created = offset == 0
        else:
            created, offset = begun.created, None
        # Of empty files, and of repetitions of what is whole already, nothing is left to be received.
        state = await self._complete(request, begun.upload.id, asked, body if offset == 0 else None)
        presented = await self._presenter.present_result(state, base)
        return self._answer(base, state.upload, presented, asked, created=created)

    async def _take(self, request: Request, asked: _Asked, body: ReadAhead) -> TakenUpload | None:
        """Take a short file in one step, unless its sender wants to know where it could go on."""
        if self._interim and spoken_version(request.scope) is not None:
            return None
        with self._services.metrics.receiving():
            taken = await self._uploads.take(
                asked.begin, body, caller=caller_of(request), digests=asked.digests
            )
        if taken is not None:
            note_upload(taken.upload.id)
        return taken

    async def _offset(self, request: Request, upload_id: SessionId) -> int | None:
        """Return 0 when a repetition may send its body, None when nothing is left to be sent.

        Raises:
            OffsetMismatch: a part is here; it goes on at its end, by PATCH, never from the start.
        """
        upload = await self._uploads.offset(upload_id, caller=caller_of(request))
        if upload.status is not SessionStatus.OPEN:
            return None
        if upload.offset:
            address = _address(base_url(request.scope), upload_id)
            request_info(request.scope).problem_headers["Location"] = address
            raise OffsetMismatch(upload.offset, 0)
        return 0

    def _read(self, request: Request, length: int | None) -> _Asked:
        fields = fields_of(request.scope)
        require_plain_body(fields)
        filename = last_segment(request, PREFIX, field="filename")
        query = query_of(request)
        named = query.get("digest")
        name = None if named is None else parse_digest_name(named, field="digest")
        # The whole upload's is better: a body with a digest of its own keeps nothing when it is cut.
        expected, others = split_promises(
            file_digests(fields) + body_digests(fields), name, default=self._default
        )
        if length == 0:
            # An empty upload is complete before it has a body that could be judged.
            for digest in others:
                digest.require(new_hasher(digest.name).digest())
        begin = BeginUpload(
            filename=filename,
            size=length,
            mode=Mode.APPEND,
            capsule=query.get("capsule", "default"),
            path=query.get("path"),
            content_type=joined(fields, b"content-type"),
            digest_name=name,
            expected=expected,
            derivatives=_derivatives(query.get("derivatives", "server")),
            key=idempotency_key(fields),
        )
        return _Asked(begin=begin, digests=others, wanted=wanted_digests(fields))

    async def _complete(
        self, request: Request, upload_id: SessionId, asked: _Asked, body: Body | None
    ) -> UploadState:
        """Receive the body, if there is one to receive, and return what the finish came to."""
        caller = caller_of(request)
        known = asked.begin.key is not None
        try:
            if body is None:
                return await self._uploads.finish(upload_id, caller=caller)
            known = self._tell_address(request, upload_id) or known
            with self._services.metrics.receiving():
                return await self._uploads.append(
                    upload_id, 0, body, caller=caller, digests=asked.digests, final=True
                )
        except HaulierError as error:
            if known:
                raise
            return await self._services.abandon(upload_id, error, caller=caller)

    def _tell_address(self, request: Request, upload_id: SessionId) -> bool:
        """Send a 104 with the upload's address to a client that reads it; return whether it was sent."""
        location = {"Location": _address(base_url(request.scope), upload_id)}
        return self._interim and send_resumption(request.scope, location)

    @staticmethod
    def _answer(
        base: str, upload: Upload, presented: Document | StateOut, asked: _Asked, *, created: bool
    ) -> Response:
        headers = {"Location": _address(base, upload.id)}
        if upload.status.live:
            return json_answer(presented, HTTPStatus.ACCEPTED, headers=headers)
        headers |= digest_header(upload.details.digest, asked.wanted)
        return json_answer(presented, CREATED if created else HTTPStatus.OK, headers=headers)


def _derivatives(text: str) -> bool:
    if text not in {"server", "none"}:
        raise InvalidRequest.of("derivatives", "must be server or none")
    return text == "server"


def _address(base: str, upload_id: SessionId) -> str:
    return f"{base}/api/uploads/{upload_id}"
