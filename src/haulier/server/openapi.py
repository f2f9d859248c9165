"""The OpenAPI document: what FastAPI knows, the raw routes that it does not, and every problem.

Rule 1: every operation has an example and names the problems that it can answer; a test walks the routes.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from haulier.server.ingestion import IngestedOut
from haulier.server.inputs import BeginIn, DeleteIn, FinaliseIn, FinishIn, LinkIn
from haulier.server.problems import MEDIA_TYPE, SLUGS, TABLE, Row
from haulier.server.schemas import (
    HEX_EXAMPLE,
    RECORD_EXAMPLE,
    UPLOAD_EXAMPLE,
    ProblemOut,
    RecordOut,
    StateOut,
)

Json = dict[str, Any]

_ROWS: Final[Mapping[str, Row]] = {row.slug: row for row in TABLE.values()}
# The last two are HTTP's own limits, met before any operation is.
_ALWAYS: Final = ("internal-error", "rate-limited", "target-too-long", "head-too-large")
_LOCAL: Final = ("host-refused", "not-local")
_GUARDED: Final = (*_LOCAL, "origin-refused", "unauthenticated", "access-denied")
_READING: Final = ("storage-unavailable",)
_WRITING: Final = (
    "invalid-request", "upload-not-found", "upload-gone", "upload-complete", "upload-busy", "service-stopping",
    "storage-full", "storage-unavailable", "storage-not-writable", "directory-not-creatable",
)  # fmt: skip
# What any JSON may be, whatever it asks for.
_JSON: Final = ("invalid-request", "type-not-accepted", "length-exceeded", "body-cut", "malformed-body")
_BODIES: Final = (
    "digest-malformed", "digest-mismatch", "body-cut", "malformed-body", "type-not-accepted", "length-exceeded",
)  # fmt: skip
_BEGINNING: Final = (
    "upload-refused", "hook-unavailable",
    "invalid-request", "capsule-not-found", "record-not-found", "idempotency-key-reused", "quota-exceeded",
    "length-exceeded", "file-empty", "digest-malformed", "service-stopping",
    "storage-full", "storage-unavailable", "storage-not-writable", "directory-not-creatable",
)  # fmt: skip
# Judged once more when a finish starts, with bytes whose number was unknown until then.
_COMPLETING: Final = ("file-empty", "quota-exceeded", "upload-refused", "hook-unavailable")

PROBLEMS: Final[Mapping[str, tuple[str, ...]]] = {
    "begin": (*_BEGINNING, *_JSON),
    "state": ("upload-not-found", "invalid-request", "service-stopping", *_READING),
    "finish": (*_WRITING, *_JSON, *_COMPLETING, "digest-malformed", "digest-mismatch", "chunks-missing"),
    "abort": _WRITING,
    "putChunk": (
        *_WRITING, *_BODIES, "chunk-conflict", "chunk-out-of-range", "chunk-too-long", "chunk-too-short",
    ),
    "append": (*_WRITING, *_BODIES, *_COMPLETING, "offset-mismatch"),
    "offset": (*_WRITING, *_COMPLETING, "length-exceeded", "digest-mismatch"),
    "events": ("upload-not-found", *_READING),
    "followEvents": ("invalid-request", "capsule-not-found", "quota-exceeded", *_READING),
    "putFile": (*_BEGINNING, *_WRITING, *_BODIES, "offset-mismatch"),
    "finaliseRecord": (
        *_JSON, "capsule-not-found", "record-not-found", "idempotency-key-reused",
        "upload-not-found", "upload-gone", "upload-complete", "upload-busy", *_READING,
    ),
    "listRecords": ("invalid-request", "capsule-not-found", *_READING),
    "record": ("record-not-found", "digest-malformed", *_READING),
    "deleteRecord": ("record-not-found", "upload-busy", "invalid-request", *_READING),
    "deleteRecords": (*_JSON, *_READING),
    "restoreRecord": ("record-not-found", *_READING),
    "retryRecord": ("record-not-found", "asset-not-found", "upload-busy", "invalid-request", *_READING),
    "asset": (
        "record-not-found", "asset-not-found", "digest-malformed", "precondition-failed", "range-not-satisfiable",
        *_READING,
    ),
    "assetHead": ("record-not-found", "asset-not-found", "digest-malformed", "precondition-failed", *_READING),
    "giveLink": (*_JSON, "record-not-found", "asset-not-found", *_READING),
    "followLink": (
        "link-not-found", "digest-malformed", "precondition-failed", "range-not-satisfiable", *_READING,
    ),
    "followLinkHead": ("link-not-found", "digest-malformed", "precondition-failed", *_READING),
    "session": _READING,
    "signIn": _READING,
    "signOut": _READING,
    "visitor": ("visitor-not-found", *_READING),
    "extendVisitor": ("visitor-not-found", *_READING),
    "clearVisitor": _READING,
    "ingest": (
        "invalid-request", "capsule-not-found", "quota-exceeded", "file-empty", "type-not-accepted", "content-invalid",
        "length-exceeded", "malformed-body", "body-cut", "queue-full", "upload-busy", "service-stopping",
        "storage-full", "storage-unavailable", "storage-not-writable", "directory-not-creatable",
    ),
    "history": ("invalid-request", *_READING),
    "historySummary": ("invalid-request", *_READING),
    "historyExport": ("invalid-request", *_READING),
    "historyItem": ("record-not-found", *_READING),
    "deleteHistoryItem": ("record-not-found", "upload-busy", *_READING),
    "restoreHistoryItem": ("record-not-found", *_READING),
    "health": (),
    "ready": (),
    "metrics": _READING,
    "liveSessions": ("access-denied", "invalid-request", *_READING),
    "stats": ("access-denied", *_READING),
    "expire": ("access-denied", *_READING),
    "listTransfers": ("access-denied", "invalid-request", *_READING),
    "showTransfer": ("access-denied", "invalid-request", "transfer-not-found", *_READING),
    "pauseTransfer": ("access-denied", "transfer-not-found", *_READING, "storage-full"),
    "resumeTransfer": ("access-denied", "transfer-not-found", *_READING, "storage-full"),
    "cancelTransfer": ("access-denied", "transfer-not-found", *_READING, "storage-full"),
    "bumpTransfer": ("access-denied", "transfer-not-found", *_READING, "storage-full"),
    "retryTransfer": ("access-denied", "invalid-request", "transfer-not-found", *_READING, "storage-full"),
}  # fmt: skip
"""Which problems an operation can answer, beside those that any can."""

_DIGEST: Final = "sha-256=:mDSHbc+wXLFnpcJJU+uljErImxrfV/KPL50JrxB+6PA=:"


_PROBES: Final = frozenset({"health", "ready"})
_PUBLIC: Final = _PROBES | {"followLink", "followLinkHead"}
_SECURITY: Final[list[Json]] = [{"bearer": []}, {}]
"""A token, or none in open mode."""
_SECURITY_SCHEMES: Final[Json] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token made by `haulier token create`; for the calls on one upload also the `token` of its begin.",
    }
}


def _parameter(  # noqa: PLR0917 - the parts of a line of a table
    name: str, place: str, kind: Json, example: object, text: str = ""
) -> Json:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "schema": kind,
        "example": example,
        "description": text,
    }


_UPLOAD: Final = _parameter("upload_id", "path", {"type": "string"}, UPLOAD_EXAMPLE)
_RECORD: Final = _parameter("record_id", "path", {"type": "string"}, RECORD_EXAMPLE)
_KIND: Final = _parameter("kind", "path", {"type": "string"}, "original")
_LINK: Final = _parameter("link", "path", {"type": "string"}, "the end of a link's url")
_CONTENT_DIGEST: Final = _parameter(
    "Content-Digest", "header", {"type": "string"}, _DIGEST, "Of this body (RFC 9530)"
)
_REPR_DIGEST: Final = _parameter(
    "Repr-Digest", "header", {"type": "string"}, _DIGEST, "Of the whole file (RFC 9530)"
)
_WANT: Final = _parameter(
    "Want-Repr-Digest", "header", {"type": "string"}, "sha-256=10", "Ask for Repr-Digest (RFC 9530)"
)
_KEY: Final = _parameter(
    "Idempotency-Key", "header", {"type": "string"}, "b7c1a0de", "The same key and request, the same upload"
)
_BYTES: Final[Json] = {"type": "string", "format": "binary"}
_BODY: Final[Json] = {
    "required": True,
    "content": {"application/octet-stream": {"schema": _BYTES, "example": "the bytes"}},
}
_OFFSET_HEADER: Final[Json] = {"Upload-Offset": {"schema": {"type": "integer"}, "example": 1048576}}


def _json(model: type[BaseModel]) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def _answer(text: str, *, content: Json | None = None, headers: Json | None = None) -> Json:
    answer: Json = {"description": text}
    return answer | ({"content": content} if content else {}) | ({"headers": headers} if headers else {})


def _operation(
    name: str, summary: str, parameters: list[Json], responses: Json, *, body: Json | None = None
) -> Json:
    operation: Json = {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": responses,
    }
    return operation | ({"requestBody": body} if body else {})


def _asset_answers(content: Json | None) -> Json:
    length = {"Content-Length": {"schema": {"type": "integer"}, "example": 73400320}}
    return {"200": _answer("The bytes", content=content, headers=length), "304": _answer("As you know it")}


_RAW: Final[Mapping[tuple[str, str], Json]] = {
    ("/api/uploads/{upload_id}/chunks/{index}", "put"): _operation(
        "putChunk",
        "Store one chunk; the same bytes again are fine",
        [
            _UPLOAD,
            _parameter("index", "path", {"type": "integer", "minimum": 0}, 0),
            _parameter(
                "replace", "query", {"type": "boolean"}, False, "After a digest mismatch: other bytes"
            ),
            _CONTENT_DIGEST,
        ],
        {"204": _answer("Stored for good")},
        body=_BODY,
    ),
    ("/api/uploads/{upload_id}", "patch"): _operation(
        "append",
        "Append at the end (mode append)",
        [
            _UPLOAD,
            _parameter("Upload-Offset", "header", {"type": "integer", "minimum": 0}, 1048576)
            | {"required": True},
            _CONTENT_DIGEST,
        ],
        {"204": _answer("Stored up to Upload-Offset", headers=_OFFSET_HEADER)},
        body=_BODY,
    ),
    ("/api/uploads/{upload_id}", "head"): _operation(
        "offset",
        "Where an append goes on; a running one is asked to let go",
        [_UPLOAD],
        {"200": _answer("The true offset", headers=_OFFSET_HEADER)},
    ),
    ("/api/uploads/{upload_id}/events", "get"): _operation(
        "events",
        "Server-sent events: state, progress, result; each with a state as data",
        [_UPLOAD],
        {
            "200": _answer(
                "Ends after the result",
                content={
                    "text/event-stream": {
                        "schema": {"type": "string"},
                        "example": f'event: progress\ndata: {{"id": "{UPLOAD_EXAMPLE}", "status": "open"}}\n\n',
                    }
                },
            )
        },
    ),
    ("/api/events", "get"): _operation(
        "followEvents",
        "Server-sent events: what happens to records that the caller may read",
        [
            _parameter("capsule", "query", {"type": "string"}, "default", "Only events of this capsule"),
            _parameter("mine", "query", {"type": "boolean"}, True, "Only of the caller's own records"),
            _parameter(
                "follow", "query", {"type": "boolean"}, False, "false: end when there is nothing more"
            ),
            _parameter("beat", "query", {"type": "boolean"}, True, "`beat` events in place of comments"),
            _parameter("Last-Event-ID", "header", {"type": "string"}, "0-17", "Where the reader was before"),
        ],
        {
            "200": _answer(
                "First `ready` (or `reset`: events are gone, read the lists anew), then what happens",
                content={
                    "text/event-stream": {
                        "schema": {"type": "object"},
                        "example": f'id: 0-18\nevent: record.completed\ndata: {{"record": "{RECORD_EXAMPLE}"}}\n\n',
                    }
                },
            )
        },
    ),
    ("/api/files/{filename}", "put"): _operation(
        "putFile",
        "Store a whole file in one request, as `curl -T` sends it",
        [
            _parameter("filename", "path", {"type": "string"}, "holiday.mp4"),
            _parameter("capsule", "query", {"type": "string"}, "default"),
            _parameter("path", "query", {"type": "string"}, "2026/rome/holiday.mp4"),
            _parameter("digest", "query", {"type": "string"}, "sha-256", "Which digest the record gets"),
            _CONTENT_DIGEST,
            _REPR_DIGEST,
            _WANT,
            _KEY,
        ],
        {
            "200": _answer("The same key again: the same record", content=_json(RecordOut)),
            "201": _answer("The record", content=_json(RecordOut)),
            "202": _answer("All bytes are here; it is being finished", content=_json(StateOut)),
        },
        body=_BODY,
    ),
    ("/api/records/{record_id}/assets/{kind}", "get"): _operation(
        "asset",
        "An asset's bytes",
        [
            _RECORD,
            _KIND,
            _parameter("Range", "header", {"type": "string"}, "bytes=0-1048575"),
            _parameter("If-Range", "header", {"type": "string"}, f'"sha-256-{HEX_EXAMPLE}"'),
            _parameter("If-Match", "header", {"type": "string"}, f'"sha-256-{HEX_EXAMPLE}"'),
            _parameter("If-None-Match", "header", {"type": "string"}, f'"sha-256-{HEX_EXAMPLE}"'),
            _WANT,
        ],
        _asset_answers({"*/*": {"schema": _BYTES, "example": "the bytes"}})
        | {"206": _answer("The range", content={"*/*": {"schema": _BYTES, "example": "bytes"}})},
    ),
    ("/api/records/{record_id}/assets/{kind}", "head"): _operation(
        "assetHead", "What a download would say", [_RECORD, _KIND, _WANT], _asset_answers(None)
    ),
    ("/links/{link}", "get"): _operation(
        "followLink",
        "The bytes that a link opens; needs no token",
        [_LINK, _parameter("Range", "header", {"type": "string"}, "bytes=0-1048575"), _WANT],
        _asset_answers({"*/*": {"schema": _BYTES, "example": "the bytes"}})
        | {"206": _answer("The range", content={"*/*": {"schema": _BYTES, "example": "bytes"}})},
    ),
    ("/links/{link}", "head"): _operation(
        "followLinkHead", "What following a link would say", [_LINK, _WANT], _asset_answers(None)
    ),
    ("/api/ingestion/upload", "post"): _operation(
        "ingest",
        "Store the files of a form: all of them, or none",
        [_parameter("capsule", "query", {"type": "string"}, "default")],
        {"201": _answer("All are stored", content=_json(IngestedOut))},
        body={
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {"file": {"type": "array", "items": _BYTES}},
                        "description": "Files under any names; other fields are passed over",
                    },
                    "example": {"file": ["the bytes"]},
                }
            },
        },
    ),
    ("/metrics", "get"): _operation(
        "metrics",
        "Counters for Prometheus",
        [],
        {
            "200": _answer(
                "Exposition text",
                content={
                    "text/plain": {"schema": {"type": "string"}, "example": "haulier_live_sessions 0.0\n"}
                },
            )
        },
    ),
}

_KNOWN: Final[Mapping[str, Json]] = {
    "begin": {
        "parameters": [_KEY],
        "requestBody": {"required": True, "content": _json(BeginIn)},
        "responses": {"200": {"description": "The same key again", "$copy": "201"}},
    },
    "finish": {
        "parameters": [_WANT],
        "requestBody": {"required": False, "content": _json(FinishIn)},
        "responses": {"202": _answer("It goes on; ask again or wait", content=_json(StateOut))},
    },
    "finaliseRecord": {
        "parameters": [_KEY],
        "requestBody": {"required": True, "content": _json(FinaliseIn)},
    },
    "deleteRecords": {"requestBody": {"required": True, "content": _json(DeleteIn)}},
    "giveLink": {"requestBody": {"required": False, "content": _json(LinkIn)}},
    "record": {"parameters": [_WANT]},
    "historyExport": {
        "responses": {
            "200": _answer(
                "All rows",
                content={
                    "application/json": {
                        "schema": {"type": "array", "items": {"$ref": "#/components/schemas/HistoryItemOut"}},
                        "example": [],
                    },
                    "text/csv": {"schema": {"type": "string"}, "example": "id,original_filename\r\n"},
                },
            )
        }
    },
    "ready": {"responses": {"503": {"description": "Not now, for these reasons", "$copy": "200"}}},
}
"""What FastAPI does not see of the operations that it knows, because they read their requests themselves."""


def document_with(app: FastAPI) -> Json:
    """Return the whole document; FastAPI keeps it after the first time."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        for (path, method), operation in _RAW.items():
            document["paths"].setdefault(path, {})[method] = dict(operation)
        for operation in _operations(document):
            _complete(operation)
        document["security"] = _SECURITY
        document["components"]["securitySchemes"] = _SECURITY_SCHEMES
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):  # answers that we never give
            schemas.pop(name, None)
        schemas |= _schemas(BeginIn, DeleteIn, FinaliseIn, FinishIn, LinkIn, ProblemOut, IngestedOut)
        # FastAPI drops every null of its document, also those that the examples are to show.
        for name, schema in _schemas(*_answered(app), mode="serialization").items():
            if "examples" in schema:
                schemas[name]["examples"] = schema["examples"]
        app.openapi_schema = document
    return app.openapi_schema


