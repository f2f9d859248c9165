"""How the core's values become rows, and rows become values again.

Members of our enums are text: `str` gives it in a third of the time of `.value`, of which a short file would need twenty.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any, Protocol

from pydantic_core import to_json

from haulier.core.chunks import ChunkGrid
from haulier.core.digest import Digest, DigestName
from haulier.core.processing import ContentFault, ContentProblem, FileMetadata
from haulier.core.ranges import Ranges
from haulier.core.record import Asset, AssetKind, Record, RecordId, RecordStatus, fold
from haulier.core.session import Concat, Mode, Session, SessionId, SessionSpec, SessionStatus
from haulier.core.upload import UploadDetails
from haulier.ports import Mark

Parameters = Mapping[str, Any]
"""Values by name; plain ones that every driver takes."""


class Row(Protocol):
    """A row whose columns are found by name."""

    def __getitem__(self, name: str, /) -> Any:
        """Return the value of a column."""


def session_parameters(session: Session[UploadDetails]) -> Parameters:
    """Return all columns of a new session."""
    spec = session.spec
    return {
        "id": session.id,
        "capsule": spec.scope,
        "owner": spec.owner,
        "idempotency_key": spec.key,
        "request_hash": spec.request_hash,
        "mode": str(spec.mode),
        "spec_size": spec.size,
        "size": session.size,
        "chunk_size": spec.chunk_size,
        "ttl_s": spec.ttl_s,
        "concat": str(spec.concat),
        "min_size": spec.min_size,
        "max_size": spec.max_size,
        "ends_by_word": spec.ends_by_word,
        **details_parameters(session.details),
        "status": str(session.status),
        "offset": session.offset,
        "tail_trusted": session.tail_trusted,
        "boot_id": session.boot_id,
        "blob_key": session.blob_key,
        "fence": session.fence,
        "holder": session.holder,
        "digest_holder": session.follower,
        "created_at": session.created_at,
        "last_seen_at": session.last_seen_at,
        "expires_at": session.expires_at,
        "error": session.error,
        "final_answer": session.answer,
    }


def details_parameters(details: UploadDetails) -> Parameters:
    """Return the columns of what the upload service keeps; its capsule is the session's scope."""
    return {
        "protocol": details.protocol,
        "filename": details.filename,
        "path": details.path,
        "content_type": details.content_type,
        "metadata": _json(details.metadata),
        "raw_metadata": details.raw_metadata,
        "raw_concat": details.raw_concat,
        "digest_algorithm": str(details.digest_name),
        **_digest_parameters("expected", details.expected),
        **_digest_parameters("promised", details.promised),
        **_digest_parameters("digest", details.digest),
        "record_id": details.record,
        "asset_kind": str(details.asset),
        "adds_to_record": details.adds_to_record,
        "derivatives": details.derivatives,
        "width": details.width,
        "height": details.height,
        "data_url": details.data_url,
    }


def session_of(row: Row, received: Ranges) -> Session[UploadDetails]:
    """Return the session of a row; `received` is known from elsewhere."""
    return Session(
        id=SessionId(row["id"]),
        spec=_spec_of(row),
        details=_details_of(row),
        status=SessionStatus(row["status"]),
        size=row["size"],
        received=received,
        tail_trusted=bool(row["tail_trusted"]),
        boot_id=row["boot_id"],
        blob_key=row["blob_key"],
        fence=row["fence"],
        holder=row["holder"],
        asked=row["asked"],
        follower=row["digest_holder"],
        created_at=row["created_at"],
        last_seen_at=row["last_seen_at"],
        expires_at=row["expires_at"],
        error=row["error"],
        answer=row["final_answer"],
    )


def mark_of(row: Row) -> Mark:
    """Return the mark of a row."""
    return Mark(
        status=SessionStatus(row["status"]),
        fence=row["fence"],
        holder=row["holder"],
        asked=row["asked"],
        follower=row["digest_holder"],
        progress=(row["offset"], row["last_seen_at"]),
    )


def _spec_of(row: Row) -> SessionSpec:
    return SessionSpec(
        scope=row["capsule"],
        owner=row["owner"],
        key=row["idempotency_key"],
        request_hash=row["request_hash"],
        mode=Mode(row["mode"]),
        size=row["spec_size"],
        chunk_size=row["chunk_size"],
        ttl_s=row["ttl_s"],
        concat=Concat(row["concat"]),
        min_size=row["min_size"],
        max_size=row["max_size"],
        ends_by_word=bool(row["ends_by_word"]),
    )


def _details_of(row: Row) -> UploadDetails:
    record = row["record_id"]
    return UploadDetails(
        capsule=row["capsule"],
        protocol=row["protocol"],
        filename=row["filename"],
        path=row["path"],
        content_type=row["content_type"],
        metadata=_mapping(row["metadata"]),
        raw_metadata=row["raw_metadata"],
        raw_concat=row["raw_concat"],
        digest_name=DigestName(row["digest_algorithm"]),
        expected=_digest_of(row, "expected"),
        promised=_digest_of(row, "promised"),
        record=None if record is None else RecordId(record),
        asset=AssetKind(row["asset_kind"]),
        adds_to_record=bool(row["adds_to_record"]),
        digest=_digest_of(row, "digest"),
        derivatives=bool(row["derivatives"]),
        width=row["width"],
        height=row["height"],
        data_url=row["data_url"],
    )


def whole(size: int | None) -> Ranges:
    """Return the ranges of a file that is here in full."""
    return Ranges(((0, size),)) if size else Ranges()


