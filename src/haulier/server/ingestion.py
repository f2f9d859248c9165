"""Forms with files, and the history of who sends them.

Rule 1: everything here is about the caller's own things, whatever else the caller may see.
Rule 2: an export is read a page at a time; a cell that a spreadsheet would take for a formula is made text.
"""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from haulier.core.errors import InvalidRequest
from haulier.core.ingestion import stored_name
from haulier.core.instants import iso_time
from haulier.core.record import AssetKind, Record, RecordId, RecordStatus
from haulier.engine.history import DAY_S
from haulier.ports import DayCount, HistoryQuery, HistoryRow
from haulier.server.access import caller_of
from haulier.server.answers import json_answer
from haulier.server.forms import Form, boundary_of, require_something
from haulier.server.http.asgi import open_pieces
from haulier.server.inputs import query_of
from haulier.server.presenter import HistoryItemOut, HistoryOut, present, present_all
from haulier.server.records import DEFAULT_LIMIT, MAX_LIMIT, Text, Time, read_cursor, seconds_of, write_cursor
from haulier.server.schemas import HEX_EXAMPLE, RECORD_EXAMPLE, digest_object
from haulier.server.services import Services

MAX_REACH: Final = 10_000
"""How far down a page can be asked for by its number: each row before it costs a step, so it is bounded. A cursor goes
on from anywhere. Precedent: Elasticsearch's `index.max_result_window`."""
MAX_DAYS: Final = 365
"""Days of a summary: each may be a row of its answer, and a year is what people compare."""
COLUMNS: Final = (
    "id", "original_filename", "stored_filename", "size", "status", "uploaded_at", "content_type", "error",
)  # fmt: skip
"""Of a CSV export."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""How cells begin that spreadsheets run. Source: OWASP, "CSV Injection"."""

_ITEM: Final[dict[str, Any]] = {
    "id": RECORD_EXAMPLE,
    "original_filename": "prices.json",
    "stored_filename": "0b8a3c1e-6c0f-4d55-9f0e-3d8f0f1c2a77",
    "size": 1834,
    "digest": {"sha-256": HEX_EXAMPLE},
    "content_type": "application/json",
    "uploaded_at": "2026-11-22T09:37:47.123Z",
    "status": "completed",
}
_DAY: Final[dict[str, Any]] = {"date": "2026-11-22", "count": 1, "size": 1834, "statuses": {"completed": 1}}


class IngestedFileOut(BaseModel):
    """One stored file."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ITEM]})

    id: str
    """Of its record."""
    original_filename: str
    stored_filename: str
    """A UUID."""
    size: int
    digest: dict[str, str] | None
    content_type: str
    """By content."""
    uploaded_at: str
    status: str

    @classmethod
    def of(cls, record: Record) -> "IngestedFileOut":
        """Present a record that has its original."""
        original = record.asset(AssetKind.ORIGINAL)
        assert original is not None
        assert record.uploaded_at is not None
        return cls(
            id=record.id,
            original_filename=record.filename,
            stored_filename=stored_name(original.blob_key),
            size=original.size,
            digest=digest_object(original.digest),
            content_type=record.content_type,
            uploaded_at=iso_time(record.uploaded_at),
            status=record.status.value,
        )


class IngestedOut(BaseModel):
    """The files of a form that are stored now. A single one stands at the top, too."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{"items": [_ITEM], **_ITEM}]})

    items: list[IngestedFileOut]


class DayOut(BaseModel):
    """What was uploaded on one day."""

    date: str
    count: int
    size: int
    statuses: dict[str, int]