def _schemas(*models: type[BaseModel], mode: JsonSchemaMode = "validation") -> Json:
    _, schema = models_json_schema(
        [(model, mode) for model in models], ref_template="#/components/schemas/{model}"
    )
    definitions: Json = schema["$defs"]
    return definitions


def _answered(app: FastAPI) -> list[type[BaseModel]]:
    answers = (route.response_model for route in app.routes if isinstance(route, APIRoute))
    return [answer for answer in answers if isinstance(answer, type) and issubclass(answer, BaseModel)]


def _operations(document: Json) -> Iterable[Json]:
    return (operation for path in document["paths"].values() for operation in path.values())


def _complete(operation: Json) -> None:
    name = operation["operationId"]
    known = _KNOWN.get(name, {})
    # FastAPI's own 422 has the shape of its own errors; ours comes with the problems below.
    responses = {status: answer for status, answer in operation["responses"].items() if status != "422"}
    for status, extra in known.get("responses", {}).items():
        copied = responses.get(extra.get("$copy"), {})
        responses[status] = copied | {key: value for key, value in extra.items() if key != "$copy"}
    operation["parameters"] = operation.get("parameters", []) + known.get("parameters", [])
    if "requestBody" in known:
        operation["requestBody"] = known["requestBody"]
    if name in _PUBLIC:
        operation["security"] = []
    operation["responses"] = responses | _problems((*PROBLEMS[name], *_everywhere(name)))


