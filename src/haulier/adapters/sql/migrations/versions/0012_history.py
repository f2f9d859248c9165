"""Histories: what files were found to hold, and an index for one owner's records of one status."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "file_metadata",
        sa.Column("record_id", TEXT, nullable=False),
        sa.Column("media_type", TEXT, nullable=False, comment="by content"),
        sa.Column("encoding", TEXT, nullable=True),
        sa.Column("line_count", sa.BigInteger(), nullable=True),
        sa.Column("record_count", sa.BigInteger(), nullable=True),
        sa.Column("preview", TEXT, nullable=True),
        sa.Column("valid_json", sa.Boolean(), nullable=True),
        sa.Column("valid_csv", sa.Boolean(), nullable=True),
        sa.Column("errors", TEXT, nullable=False, comment="a JSON array of objects"),
        sa.CheckConstraint("line_count >= 0", name=op.f("ck_file_metadata_line_count_counted")),
        sa.CheckConstraint("record_count >= 0", name=op.f("ck_file_metadata_record_count_counted")),
        sa.ForeignKeyConstraint(
            ["record_id"], ["records.id"], name=op.f("fk_file_metadata_record_id_records"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("record_id", name=op.f("pk_file_metadata")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_records_owner_status", "records", ["owner", "status", "created_at", "id"])


def downgrade() -> None:
    op.drop_index("ix_records_owner_status", table_name="records")
    op.drop_table("file_metadata")