def ranges_of_runs(runs: Iterable[Row], *, chunk_size: int, size: int | None) -> Ranges:
    """Return the bytes of runs of chunks, first and last inclusive; only the last chunk may be short."""
    grid = ChunkGrid(size or 0, chunk_size)
    return Ranges(tuple((grid.span(run["first"])[0], grid.span(run["last"])[1]) for run in runs))


def record_parameters(record: Record) -> Parameters:
    """Return all columns of a new record."""
    return {
        "id": record.id,
        "capsule": record.capsule,
        "owner": record.owner,
        "original_filename": record.filename,
        "folded_filename": fold(record.filename),
        "path": record.path,
        "content_type": record.content_type,
        "status": str(record.status),
        "size": record.size,
        **_digest_parameters("digest", record.digest),
        "error": record.error,
        "metadata": _json(record.metadata),
        "created_at": record.created_at,
        "uploaded_at": record.uploaded_at,
        "finished_at": record.finished_at,
        "deleted_at": record.deleted_at,
        "keeps_assets": False,
        "processing_started_at": record.processing_started_at,
        "attempts": record.attempts,
        "fence": record.fence,
        "holder": record.holder,
    }


def record_of(row: Row, assets: Iterable[Asset]) -> Record:
    """Return the record of a row, with its assets in the order of their kinds."""
    return Record(
        id=RecordId(row["id"]),
        capsule=row["capsule"],
        owner=row["owner"],
        filename=row["original_filename"],
        path=row["path"],
        content_type=row["content_type"],
        status=RecordStatus(row["status"]),
        size=row["size"],
        digest=_digest_of(row, "digest"),
        error=row["error"],
        metadata=_mapping(row["metadata"]),
        created_at=row["created_at"],
        uploaded_at=row["uploaded_at"],
        finished_at=row["finished_at"],
        deleted_at=row["deleted_at"],
        assets=in_order(assets),
        processing_started_at=row["processing_started_at"],
        attempts=row["attempts"],
        fence=row["fence"],
        holder=row["holder"],
    )


def in_order(assets: Iterable[Asset]) -> tuple[Asset, ...]:
    """Return assets in the order of their kinds."""
    return tuple(sorted(assets, key=lambda asset: _KINDS[asset.kind]))


_KINDS = {kind: position for position, kind in enumerate(AssetKind)}


def asset_parameters(record_id: RecordId, asset: Asset) -> Parameters:
    """Return all columns of a new asset."""
    return {
        "record_id": record_id,
        "kind": str(asset.kind),
        "blob_key": asset.blob_key,
        "size": asset.size,
        **_digest_parameters("digest", asset.digest),
        "content_type": asset.content_type,
        "width": asset.width,
        "height": asset.height,
        "data_url": asset.data_url,
    }


def asset_of(row: Row) -> Asset:
    """Return the asset of a row."""
    return Asset(
        kind=AssetKind(row["kind"]),
        blob_key=row["blob_key"],
        size=row["size"],
        digest=_digest_of(row, "digest"),
        content_type=row["content_type"],
        width=row["width"],
        height=row["height"],
        data_url=row["data_url"],
    )


def file_parameters(record_id: RecordId, metadata: FileMetadata) -> Parameters:
    """Return all columns of what a file holds."""
    columns = {field.name: getattr(metadata, field.name) for field in fields(metadata)}
    problems = [asdict(problem) for problem in metadata.errors]
    return {"record_id": record_id, **columns, "errors": json.dumps(problems, ensure_ascii=False)}


def file_of(row: Row) -> FileMetadata:
    """Return what a file holds."""
    flags = {name: None if row[name] is None else bool(row[name]) for name in ("valid_json", "valid_csv")}
    problems = (
        ContentProblem(ContentFault(it["fault"]), it["message"], it["line"], it["column"])
        for it in json.loads(row["errors"])
    )
    return FileMetadata(
        media_type=row["media_type"],
        encoding=row["encoding"],
        line_count=row["line_count"],
        record_count=row["record_count"],
        preview=row["preview"],
        errors=tuple(problems),
        **flags,
    )


def containing(name: str) -> str:
    """Return the pattern of folded names that contain `name`; its escape is `!`."""
    # A pattern ends at a NUL in SQLite, and would match all. No name has a control, so another one finds as little.
    findable = fold(name).replace("\0", "\x01")
    # Not the usual backslash: in PostgreSQL that depends on a setting of the server.
    escaped = findable.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f"%{escaped}%"


def successor(prefix: str) -> str | None:
    """Return the first text after all that start with `prefix`, in the order of code points (and of UTF-8)."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    # Surrogates are no characters: the code point after U+D7FF that text can have is U+E000.
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)


def _digest_parameters(column: str, digest: Digest | None) -> Parameters:
    name, value = _DIGESTS[column]
    if digest is None:
        return {name: None, value: None}
    return {name: str(digest.name), value: digest.value}


_DIGESTS = {column: (f"{column}_name", f"{column}_value") for column in ("expected", "promised", "digest")}


def _digest_of(row: Row, column: str) -> Digest | None:
    name = row[f"{column}_name"]
    return None if name is None else Digest(DigestName(name), row[f"{column}_value"])


def _json(texts: Mapping[str, str]) -> str:
    return to_json(dict(texts)).decode() if texts else "{}"


def _mapping(text: str) -> Mapping[str, str]:
    if text == "{}":
        return {}
    texts: dict[str, str] = json.loads(text)
    return texts
