"""Uploads that are put together of others."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column(
        "uploads",
        sa.Column(
            "concat",
            TEXT,
            nullable=False,
            server_default="none",
            comment="whether it is made of others, or for others",
        ),
    )
    op.add_column(
        "uploads",
        sa.Column("raw_concat", TEXT, nullable=True, comment="what says so, as the client sent it"),
    )
    op.create_table(
        "concat_parts",
        sa.Column("final_id", TEXT, nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("partial_id", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["final_id"], ["uploads.id"], name=op.f("fk_concat_parts_final_id_uploads"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["partial_id"],
            ["uploads.id"],
            name=op.f("fk_concat_parts_partial_id_uploads"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("final_id", "position", name=op.f("pk_concat_parts")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_concat_parts_partial_id", "concat_parts", ["partial_id"])


def downgrade() -> None:
    op.drop_table("concat_parts")
    op.drop_column("uploads", "raw_concat")
    op.drop_column("uploads", "concat")
