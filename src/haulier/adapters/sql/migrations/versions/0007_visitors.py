"""Browsers that no token names."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "visitors",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_seen_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("principal", TEXT, nullable=True, comment="who signed in from that browser last"),
        sa.Column("metadata", TEXT, nullable=False, comment="a JSON object of strings"),
        sa.CheckConstraint(
            "last_seen_at >= created_at", name=op.f("ck_visitors_last_seen_at_after_created_at")
        ),
        sa.CheckConstraint(
            "expires_at >= last_seen_at", name=op.f("ck_visitors_expires_at_after_last_seen_at")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_visitors")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_visitors_expires_at", "visitors", ["expires_at", "id"])


def downgrade() -> None:
    op.drop_table("visitors")
