"""What clients send to the native API, strictly read: JSON, and the fields and parameters that many routes share.

Rule 1: no unknown fields, no numbers as text, no booleans as numbers.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from haulier.core.capsule import MAX_TTL_S
from haulier.core.digest import Digest, parse_digest_name
from haulier.core.errors import InvalidRequest
from haulier.core.finalisation import AssetSource, Finalisation
from haulier.core.link import MAX_LINK_S, MIN_LINK_S, USUAL_LINK_S, Disposition
from haulier.core.record import AssetKind, RecordId
from haulier.core.session import Mode, SessionId
from haulier.core.upload import (
    MAX_CONTENT_TYPE,
    MAX_FILENAME,
    MAX_METADATA_KEYS,
    MAX_PATH,
    MAX_SIDE,
    MAX_SIZE,
    BeginUpload,
    check_key,
    require_valid,
)
from haulier.server.addresses import Fields, joined
from haulier.server.schemas import HEX_EXAMPLE, RECORD_EXAMPLE, UPLOAD_EXAMPLE

MAX_WAIT_S: Final = 60.0
"""Longest wait of one request: proxies' read time-outs begin there (nginx's default)."""

Size = Annotated[int, Field(ge=0, le=MAX_SIZE)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]


def read_digest(given: Mapping[str, str] | None, *, field: str = "digest") -> Digest | None:
    """Read `{"sha-256": "hex"}`.

    Raises:
        InvalidRequest: not exactly one member.
        DigestMalformed: an unknown name, or a value that is not its hex.
    """
    if given is None:
        return None
    if len(given) != 1:
        raise InvalidRequest.of(field, 'must have exactly one member, like {"sha-256": "hex"}')
    ((name, value),) = given.items()
    place = f"{field}.{name[:32]}"
    return Digest.from_hex(parse_digest_name(name, field=field), value, field=place)


class _In(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class BeginIn(_In):
    """The body of a begin."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "filename": "holiday.mp4",
                    "size": 73400320,
                    "digest": {"sha-256": HEX_EXAMPLE},
                    "path": "2026/rome",
                }
            ]
        }
    )

    filename: str = Field(json_schema_extra={"minLength": 1, "maxLength": MAX_FILENAME})
    size: Size | None = None
    """Null, or absent, with mode append only: not known yet."""
    mode: Mode = Mode.CHUNKS
    capsule: str = Field(default="default", max_length=255)
    path: str | None = Field(default=None, json_schema_extra={"maxLength": MAX_PATH})
    chunk_size: Annotated[int, Field(ge=1, le=MAX_SIZE)] | None = None
    """Clamped to what the service takes; the answer has the one that counts."""
    content_type: str | None = Field(default=None, json_schema_extra={"maxLength": MAX_CONTENT_TYPE})
    digest: dict[str, str] | None = None
    digest_name: str | None = None
    metadata: dict[str, str] = Field(default={}, json_schema_extra={"maxProperties": MAX_METADATA_KEYS})
    record: str | None = Field(default=None, max_length=255)
    asset: AssetKind = AssetKind.ORIGINAL
    lanes: bool = False
    derivatives: Literal["server", "none"] = "server"
    """Who makes smaller pictures, when this is an image and comes alone."""
    width: Side | None = None
    height: Side | None = None
    """Pixels, of a picture whose sender knows them."""
    ttl_s: Annotated[float, Field(gt=0, le=MAX_TTL_S)] | None = None
    """Seconds without activity until it may expire; clamped to what the capsule allows."""

    def request(self, *, key: str | None) -> BeginUpload:
        """Return what the engine is asked; it checks the fields against each other and their bounds.

        Raises:
            InvalidRequest: not exactly one digest.
            DigestMalformed: a digest or its name cannot be read.
        """
        name = self.digest_name
        return BeginUpload(
            filename=self.filename,
            size=self.size,
            mode=self.mode,
            capsule=self.capsule,
            path=self.path,
            chunk_size=self.chunk_size,
            content_type=self.content_type,
            digest_name=None if name is None else parse_digest_name(name, field="digest_name"),
            expected=read_digest(self.digest),
            metadata=self.metadata,
            record=None if self.record is None else RecordId(self.record),
            asset=self.asset,
            lanes=self.lanes,
            derivatives=self.derivatives == "server",
            width=self.width,
            height=self.height,
            ttl_s=self.ttl_s,
            key=key,
        )


