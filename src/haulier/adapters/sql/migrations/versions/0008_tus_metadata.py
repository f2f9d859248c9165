"""What a client sent as metadata, to be given back as it was."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("uploads", sa.Column("raw_metadata", TEXT, nullable=True, comment="as the client sent it"))


def downgrade() -> None:
    op.drop_column("uploads", "raw_metadata")
