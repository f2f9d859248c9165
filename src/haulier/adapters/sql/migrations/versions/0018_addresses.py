"""By what address a live upload is counted."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    comment = "a keyed hash of where it came from, while it lives"
    op.add_column("uploads", sa.Column("address", TEXT, nullable=True, comment=comment))
    condition = sa.text("address IS NOT NULL")
    op.create_index(
        "ix_uploads_address", "uploads", ["address"], sqlite_where=condition, postgresql_where=condition
    )


def downgrade() -> None:
    op.drop_index("ix_uploads_address", table_name="uploads")
    op.drop_column("uploads", "address")
