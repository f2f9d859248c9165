"""Records over HTTP: lists, one, trash, and the bytes of their assets."""

import base64
import json
import math
import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID

from fastapi import FastAPI, Query
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from haulier.core.errors import AssetNotFound, HaulierError, InvalidRequest
from haulier.core.link import Disposition
from haulier.core.record import Asset, AssetKind, Record, RecordId, RecordStatus
from haulier.core.upload import IMAGE_TYPES
from haulier.ports import RecordQuery
from haulier.server.access import LINKS, caller_of
from haulier.server.addresses import base_url, fields_of, header
from haulier.server.answers import json_answer
from haulier.server.bodies import digest_header, read_json, wanted_digests
from haulier.server.content import chained, choose_span, entity_tag, is_known, is_meant, presentation
from haulier.server.errors import PreconditionFailed
from haulier.server.inputs import DeleteIn, FinaliseIn, LinkIn, idempotency_key
from haulier.server.problems import row_of
from haulier.server.schemas import (
    RECORD_EXAMPLE,
    DeletionOut,
    DeletionsOut,
    LinkOut,
    RecordListOut,
    RecordOut,
)
from haulier.server.services import Services

MAX_LIMIT: Final = 200
"""Rows of a page: with all assets and metadata well below a MiB, and read in one short transaction."""
DEFAULT_LIMIT: Final = 50
"""What a person looks through."""
MAX_IDS: Final = 100
"""Ids of one list: 4 kB of address, half of what common proxies take."""
MAX_TEXT: Final = 4096
"""Longest filter; no path is longer."""
Text = Annotated[str | None, Query(max_length=MAX_TEXT, pattern=r"^[^\x00]*$")]
"""Of a filter. One database takes no NUL, and another one takes it for the end, so that all rows fit."""
EXTENSIONS: Final = {kind: extension for extension, kind in IMAGE_TYPES.items()}
_DATE: Final = re.compile(r"[0-9]{4}-", re.ASCII)


def _require_date(value: object) -> object:
    # pydantic would take a bare number for seconds since 1970.
    if isinstance(value, str) and _DATE.match(value) is None:
        raise PydanticCustomError("iso_time", "must be a time like 2026-11-22T10:00:00Z")
    return value


Time = Annotated[datetime, BeforeValidator(_require_date)]
_ID: Final = re.compile(r"[!-~]{1,64}")
"""What an id in a cursor may look like: ours are UUIDs."""


