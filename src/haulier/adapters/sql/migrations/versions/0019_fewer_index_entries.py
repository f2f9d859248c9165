"""A short file writes into no index that has nothing to find: by paths that it has not, nor, on SQLite, by an event's place.

There the place is the row id, by which rows are found anyway.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

IS_THERE = "deleted_at IS NULL"


def upgrade() -> None:
    _index_paths(f"path IS NOT NULL AND {IS_THERE}")
    if op.get_bind().dialect.name == "sqlite":
        op.drop_index("ix_events_place", table_name="events")


def downgrade() -> None:
    _index_paths(IS_THERE)
    if op.get_bind().dialect.name == "sqlite":
        op.create_index("ix_events_place", "events", ["xid", "seq"])


def _index_paths(condition: str) -> None:
    where = sa.text(condition)
    op.drop_index("ix_records_path", table_name="records")
    op.create_index("ix_records_path", "records", ["path"], sqlite_where=where, postgresql_where=where)
