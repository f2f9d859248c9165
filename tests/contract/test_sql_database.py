"""What is peculiar to the database on disk: crashes, locks, full disks, schema, groups of commits."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import sqlite

from haulier.adapters.sql import event_store, statements
from haulier.adapters.sql.models import SCHEMA, metadata
from haulier.adapters.sql.sqlite.connection import SqliteExecutor
from haulier.adapters.sql.sqlite.database import HASTY_STEPS, MAX_WAITING, SqliteDatabase
from haulier.adapters.sql.sqlite.spare import SPARE_BYTES
from haulier.adapters.sql.stores import SqlTransaction
from haulier.adapters.sql.upgrade import alembic_config
from haulier.adapters.sql.walks import Shape, newest
from haulier.core.capsule import CapsulePolicy
from haulier.core.errors import ConfigError, StorageFull, StorageNotWritable, StorageUnavailable
from haulier.core.record import RecordStatus
from haulier.core.session import LiveLimit, SessionId
from haulier.ports import RecordQuery
from haulier.testing.processing_rows_contract import arrived
from haulier.testing.rows import (
    T0,
    add_record,
    add_upload,
    chunk,
    record,
    see,
    see_record,
    upload,
)
from tests.support.databases import alchemy_url
from tests.support.small_disk import small_disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haulier.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    async with SqliteDatabase(path, busy_timeout_s=0.2) as database:
        yield database


@contextlib.contextmanager
def looking_into(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file as another program would."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def schema_of(path: Path) -> dict[str, list[str]]:
    """Return each table's and index's definition, line by line; the order of constraints means nothing."""
    with looking_into(path) as connection:
        rows = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
            # The second is SQLite's own, and stays for good.
            " AND name NOT IN ('alembic_version', 'sqlite_sequence')"
        )
        return {name: sorted(line.strip(" ,\t") for line in text.splitlines()) for name, text in rows}


class Gate:
    """Work that keeps the writer's thread busy until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    async def __call__(self, _: Any) -> None:
        self.entered.set()
        assert self.opened.wait(30)


def is_ours(name: str | None, kind: str, *_: object) -> bool:
    """Whether the models have it: not what only a migration makes, for a database of one kind."""
    return kind != "table" or name is None or not name.startswith("record_names")


def described(path: Path) -> dict[str, list[str]]:
    """Return every table as the database knows it, in an order that does not depend on its history."""
    inspector = sa.inspect(sa.create_engine(alchemy_url(path), poolclass=sa.NullPool))
    return {
        table: sorted(
            json.dumps(fact, default=str, sort_keys=True)
            for facts in (
                inspector.get_columns(table),
                [dict(inspector.get_pk_constraint(table))],
                inspector.get_foreign_keys(table),
                inspector.get_unique_constraints(table),
                inspector.get_check_constraints(table),
                inspector.get_indexes(table),
                [inspector.get_table_options(table)],
            )
            for fact in facts
        )
        for table in inspector.get_table_names()
        if table != "alembic_version" and is_ours(table, "table")
    }


def is_for_sqlite(_: Any, name: str | None, kind: str, reflected: bool, __: Any) -> bool:
    """Whether a table, index or column of the models is made here; alembic does not ask its `ddl_if`."""
    return reflected or (kind, name) != ("index", "ix_events_place")


class TestPlace:
    async def test_a_missing_directory_is_unavailable(self, tmp_path: Path) -> None:
        with pytest.raises(StorageUnavailable, match="No such file"):
            await SqliteDatabase(tmp_path / "none" / "haulier.db").open()

    async def test_what_is_no_database_is_unavailable(self, path: Path) -> None:
        path.write_bytes(  # noqa: ASYNC240 - nothing else runs yet
            b"this is not a database" * 100
        )
        with pytest.raises(StorageUnavailable, match="NOTADB"):
            await SqliteDatabase(path).open()

    async def test_a_closed_database_refuses_and_opens_again(self, path: Path) -> None:
        database = SqliteDatabase(path)
        await database.close()
        async with database:
            await add_upload(database, upload("a"))
        with pytest.raises(StorageUnavailable, match="closed"):
            await add_upload(database, upload("b"))
        with pytest.raises(StorageUnavailable, match="closed"):
            await see(database, "a")
        async with database:
            assert await see(database, "a") == upload("a")


