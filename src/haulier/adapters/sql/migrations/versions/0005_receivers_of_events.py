"""How far each receiver of events has come."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column("receiver", TEXT, nullable=False),
        sa.Column("xid", sa.BigInteger(), nullable=False),
        sa.Column(
            "seq", sa.BigInteger(), nullable=False, comment="with xid, the last event that it has taken"
        ),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("holder", TEXT, nullable=True, comment="the worker that delivers"),
        sa.Column("failures", sa.BigInteger(), nullable=False, comment="in a row"),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("error", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("receiver", name=op.f("pk_deliveries")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("deliveries")
