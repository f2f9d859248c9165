"""The JSON that clients get from the native API.

Rule 1: times are ISO 8601 with `Z`, sizes bytes, hex digests lower case.
Rule 2: what is not listed here, as where a blob lies, is nobody's business.
"""

from collections.abc import Mapping
from typing import Any, Final, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from haulier.core.caller import Caller
from haulier.core.digest import Digest
from haulier.core.instants import iso_time
from haulier.core.link import Link
from haulier.core.record import Asset, Record
from haulier.core.session import Mode
from haulier.core.token import SignIn
from haulier.core.upload import Upload
from haulier.core.visitor import Visitor
from haulier.engine.uploads import UploadState
from haulier.server.access import LINKS

Document: TypeAlias = dict[str, Any]
"""JSON as it is sent."""
MAX_MISSING_CHUNKS: Final = 1000
"""Longest list of missing chunks in a state: what a client works on next, not the whole file."""

HEX_EXAMPLE: Final = "9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0"
UPLOAD_EXAMPLE: Final = "3q2-7wEjRWeJq83vASNFZw"
RECORD_EXAMPLE: Final = "019aa0b4-5a3c-7c1e-9d43-0f6a5f3a2b11"
_OPEN_EXAMPLE: Final[Mapping[str, Any]] = {
    "id": UPLOAD_EXAMPLE,
    "record": RECORD_EXAMPLE,
    "status": "open",
    "mode": "chunks",
    "size": 73400320,
    "chunk_size": 8388608,
    "chunk_count": 9,
}
_TIME: Final = "2026-11-22T09:37:47.123Z"
_BASE: Final = "http://127.0.0.1:8000"


def _iso_or_none(seconds: float | None) -> str | None:
    return None if seconds is None else iso_time(seconds)


def digest_object(digest: Digest | None) -> dict[str, str] | None:
    """Return a digest as `{"sha-256": "hex"}`."""
    return None if digest is None else {str(digest.name): digest.hex}


class VisitorOut(BaseModel):
    """A browser without a token."""

    id: str
    created_at: str
    last_seen_at: str
    """To the minute."""
    expires_at: str
    principal: str | None
    """Who signed in from this browser last."""
    metadata: dict[str, str]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": RECORD_EXAMPLE,
                    "created_at": _TIME,
                    "last_seen_at": _TIME,
                    "expires_at": "2026-12-22T09:37:47.123Z",
                    "principal": None,
                    "metadata": {"user_agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0"},
                }
            ]
        }
    )

    @classmethod
    def of(cls, visitor: Visitor) -> Self:
        """Return what a browser is told of its visitor."""
        return cls(
            id=visitor.id,
            created_at=iso_time(visitor.created_at),
            last_seen_at=iso_time(visitor.last_seen_at),
            expires_at=iso_time(visitor.expires_at),
            principal=visitor.principal,
            metadata=dict(visitor.metadata),
        )


class SessionOut(BaseModel):
    """Who calls."""

    owner: str
    """Whose things are made and found: `user:NAME`, `visitor:ID`, or `local`."""
    scope: str
    capsule: str | None
    """The only one that the token is for."""
    expires_at: str | None
    """Until when this browser is signed in; null when it is not."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "owner": "user:alice",
                    "scope": "write",
                    "capsule": None,
                    "expires_at": "2026-11-29T09:37:47.123Z",
                }
            ]
        }
    )

    @classmethod
    def of(cls, caller: Caller, sign_in: SignIn | None) -> Self:
        """Return what a browser is told of itself."""
        return cls(
            owner=caller.owner,
            scope=caller.scope.value,
            capsule=caller.capsule,
            expires_at=None if sign_in is None else iso_time(sign_in.expires_at),
        )


class LinksOut(BaseModel):
    """Where an upload goes on; absolute."""

    self_: str = Field(serialization_alias="self")
    chunks: str
    """Before `/{index}`."""
    finish: str
    events: str

    @classmethod
    def of(cls, upload_id: str, base: str) -> Self:
        """Build the links of an upload."""
        own = f"{base}/api/uploads/{upload_id}"
        return cls(self_=own, chunks=f"{own}/chunks", finish=f"{own}/finish", events=f"{own}/events")


class BegunOut(BaseModel):
    """The answer to a begin."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_OPEN_EXAMPLE,
                    "expires_at": _TIME,
                    "token": "c2VjcmV0",
                    "links": {
                        "self": f"{_BASE}/api/uploads/{UPLOAD_EXAMPLE}",
                        "chunks": f"{_BASE}/api/uploads/{UPLOAD_EXAMPLE}/chunks",
                        "finish": f"{_BASE}/api/uploads/{UPLOAD_EXAMPLE}/finish",
                        "events": f"{_BASE}/api/uploads/{UPLOAD_EXAMPLE}/events",
                    },
                }
            ]
        }
    )

    id: str
    record: str | None
    status: str
    mode: str
    size: int | None
    chunk_size: int
    chunk_count: int
    expires_at: str
    token: str
    links: LinksOut

    @classmethod
    def of(cls, upload: Upload, token: str, base: str) -> Self:
        """Present an upload to the one who began it."""
        return cls(
            id=upload.id,
            record=upload.details.record,
            status=upload.status.value,
            mode=upload.spec.mode.value,
            size=upload.size,
            chunk_size=upload.spec.chunk_size,
            chunk_count=upload.chunk_count,
            expires_at=iso_time(upload.expires_at),
            token=token,
            links=LinksOut.of(upload.id, base),
        )