def _everywhere(name: str) -> tuple[str, ...]:
    if name in _PROBES:
        return _ALWAYS
    # Whoever has a link is not asked who they are; open mode still judges by which way they came.
    return (*(_LOCAL if name in _PUBLIC else _GUARDED), *_ALWAYS)


def _problems(slugs: Iterable[str]) -> Json:
    told: dict[int, list[str]] = {}
    for slug in sorted(set(slugs)):
        assert slug in SLUGS, slug
        # A quota of bytes is told by another status than one of sessions.
        statuses = (413, 429) if slug == "quota-exceeded" else (_ROWS[slug].status if slug in _ROWS else 500,)
        for status in statuses:
            told.setdefault(status, []).append(slug)
    return {str(status): _problem_answer(status, group) for status, group in sorted(told.items())}


def _problem_answer(status: int, slugs: list[str]) -> Json:
    titles = {slug: _ROWS[slug].title if slug in _ROWS else "Something went wrong" for slug in slugs}
    example = {
        "type": f"http://127.0.0.1:8000/errors/{slugs[0]}",
        "title": titles[slugs[0]],
        "status": status,
        "detail": "what happened, in words",
        "instance": "urn:uuid:0b8a3c1e-6c0f-4d55-9f0e-3d8f0f1c2a77",
    }
    return _answer(
        "; ".join(f"`{slug}`: {title}" for slug, title in titles.items()),
        content={MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemOut"}, "example": example}},
    )