class RecordRoutes:
    """The operations on records and assets."""

    def __init__(self, services: Services, *, silence_s: float) -> None:
        self._records = services.records
        self._lanes = services.lanes
        self._links = services.links
        self._silence_s = silence_s

    def install(self, app: FastAPI) -> None:
        """Add the routes."""
        one = "/api/records/{record_id}"
        app.add_api_route(
            "/api/records",
            self.list,
            methods=["GET"],
            response_model=RecordListOut,
            operation_id="listRecords",
        )
        app.add_api_route(
            "/api/records",
            self.finalise,
            methods=["POST"],
            status_code=201,
            response_model=RecordOut,
            operation_id="finaliseRecord",
        )
        app.add_api_route(
            "/api/records/delete",
            self.delete_many,
            methods=["POST"],
            response_model=DeletionsOut,
            operation_id="deleteRecords",
        )
        app.add_api_route(one, self.get, methods=["GET"], response_model=RecordOut, operation_id="record")
        app.add_api_route(one, self.delete, methods=["DELETE"], status_code=204, operation_id="deleteRecord")
        app.add_api_route(
            f"{one}/restore",
            self.restore,
            methods=["POST"],
            response_model=RecordOut,
            operation_id="restoreRecord",
        )
        app.add_api_route(
            f"{one}/retry",
            self.retry,
            methods=["POST"],
            status_code=202,
            response_model=RecordOut,
            operation_id="retryRecord",
        )
        app.add_route(f"{one}/assets/{{kind}}", self.asset, methods=["GET"])
        app.add_api_route(
            f"{one}/links",
            self.give_link,
            methods=["POST"],
            status_code=201,
            response_model=LinkOut,
            operation_id="giveLink",
        )
        # What is no link has slashes in it perhaps, and is one that is not there.
        app.add_route(f"{LINKS}{{link:path}}", self.follow_link, methods=["GET"])

    async def list(  # noqa: PLR0913, PLR0917 - one parameter a filter
        self,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        cursor: Annotated[str | None, Query(description="`next` of the page before", max_length=256)] = None,
        ids: Annotated[
            list[UUID] | None,
            Query(
                alias="id",
                description="Only these; may be repeated",
                max_length=MAX_IDS,
                examples=[[RECORD_EXAMPLE]],
            ),
        ] = None,
        capsule: Text = None,
        status: Annotated[
            list[RecordStatus] | None, Query(description="May be repeated", examples=[["completed"]])
        ] = None,
        name: Annotated[Text, Query(description="Part of the file name, whatever its case")] = None,
        path: Annotated[Text, Query(description="What the path begins with")] = None,
        since: Annotated[
            Time | None, Query(alias="from", description="ISO 8601; UTC where it names no zone")
        ] = None,
        until: Annotated[
            Time | None, Query(alias="to", description="ISO 8601, exclusive; UTC where it names no zone")
        ] = None,
        kind: Annotated[AssetKind | None, Query(description="An asset that the record has")] = None,
        mine: Annotated[bool, Query(description="Only the caller's own")] = False,  # noqa: FBT002 - a query parameter
        deleted: Annotated[bool, Query(description="The trash instead")] = False,  # noqa: FBT002 - a query parameter
    ) -> Response:
        """List records, newest first."""
        query = RecordQuery(
            ids=frozenset(RecordId(str(each)) for each in ids or ()),
            owner=caller_of(request).owner if mine else None,
            capsule=capsule,
            statuses=frozenset(status or ()),
            name=name,
            path_prefix=path,
            since=seconds_of(since),
            until=seconds_of(until),
            kind=kind,
            deleted=deleted,
            after=None if cursor is None else read_cursor(cursor),
            limit=limit,
        )
        page = await self._records.list(query, caller=caller_of(request))
        base = base_url(request.scope)
        return json_answer(
            RecordListOut(
                items=[RecordOut.of(record, base) for record in page.items],
                next=None if page.next is None else write_cursor(page.next),
            )
        )

    async def finalise(self, request: Request) -> Response:
        """Make a record of uploads that were begun with `lanes` and are committed. May be repeated with a key."""
        wanted = await read_json(request, FinaliseIn, silence_s=self._silence_s)
        asked = wanted.request(key=idempotency_key(fields_of(request.scope)))
        (record,) = await self._lanes.finalise(asked, caller=caller_of(request))
        return json_answer(RecordOut.of(record, base_url(request.scope)), HTTPStatus.CREATED)

    async def get(self, request: Request, record_id: str) -> Response:
        """Read one record; `deleted_at` says whether it is in the trash."""
        wanted = wanted_digests(fields_of(request.scope))
        record = await self._records.get(RecordId(record_id), caller=caller_of(request))
        return self._record(request, record, headers=digest_header(record.digest, wanted))

    async def delete(
        self,
        request: Request,
        record_id: str,
        now: Annotated[bool, Query(description="Remove the bytes at once, not after a while")] = False,  # noqa: FBT002 - a query parameter
        assets: Annotated[
            str,
            Query(pattern="^(keep|drop)$", description="`keep`: the bytes stay when the record goes"),
        ] = "drop",
    ) -> Response:
        """Put a record into the trash. May be repeated."""
        await self._records.delete(
            RecordId(record_id), caller=caller_of(request), at_once=now, keep_assets=assets == "keep"
        )
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def delete_many(self, request: Request) -> Response:
        """Put many records into the trash; each by itself, with a reason for each that stays. May be repeated."""
        asked = await read_json(request, DeleteIn, silence_s=self._silence_s)
        results = await self._records.delete_many(
            [RecordId(record_id) for record_id in asked.ids],
            caller=caller_of(request),
            at_once=asked.now,
            keep_assets=asked.assets == "keep",
        )
        items = [_deletion(record_id, error) for record_id, error in results.items()]
        deleted = sum(item.deleted for item in items)
        return json_answer(DeletionsOut(deleted=deleted, failed=len(items) - deleted, items=items))

    async def restore(self, request: Request, record_id: str) -> Response:
        """Take a record out of the trash. May be repeated."""
        return self._record(
            request, await self._records.restore(RecordId(record_id), caller=caller_of(request))
        )

    async def retry(self, request: Request, record_id: str) -> Response:
        """Try again to make the smaller pictures that an image lacks. May be repeated."""
        record = await self._lanes.retry(RecordId(record_id), caller=caller_of(request))
        status = HTTPStatus.ACCEPTED if record.unprocessed else HTTPStatus.OK
        return json_answer(RecordOut.of(record, base_url(request.scope)), status)

    async def asset(self, request: Request) -> Response:
        """Send an asset's bytes."""
        record_id, kind = RecordId(request.path_params["record_id"]), request.path_params["kind"]
        if kind not in list(AssetKind):
            raise AssetNotFound(record_id, kind[:32])
        return await self.send_asset(request, record_id, AssetKind(kind))

    async def send_asset(self, request: Request, record_id: RecordId, kind: AssetKind) -> Response:
        """Send an asset's bytes, or the range of them that the request asks for.

        Raises:
            RecordNotFound · AssetNotFound · DigestMalformed · PreconditionFailed · RangeNotSatisfiable
            StorageUnavailable
        """
        found = await self._records.asset(record_id, kind, caller=caller_of(request))
        return await self._send(request, *found)

    async def give_link(self, request: Request, record_id: str) -> Response:
        """Give a link that opens an asset for whoever has it, for a while."""
        wanted = await read_json(request, LinkIn, silence_s=self._silence_s, empty=LinkIn())
        link, text = await self._links.give(
            RecordId(record_id),
            wanted.kind,
            caller=caller_of(request),
            expires_in_s=wanted.expires_in,
            disposition=wanted.disposition,
        )
        return json_answer(LinkOut.of(link, text, base_url(request.scope)), HTTPStatus.CREATED)

    async def follow_link(self, request: Request) -> Response:
        """Send the bytes that a link opens."""
        record, asset, disposition = await self._links.follow(request.path_params["link"])
        return await self._send(request, record, asset, attached=disposition is Disposition.ATTACHMENT)

    async def _send(
        self, request: Request, record: Record, asset: Asset, *, attached: bool = False
    ) -> Response:
        wanted = wanted_digests(fields_of(request.scope))
        tag = entity_tag(asset)
        headers = {
            "ETag": tag,
            "Accept-Ranges": "bytes",
            # Private: shared caches must not keep it. no-cache: ask whether it may still be read.
            "Cache-Control": "private, no-cache",
            **digest_header(asset.digest, wanted),
        }
        if not is_meant(header(request.scope, b"if-match"), tag):
            raise PreconditionFailed(tag)
        if is_known(header(request.scope, b"if-none-match"), tag):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        span = choose_span(
            asset.size,
            header(request.scope, b"range") if request.method == "GET" else None,
            if_range=header(request.scope, b"if-range"),
            tag=tag,
        )
        headers |= {
            **presentation(_name_of(record, asset), asset.content_type, attached=attached),
            **span.headers,
        }
        status = HTTPStatus.PARTIAL_CONTENT if span.partial else HTTPStatus.OK
        if request.method == "HEAD" or span.start == span.stop:
            return Response(status_code=status, headers=headers)
        pieces = self._records.read(asset, span.start, span.stop)
        # Awaited here, so that bytes that cannot be read are a problem and not a cut answer.
        first = await anext(pieces)
        return StreamingResponse(chained(first, pieces), status, headers)

    @staticmethod
    def _record(request: Request, record: Record, *, headers: dict[str, str] | None = None) -> Response:
        return json_answer(RecordOut.of(record, base_url(request.scope)), headers=headers)


