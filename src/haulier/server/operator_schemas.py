"""The JSON that operators get."""

from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict

from haulier.core.capsule import Capsule
from haulier.core.instants import iso_time
from haulier.core.record import RecordStatus
from haulier.core.session import LIVE
from haulier.core.upload import Upload
from haulier.engine.operations import Stats
from haulier.server.schemas import UPLOAD_EXAMPLE

_TIME: Final = "2026-11-22T09:37:47.123Z"
_SESSION: Final[dict[str, Any]] = {
    "id": UPLOAD_EXAMPLE,
    "owner": "user:ann",
    "capsule": "default",
    "filename": "holiday.mp4",
    "protocol": "native",
    "mode": "append",
    "status": "open",
    "size": 73400320,
    "received_bytes": 16777216,
    "created_at": _TIME,
    "last_seen_at": _TIME,
    "expires_at": _TIME,
    "age_s": 86.4,
    "idle_s": 1.2,
    "holder": "79290d2c59864159a6c39281d80fc78a",
    "error": None,
}


class LiveSessionOut(BaseModel):
    """An upload that is open or finishing."""

    id: str
    owner: str
    capsule: str
    filename: str
    protocol: str
    mode: str
    status: str
    size: int | None
    received_bytes: int
    created_at: str
    last_seen_at: str
    expires_at: str
    age_s: float
    """Seconds since it was begun."""
    idle_s: float
    """Seconds since its last activity."""
    holder: str | None
    """The worker that appends to it or finishes it, as log lines name workers."""
    error: str | None

    @classmethod
    def of(cls, upload: Upload, *, now: float) -> Self:
        """Present an upload to an operator."""
        return cls(
            id=upload.id,
            owner=upload.spec.owner,
            capsule=upload.details.capsule,
            filename=upload.details.filename,
            protocol=upload.details.protocol,
            mode=upload.spec.mode.value,
            status=upload.status.value,
            size=upload.size,
            received_bytes=upload.received.total,
            created_at=iso_time(upload.created_at),
            last_seen_at=iso_time(upload.last_seen_at),
            expires_at=iso_time(upload.expires_at),
            # Another worker's clock may be a moment ahead.
            age_s=round(max(now - upload.created_at, 0.0), 1),
            idle_s=round(max(now - upload.last_seen_at, 0.0), 1),
            holder=upload.holder,
            error=upload.error,
        )


class LiveSessionListOut(BaseModel):
    """A page of live uploads, oldest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_SESSION], "next": None, "total": None, "left_out": 0}]}
    )

    items: list[LiveSessionOut]
    next: str | None
    """Give it as `cursor` to get the next page; null on the last one."""
    total: int | None = None
    left_out: int = 0


class CapsuleOut(BaseModel):
    """What a capsule holds; sizes are bytes."""

    name: str
    owner: str
    used_bytes: int
    reserved_bytes: int
    quota_bytes: int | None

    @classmethod
    def of(cls, capsule: Capsule) -> Self:
        """Present a capsule to an operator."""
        return cls(
            name=capsule.name,
            owner=capsule.owner,
            used_bytes=capsule.used,
            reserved_bytes=capsule.reserved,
            quota_bytes=capsule.quota,
        )


class StatsOut(BaseModel):
    """What the service holds."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "workers": 2,
                    "sessions": {"open": 3, "finishing": 1},
                    "records": {"uploading": 4, "completed": 1200, "failed": 2},
                    "deleted_records": 17,
                    "capsules": [
                        {
                            "name": "default",
                            "owner": "local",
                            "used_bytes": 734003200,
                            "reserved_bytes": 73400320,
                            "quota_bytes": None,
                        }
                    ],
                }
            ]
        }
    )

    workers: int
    """Processes that live, of all services on the same database."""
    sessions: dict[str, int]
    records: dict[str, int]
    """Without those in the trash."""
    deleted_records: int
    capsules: list[CapsuleOut]

    @classmethod
    def of(cls, stats: Stats) -> Self:
        """Present what was counted; what nothing has is there as 0."""
        return cls(
            workers=stats.workers,
            sessions={status.value: stats.uploads[status] for status in sorted(LIVE)},
            records={status.value: stats.records[status] for status in RecordStatus},
            deleted_records=stats.deleted_records,
            capsules=[CapsuleOut.of(capsule) for capsule in stats.capsules],
        )


class ExpiredOut(BaseModel):
    """How many uploads expired."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"expired": 2}]})

    expired: int
