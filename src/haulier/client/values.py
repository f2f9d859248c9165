"""What the service answers, as typed values; and what the client tells while it works.

Rule 1: members that this version does not know are kept in `document`, never an error: a newer service
        may say more.
"""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PositiveInt,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from haulier.core.errors import PeerRefused
from haulier.core.progress import Progress
from haulier.core.ranges import Ranges


def parse_json(text: str | bytes) -> object:
    """Return what an answer says.

    Raises:
        PeerRefused: it is no JSON: a page, maybe, of a proxy or of another service.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable("it is not JSON, so another program answers at this address") from error


def unreadable(reason: str) -> PeerRefused:
    """Return the error of an answer that says yes, but not as this service would."""
    return PeerRefused(200, "unreadable-answer", f"the answer cannot be read: {reason}")


class Value(BaseModel):
    """A part of an answer; frozen."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    _document: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def read(cls, document: object) -> Self:
        """Build from parsed JSON.

        Raises:
            PeerRefused: it is not what the native API promises.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
            raise unreadable(f"it is not a {cls.__name__} of this service's API: {where}") from error

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Build from JSON; raises as `parse_json` and `read` do."""
        return cls.read(parse_json(text))

    @model_validator(mode="wrap")
    @classmethod
    def _keep_document(cls, given: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        value = build(given)
        if isinstance(given, dict):
            value._document = given  # noqa: SLF001 - our own
        return value

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object as the service sent it."""
        return self._document


class Asset(Value):
    """One stored blob of a record. Sizes are bytes; width and height pixels, for images."""

    kind: str
    size: int
    content_type: str
    digest: dict[str, str] | None = None
    """One member: the digest's name and its lower case hex."""
    width: int | None = None
    height: int | None = None
    url: str
    data_url: str | None = None
    """The whole asset, of a placeholder."""


class Record(Value):
    """The durable entry of one received file."""

    id: str
    capsule: str
    filename: str
    path: str | None = None
    size: int | None = None
    content_type: str
    digest: dict[str, str] | None = None
    """One member: the digest's name and its lower case hex."""
    status: str
    """`uploading`, `uploaded`, `processing`, `completed`, `failed`, `cancelled` or `expired`."""
    error: str | None = None
    created_at: datetime
    uploaded_at: datetime | None = None
    finished_at: datetime | None = None
    deleted_at: datetime | None = None
    metadata: dict[str, str] = {}
    assets: tuple[Asset, ...] = ()

    def asset(self, kind: str) -> Asset | None:
        """Return the asset of that kind, if there is one."""
        return next((asset for asset in self.assets if asset.kind == kind), None)


class UploadState(Value):
    """Where an upload stands."""

    id: str
    record: str | None = None
    status: str
    """`open`, `finishing`, `committed`, `aborted`, `expired` or `failed`."""
    size: int | None = None
    received: tuple[tuple[int, int], ...] = ()
    """Half-open byte ranges that the service holds for good."""
    received_bytes: int = 0
    verified_bytes: int = 0
    speed: float = 0.0
    """Bytes per second, as the service measures them."""
    expires_at: datetime | None = None
    result: Record | None = None
    """Once committed."""
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether it has come to its end, with or without a result."""
        return self.status not in {"open", "finishing"}

    @property
    def gone(self) -> bool:
        """Whether it ended without a result."""
        return self.status in {"aborted", "expired", "failed"}

    @property
    def ranges(self) -> Ranges:
        """The received bytes as a set."""
        return Ranges.of(self.received)


class Begun(Value):
    """The answer to a begin: new, or the live or committed upload of the same key."""

    id: str
    record: str | None = None
    status: str
    size: int | None = None
    chunk_size: PositiveInt
    token: str | None = Field(default=None, repr=False)
    """Good for this upload alone, and for as long as it lives: longer, maybe, than the token that began it."""


class Link(Value):
    """A link that opens one asset for whoever has it."""

    url: str = Field(repr=False)
    """A secret, as far as what it opens is one."""
    record: str
    kind: str
    disposition: str
    expires_at: datetime


class RecordPage(Value):
    """One page of a list."""

    items: tuple[dict[str, Any], ...]
    next: str | None = None


ProgressCallback = Callable[[Progress], None]
"""Called on the event loop, often: it must return quickly."""