def _name_of(record: Record, asset: Asset) -> str:
    """Return what a downloaded asset is called: a picture of `photo.jpg` is no JPEG."""
    if asset.kind is AssetKind.ORIGINAL:
        return record.filename
    stem = record.filename.rpartition(".")[0] or record.filename
    return f"{stem}.{asset.kind}{EXTENSIONS.get(asset.content_type, '')}"


def _deletion(record_id: RecordId, error: HaulierError | None) -> DeletionOut:
    if error is None:
        return DeletionOut(id=record_id, deleted=True, reason=None, detail=None)
    row = row_of(error)
    return DeletionOut(id=record_id, deleted=False, reason=row.slug, detail=row.detail or str(error))


def seconds_of(time: datetime | None) -> float | None:
    """Return a time in seconds since the epoch; one without a zone is UTC."""
    if time is None:
        return None
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()


def write_cursor(key: tuple[float, str]) -> str:
    """Return a keyset as opaque, URL-safe text."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).rstrip(b"=").decode("ascii")


def read_cursor(text: str) -> tuple[float, str]:
    """Read what `write_cursor` wrote.

    Raises:
        InvalidRequest: it is something else.
    """
    try:
        decoded = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
    except (ValueError, RecursionError):
        decoded = None
    match decoded:
        # JSON knows times that no number compares with, and texts that no database takes.
        case [float(created_at), str(record_id)] if math.isfinite(created_at) and _ID.fullmatch(record_id):
            return created_at, record_id
        case _:
            raise InvalidRequest.of("cursor", "must be the 'next' of a page")
