"""How an upload ends: by its last byte or by its client's word, within which sizes, and with which answer."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    comment = "as the capsule had it then"
    op.add_column(
        "uploads", sa.Column("min_size", sa.BigInteger(), nullable=False, server_default="0", comment=comment)
    )
    op.add_column("uploads", sa.Column("max_size", sa.BigInteger(), nullable=True, comment="the same"))
    op.add_column(
        "uploads",
        sa.Column(
            "ends_by_word",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="its last byte does not complete it",
        ),
    )
    comment = "what its client was told at its end, to be told again"
    op.add_column("uploads", sa.Column("final_answer", TEXT, nullable=True, comment=comment))


def downgrade() -> None:
    for column in ("final_answer", "ends_by_word", "max_size", "min_size"):
        op.drop_column("uploads", column)
