"""Lists of records step over nothing either: what is in the trash is in indexes of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

IS_THERE = "deleted_at IS NULL"
IS_DELETED = "deleted_at IS NOT NULL"
IS_UNPROCESSED = "status IN ('uploaded', 'processing')"
PLACE = ["created_at", "id"]
# Name: columns, and what it had before.
LISTS = {
    "ix_records_created_at": (PLACE, None),
    "ix_records_capsule_id": (["capsule_id", *PLACE], None),
    "ix_records_status": (["status", *PLACE], None),
    "ix_records_path": (["path"], None),
    "ix_records_unprocessed": (PLACE, IS_UNPROCESSED),
}
TRASH = {
    "ix_records_trash": PLACE,
    "ix_records_trash_capsule": ["capsule_id", *PLACE],
    "ix_records_trash_owner": ["owner", *PLACE],
}
# As in 0014, but that no index has both what is there and the trash any more.
FORGOTTEN = """
    CREATE TRIGGER record_forgotten AFTER DELETE ON records
    WHEN NOT EXISTS (
        SELECT 1 FROM records
        WHERE deleted_at IS NULL AND created_at BETWEEN old.created_at - 0.00001 AND old.created_at + 0.00001
    ) AND NOT EXISTS (
        SELECT 1 FROM records
        WHERE deleted_at IS NOT NULL AND created_at BETWEEN old.created_at - 0.00001 AND old.created_at + 0.00001
    )
    BEGIN
        INSERT INTO record_names (record_names, rowid, name)
        VALUES ('delete', CAST(old.created_at * 1000000 AS INTEGER), old.folded_filename);
    END
"""
FORGOTTEN_BEFORE = """
    CREATE TRIGGER record_forgotten AFTER DELETE ON records
    WHEN NOT EXISTS (
        SELECT 1 FROM records
        WHERE created_at BETWEEN old.created_at - 0.00001 AND old.created_at + 0.00001
    )
    BEGIN
        INSERT INTO record_names (record_names, rowid, name)
        VALUES ('delete', CAST(old.created_at * 1000000 AS INTEGER), old.folded_filename);
    END
"""


def upgrade() -> None:
    for name, (columns, condition) in LISTS.items():
        op.drop_index(name, table_name="records")
        _create(name, columns, f"{condition} AND {IS_THERE}" if condition else IS_THERE)
    for name, columns in TRASH.items():
        _create(name, columns, IS_DELETED)
    _forget_by(FORGOTTEN)
    _bound_pending("SET (gin_pending_list_limit = 256)")


def downgrade() -> None:
    _bound_pending("RESET (gin_pending_list_limit)")
    for name in TRASH:
        op.drop_index(name, table_name="records")
    for name, (columns, condition) in LISTS.items():
        op.drop_index(name, table_name="records")
        _create(name, columns, condition)
    _forget_by(FORGOTTEN_BEFORE)


def _create(name: str, columns: list[str], condition: str | None) -> None:
    where = None if condition is None else sa.text(condition)
    op.create_index(name, "records", columns, sqlite_where=where, postgresql_where=where)


def _bound_pending(setting: str) -> None:
    """Let few names wait to be put into the index: every search looks through all that wait. In KiB; usual are 4096."""
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql(f"ALTER INDEX IF EXISTS ix_records_names {setting}")


def _forget_by(trigger: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.get_bind().exec_driver_sql("DROP TRIGGER record_forgotten")
        op.get_bind().exec_driver_sql(trigger)