class AssetOut(BaseModel):
    """One stored blob of a record."""

    kind: str
    size: int
    content_type: str
    digest: dict[str, str] | None
    width: int | None
    height: int | None
    url: str
    data_url: str | None
    """The whole asset, of a placeholder; else null."""


_RECORD_OBJECT: Final[dict[str, Any]] = {
    "id": RECORD_EXAMPLE,
    "capsule": "default",
    "filename": "holiday.mp4",
    "path": "2026/rome/holiday.mp4",
    "size": 73400320,
    "content_type": "video/mp4",
    "digest": {"sha-256": HEX_EXAMPLE},
    "status": "completed",
    "error": None,
    "created_at": _TIME,
    "uploaded_at": _TIME,
    "finished_at": _TIME,
    "deleted_at": None,
    "metadata": {},
    "assets": [
        {
            "kind": "original",
            "size": 73400320,
            "content_type": "video/mp4",
            "digest": {"sha-256": HEX_EXAMPLE},
            "width": None,
            "height": None,
            "url": f"{_BASE}/api/records/{RECORD_EXAMPLE}/assets/original",
            "data_url": None,
        }
    ],
}


class RecordOut(BaseModel):
    """The durable entry of one received file."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RECORD_OBJECT]})

    id: str
    capsule: str
    filename: str
    path: str | None
    size: int | None
    content_type: str
    digest: dict[str, str] | None
    status: str
    error: str | None
    created_at: str
    uploaded_at: str | None
    finished_at: str | None
    deleted_at: str | None
    metadata: dict[str, str]
    assets: list[AssetOut]

    @classmethod
    def of(cls, record: Record, base: str) -> Self:
        """Present a record."""
        return cls.model_validate(record_document(record, base))


def record_document(record: Record, base: str) -> Document:
    """Return what `RecordOut` says of a record, for an answer of which it is all: what we made needs no judging.

    `str` of a member of an enumeration of texts is its text; to ask for its value calls two functions of Python.
    """
    return {
        "id": record.id,
        "capsule": record.capsule,
        "filename": record.filename,
        "path": record.path,
        "size": record.size,
        "content_type": record.content_type,
        "digest": digest_object(record.digest),
        "status": str(record.status),
        "error": record.error,
        "created_at": iso_time(record.created_at),
        "uploaded_at": _iso_or_none(record.uploaded_at),
        "finished_at": _iso_or_none(record.finished_at),
        "deleted_at": _iso_or_none(record.deleted_at),
        "metadata": dict(record.metadata),
        "assets": [_asset_document(asset, record.id, base) for asset in record.assets],
    }


def _asset_document(asset: Asset, record_id: str, base: str) -> Document:
    """Present an asset; where its bytes lie is nobody's business."""
    kind = str(asset.kind)
    return {
        "kind": kind,
        "size": asset.size,
        "content_type": asset.content_type,
        "digest": digest_object(asset.digest),
        "width": asset.width,
        "height": asset.height,
        "url": f"{base}/api/records/{record_id}/assets/{kind}",
        "data_url": asset.data_url,
    }


