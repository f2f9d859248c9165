"""Histories step over nothing: what is in the trash is not in their indexes; whoever wants all of an owner has another."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

HISTORIES = {
    "ix_records_owner": ["owner", "created_at", "id"],
    "ix_records_owner_status": ["owner", "status", "created_at", "id"],
}
THERE = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    for name, columns in HISTORIES.items():
        op.drop_index(name, table_name="records")
        op.create_index(name, "records", columns, sqlite_where=THERE, postgresql_where=THERE)
    op.create_index("ix_records_belonging", "records", ["owner", "capsule_id"])


def downgrade() -> None:
    op.drop_index("ix_records_belonging", table_name="records")
    for name, columns in HISTORIES.items():
        op.drop_index(name, table_name="records")
        op.create_index(name, "records", columns)