FROM_BEFORE_CALLERS = [
    "INSERT INTO capsules (id, name, used_bytes, reserved_bytes) VALUES ('c', 'default', 9, 100)",
    *(
        f"""INSERT INTO uploads (id, capsule_id, owner, request_hash, mode, spec_size, size, chunk_size, ttl_s,
        protocol, filename, content_type, metadata, digest_algorithm, asset_kind, adds_to_record, status, "offset",
        tail_trusted, boot_id, fence, created_at, last_seen_at, expires_at)
        VALUES ('{name}', 'c', 'local', 'h', 'append', {size}, {size}, 5, 60, 'native', 'a', 'x/y', '{{}}', 'sha-256',
        'original', 0, '{status}', 30, 1, 'b', 1, 1, 1, 1)"""
        for name, size, status in (
            ("known", 100, "open"),
            ("unknown", "NULL", "open"),
            ("ended", "NULL", "aborted"),
        )
    ),
]
"""Rows as the first schema has them: two uploads that go on, one of them of unknown size, and one that ended."""


class TestSchema:
    async def test_the_migrations_make_exactly_the_models(
        self, database: SqliteDatabase, path: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "models.db"
        engine = sa.create_engine(alchemy_url(other), poolclass=sa.NullPool)
        metadata.create_all(engine)
        assert described(path) == described(other)

    async def test_alembic_finds_nothing_to_change(self, database: SqliteDatabase, path: Path) -> None:
        with sa.create_engine(alchemy_url(path), poolclass=sa.NullPool).connect() as connection:
            opts = {"include_name": is_ours, "include_object": is_for_sqlite}
            assert compare_metadata(MigrationContext.configure(connection, opts=opts), metadata) == []

    def test_the_first_migration_can_be_taken_back(self, path: Path) -> None:
        with sa.create_engine(alchemy_url(path), poolclass=sa.NullPool).begin() as connection:
            command.upgrade(alembic_config(connection), "head")
            command.downgrade(alembic_config(connection), "base")
        assert schema_of(path) == {}

    async def test_opening_again_changes_nothing(self, path: Path) -> None:
        async with SqliteDatabase(path) as database:
            await add_upload(database, upload("a"))
        before = schema_of(path)
        async with SqliteDatabase(path) as database:
            assert await see(database, "a") == upload("a")
        assert schema_of(path) == before

    async def test_a_database_of_a_newer_version_is_refused_untouched(self, path: Path) -> None:
        async with SqliteDatabase(path):
            pass
        with looking_into(path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(ConfigError, match="9999 is newer"):
            await SqliteDatabase(path).open()

    async def test_a_migration_that_fails_leaves_the_database_as_it_was(self, path: Path) -> None:
        with looking_into(path) as connection:
            connection.execute("CREATE TABLE uploads (mine)")
        with pytest.raises(StorageUnavailable, match="already exists"):
            await SqliteDatabase(path).open()
        assert schema_of(path) == {"uploads": ["CREATE TABLE uploads (mine)"]}

    async def test_a_database_from_before_there_were_callers_keeps_what_it_holds(self, path: Path) -> None:
        with sa.create_engine(alchemy_url(path), poolclass=sa.NullPool).begin() as connection:
            command.upgrade(alembic_config(connection), "0001")
            for statement in FROM_BEFORE_CALLERS:
                connection.exec_driver_sql(statement)
        async with SqliteDatabase(path) as database:
            default = await database.read(lambda tx: tx.capsules.load("default"))
            assert default is not None
            assert (default.owner, default.policy) == ("local", CapsulePolicy(admits_users=True))
            # Of the upload whose size nobody knows, what it has is reserved from now on.
            assert (default.used, default.reserved) == (9, 100 + 30)
            assert not await database.read(lambda tx: tx.tokens.any())

    async def test_the_default_capsule_is_there_after_the_first_start(
        self, database: SqliteDatabase, path: Path
    ) -> None:
        with looking_into(path) as connection:
            rows = connection.execute("SELECT name, quota_bytes, used_bytes, reserved_bytes FROM capsules")
            assert rows.fetchall() == [("default", None, 0, 0)]

    def test_four_processes_start_at_once_on_a_new_database(self, path: Path) -> None:
        starts = [
            subprocess.Popen(
                [sys.executable, "-c", STARTER, str(path), f"s{number}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(4)
        ]
        for start in starts:
            assert start.stdout is not None
            assert start.stdout.readline() == "imported\n"
        # All of them go on from here, as close together as processes can.
        for start in starts:
            assert start.stdin is not None
            start.stdin.close()
        for start in starts:
            with start:
                assert start.wait(60) == 0
        with looking_into(path) as connection:
            assert connection.execute("SELECT id FROM uploads ORDER BY id").fetchall() == [
                ("s0",),
                ("s1",),
                ("s2",),
                ("s3",),
            ]

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE uploads SET status = 'odd'",
            "UPDATE uploads SET status = 'finishing'",
            "UPDATE uploads SET mode = 'odd'",
            "UPDATE uploads SET size = -1",
            "UPDATE uploads SET size = NULL",
            "UPDATE uploads SET expected_name = 'md5'",
            "UPDATE uploads SET owner = NULL",
            "UPDATE uploads SET capsule_id = 'none'",
            "UPDATE capsules SET reserved_bytes = -1",
            "UPDATE capsules SET used_bytes = -1",
            "UPDATE records SET deleted_at = 1",
            "UPDATE records SET status = 'odd'",
            "INSERT INTO chunks VALUES ('none', 0, 1, x'00')",
            "INSERT INTO assets SELECT 'none', 'display', 'b', 1, NULL, NULL, 'x/y', NULL, NULL, NULL",
        ],
    )
    async def test_rows_that_make_no_sense_are_refused(
        self, database: SqliteDatabase, path: Path, change: str
    ) -> None:
        await add_upload(database, upload("a"))
        await add_record(database, record("r"))
        with looking_into(path) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(change)


STARTER = """
import asyncio, sys
from pathlib import Path
from haulier.adapters.sql.sqlite.database import SqliteDatabase
from haulier.testing.rows import add_upload, upload

async def main():
    async with SqliteDatabase(Path(sys.argv[1])) as database:
        await add_upload(database, upload(sys.argv[2]))

print("imported", flush=True)
sys.stdin.read()
asyncio.run(main())
"""


class TestPlans:
    """Which index answers: a list may cost the same at row 1 000 000 as at row 1."""

    @staticmethod
    def plan(path: Path, statement: statements.Statement) -> str:
        compiled = statement.compile(dialect=sqlite.dialect(paramstyle="named"))
        parameters = {name: compiled.params.get(name) for name in compiled.params}
        with looking_into(path) as connection:
            rows = connection.execute(f"EXPLAIN QUERY PLAN {compiled.string}", parameters).fetchall()
        return "\n".join(row[3] for row in rows)

    @pytest.mark.parametrize(
        ("name", "index"),
        [
            ("SESSION_BY_KEY", "uq_uploads_idempotency_key"),
            ("COUNT_LIVE", "ix_uploads_live"),
            ("COUNT_LIVE_IN_CAPSULE", "ix_uploads_live"),
            ("INSERT_SESSION", "ix_uploads_live"),
            ("OVERDUE", "ix_uploads_open"),
            ("ENDED", "ix_uploads_ended"),
            ("SESSIONS_NAME_BLOBS", "ix_uploads_blob_key"),
            ("ASSETS_NAME_BLOBS", "sqlite_autoindex_assets"),
            ("MARKS", "SEARCH uploads USING"),
            ("ASSETS", "SEARCH assets USING PRIMARY KEY"),
            ("DELETED_RECORDS", "ix_records_deleted_at"),
            ("ADOPT_RECORDS", "ix_records_belonging (owner=? AND capsule_id=?)"),
        ],
    )
    async def test_a_statement_uses_its_index(
        self, database: SqliteDatabase, path: Path, name: str, index: str
    ) -> None:
        plan = self.plan(path, getattr(statements, name))
        assert index in plan
        assert "TEMP B-TREE" not in plan

    @pytest.mark.parametrize(
        ("name", "search"),
        [
            ("EVENTS", "SEARCH events USING INTEGER PRIMARY KEY (rowid>?)"),
            ("LAST_BEFORE", "SEARCH events USING INTEGER PRIMARY KEY (rowid<?)"),
            ("PRUNE", "SEARCH events USING INTEGER PRIMARY KEY (rowid<?)"),
            ("FIRST_YOUNG", "SCAN events"),
            ("LAST_SETTLED", "SCAN events"),
            ("LAST", "SCAN events"),
        ],
    )
    async def test_events_are_read_from_their_place(
        self, database: SqliteDatabase, path: Path, name: str, search: str
    ) -> None:
        plan = self.plan(path, getattr(event_store, name))
        assert search in plan.splitlines()
        assert "TEMP B-TREE" not in plan

    @pytest.mark.parametrize(
        ("filters", "statuses", "index"),
        [
            (set(), 0, "ix_records_created_at"),
            ({"after_id"}, 0, "ix_records_created_at"),
            ({"since", "until"}, 0, "ix_records_created_at"),
            ({"owner"}, 0, "ix_records_owner"),
            ({"owner", "after_id"}, 0, "ix_records_owner"),
            ({"capsule"}, 0, "ix_records_capsule_id"),
            (set(), 1, "ix_records_status"),
        ],
    )
    async def test_a_page_comes_from_an_index_in_its_order(
        self, database: SqliteDatabase, path: Path, filters: set[str], statuses: int, index: str
    ) -> None:
        plan = self.plan(path, newest(Shape(filters=frozenset(filters), statuses=statuses)))
        assert index in plan
        assert "TEMP B-TREE" not in plan

    @pytest.mark.parametrize(
        ("filters", "statuses", "index"),
        [
            (set(), 0, "ix_records_owner (owner=?)"),
            ({"after_id"}, 0, "ix_records_owner (owner=? AND (created_at,id)<(?,?))"),
            ({"since", "until"}, 0, "ix_records_owner (owner=? AND created_at>? AND created_at<?)"),
            (set(), 1, "ix_records_owner_status (owner=? AND status=?)"),
            ({"after_id"}, 2, "ix_records_owner_status (owner=? AND status=? AND (created_at,id)<(?,?))"),
        ],
    )
    async def test_a_history_comes_from_an_index_without_the_trash(
        self, database: SqliteDatabase, path: Path, filters: set[str], statuses: int, index: str
    ) -> None:
        assert index in self.plan(
            path, newest(Shape(filters=frozenset(filters | {"owner"}), statuses=statuses))
        )
        with looking_into(path) as connection:
            (text,) = connection.execute(
                "SELECT sql FROM sqlite_master WHERE name = ?", (index.split(maxsplit=1)[0],)
            ).fetchone()
        assert text.endswith("WHERE deleted_at IS NULL")


class TestGroups:
    async def test_what_waits_while_the_writer_is_busy_is_one_commit(
        self, database: SqliteDatabase, path: Path
    ) -> None:
        gate = Gate()
        busy = asyncio.gather(database.write(gate))
        await asyncio.to_thread(gate.entered.wait, 30)
        waiting = asyncio.gather(*(add_upload(database, upload(f"s{number}")) for number in range(10)))
        await asyncio.sleep(0)
        with looking_into(path) as connection:
            # Counts commits by other connections.
            before = connection.execute("PRAGMA data_version").fetchone()
            gate.opened.set()
            await busy
            await waiting
            assert connection.execute("SELECT count(*) FROM uploads").fetchone() == (10,)
            assert connection.execute("PRAGMA data_version").fetchone() != before

    async def test_nobody_is_answered_before_the_commit(self, database: SqliteDatabase, path: Path) -> None:
        async def begin(number: int) -> None:
            await add_upload(database, upload(f"s{number}"))
            with looking_into(path) as connection:
                found = connection.execute("SELECT 1 FROM uploads WHERE id = ?", (f"s{number}",))
                assert found.fetchone() == (1,)

        await asyncio.gather(*map(begin, range(40)))

    async def test_a_durable_commit_is_synchronous_and_others_are_not(self, database: SqliteDatabase) -> None:
        levels: list[int] = []

        def job(sessions: Any) -> Any:
            async def work(tx: Any) -> None:
                connection = tx.sessions._sql.connection
                levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])

            return work

        for durable in (False, True, True, False):
            await database.write(job(None), durable=durable)
        normal, full = 1, 2
        assert levels == [normal, full, full, normal]

    async def test_a_crowd_with_one_durable_job_is_durable(self, database: SqliteDatabase) -> None:
        levels: list[int] = []

        async def look(tx: Any) -> None:
            levels.append(tx.sessions._sql.connection.execute("PRAGMA synchronous").fetchone()[0])

        gate = Gate()
        busy = asyncio.gather(database.write(gate))
        await asyncio.to_thread(gate.entered.wait, 30)
        waiting = asyncio.gather(database.write(look), database.write(look, durable=True))
        await asyncio.sleep(0)
        gate.opened.set()
        await busy
        await waiting
        assert levels == [2, 2]

    async def test_closing_finishes_what_waits(self, path: Path) -> None:
        async with SqliteDatabase(path) as database:
            jobs = [asyncio.ensure_future(add_upload(database, upload(f"s{n}"))) for n in range(30)]  # noqa: TID251
            await asyncio.sleep(0)
        await asyncio.gather(*jobs)
        with looking_into(path) as connection:
            assert connection.execute("SELECT count(*) FROM uploads").fetchone() == (30,)

    async def test_the_queue_of_the_writer_is_bounded(self, database: SqliteDatabase) -> None:
        async def work(_: Any) -> None:
            """Do nothing."""

        gate = Gate()
        busy = asyncio.gather(database.write(gate))
        await asyncio.to_thread(gate.entered.wait, 30)
        waiting = asyncio.gather(
            *(database.write(work) for _ in range(MAX_WAITING + 1)), return_exceptions=True
        )
        await asyncio.sleep(0)
        gate.opened.set()
        await busy
        results = await waiting
        assert results[:-1] == [None] * MAX_WAITING
        assert isinstance(results[-1], StorageUnavailable)

    async def test_a_process_that_is_to_end_waits_for_no_lock(self, path: Path) -> None:
        async with SqliteDatabase(path, busy_timeout_s=600) as database:
            with looking_into(path) as other:
                other.execute("BEGIN IMMEDIATE")
                database.hurry(0.05)
                for name in ("a", "b"):
                    with pytest.raises(StorageUnavailable, match="BUSY"):
                        await add_upload(database, upload(name))
                assert await see(database, "a") is None
                other.execute("ROLLBACK")
            await add_upload(database, upload("a"))

    async def test_a_wait_for_the_lock_that_has_begun_ends_when_the_process_is_to_end(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begin, waiting = SqliteExecutor.begin, threading.Event()

        def noticed(executor: SqliteExecutor, command: str = "BEGIN") -> SqlTransaction:
            if command == "BEGIN IMMEDIATE":
                waiting.set()
            return begin(executor, command)

        monkeypatch.setattr(SqliteExecutor, "begin", noticed)
        async with asyncio.timeout(60), SqliteDatabase(path, busy_timeout_s=600) as database:
            with looking_into(path) as other:
                other.execute("BEGIN IMMEDIATE")
                adding = asyncio.get_running_loop().create_task(add_upload(database, upload("a")))
                await asyncio.to_thread(waiting.wait, 30)
                database.hurry(0.05)
                with pytest.raises(StorageUnavailable, match="BUSY"):
                    await adding
                other.execute("ROLLBACK")
            assert await see(database, "a") is None

    async def test_work_that_waits_for_something_else_is_refused(self, database: SqliteDatabase) -> None:
        async def work(tx: Any) -> None:
            await tx.sessions.insert(upload("a"), limit=LiveLimit(of_owner=9))
            await asyncio.sleep(0)

        with pytest.raises(AssertionError, match="may await nothing but"):
            await database.write(work)
        with pytest.raises(AssertionError, match="may await nothing but"):
            await database.read(lambda _: asyncio.sleep(0))
        assert await see(database, "a") is None

    async def test_a_read_writes_nothing(self, database: SqliteDatabase) -> None:
        with pytest.raises(StorageNotWritable):
            await database.read(lambda tx: tx.sessions.insert(upload("a"), limit=LiveLimit(of_owner=9)))

    async def test_mistakes_of_ours_stay_loud(self, database: SqliteDatabase) -> None:
        await add_record(database, record("r"))
        with pytest.raises(sqlite3.IntegrityError):
            await add_record(database, record("r"))
        with pytest.raises(sqlite3.IntegrityError):
            await database.write(lambda tx: tx.capsules.release("default", 1))
        with pytest.raises(sqlite3.IntegrityError):
            await add_upload(database, upload("a", scope="none"))
        await add_upload(database, upload("a"))
        with pytest.raises(AssertionError, match="already"):
            await add_upload(database, upload("a"))
        with pytest.raises(AssertionError, match="cannot go"):
            await database.write(
                lambda tx: tx.records.end(record("r").id, RecordStatus.PROCESSING, error=None, now=T0)
            )


class TestAFileThatIsGone:
    async def test_takes_no_rows_that_would_be_gone_with_it(
        self, database: SqliteDatabase, path: Path
    ) -> None:
        await add_upload(database, upload("a"))
        elsewhere = path.with_name("elsewhere.db")
        await asyncio.to_thread(path.rename, elsewhere)
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match="removed or replaced"):
                await add_upload(database, upload("b"))
            await asyncio.to_thread(path.write_bytes, b"")  # another one takes its name
        await asyncio.to_thread(elsewhere.replace, path)
        await add_upload(database, upload("b"))
        assert await see(database, "b") == upload("b")


