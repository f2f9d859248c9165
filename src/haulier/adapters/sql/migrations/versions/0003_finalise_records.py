"""What was made under which idempotency key when records were made out of committed uploads."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "finalisations",
        sa.Column("capsule_id", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("idempotency_key", TEXT, nullable=False),
        sa.Column("request_hash", TEXT, nullable=False),
        sa.Column(
            "record_ids", TEXT, nullable=False, comment="a JSON array, in the order that was asked for"
        ),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["capsule_id"],
            ["capsules.id"],
            name=op.f("fk_finalisations_capsule_id_capsules"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("capsule_id", "owner", "idempotency_key", name=op.f("pk_finalisations")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_finalisations_created_at", "finalisations", ["created_at"])


def downgrade() -> None:
    op.drop_index("ix_finalisations_created_at", table_name="finalisations")
    op.drop_table("finalisations")
