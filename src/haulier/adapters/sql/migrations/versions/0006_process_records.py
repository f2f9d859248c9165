"""Who makes smaller pictures of records that have arrived, and placeholders as URLs."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
IS_UNPROCESSED = "status IN ('uploaded', 'processing')"


def upgrade() -> None:
    op.add_column("records", sa.Column("processing_started_at", sa.Double(), nullable=True))
    op.add_column(
        "records",
        sa.Column(
            "attempts",
            sa.BigInteger(),
            nullable=False,
            server_default="0",
            comment="to process it, not counting those that were given back",
        ),
    )
    op.add_column(
        "records",
        sa.Column(
            "fence", sa.BigInteger(), nullable=False, server_default="0", comment="of the latest attempt"
        ),
    )
    op.add_column(
        "records", sa.Column("holder", TEXT, nullable=True, comment="the worker of the latest attempt")
    )
    op.create_index(
        "ix_records_unprocessed",
        "records",
        ["created_at", "id"],
        sqlite_where=sa.text(IS_UNPROCESSED),
        postgresql_where=sa.text(IS_UNPROCESSED),
    )
    op.add_column(
        "assets",
        sa.Column("data_url", TEXT, nullable=True, comment="the whole asset, where it is so small"),
    )
    op.add_column("uploads", sa.Column("derivatives", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column(
        "uploads", sa.Column("width", sa.BigInteger(), nullable=True, comment="by the word of the sender")
    )
    op.add_column("uploads", sa.Column("height", sa.BigInteger(), nullable=True))
    op.add_column(
        "uploads", sa.Column("data_url", TEXT, nullable=True, comment="a committed placeholder as a URL")
    )


def downgrade() -> None:
    for column in ("data_url", "height", "width", "derivatives"):
        op.drop_column("uploads", column)
    op.drop_column("assets", "data_url")
    op.drop_index("ix_records_unprocessed", table_name="records")
    for column in ("holder", "fence", "attempts", "processing_started_at"):
        op.drop_column("records", column)