class SummaryOut(BaseModel):
    """What was uploaded lately. Days are those of UTC; days without uploads are left out."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"days": 30, "count": 1, "size": 1834, "statuses": {"completed": 1}, "items": [_DAY]}
            ]
        }
    )

    days: int
    count: int
    size: int
    statuses: dict[str, int]
    items: list[DayOut]


Status = Annotated[
    list[RecordStatus] | None, Query(description="May be repeated", examples=[["completed", "failed"]])
]
Filename = Annotated[Text, Query(description="Part of the file name, whatever its case", examples=["report"])]
Folder = Annotated[Text, Query(description="What the path begins with", examples=["holiday/"])]
Since = Annotated[
    Time | None,
    Query(
        alias="from", description="ISO 8601; UTC where it names no zone", examples=["2026-11-01T00:00:00Z"]
    ),
]
Until = Annotated[
    Time | None,
    Query(
        alias="to",
        description="ISO 8601, exclusive; UTC where it names no zone",
        examples=["2026-12-01T00:00:00Z"],
    ),
]


class IngestionRoutes:
    """`/api/ingestion`."""

    def __init__(self, services: Services, *, silence_s: float) -> None:
        self._ingestion = services.ingestion
        self._history = services.history
        self._silence_s = silence_s

    def install(self, app: FastAPI) -> None:
        """Add the routes."""
        many, one = "/api/ingestion/history", "/api/ingestion/history/{record_id}"
        app.add_route("/api/ingestion/upload", self.upload, methods=["POST"])
        app.add_api_route(
            many, self.history, methods=["GET"], response_model=HistoryOut, operation_id="history"
        )
        # Before the route of one row, which would take their names for ids.
        app.add_api_route(
            f"{many}/summary",
            self.summary,
            methods=["GET"],
            response_model=SummaryOut,
            operation_id="historySummary",
        )
        app.add_api_route(
            f"{many}/export",
            self.export,
            methods=["GET"],
            response_class=StreamingResponse,
            operation_id="historyExport",
        )
        app.add_api_route(
            one, self.one, methods=["GET"], response_model=HistoryItemOut, operation_id="historyItem"
        )
        app.add_api_route(
            one, self.delete, methods=["DELETE"], status_code=204, operation_id="deleteHistoryItem"
        )
        app.add_api_route(
            f"{one}/restore",
            self.restore,
            methods=["POST"],
            response_model=HistoryItemOut,
            operation_id="restoreHistoryItem",
        )

    async def upload(self, request: Request) -> Response:
        """Store all files of a form, or none."""
        require_something(request)
        boundary = boundary_of(request)
        body = open_pieces(request.scope, request.receive, silence_s=self._silence_s)
        form = Form(body, boundary, self._ingestion.rules)
        records = await self._ingestion.ingest(
            form.files(),
            caller=caller_of(request),
            capsule=query_of(request).get("capsule", "default"),
            expected=body.length,
        )
        items = [IngestedFileOut.of(record).model_dump() for record in records]
        document = {**(items[0] if len(items) == 1 else {}), "items": items}
        return JSONResponse(document, status_code=HTTPStatus.CREATED)

    async def history(  # noqa: PLR0913, PLR0917 - one parameter a filter
        self,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        cursor: Annotated[str | None, Query(description="`next` of the page before", max_length=256)] = None,
        page: Annotated[
            int | None,
            Query(ge=1, description=f"By number instead, within the first {MAX_REACH} rows", examples=[1]),
        ] = None,
        since: Since = None,
        until: Until = None,
        status: Status = None,
        filename: Filename = None,
        path: Folder = None,
    ) -> Response:
        """List what the caller has uploaded, newest first."""
        query = _query(
            since,
            until,
            status,
            filename,
            path,
            limit=limit,
            skip=_skip(page, limit, cursor),
            cursor=cursor,
        )
        found = await self._history.page(query, caller=caller_of(request))
        items, left_out = present_all(found.items)
        return json_answer(
            HistoryOut(
                items=list(items),
                next=None if found.next is None else write_cursor(found.next),
                left_out=left_out,
            )
        )

    async def summary(
        self,
        request: Request,
        days: Annotated[int, Query(ge=1, le=MAX_DAYS, description="So many days, today included")] = 30,
    ) -> Response:
        """Count what the caller has uploaded lately."""
        counts = await self._history.days(days, caller=caller_of(request))
        return json_answer(_summary(days, counts))

    async def export(  # noqa: PLR0917 - one parameter a filter
        self,
        request: Request,
        format: Annotated[Literal["csv", "json"], Query()] = "json",  # noqa: A002 - the parameter's name
        since: Since = None,
        until: Until = None,
        status: Status = None,
        filename: Filename = None,
        path: Folder = None,
    ) -> Response:
        """Download the caller's history, or what of it the filters let through."""
        query = _query(since, until, status, filename, path)
        pages = self._history.export(query, caller=caller_of(request))
        first = await anext(pages)  # so that an error is a problem and not a cut answer
        media_type = {"csv": "text/csv; charset=utf-8", "json": "application/json"}[format]
        pieces = _as_csv(first, pages) if format == "csv" else _as_json(first, pages)
        headers = {
            "Content-Disposition": f'attachment; filename="history.{format}"',
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-store",
        }
        return StreamingResponse(pieces, media_type=media_type, headers=headers)

    async def one(self, request: Request, record_id: str) -> Response:
        """Read one row of the caller's history."""
        return _answer(await self._history.one(RecordId(record_id), caller=caller_of(request)))

    async def delete(self, request: Request, record_id: str) -> Response:
        """Put one into the trash. May be repeated."""
        await self._history.delete(RecordId(record_id), caller=caller_of(request))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def restore(self, request: Request, record_id: str) -> Response:
        """Take one out of the trash. May be repeated."""
        return _answer(await self._history.restore(RecordId(record_id), caller=caller_of(request)))