class RecordListOut(BaseModel):
    """A page of records, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"items": [_RECORD_OBJECT], "next": None, "total": None, "left_out": 0}]
        }
    )

    items: list[RecordOut]
    next: str | None
    """Give it as `cursor` to get the next page; null on the last one."""
    total: int | None = None
    """Null: counting a million rows for each page is not worth it."""
    left_out: int = 0


class DeletionOut(BaseModel):
    """What became of one record of a bulk deletion."""

    id: str
    deleted: bool
    reason: str | None
    """The problem that its own deletion would be answered with; null when it is deleted."""
    detail: str | None


class DeletionsOut(BaseModel):
    """What became of each record of a bulk deletion, in the order that was asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "deleted": 1,
                    "failed": 0,
                    "items": [{"id": RECORD_EXAMPLE, "deleted": True, "reason": None, "detail": None}],
                }
            ]
        }
    )

    deleted: int
    failed: int
    items: list[DeletionOut]


class LinkOut(BaseModel):
    """A link to an asset, for whoever has it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "url": f"{_BASE}{LINKS}{RECORD_EXAMPLE}.original.1795428000.attachment.{'A' * 43}",
                    "record": RECORD_EXAMPLE,
                    "kind": "original",
                    "disposition": "attachment",
                    "expires_at": _TIME,
                }
            ]
        }
    )

    url: str
    record: str
    kind: str
    disposition: str
    expires_at: str

    @classmethod
    def of(cls, link: Link, text: str, base: str) -> Self:
        """Return the link as it is given."""
        return cls(
            url=f"{base}{LINKS}{text}",
            record=link.record,
            kind=link.kind.value,
            disposition=link.disposition.value,
            expires_at=iso_time(link.expires_at),
        )


class StateOut(BaseModel):
    """Where an upload stands."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_OPEN_EXAMPLE,
                    "received": [[0, 16777216]],
                    "received_bytes": 16777216,
                    "missing_chunks": [2, 3, 4, 5, 6, 7, 8],
                    "verified_bytes": 16777216,
                    "speed": 52428800.0,
                    "expires_at": _TIME,
                    "result": None,
                    "error": None,
                }
            ]
        }
    )

    id: str
    record: str | None
    status: str
    mode: str
    size: int | None
    chunk_size: int
    chunk_count: int
    received: list[tuple[int, int]]
    """Half-open byte ranges that are here for good."""
    received_bytes: int
    missing_chunks: list[int]
    """The first 1000."""
    verified_bytes: int
    """How far the digest of the whole file has come."""
    speed: float
    """Bytes per second."""
    expires_at: str
    result: RecordOut | None
    error: str | None

    @classmethod
    def of(cls, state: UploadState, result: RecordOut | None) -> Self:
        """Present a state; `result` is the record of a committed upload."""
        upload = state.upload
        live = upload.status.live
        chunked = upload.spec.mode is Mode.CHUNKS
        return cls(
            id=upload.id,
            record=upload.details.record,
            status=upload.status.value,
            mode=upload.spec.mode.value,
            size=upload.size,
            chunk_size=upload.spec.chunk_size,
            chunk_count=upload.chunk_count,
            received=list(upload.received),
            received_bytes=upload.received.total,
            missing_chunks=upload.missing_chunks(MAX_MISSING_CHUNKS) if live and chunked else [],
            verified_bytes=state.verified_bytes,
            speed=round(state.speed, 1),
            expires_at=iso_time(upload.expires_at),
            result=result,
            error=upload.error,
        )


class HealthOut(BaseModel):
    """The process lives."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: str


class ReadyOut(BaseModel):
    """Whether the service can take uploads, and if not, why."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ready", "reasons": []}]})

    status: str
    reasons: list[str]


class FieldProblemOut(BaseModel):
    """One field of a request and what is wrong with it."""

    field: str
    reason: str


class ProblemOut(BaseModel):
    """RFC 9457 problem details; each type has members of its own, told on its page."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": f"{_BASE}/errors/upload-not-found",
                    "title": "No such upload",
                    "status": 404,
                    "detail": f"there is no upload '{UPLOAD_EXAMPLE}'",
                    "instance": "urn:uuid:0b8a3c1e-6c0f-4d55-9f0e-3d8f0f1c2a77",
                    "upload": UPLOAD_EXAMPLE,
                }
            ]
        },
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldProblemOut] | None = None
