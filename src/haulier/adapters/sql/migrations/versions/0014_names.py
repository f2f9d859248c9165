"""What finds records by a part of their names, whatever their number: three letters in a row, and who has them.

SQLite gets a full-text table without texts. Its row ids are times of creation in microseconds: so it gives what fits
newest first, and joins with `ix_records_owner`. Several records of one microsecond share a row id; each is looked at.
PostgreSQL gets an index, where its extension pg_trgm can be had; nothing depends on it but the time that it takes.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SQLITE = (
    """
    CREATE VIRTUAL TABLE record_names USING fts5(
        name, content = '', columnsize = 0, detail = none, tokenize = 'trigram case_sensitive 1'
    )
    """,
    """
    INSERT INTO record_names (rowid, name)
    SELECT CAST(created_at * 1000000 AS INTEGER), folded_filename FROM records ORDER BY created_at
    """,
    """
    CREATE TRIGGER record_named AFTER INSERT ON records BEGIN
        INSERT INTO record_names (rowid, name)
        VALUES (CAST(new.created_at * 1000000 AS INTEGER), new.folded_filename);
    END
    """,
    # What another record of that moment is found by has to stay; what is left over finds nothing.
    """
    CREATE TRIGGER record_forgotten AFTER DELETE ON records
    WHEN NOT EXISTS (
        SELECT 1 FROM records
        WHERE created_at BETWEEN old.created_at - 0.00001 AND old.created_at + 0.00001
    )
    BEGIN
        INSERT INTO record_names (record_names, rowid, name)
        VALUES ('delete', CAST(old.created_at * 1000000 AS INTEGER), old.folded_filename);
    END
    """,
)
POSTGRES = """
DO $$ BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE INDEX ix_records_names ON records USING gin (folded_filename gin_trgm_ops);
EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file OR undefined_object THEN
    RAISE WARNING 'haulier: without the extension pg_trgm names are compared one by one: %%', SQLERRM;  -- doubled for the driver
END $$
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for statement in SQLITE:
            op.get_bind().exec_driver_sql(statement)
    else:
        op.get_bind().exec_driver_sql(POSTGRES)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for statement in (
            "DROP TRIGGER record_named",
            "DROP TRIGGER record_forgotten",
            "DROP TABLE record_names",
        ):
            op.get_bind().exec_driver_sql(statement)
    else:
        # The extension may serve others.
        op.get_bind().exec_driver_sql("DROP INDEX IF EXISTS ix_records_names")
