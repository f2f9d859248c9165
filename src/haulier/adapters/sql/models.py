"""The tables, as SQLAlchemy Core sees them; the migrations make exactly these, and what finds names (0014).

Rule 1: times are seconds since the epoch, UTC, as double precision: what `Clock.now()` gives comes back bit for
        bit, and sorts and compares as it does in the core.
Rule 2: a digest is two columns, its name and its raw bytes, both or neither.
Rule 3: nothing here is peculiar to one database; options of one only say how it stores the same.
Rule 4: a condition that a partial index relies on stands here once, as text: SQLite uses such an index only for a
        query that has the very same term.
"""

from enum import StrEnum
from typing import Final

import sqlalchemy as sa

from haulier.core.caller import LOCAL, Role, Scope
from haulier.core.event import EventKind
from haulier.core.record import AssetKind, RecordStatus
from haulier.core.session import Concat, Mode, SessionStatus

TEXT: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text in the order of its code points, as SQLite and Python have it: lists by path rely on that. The order of a
language would also change with the system's libraries, and break every index that was made before."""

metadata: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

SCHEMA: Final = "0019"
"""The newest migration: what a database of this version is at."""
DEFAULT_CAPSULE: Final = "default"
DEFAULT_CAPSULE_ID: Final = "00000000-0000-7000-8000-000000000000"
"""The form of a UUIDv7, older than any real one."""
DEFAULT_POLICY: Final = '{"admits_users":true}'
"""Nobody has to know the word capsule: whoever has a token finds room for their own things."""

IS_OPEN: Final = "status = 'open'"
IS_FINISHING: Final = "status = 'finishing'"
IS_LIVE: Final = "status IN ('open', 'finishing')"
IS_ENDED: Final = "status IN ('committed', 'aborted', 'expired', 'failed')"
HAS_KEY: Final = "idempotency_key IS NOT NULL"
KEY_COUNTS: Final = "status IN ('open', 'finishing', 'committed')"
IS_THERE: Final = "deleted_at IS NULL"
IS_DELETED: Final = "deleted_at IS NOT NULL"
IS_UNPROCESSED: Final = f"status IN ('uploaded', 'processing') AND {IS_THERE}"


def _one_of(column: str, values: type[StrEnum]) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


def _both_or_neither(name: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"({name}_name IS NULL) = ({name}_value IS NULL)", name=f"{name}_whole")


def _capsule() -> sa.Column[str]:
    return sa.Column("capsule_id", TEXT, sa.ForeignKey("capsules.id"), nullable=False)


capsules: Final = sa.Table(
    "capsules",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    sa.Column("name", TEXT, nullable=False, unique=True),
    # The defaults are for rows from before there were owners.
    sa.Column(
        "owner",
        TEXT,
        nullable=False,
        server_default=LOCAL.owner,
        comment="an owner as in uploads; needs no grant",
    ),
    sa.Column(
        "policy",
        TEXT,
        nullable=False,
        server_default="{}",
        comment="a JSON object: what the capsule takes",
    ),
    sa.Column("quota_bytes", sa.BigInteger),
    sa.Column("used_bytes", sa.BigInteger, nullable=False),
    sa.Column("reserved_bytes", sa.BigInteger, nullable=False),
    sa.CheckConstraint("used_bytes >= 0", name="used_bytes_counted"),
    sa.CheckConstraint("reserved_bytes >= 0", name="reserved_bytes_counted"),
)