def _query(  # noqa: PLR0917 - one parameter a filter
    since: datetime | None,
    until: datetime | None,
    status: Sequence[RecordStatus] | None,
    filename: str | None,
    path: str | None,
    *,
    limit: int = DEFAULT_LIMIT,
    skip: int = 0,
    cursor: str | None = None,
) -> HistoryQuery:
    return HistoryQuery(
        owner="",  # the caller's, whoever that is
        since=seconds_of(since),
        until=seconds_of(until),
        statuses=frozenset(status or ()),
        filename=filename or None,
        path_prefix=path or None,
        after=None if cursor is None else read_cursor(cursor),
        skip=skip,
        limit=limit,
    )


def _skip(page: int | None, limit: int, cursor: str | None) -> int:
    if page is None:
        return 0
    if cursor is not None:
        raise InvalidRequest.of("page", "cannot be combined with 'cursor'")
    if page * limit > MAX_REACH:
        raise InvalidRequest.of("page", f"must end within the first {MAX_REACH} rows; go on with 'cursor'")
    return (page - 1) * limit


def _answer(row: HistoryRow) -> Response:
    item = present(row)
    if item is None:
        raise RowNotPresentable
    return json_answer(item)


class RowNotPresentable(Exception):
    """The one row that was asked for cannot be shown; an internal error, since every row should be."""


def _summary(days: int, counts: Sequence[DayCount]) -> SummaryOut:
    known = [each for each in counts if each.status in list(RecordStatus)]
    return SummaryOut(
        days=days,
        count=sum(each.count for each in known),
        size=sum(each.size for each in known),
        statuses=_by_status(known),
        items=[
            _day(day, [each for each in known if each.day == day]) for day in sorted({it.day for it in known})
        ],
    )


def _day(day: int, counts: Sequence[DayCount]) -> DayOut:
    return DayOut(
        date=datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat(),
        count=sum(each.count for each in counts),
        size=sum(each.size for each in counts),
        statuses=_by_status(counts),
    )


def _by_status(counts: Iterable[DayCount]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for each in counts:
        totals[each.status] = totals.get(each.status, 0) + each.count
    return totals


Pages = AsyncIterator[Sequence[Mapping[str, Any]]]


class _Export:
    """The rows of an export, and how many of them could not be shown."""

    def __init__(self, first: Sequence[Mapping[str, Any]], rest: Pages) -> None:
        self._first = first
        self._rest = rest
        self.left_out = 0

    async def items(self) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield what can be shown of each page."""
        yield self._shown(self._first)
        async for rows in self._rest:
            yield self._shown(rows)

    def _shown(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        items, left_out = present_all(rows)
        self.left_out += left_out
        return [item.model_dump(mode="json") for item in items]


async def _as_json(first: Sequence[Mapping[str, Any]], rest: Pages) -> AsyncIterator[str]:
    """Yield one JSON array; where rows had to be left out, its last member says how many."""
    export, separator = _Export(first, rest), "["
    async for items in export.items():
        for item in items:
            yield separator + json.dumps(item, ensure_ascii=False)
            separator = ",\n"
    if export.left_out:
        yield separator + json.dumps({"left_out": export.left_out})
        separator = ",\n"
    yield "[]\n" if separator == "[" else "]\n"


async def _as_csv(first: Sequence[Mapping[str, Any]], rest: Pages) -> AsyncIterator[str]:
    """Yield a heading and a line a row, as RFC 4180 has it; the last one tells how many rows had to be left out, if any."""
    export = _Export(first, rest)
    yield _lines([COLUMNS])
    async for items in export.items():
        yield _lines([[_cell(item[name]) for name in COLUMNS] for item in items])
    if export.left_out:
        yield f"# left out: {export.left_out}\r\n"


def _lines(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