class TestBrokenConnections:
    async def test_a_broken_connection_is_replaced(self, database: SqliteDatabase) -> None:
        async def destroy(tx: Any) -> None:
            tx.sessions._sql.connection.close()

        with pytest.raises(sqlite3.ProgrammingError):
            await database.write(destroy)
        for _ in range(2):
            await database.read(destroy)
        await add_upload(database, upload("a"))
        assert await see(database, "a") == upload("a")

    async def test_a_rollback_by_sqlite_itself_is_told_to_whoever_is_alone(
        self, database: SqliteDatabase
    ) -> None:
        async def lose(tx: Any) -> None:
            tx.capsules._sql.connection.execute("ROLLBACK")

        with pytest.raises(StorageUnavailable):
            await database.write(lose)

    async def test_what_may_be_taken_back_is_kept_in_memory(self, database: SqliteDatabase) -> None:
        async def ask(tx: Any) -> int:
            (place,) = tx.capsules._sql.connection.execute("PRAGMA temp_store").fetchone()
            return int(place)

        assert await database.write(ask) == 2  # MEMORY

    async def test_a_rollback_by_sqlite_itself_is_told_to_the_whole_crowd(
        self, database: SqliteDatabase
    ) -> None:
        async def roll_back(tx: Any) -> None:
            tx.sessions._sql.connection.execute("ROLLBACK")
            raise LookupError

        gate = Gate()
        busy = asyncio.gather(database.write(gate))
        await asyncio.to_thread(gate.entered.wait, 30)
        crowd = asyncio.gather(
            add_upload(database, upload("a")),
            database.write(roll_back),
            add_upload(database, upload("b")),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
        gate.opened.set()
        await busy
        assert [type(result) for result in await crowd] == [LookupError] * 3
        assert await see(database, "a") is None
        assert await see(database, "b") is None

    async def test_callers_whose_loop_has_gone_hold_nobody_up(self, database: SqliteDatabase) -> None:
        gate = Gate()

        async def leave() -> None:
            asyncio.ensure_future(database.write(gate))  # noqa: RUF006, TID251 - abandoned on purpose
            await asyncio.to_thread(gate.entered.wait, 30)

        await asyncio.to_thread(asyncio.run, leave())
        gate.opened.set()
        await add_upload(database, upload("a"))
        assert await see(database, "a") == upload("a")


class TestOtherProcesses:
    async def test_a_short_lock_is_waited_out(self, path: Path) -> None:
        async with SqliteDatabase(path) as database:
            with looking_into(path) as connection:
                connection.execute("BEGIN IMMEDIATE")
                write = asyncio.gather(add_upload(database, upload("a")))
                # Readers see the last commit, lock or not.
                assert await see(database, "a") is None
                connection.execute("COMMIT")
            await write
            assert await see(database, "a") == upload("a")

    async def test_a_long_lock_is_unavailable_and_harms_nothing(
        self, database: SqliteDatabase, path: Path
    ) -> None:
        with looking_into(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            jobs = (add_upload(database, upload(f"s{n}")) for n in range(5))
            results = await asyncio.gather(*jobs, return_exceptions=True)
            assert [type(result) for result in results] == [StorageUnavailable] * 5
            assert "SQLITE_BUSY" in str(results[0])
            connection.execute("ROLLBACK")
        await add_upload(database, upload("a"))
        assert await see(database, "a") == upload("a")

    async def test_a_start_waits_for_another_one_only_so_long(self, path: Path) -> None:
        with path.with_name(f"{path.name}.lock").open("ab") as file:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(StorageUnavailable, match="held by another start"):
                await SqliteDatabase(path, busy_timeout_s=0.1).open()

    async def test_a_killed_process_leaves_only_whole_commits(self, path: Path) -> None:
        async with SqliteDatabase(path):
            pass
        acknowledged = await asyncio.to_thread(_write_until_killed, path)
        async with SqliteDatabase(path) as database:
            with looking_into(path) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            live = await database.read(lambda tx: tx.sessions.live(after=None, limit=10_000))
            assert {session.id for session in live} >= set(acknowledged)
            for session in live:
                loaded = await see(database, session)
                assert loaded is not None
                assert loaded.complete
                assert await see_record(database, session.id) is not None


WRITER = """
import asyncio, sys
from pathlib import Path
from haulier.adapters.sql.sqlite.database import SqliteDatabase
from haulier.core.session import LiveLimit
from haulier.testing.rows import record, upload, chunk

async def main():
    async with SqliteDatabase(Path(sys.argv[1])) as database:
        async def begin(number):
            session = upload(f"s{number}")
            async def work(tx):
                await tx.sessions.insert(session, limit=LiveLimit(of_owner=10**9))
                for index in range(3):
                    start, stop = session.chunk_range(index)
                    await tx.sessions.accept_chunk(session.id, 0, chunk(index, stop - start), now=1.0)
                await tx.records.insert(record(session.id))
            await database.write(work, durable=number % 7 == 0)
            print(session.id, flush=True)
        for first in range(0, 10**9, 16):
            await asyncio.gather(*(begin(first + number) for number in range(16)))

asyncio.run(main())
"""


def _write_until_killed(path: Path) -> list[str]:
    """Let another process write in crowds; kill it when it has had 200 answers; return those."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        answers = [next(writer.stdout).strip() for _ in range(200)]
        writer.send_signal(signal.SIGKILL)
        # The last line may be cut.
        return answers + [line.strip() for line in writer.stdout if line.endswith("\n")]


class TestReads:
    """Where they run; what they see is the contract suites' part."""

    @staticmethod
    async def places(database: SqliteDatabase) -> list[str]:
        """Read once; return the names of the threads that it ran in, one after the other."""
        seen: list[str] = []

        async def look(tx: SqlTransaction) -> bool:
            seen.append(threading.current_thread().name.split("_")[0])
            return await tx.capsules.exists("default")

        assert await database.read(look)
        return seen

    async def test_a_short_one_runs_at_once(self, database: SqliteDatabase) -> None:
        assert await self.places(database) == ["MainThread"]

    async def test_a_long_one_is_done_again_in_a_thread(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("haulier.adapters.sql.sqlite.database.STEP", 1)
        async with SqliteDatabase(path) as database:
            for _ in range(2):  # the connection that was interrupted is good for the next one
                assert (await self.places(database))[-1] == "haulier-sql-reader"

    async def test_many_short_statements_are_a_long_one(self, database: SqliteDatabase) -> None:
        places: list[str] = []

        async def look(count: int, tx: SqlTransaction) -> None:
            for _ in range(count):
                await tx.capsules.exists("default")
            places.append(threading.current_thread().name.split("_")[0])

        await database.read(partial(look, HASTY_STEPS // 2))
        await database.read(partial(look, HASTY_STEPS + 1))
        await database.read(partial(look, HASTY_STEPS // 2))
        assert places == ["MainThread", "haulier-sql-reader", "MainThread"]

    async def test_a_page_takes_as_many_statements_as_one_row(
        self, database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(3):
            await add_upload(database, upload(f"s{number}"), chunks=1)
            await arrived(database, f"r{number}")
        sessions = [SessionId(f"s{number}") for number in range(3)]
        blobs = [f"blob-r{number}" for number in range(4)]
        statements_of: list[object] = []
        real = SqliteExecutor._run

        def run(executor: SqliteExecutor, statement: Any, parameters: Any) -> sqlite3.Cursor:
            statements_of.append(statement)
            return real(executor, statement, parameters)

        monkeypatch.setattr(SqliteExecutor, "_run", run)

        async def listed(tx: SqlTransaction) -> Collection[Any]:
            return (await tx.records.list(RecordQuery())).items

        works: list[tuple[Callable[[SqlTransaction], Awaitable[Collection[Any]]], int, int]] = [
            (lambda tx: tx.sessions.marks(sessions), 3, 1),
            (lambda tx: tx.sessions.blob_keys(blobs), 0, 1),
            (lambda tx: tx.records.blob_keys(blobs), 3, 1),
            (listed, 3, 2),
            (lambda tx: tx.processing.left(after=None, limit=9), 3, 2),
            (lambda tx: tx.overview.live(after=None, limit=9), 3, 2),
        ]
        for work, rows, most in works:
            statements_of.clear()
            assert len(await database.read(work)) == rows
            assert len(statements_of) == most

    async def test_one_that_meets_a_lock_waits_for_it_in_a_thread(
        self, database: SqliteDatabase, path: Path
    ) -> None:
        with looking_into(path) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageUnavailable, match="SQLITE_BUSY"):
                await self.places(database)
        assert await self.places(database) == ["MainThread"]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a tiny file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=768k", "tmpfs", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


class TestFullDisk:
    async def test_a_full_disk_is_told_and_the_database_goes_on_afterwards(self, tiny_disk: Path) -> None:
        async with SqliteDatabase(tiny_disk / "haulier.db") as database:
            await add_upload(database, upload("a", size=2**30))
            ballast = tiny_disk / "ballast"
            _fill(ballast)
            accepted, refusal = await _accept_until_full(database)
            assert isinstance(refusal, StorageFull)
            session = await see(database, "a")
            assert session is not None
            assert session.missing_chunks(1) == [accepted]
            ballast.unlink()
            assert await database.write(
                lambda tx: tx.sessions.accept_chunk(SessionId("a"), 0, chunk(accepted), now=T0)
            )
            page = await database.read(lambda tx: tx.records.list(RecordQuery()))
            assert list(page.items) == []

    async def test_what_frees_room_is_written_on_a_full_disk(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", size=16 * SPARE_BYTES) as disk:
            async with SqliteDatabase(disk.path / "haulier.db") as database:
                await add_upload(database, upload("a", size=2**30))
                with disk.filled():
                    _, refusal = await _accept_until_full(database)
                    assert isinstance(refusal, StorageFull)
                    for fence in range(300):  # far more than what was kept has room for
                        claim = partial(_claim, fence=fence)
                        assert await database.write(claim, frees=True)
                    assert disk.free < SPARE_BYTES
                # There is room again: with the next transaction it is kept for the next time.
                for _ in range(2):
                    await database.write(lambda tx: tx.sessions.ask(SessionId("a"), 1))
                assert (disk.path / "haulier.db-spare").stat().st_size == SPARE_BYTES

    async def test_a_start_on_a_full_disk_is_told(self, tiny_disk: Path) -> None:
        _fill(tiny_disk / "ballast")
        with pytest.raises((StorageFull, StorageUnavailable)) as refused:
            await SqliteDatabase(tiny_disk / "haulier.db").open()
        assert isinstance(refused.value, StorageFull), refused.value


async def _claim(tx: SqlTransaction, *, fence: int) -> bool:
    return await tx.sessions.claim(SessionId("a"), fence, None, now=T0) is not None


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


async def _accept_until_full(database: SqliteDatabase) -> tuple[int, Exception]:
    """Accept chunks one by one; return how many were accepted, and the refusal of the next."""
    for index in range(1000):
        try:
            await database.write(
                lambda tx, index=index: tx.sessions.accept_chunk(SessionId("a"), 0, chunk(index), now=T0)  # type: ignore[misc]
            )
        except Exception as refusal:  # noqa: BLE001 - its type is what the test judges
            return index, refusal
    raise AssertionError("the disk was never full")


async def test_a_new_database_and_its_log_are_their_owners_only(database: SqliteDatabase, path: Path) -> None:
    await database.write(lambda tx: tx.capsules.exists("default"))
    for name in (path, f"{path}-wal", f"{path}-shm"):
        assert os.stat(name).st_mode & 0o777 == 0o600  # noqa: PTH116 - a check, of three names alike


def test_the_schema_of_this_version_is_the_newest_migration() -> None:
    with sa.create_engine("sqlite://").connect() as connection:
        assert ScriptDirectory.from_config(alembic_config(connection)).get_heads() == [SCHEMA]


async def test_a_second_start_imports_no_migrations(path: Path) -> None:
    async with SqliteDatabase(path):
        pass
    look = (
        "import asyncio, sys; from pathlib import Path; from haulier.adapters.sql.sqlite.database import SqliteDatabase\n"
        f"database = SqliteDatabase(Path({str(path)!r})); asyncio.run(database.open()); asyncio.run(database.close())\n"
        "sys.exit('alembic' in sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", look)
    assert await process.wait() == 0
