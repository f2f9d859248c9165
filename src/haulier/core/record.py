"""What is left of an upload for good: a record and its assets, their states, and when it is complete."""

import unicodedata
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Final

from haulier.core.digest import Digest
from haulier.core.ids import RecordId as RecordId  # noqa: PLC0414 - a record's users look for it here
from haulier.core.values import dataclass, replace


def fold(name: str) -> str:
    """Return the form in which names that differ only in case or composition are equal, for searches.

    Source: Unicode Standard, section 3.13, D145 (canonical caseless matching); composed at the end, so that
    a search for a bare letter does not find its accented siblings.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


class AssetKind(StrEnum):
    """One of the blobs a record can have."""

    ORIGINAL = "original"
    DISPLAY = "display"
    THUMBNAIL = "thumbnail"
    PLACEHOLDER = "placeholder"


class Lane(StrEnum):
    """One of the two ways on which a photograph and its pictures travel, in parallel."""

    ORIGINAL = "original"
    DERIVATIVES = "derivatives"


def lane_of(kind: AssetKind) -> Lane:
    """Return the lane of an asset."""
    return Lane.ORIGINAL if kind is AssetKind.ORIGINAL else Lane.DERIVATIVES


class RecordStatus(StrEnum):
    """Where a record stands; being deleted is not a status but `deleted_at`."""

    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


TRANSITIONS: Final[Mapping[RecordStatus, frozenset[RecordStatus]]] = {
    RecordStatus.UPLOADING: frozenset(
        {
            RecordStatus.UPLOADED,
            RecordStatus.COMPLETED,  # nothing is left to do
            RecordStatus.CANCELLED,
            RecordStatus.EXPIRED,
            RecordStatus.FAILED,
        }
    ),
    RecordStatus.UPLOADED: frozenset({RecordStatus.PROCESSING}),
    RecordStatus.PROCESSING: frozenset({RecordStatus.COMPLETED, RecordStatus.FAILED}),
    RecordStatus.COMPLETED: frozenset({RecordStatus.PROCESSING}),
    RecordStatus.FAILED: frozenset({RecordStatus.PROCESSING}),
    RecordStatus.CANCELLED: frozenset(),
    RecordStatus.EXPIRED: frozenset(),
}
UNPROCESSED: Final = frozenset({RecordStatus.UPLOADED, RecordStatus.PROCESSING})
"""The original is here, and something is left to be done with it."""
PROCESSED: Final = frozenset({RecordStatus.COMPLETED, RecordStatus.FAILED})
"""Nothing is left to be done with it; what could not be done may be tried again."""
ENDS: Final = frozenset({RecordStatus.CANCELLED, RecordStatus.EXPIRED, RecordStatus.FAILED})
"""How the upload of an original ends without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One stored blob of a record. Sizes are bytes; width and height pixels, for images."""

    kind: AssetKind
    blob_key: str
    size: int
    digest: Digest | None
    """None where the upload asked for no digest."""
    content_type: str
    width: int | None = None
    height: int | None = None
    data_url: str | None = None
    """The whole asset as a URL, for a placeholder: lists are shown with it, at no cost of another request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The durable entry of one received thing; times are seconds since the epoch, UTC."""

    id: RecordId
    capsule: str
    owner: str
    filename: str
    path: str | None = None
    """Relative, with `/`; for people, never a path on a disk."""
    content_type: str
    status: RecordStatus = RecordStatus.UPLOADING
    size: int | None
    digest: Digest | None = None
    """Of the original."""
    error: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_at: float
    uploaded_at: float | None = None
    finished_at: float | None = None
    deleted_at: float | None = None
    assets: tuple[Asset, ...] = ()
    processing_started_at: float | None = None
    """When the latest attempt began."""
    attempts: int = 0
    """How often its processing was begun and not given back."""
    fence: int = 0
    """Grows with each attempt: what an earlier one finds out counts no more."""
    holder: str | None = None
    """The worker of the latest attempt."""

    def complete(self, original: Asset, *, now: float, more: bool = False) -> "Record":
        """The original is committed; without `more` nothing is left to do."""
        status = RecordStatus.UPLOADED if more else RecordStatus.COMPLETED
        self._require_way_to(status)
        return replace(
            self,
            status=status,
            assets=(*self.assets, original),
            size=original.size,
            digest=original.digest,
            uploaded_at=now,
            finished_at=None if more else now,
        )

    @property
    def unprocessed(self) -> bool:
        """Whether something is left to be done with what has arrived."""
        return self.status in UNPROCESSED

    @property
    def erased(self) -> bool:
        """Whether it was deleted and its bytes are gone: nothing can bring it back."""
        return self.deleted_at is not None and not self.assets

    @property
    def lacks_pictures(self) -> bool:
        """Whether it does not have every kind of asset."""
        return len({asset.kind for asset in self.assets}) < len(AssetKind)

    def process_again(self) -> "Record":
        """It came to its end without its pictures, and they are to be tried again; earlier attempts count no more."""
        return replace(
            self._move(RecordStatus.PROCESSING),
            error=None,
            finished_at=None,
            attempts=0,
            fence=self.fence + 1,
            holder=None,
        )

    def process(self, holder: str, *, now: float) -> "Record":
        """A worker begins to process what has arrived, or goes on in another's place."""
        moved = self if self.status is RecordStatus.PROCESSING else self._move(RecordStatus.PROCESSING)
        return replace(
            moved,
            processing_started_at=now,
            attempts=self.attempts + 1,
            fence=self.fence + 1,
            holder=holder,
        )

    def give_back(self) -> "Record":
        """The worker could not go on, for a reason that is not the file's; another attempt follows."""
        if self.status is not RecordStatus.PROCESSING:
            raise AssertionError(f"record {self.id} is not being processed")
        return replace(self, attempts=self.attempts - 1, holder=None)

    def settle(self, status: RecordStatus, *, error: str | None, now: float) -> "Record":
        """The processing has come to its end."""
        return replace(self._move(status), error=error, finished_at=now, holder=None)

    def end(self, status: RecordStatus, *, error: str | None, now: float) -> "Record":
        """The upload of the original ended without a result."""
        if status not in ENDS:
            message = f"{status} is not an end without a result"
            raise ValueError(message)
        return replace(self._move(status), error=error, finished_at=now)

    def asset(self, kind: AssetKind) -> Asset | None:
        """Return the asset of that kind, if there is one."""
        return next((asset for asset in self.assets if asset.kind is kind), None)

    def _move(self, status: RecordStatus) -> "Record":
        self._require_way_to(status)
        return replace(self, status=status)

    def _require_way_to(self, status: RecordStatus) -> None:
        if status not in TRANSITIONS[self.status]:
            message = f"record {self.id} cannot go from {self.status} to {status}"
            raise AssertionError(message)


def full_path(path: str, filename: str) -> str:
    """Return a record's path with its file name; some senders' paths end with it, others' with its folder."""
    last = path.rstrip("/").rsplit("/", 1)[-1]
    if not path.endswith("/") and last == unicodedata.normalize("NFC", filename):
        return path
    return f"{path.rstrip('/')}/{filename}"