grants: Final = sa.Table(
    "grants",
    metadata,
    sa.Column("capsule_id", TEXT, sa.ForeignKey("capsules.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("principal", TEXT, primary_key=True),
    sa.Column("role", TEXT, nullable=False),
    _one_of("role", Role),
    sqlite_with_rowid=False,
)
sa.Index("ix_grants_principal", grants.c.principal)

tokens: Final = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    sa.Column("principal", TEXT, nullable=False),
    sa.Column("secret_sha256", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("scope", TEXT, nullable=False),
    sa.Column("capsule_id", TEXT, sa.ForeignKey("capsules.id", ondelete="CASCADE")),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("last_used_at", sa.Double),
    _one_of("scope", Scope),
)

uploads: Final = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    _capsule(),
    sa.Column("owner", TEXT, nullable=False),
    sa.Column("idempotency_key", TEXT),
    sa.Column("request_hash", TEXT, nullable=False),
    sa.Column("mode", TEXT, nullable=False),
    sa.Column("spec_size", sa.BigInteger, comment="as begun; `size` also knows what was declared later"),
    sa.Column("size", sa.BigInteger),
    sa.Column("chunk_size", sa.BigInteger, nullable=False),
    sa.Column("ttl_s", sa.Double, nullable=False),
    sa.Column("protocol", TEXT, nullable=False),
    sa.Column("filename", TEXT, nullable=False),
    sa.Column("path", TEXT),
    sa.Column("content_type", TEXT, nullable=False),
    sa.Column("metadata", TEXT, nullable=False, comment="a JSON object of strings"),
    sa.Column("digest_algorithm", TEXT, nullable=False),
    sa.Column("expected_name", TEXT),
    sa.Column("expected_value", sa.LargeBinary),
    sa.Column("digest_name", TEXT),
    sa.Column("digest_value", sa.LargeBinary),
    # No foreign key: a repeated finish still names the record after that was erased.
    sa.Column("record_id", TEXT),
    sa.Column("asset_kind", TEXT, nullable=False),
    sa.Column("adds_to_record", sa.Boolean, nullable=False),
    sa.Column("status", TEXT, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False, comment="mode append: where the next byte goes"),
    sa.Column("tail_trusted", sa.Boolean, nullable=False),
    sa.Column("boot_id", TEXT, nullable=False),
    sa.Column("blob_key", TEXT),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("holder", TEXT),
    sa.Column("asked", sa.BigInteger, comment="the fence whose holder is asked to let go"),
    sa.Column("digest_holder", TEXT, comment="the worker whose digest follows this upload"),
    # Both or neither too, but SQLite adds no constraint to a table that is there.
    sa.Column("promised_name", TEXT, comment="the digest that the last finish was given"),
    sa.Column("promised_value", sa.LargeBinary),
    sa.Column("derivatives", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("width", sa.BigInteger, comment="by the word of the sender"),
    sa.Column("height", sa.BigInteger),
    sa.Column("data_url", TEXT, comment="a committed placeholder as a URL"),
    sa.Column("raw_metadata", TEXT, comment="as the client sent it"),
    sa.Column(
        "concat",
        TEXT,
        nullable=False,
        server_default=Concat.NONE.value,
        comment="whether it is made of others, or for others",
    ),
    sa.Column("raw_concat", TEXT, comment="what says so, as the client sent it"),
    sa.Column(
        "min_size", sa.BigInteger, nullable=False, server_default="0", comment="as the capsule had it then"
    ),
    sa.Column("max_size", sa.BigInteger, comment="the same"),
    sa.Column(
        "ends_by_word",
        sa.Boolean,
        nullable=False,
        server_default=sa.false(),
        comment="its last byte does not complete it",
    ),
    sa.Column("final_answer", TEXT, comment="what its client was told at its end, to be told again"),
    sa.Column("address", TEXT, comment="a keyed hash of where it came from, while it lives"),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("last_seen_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("error", TEXT),
    _one_of("mode", Mode),
    _one_of("status", SessionStatus),
    _one_of("asset_kind", AssetKind),
    _both_or_neither("expected"),
    _both_or_neither("digest"),
    sa.CheckConstraint("size >= 0", name="size_counted"),
    sa.CheckConstraint("size IS NOT NULL OR mode = 'append'", name="size_known"),
    sa.CheckConstraint("chunk_size > 0", name="chunk_size_counted"),
    sa.CheckConstraint('"offset" >= 0', name="offset_counted"),
    sa.CheckConstraint("fence >= 0", name="fence_counted"),
    sa.CheckConstraint(
        "blob_key IS NOT NULL OR status NOT IN ('finishing', 'committed')", name="blob_key_known"
    ),
)
sa.Index(
    "uq_uploads_idempotency_key",
    uploads.c.capsule_id,
    uploads.c.owner,
    uploads.c.idempotency_key,
    unique=True,
    sqlite_where=sa.text(f"{HAS_KEY} AND {KEY_COUNTS}"),
    postgresql_where=sa.text(f"{HAS_KEY} AND {KEY_COUNTS}"),
)
for _name, _columns, _condition in (
    ("live", ("owner", "capsule_id"), IS_LIVE),
    ("open", ("expires_at", "id"), IS_OPEN),
    ("ended", ("last_seen_at", "id"), IS_ENDED),
    ("blob_key", ("blob_key",), "blob_key IS NOT NULL"),
    ("address", ("address",), "address IS NOT NULL"),
):
    sa.Index(
        f"ix_uploads_{_name}",
        *(uploads.c[column] for column in _columns),
        sqlite_where=sa.text(_condition),
        postgresql_where=sa.text(_condition),
    )

chunks: Final = sa.Table(
    "chunks",
    metadata,
    sa.Column("upload_id", TEXT, sa.ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("xxh3", sa.LargeBinary, nullable=False),
    sa.CheckConstraint('"index" >= 0', name="index_counted"),
    sa.CheckConstraint("size > 0", name="size_counted"),
    # One tree instead of two: the row lives in its key's index.
    sqlite_with_rowid=False,
)

concat_parts: Final = sa.Table(
    "concat_parts",
    metadata,
    sa.Column("final_id", TEXT, sa.ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("partial_id", TEXT, sa.ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
    sqlite_with_rowid=False,
)
sa.Index("ix_concat_parts_partial_id", concat_parts.c.partial_id)

records: Final = sa.Table(
    "records",
    metadata,
    sa.Column("id", TEXT, primary_key=True),
    _capsule(),
    sa.Column("owner", TEXT, nullable=False),
    sa.Column("original_filename", TEXT, nullable=False),
    sa.Column("folded_filename", TEXT, nullable=False, comment="for searches; databases fold ASCII only"),
    sa.Column("path", TEXT),
    sa.Column("content_type", TEXT, nullable=False),
    sa.Column("status", TEXT, nullable=False),
    sa.Column("size", sa.BigInteger),
    sa.Column("digest_name", TEXT),
    sa.Column("digest_value", sa.LargeBinary),
    sa.Column("error", TEXT),
    sa.Column("metadata", TEXT, nullable=False, comment="a JSON object of strings"),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("uploaded_at", sa.Double),
    sa.Column("finished_at", sa.Double),
    sa.Column("deleted_at", sa.Double),
    sa.Column("keeps_assets", sa.Boolean, nullable=False, comment="deleted, but its bytes outlive the trash"),
    # The defaults are for rows from before records were processed.
    sa.Column("processing_started_at", sa.Double),
    sa.Column(
        "attempts",
        sa.BigInteger,
        nullable=False,
        server_default="0",
        comment="to process it, not counting those that were given back",
    ),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default="0", comment="of the latest attempt"),
    sa.Column("holder", TEXT, comment="the worker of the latest attempt"),
    _one_of("status", RecordStatus),
    _both_or_neither("digest"),
    sa.CheckConstraint("size >= 0", name="size_counted"),
    sa.CheckConstraint("deleted_at IS NULL OR status <> 'uploading'", name="deleted_at_after_upload"),
)
_LISTS: Final[tuple[tuple[str, tuple[str, ...], str], ...]] = (
    ("created_at", (), IS_THERE),
    ("capsule_id", ("capsule_id",), IS_THERE),
    ("status", ("status",), IS_THERE),
    ("owner", ("owner",), IS_THERE),
    ("owner_status", ("owner", "status"), IS_THERE),
    ("trash", (), IS_DELETED),
    ("trash_capsule", ("capsule_id",), IS_DELETED),
    ("trash_owner", ("owner",), IS_DELETED),
)
# What is in the trash is in indexes of its own: a page would have to step over it, or over all that is not, however much.
for _name, _led_by, _condition in _LISTS:
    sa.Index(
        f"ix_records_{_name}",
        *(records.c[column] for column in (*_led_by, "created_at", "id")),
        sqlite_where=sa.text(_condition),
        postgresql_where=sa.text(_condition),
    )
# Most records have no path; whoever looks for one finds none of them.
sa.Index(
    "ix_records_path",
    records.c.path,
    sqlite_where=sa.text(f"path IS NOT NULL AND {IS_THERE}"),
    postgresql_where=sa.text(f"path IS NOT NULL AND {IS_THERE}"),
)
sa.Index("ix_records_belonging", records.c.owner, records.c.capsule_id)
sa.Index(
    "ix_records_deleted_at",
    records.c.deleted_at,
    records.c.id,
    sqlite_where=sa.text(IS_DELETED),
    postgresql_where=sa.text(IS_DELETED),
)

sa.Index(
    "ix_records_unprocessed",
    records.c.created_at,
    records.c.id,
    sqlite_where=sa.text(IS_UNPROCESSED),
    postgresql_where=sa.text(IS_UNPROCESSED),
)

assets: Final = sa.Table(
    "assets",
    metadata,
    sa.Column("record_id", TEXT, sa.ForeignKey("records.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("kind", TEXT, primary_key=True),
    sa.Column("blob_key", TEXT, nullable=False, unique=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("digest_name", TEXT),
    sa.Column("digest_value", sa.LargeBinary),
    sa.Column("content_type", TEXT, nullable=False),
    sa.Column("width", sa.BigInteger),
    sa.Column("height", sa.BigInteger),
    sa.Column("data_url", TEXT, comment="the whole asset, where it is so small"),
    _one_of("kind", AssetKind),
    _both_or_neither("digest"),
    sa.CheckConstraint("size >= 0", name="size_counted"),
    sqlite_with_rowid=False,
)

finalisations: Final = sa.Table(
    "finalisations",
    metadata,
    sa.Column("capsule_id", TEXT, sa.ForeignKey("capsules.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("owner", TEXT, primary_key=True),
    sa.Column("idempotency_key", TEXT, primary_key=True),
    sa.Column("request_hash", TEXT, nullable=False),
    # No foreign keys: a repeated request still names a record after that was erased.
    sa.Column("record_ids", TEXT, nullable=False, comment="a JSON array, in the order that was asked for"),
    sa.Column("created_at", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index("ix_finalisations_created_at", finalisations.c.created_at)
storages: Final = sa.Table(
    "storages",
    metadata,
    # One row; more would be more places where the bytes are.
    sa.Column("id", TEXT, primary_key=True),
    sqlite_with_rowid=False,
)
doomed_blobs: Final = sa.Table(
    "doomed_blobs",
    metadata,
    # No foreign keys: what named the bytes is gone.
    sa.Column("blob_key", TEXT, primary_key=True),
    sqlite_with_rowid=False,
)

events: Final = sa.Table(
    "events",
    metadata,
    # Never given twice, even when the last ones are gone: readers come back with the last they have seen.
    sa.Column(
        "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True
    ),
    sa.Column(
        "xid", sa.BigInteger, nullable=False, comment="the transaction, where several write at once; else 0"
    ),
    # No foreign key: an event outlives its record.
    sa.Column("record_id", TEXT, nullable=False),
    _capsule(),
    sa.Column("owner", TEXT, nullable=False),
    sa.Column("kind", TEXT, nullable=False),
    sa.Column("payload", TEXT, nullable=False, comment="a JSON object: how the record stood"),
    sa.Column("created_at", sa.Double, nullable=False),
    _one_of("kind", EventKind),
    sqlite_autoincrement=True,
)
# On SQLite a place is the row id (event_store.py).
sa.Index("ix_events_place", events.c.xid, events.c.seq).ddl_if(dialect="postgresql")

deliveries: Final = sa.Table(
    "deliveries",
    metadata,
    sa.Column("receiver", TEXT, primary_key=True),
    sa.Column("xid", sa.BigInteger, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False, comment="with xid, the last event that it has taken"),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("holder", TEXT, comment="the worker that delivers"),
    sa.Column("failures", sa.BigInteger, nullable=False, comment="in a row"),
    sa.Column("due_at", sa.Double, nullable=False),
    sa.Column("error", TEXT),
    sqlite_with_rowid=False,
)

sign_ins: Final = sa.Table(
    "sign_ins",
    metadata,
    sa.Column("secret_sha256", sa.LargeBinary, primary_key=True),
    sa.Column("token_id", TEXT, sa.ForeignKey("tokens.id", ondelete="CASCADE"), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index("ix_sign_ins_token_id", sign_ins.c.token_id)
sa.Index("ix_sign_ins_expires_at", sign_ins.c.expires_at)

visitors: Final = sa.Table(
    "visitors",
    metadata,
    # Nothing refers to a visitor: what it made is found by its owner, and outlives it.
    sa.Column("id", TEXT, primary_key=True),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("last_seen_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("principal", TEXT, comment="who signed in from that browser last"),
    sa.Column("metadata", TEXT, nullable=False, comment="a JSON object of strings"),
    sa.CheckConstraint("last_seen_at >= created_at", name="last_seen_at_after_created_at"),
    sa.CheckConstraint("expires_at >= last_seen_at", name="expires_at_after_last_seen_at"),
    sqlite_with_rowid=False,
)
sa.Index("ix_visitors_expires_at", visitors.c.expires_at, visitors.c.id)

file_metadata: Final = sa.Table(
    "file_metadata",
    metadata,
    sa.Column("record_id", TEXT, sa.ForeignKey("records.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("media_type", TEXT, nullable=False, comment="by content"),
    sa.Column("encoding", TEXT),
    sa.Column("line_count", sa.BigInteger),
    sa.Column("record_count", sa.BigInteger),
    sa.Column("preview", TEXT),
    sa.Column("valid_json", sa.Boolean),
    sa.Column("valid_csv", sa.Boolean),
    sa.Column("errors", TEXT, nullable=False, comment="a JSON array of objects"),
    sa.CheckConstraint("line_count >= 0", name="line_count_counted"),
    sa.CheckConstraint("record_count >= 0", name="record_count_counted"),
    sqlite_with_rowid=False,
)
