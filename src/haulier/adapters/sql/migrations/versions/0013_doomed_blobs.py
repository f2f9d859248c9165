"""Bytes that are still to be removed, noted with what takes away the last row that names them."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "doomed_blobs",
        sa.Column("blob_key", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("blob_key", name=op.f("pk_doomed_blobs")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("doomed_blobs")
