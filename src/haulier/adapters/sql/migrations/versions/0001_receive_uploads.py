"""Receive uploads: capsules, uploads with their chunks, records with their assets."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "capsules",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=True),
        sa.Column("used_bytes", sa.BigInteger(), nullable=False),
        sa.Column("reserved_bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("reserved_bytes >= 0", name=op.f("ck_capsules_reserved_bytes_counted")),
        sa.CheckConstraint("used_bytes >= 0", name=op.f("ck_capsules_used_bytes_counted")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capsules")),
        sa.UniqueConstraint("name", name=op.f("uq_capsules_name")),
    )
    op.create_table(
        "records",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("capsule_id", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("original_filename", TEXT, nullable=False),
        sa.Column("folded_filename", TEXT, nullable=False, comment="for searches; databases fold ASCII only"),
        sa.Column("path", TEXT, nullable=True),
        sa.Column("content_type", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("digest_name", TEXT, nullable=True),
        sa.Column("digest_value", sa.LargeBinary(), nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("metadata", TEXT, nullable=False, comment="a JSON object of strings"),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("uploaded_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("deleted_at", sa.Double(), nullable=True),
        sa.Column(
            "keeps_assets", sa.Boolean(), nullable=False, comment="deleted, but its bytes outlive the trash"
        ),
        sa.CheckConstraint(
            "deleted_at IS NULL OR status <> 'uploading'", name=op.f("ck_records_deleted_at_after_upload")
        ),
        sa.CheckConstraint(
            "status IN ('uploading', 'uploaded', 'processing', 'completed', 'failed', 'cancelled', 'expired')",
            name=op.f("ck_records_status_known"),
        ),
        sa.CheckConstraint(
            "(digest_name IS NULL) = (digest_value IS NULL)", name=op.f("ck_records_digest_whole")
        ),
        sa.CheckConstraint("size >= 0", name=op.f("ck_records_size_counted")),
        sa.ForeignKeyConstraint(["capsule_id"], ["capsules.id"], name=op.f("fk_records_capsule_id_capsules")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_records")),
    )
    op.create_index("ix_records_capsule_id", "records", ["capsule_id", "created_at", "id"], unique=False)
    op.create_index("ix_records_created_at", "records", ["created_at", "id"], unique=False)
    op.create_index(
        "ix_records_deleted_at",
        "records",
        ["deleted_at", "id"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_index("ix_records_owner", "records", ["owner", "created_at", "id"], unique=False)
    op.create_index("ix_records_path", "records", ["path"], unique=False)
    op.create_index("ix_records_status", "records", ["status", "created_at", "id"], unique=False)
    op.create_table(
        "uploads",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("capsule_id", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("idempotency_key", TEXT, nullable=True),
        sa.Column("request_hash", TEXT, nullable=False),
        sa.Column("mode", TEXT, nullable=False),
        sa.Column(
            "spec_size",
            sa.BigInteger(),
            nullable=True,
            comment="as begun; `size` also knows what was declared later",
        ),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("chunk_size", sa.BigInteger(), nullable=False),
        sa.Column("ttl_s", sa.Double(), nullable=False),
        sa.Column("protocol", TEXT, nullable=False),
        sa.Column("filename", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=True),
        sa.Column("content_type", TEXT, nullable=False),
        sa.Column("metadata", TEXT, nullable=False, comment="a JSON object of strings"),
        sa.Column("digest_algorithm", TEXT, nullable=False),
        sa.Column("expected_name", TEXT, nullable=True),
        sa.Column("expected_value", sa.LargeBinary(), nullable=True),
        sa.Column("digest_name", TEXT, nullable=True),
        sa.Column("digest_value", sa.LargeBinary(), nullable=True),
        sa.Column("record_id", TEXT, nullable=True),
        sa.Column("asset_kind", TEXT, nullable=False),
        sa.Column("adds_to_record", sa.Boolean(), nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False, comment="mode append: where the next byte goes"),
        sa.Column("tail_trusted", sa.Boolean(), nullable=False),
        sa.Column("boot_id", TEXT, nullable=False),
        sa.Column("blob_key", TEXT, nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("holder", TEXT, nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_seen_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("error", TEXT, nullable=True),
        sa.CheckConstraint(
            "asset_kind IN ('original', 'display', 'thumbnail', 'placeholder')",
            name=op.f("ck_uploads_asset_kind_known"),
        ),
        sa.CheckConstraint(
            "blob_key IS NOT NULL OR status NOT IN ('finishing', 'committed')",
            name=op.f("ck_uploads_blob_key_known"),
        ),
        sa.CheckConstraint("mode IN ('chunks', 'append')", name=op.f("ck_uploads_mode_known")),
        sa.CheckConstraint("size IS NOT NULL OR mode = 'append'", name=op.f("ck_uploads_size_known")),
        sa.CheckConstraint(
            "status IN ('open', 'finishing', 'committed', 'aborted', 'expired', 'failed')",
            name=op.f("ck_uploads_status_known"),
        ),
        sa.CheckConstraint('"offset" >= 0', name=op.f("ck_uploads_offset_counted")),
        sa.CheckConstraint(
            "(digest_name IS NULL) = (digest_value IS NULL)", name=op.f("ck_uploads_digest_whole")
        ),
        sa.CheckConstraint(
            "(expected_name IS NULL) = (expected_value IS NULL)", name=op.f("ck_uploads_expected_whole")
        ),
        sa.CheckConstraint("chunk_size > 0", name=op.f("ck_uploads_chunk_size_counted")),
        sa.CheckConstraint("fence >= 0", name=op.f("ck_uploads_fence_counted")),
        sa.CheckConstraint("size >= 0", name=op.f("ck_uploads_size_counted")),
        sa.ForeignKeyConstraint(["capsule_id"], ["capsules.id"], name=op.f("fk_uploads_capsule_id_capsules")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index(
        "ix_uploads_blob_key",
        "uploads",
        ["blob_key"],
        unique=False,
        sqlite_where=sa.text("blob_key IS NOT NULL"),
        postgresql_where=sa.text("blob_key IS NOT NULL"),
    )
    op.create_index(
        "ix_uploads_ended",
        "uploads",
        ["last_seen_at", "id"],
        unique=False,
        sqlite_where=sa.text("status IN ('committed', 'aborted', 'expired', 'failed')"),
        postgresql_where=sa.text("status IN ('committed', 'aborted', 'expired', 'failed')"),
    )
    op.create_index(
        "ix_uploads_live",
        "uploads",
        ["owner", "capsule_id"],
        unique=False,
        sqlite_where=sa.text("status IN ('open', 'finishing')"),
        postgresql_where=sa.text("status IN ('open', 'finishing')"),
    )
    op.create_index(
        "ix_uploads_open",
        "uploads",
        ["expires_at", "id"],
        unique=False,
        sqlite_where=sa.text("status = 'open'"),
        postgresql_where=sa.text("status = 'open'"),
    )
    op.create_index(
        "uq_uploads_idempotency_key",
        "uploads",
        ["capsule_id", "owner", "idempotency_key"],
        unique=True,
        sqlite_where=sa.text("idempotency_key IS NOT NULL AND status IN ('open', 'finishing', 'committed')"),
        postgresql_where=sa.text(
            "idempotency_key IS NOT NULL AND status IN ('open', 'finishing', 'committed')"
        ),
    )
    op.create_table(
        "assets",
        sa.Column("record_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("blob_key", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("digest_name", TEXT, nullable=True),
        sa.Column("digest_value", sa.LargeBinary(), nullable=True),
        sa.Column("content_type", TEXT, nullable=False),
        sa.Column("width", sa.BigInteger(), nullable=True),
        sa.Column("height", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('original', 'display', 'thumbnail', 'placeholder')", name=op.f("ck_assets_kind_known")
        ),
        sa.CheckConstraint(
            "(digest_name IS NULL) = (digest_value IS NULL)", name=op.f("ck_assets_digest_whole")
        ),
        sa.CheckConstraint("size >= 0", name=op.f("ck_assets_size_counted")),
        sa.ForeignKeyConstraint(
            ["record_id"], ["records.id"], name=op.f("fk_assets_record_id_records"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("record_id", "kind", name=op.f("pk_assets")),
        sa.UniqueConstraint("blob_key", name=op.f("uq_assets_blob_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "chunks",
        sa.Column("upload_id", TEXT, nullable=False),
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("xxh3", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint('"index" >= 0', name=op.f("ck_chunks_index_counted")),
        sa.CheckConstraint("size > 0", name=op.f("ck_chunks_size_counted")),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_chunks_upload_id_uploads"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("upload_id", "index", name=op.f("pk_chunks")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("chunks")
    op.drop_table("assets")
    op.drop_index(
        "uq_uploads_idempotency_key",
        table_name="uploads",
        sqlite_where=sa.text("idempotency_key IS NOT NULL AND status IN ('open', 'finishing', 'committed')"),
        postgresql_where=sa.text(
            "idempotency_key IS NOT NULL AND status IN ('open', 'finishing', 'committed')"
        ),
    )
    op.drop_index(
        "ix_uploads_open",
        table_name="uploads",
        sqlite_where=sa.text("status = 'open'"),
        postgresql_where=sa.text("status = 'open'"),
    )
    op.drop_index(
        "ix_uploads_live",
        table_name="uploads",
        sqlite_where=sa.text("status IN ('open', 'finishing')"),
        postgresql_where=sa.text("status IN ('open', 'finishing')"),
    )
    op.drop_index(
        "ix_uploads_ended",
        table_name="uploads",
        sqlite_where=sa.text("status IN ('committed', 'aborted', 'expired', 'failed')"),
        postgresql_where=sa.text("status IN ('committed', 'aborted', 'expired', 'failed')"),
    )
    op.drop_index(
        "ix_uploads_blob_key",
        table_name="uploads",
        sqlite_where=sa.text("blob_key IS NOT NULL"),
        postgresql_where=sa.text("blob_key IS NOT NULL"),
    )
    op.drop_table("uploads")
    op.drop_index("ix_records_status", table_name="records")
    op.drop_index("ix_records_path", table_name="records")
    op.drop_index("ix_records_owner", table_name="records")
    op.drop_index(
        "ix_records_deleted_at",
        table_name="records",
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.drop_index("ix_records_created_at", table_name="records")
    op.drop_index("ix_records_capsule_id", table_name="records")
    op.drop_table("records")
    op.drop_table("capsules")
