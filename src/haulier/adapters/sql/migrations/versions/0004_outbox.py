"""The outbox: what happened to records, for pages and hooks."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KINDS = ("created", "completed", "failed", "cancelled", "expired", "updated", "deleted", "restored", "erased")


def upgrade() -> None:
    listed = ", ".join(f"'record.{kind}'" for kind in KINDS)
    op.create_table(
        "events",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column(
            "xid",
            sa.BigInteger(),
            nullable=False,
            comment="the transaction, where several write at once; else 0",
        ),
        sa.Column("record_id", TEXT, nullable=False),
        sa.Column("capsule_id", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("payload", TEXT, nullable=False, comment="a JSON object: how the record stood"),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint(f"kind IN ({listed})", name=op.f("ck_events_kind_known")),
        sa.ForeignKeyConstraint(["capsule_id"], ["capsules.id"], name=op.f("fk_events_capsule_id_capsules")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_place", "events", ["xid", "seq"])


def downgrade() -> None:
    op.drop_table("events")