class FinishIn(_In):
    """The body of a finish; all of it may be left out."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"digest": {"sha-256": HEX_EXAMPLE}}]})

    digest: dict[str, str] | None = None
    size: Size | None = None


class AssetIn(_In):
    """A committed upload that becomes an asset."""

    kind: AssetKind
    """As the upload was begun; compared, never changed."""
    upload: str = Field(max_length=255)
    width: Side | None = None
    height: Side | None = None
    """Pixels, where the upload's begin could not tell them yet."""


class FinaliseIn(_In):
    """The body of a finalisation."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"assets": [{"kind": "original", "upload": UPLOAD_EXAMPLE}]}]}
    )

    capsule: str = Field(default="default", max_length=255)
    idempotency_key: str | None = None
    """The header `Idempotency-Key` says the same; if both are sent they must be equal."""
    assets: list[AssetIn] = Field(min_length=1, max_length=len(AssetKind))

    def request(self, *, key: str | None) -> Finalisation:
        """Return what the engine is asked: one record.

        Raises:
            InvalidRequest: two different keys.
        """
        if None not in {key, self.idempotency_key} and key != self.idempotency_key:
            raise InvalidRequest.of("idempotency_key", "must be the one of the header, or be left out")
        sources = (
            AssetSource(kind=it.kind, upload=SessionId(it.upload), width=it.width, height=it.height)
            for it in self.assets
        )
        return Finalisation(
            capsule=self.capsule,
            records=(tuple(sources),),
            key=key if key is not None else self.idempotency_key,
        )


class LinkIn(_In):
    """The body of a link; all of it may be left out."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "original", "expires_in": 86400, "disposition": "inline"}]}
    )

    kind: AssetKind = AssetKind.ORIGINAL
    expires_in: Annotated[float, Field(ge=MIN_LINK_S, le=MAX_LINK_S)] = USUAL_LINK_S
    """Seconds from now."""
    disposition: Disposition = Disposition.ATTACHMENT
    """`inline`: shown by a browser, where the type can do no harm."""


MAX_DELETED: Final = 1000
"""Records of one bulk deletion; each is a transaction of its own, so this bounds how long a request takes. Precedent:
S3's DeleteObjects."""


class DeleteIn(_In):
    """The body of a bulk deletion."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ids": [RECORD_EXAMPLE], "assets": "drop"}]})

    ids: list[Annotated[str, Field(max_length=255)]] = Field(min_length=1, max_length=MAX_DELETED)
    assets: Literal["keep", "drop"] = "drop"
    """`keep`: the bytes stay when the records go."""
    now: bool = False
    """Remove the bytes at once, not after a while."""


def query_of(request: Request) -> Mapping[str, str]:
    """Return the query's parameters; of most requests there are none, so that nothing has to be read.

    Raises:
        InvalidRequest: the bytes are not UTF-8. (Frameworks replace them, and two names become one.)
    """
    text: bytes = request.scope["query_string"]
    if not text:
        return {}
    try:
        unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest.of("query", "must be percent-encoded UTF-8") from None
    return request.query_params


def idempotency_key(fields: Fields) -> str | None:
    """Return the request's key. Raises InvalidRequest."""
    key = joined(fields, b"idempotency-key")
    if key is not None:
        require_valid(check_key(key))
    return key


def flag(request: Request, name: str, *, otherwise: bool = False) -> bool:
    """Read a boolean query parameter; `otherwise` is what its absence means. Raises InvalidRequest."""
    text = query_of(request).get(name, str(otherwise)).lower()
    if text not in {"true", "false", "1", "0"}:
        raise InvalidRequest.of(name, "must be true or false")
    return text in {"true", "1"}
