"""Rows of a history, made fit to be shown: every row that leaves the service by that way passes here.

Rule 1: `id`, `original_filename`, `status` and the time must be there and right, else the row is left out, and counted.
Rule 2: anything else that is missing or wrong gets its default; what was wrong is logged, what was null is not.
Rule 3: only fields that are listed here leave; paths, keys and whatever else a row has do not.

| field | default |
|---|---|
| `stored_filename` | null: there is no stored file (yet) |
| `size` | 0 |
| `uploaded_at` | when the upload began |
| `content_type` | `application/octet-stream` |
| `error` | null: there was none |
| `metadata` | `{}` |
| `file_metadata` | null: the content was not looked at |
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from haulier.core.ingestion import stored_name
from haulier.core.instants import iso_time
from haulier.core.record import RecordStatus
from haulier.core.upload import DEFAULT_CONTENT_TYPE
from haulier.logs import get_logger
from haulier.server.schemas import RECORD_EXAMPLE

log = get_logger()

MAX_TIME: Final = 253_402_300_799.0
"""The last second of the year 9999: ISO 8601 as everybody reads it has four digits for a year."""

_ITEM: Final[dict[str, Any]] = {
    "id": RECORD_EXAMPLE,
    "original_filename": "prices.json",
    "stored_filename": "0b8a3c1e-6c0f-4d55-9f0e-3d8f0f1c2a77",
    "size": 1834,
    "status": "completed",
    "uploaded_at": "2026-11-22T09:37:47.123Z",
    "content_type": "application/json",
    "error": None,
    "metadata": {},
    "file_metadata": {
        "media_type": "application/json",
        "encoding": "utf-8",
        "line_count": 41,
        "record_count": 12,
        "preview": '[{"price": 12}, ...',
        "valid_json": True,
        "valid_csv": None,
        "errors": [],
    },
}


def _parsed(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


Parsed = BeforeValidator(_parsed)


class FileProblemOut(BaseModel):
    """One thing that is wrong with a file's content, and where."""

    fault: str
    message: str
    line: int | None = None
    column: int | None = None


class FileMetadataOut(BaseModel):
    """What a file holds, by reading all of it. Null: does not apply, or was not looked at."""

    model_config = ConfigDict(extra="ignore")

    media_type: str
    encoding: str | None = None
    line_count: Annotated[int, Field(ge=0)] | None = None
    record_count: Annotated[int, Field(ge=0)] | None = None
    preview: str | None = None
    valid_json: bool | None = None
    valid_csv: bool | None = None
    errors: Annotated[list[FileProblemOut], Parsed] = []


class HistoryItemOut(BaseModel):
    """One upload of a history."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ITEM]})

    id: str = Field(min_length=1)
    original_filename: str = Field(min_length=1)
    stored_filename: str | None = None
    size: int = Field(default=0, ge=0)
    """Bytes."""
    status: RecordStatus
    uploaded_at: str
    content_type: str = DEFAULT_CONTENT_TYPE
    error: str | None = None
    metadata: dict[str, str] = {}
    file_metadata: FileMetadataOut | None = None


class HistoryOut(BaseModel):
    """A page of a history, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_ITEM], "next": None, "total": None, "left_out": 0}]}
    )

    items: list[HistoryItemOut]
    next: str | None
    """Give it as `cursor` to get the next page; null on the last one."""
    total: int | None = None
    """Null: counting a million rows for each page is not worth it."""
    left_out: int = 0
    """Rows of this page that could not be shown; the service's log says why."""


Seconds = Annotated[float, Field(strict=True, ge=0, le=MAX_TIME, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True, min_length=1)]


class _Required(BaseModel):
    """What a row cannot be shown without."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Text
    original_filename: Text
    status: RecordStatus
    created_at: Seconds


_OPTIONAL: Final[Mapping[str, tuple[str, TypeAdapter[Any]]]] = {
    "stored_filename": ("blob_key", TypeAdapter(Text)),
    "size": ("size", TypeAdapter(Annotated[int, Field(strict=True, ge=0)])),
    "uploaded_at": ("uploaded_at", TypeAdapter(Seconds)),
    "content_type": ("content_type", TypeAdapter(Text)),
    "error": ("error", TypeAdapter(Annotated[str, Field(strict=True)])),
    "metadata": ("metadata", TypeAdapter(Annotated[dict[str, str], Parsed])),
    "file_metadata": ("file", TypeAdapter(FileMetadataOut)),
}
"""Fields by the column that they come from, and what it must be."""


def present_all(rows: Iterable[Mapping[str, Any]]) -> tuple[Sequence[HistoryItemOut], int]:
    """Return what can be shown, in order, and how many rows cannot."""
    shown = [present(row) for row in rows]
    items = [item for item in shown if item is not None]
    return items, len(shown) - len(items)


def present(row: Mapping[str, Any]) -> HistoryItemOut | None:
    """Return a row as it is shown; None, and a line in the log, when it cannot be."""
    try:
        required = _Required.model_validate(row)
    except ValidationError as error:
        log.error("history.row_left_out", record=_name(row), problems=_told(error))
        return None
    fields = {name: value for name in _OPTIONAL if (value := _optional(name, row)) is not None}
    blob_key = fields.pop("stored_filename", None)
    return HistoryItemOut(
        id=required.id,
        original_filename=required.original_filename,
        status=required.status,
        stored_filename=None if blob_key is None else stored_name(blob_key),
        uploaded_at=iso_time(fields.pop("uploaded_at", required.created_at)),
        **fields,
    )


def _optional(name: str, row: Mapping[str, Any]) -> Any:
    """Return the value of a field; None where it has its default."""
    column, kind = _OPTIONAL[name]
    value = row.get(column)
    if value is None:
        return None
    try:
        return kind.validate_python(value)
    except (ValidationError, RecursionError) as error:
        problems = _told(error) if isinstance(error, ValidationError) else ["nested too deeply"]
        log.warning("history.field_defaulted", record=_name(row), field=name, problems=problems)
        return None


def _name(row: Mapping[str, Any]) -> str:
    return str(row.get("id"))[:64]


def _told(error: ValidationError) -> list[str]:
    # Without the values: what cannot be shown to its owner is not shown to whoever reads logs either.
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems]
