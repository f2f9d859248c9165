"""What is peculiar to PostgreSQL: schema, writers side by side, lost connections, restarts, notices.

One module although it is long: one class for each of these, on the same few fixtures.
"""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from structlog.testing import capture_logs

from haulier.adapters.sql.models import metadata
from haulier.adapters.sql.postgres.connection import options_of
from haulier.adapters.sql.postgres.database import MAX_WAITING, PostgresDatabase
from haulier.adapters.sql.postgres.listener import listen
from haulier.adapters.sql.upgrade import alembic_config
from haulier.core.errors import ConfigError, QuotaExceeded, StorageNotWritable, StorageUnavailable
from haulier.core.event import START, Interest, Position
from haulier.core.record import AssetKind, RecordId, RecordStatus
from haulier.core.session import LiveLimit, SessionId, SessionStatus
from haulier.ports import KeyTaken
from haulier.testing.event_rows_contract import append, event, events_after
from haulier.testing.rows import (
    T0,
    Upload,
    add_finishing,
    add_record,
    add_upload,
    asset,
    chunk,
    record,
    see,
    see_record,
    upload,
)
from tests.support.postgres import Cluster, empty_database, fresh_database, own_cluster

T = TypeVar("T")

DEADLINE_S = 60.0


@pytest.fixture
def url() -> Iterator[str]:
    with fresh_database() as url:
        yield url


@pytest.fixture
def empty() -> Iterator[str]:
    with empty_database() as url:
        yield url


@pytest.fixture
async def database(url: str) -> AsyncIterator[PostgresDatabase]:
    async with PostgresDatabase(url) as database:
        yield database


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One of our own, to be stopped and crashed."""
    with own_cluster() as cluster:
        yield cluster


def execute(url: str, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement beside the adapter."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def background(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run it beside the test, which awaits it."""
    return asyncio.get_running_loop().create_task(work)


def name_of(url: str) -> str:
    return str(options_of(url)["dbname"])


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=sa.NullPool
    )


def is_ours(name: str | None, kind: str, *_: object) -> bool:
    """Whether the models have it: not what only a migration makes, for a database of one kind."""
    return kind != "index" or name != "ix_records_names"


def described(url: str) -> dict[str, list[str]]:
    """Return every table as the database knows it, in an order that does not depend on its history."""
    inspector = sa.inspect(engine_of(url))
    return {
        table: sorted(
            json.dumps(fact, default=repr, sort_keys=True)
            for facts in (
                inspector.get_columns(table),
                [dict(inspector.get_pk_constraint(table))],
                inspector.get_foreign_keys(table),
                inspector.get_unique_constraints(table),
                inspector.get_check_constraints(table),
                [index for index in inspector.get_indexes(table) if is_ours(index["name"], "index")],
            )
            for fact in facts
        )
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


class TestPlace:
    @pytest.mark.parametrize(
        "url",
        ["", "haulier", "sqlite:///x", "postgresql://h/x?nonsense=secret", "postgresql://u:%zzsecret@h/x"],
    )
    def test_what_is_no_url_of_a_database_is_refused_without_its_words(self, url: str) -> None:
        with pytest.raises(ConfigError) as refused:
            PostgresDatabase(url)
        assert refused.value.setting == "database_url"
        assert "secret" not in str(refused.value)

    def test_a_place_has_no_password(self) -> None:
        place = PostgresDatabase("postgresql://u:secret@db.example:5433/rows?password=secret").place
        assert place == "PostgreSQL database rows at db.example"

    async def test_a_server_that_is_not_there_is_unavailable(self) -> None:
        with pytest.raises(StorageUnavailable, match="PostgreSQL database rows at /nowhere"):
            await PostgresDatabase("postgresql://u@/rows?host=/nowhere").open()

    async def test_a_database_that_is_not_there_is_unavailable(self, url: str) -> None:
        with pytest.raises(StorageUnavailable, match='database "none" does not exist'):
            await PostgresDatabase(url.replace(name_of(url), "none")).open()

    async def test_a_closed_database_refuses_and_opens_again(self, url: str) -> None:
        database = PostgresDatabase(url)
        await database.close()
        async with database:
            await add_upload(database, upload("a"))
        with pytest.raises(StorageUnavailable, match="closed"):
            await add_upload(database, upload("b"))
        with pytest.raises(StorageUnavailable, match="closed"):
            await see(database, "a")
        async with database:
            assert await see(database, "a") == upload("a")

    async def test_an_encoding_that_lacks_letters_is_refused(self) -> None:
        latin = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
        with empty_database(latin) as url, pytest.raises(ConfigError, match="UTF8, not LATIN1"):
            await PostgresDatabase(url).open()

    async def test_a_database_that_may_not_be_changed_is_told(self, empty: str) -> None:
        execute(
            empty,
            "DO 'BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END'",
        )
        with pytest.raises(StorageNotWritable, match="permission denied"):
            await PostgresDatabase(empty.replace("haulier@", "reader@")).open()


class TestSchema:
    async def test_the_migrations_make_exactly_the_models(self, url: str, empty: str) -> None:
        metadata.create_all(engine_of(empty))
        assert described(url) == described(empty)

    def test_alembic_finds_nothing_to_change(self, url: str) -> None:
        with engine_of(url).connect() as connection:
            opts = {"include_name": is_ours}
            assert compare_metadata(MigrationContext.configure(connection, opts=opts), metadata) == []

    def test_the_migrations_can_be_taken_back(self, empty: str) -> None:
        with engine_of(empty).begin() as connection:
            command.upgrade(alembic_config(connection), "head")
            command.downgrade(alembic_config(connection), "base")
        assert described(empty) == {}

    async def test_opening_again_changes_nothing(self, url: str) -> None:
        before = described(url)
        for _ in range(2):
            async with PostgresDatabase(url):
                pass
        assert described(url) == before

    async def test_a_database_of_a_newer_version_is_refused_untouched(self, url: str) -> None:
        execute(url, "UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(ConfigError, match="9999 is newer"):
            await PostgresDatabase(url).open()

    async def test_a_migration_that_fails_leaves_the_database_as_it_was(self, empty: str) -> None:
        execute(empty, "CREATE TABLE uploads (mine text)")
        with pytest.raises(StorageUnavailable, match="already exists"):
            await PostgresDatabase(empty).open()
        assert list(described(empty)) == ["uploads"]

    def test_four_services_start_at_once_on_a_new_database(self, empty: str) -> None:
        starts = [
            subprocess.Popen(
                [sys.executable, "-c", STARTER, empty, f"s{number}"],
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
        found = execute(empty, "SELECT id FROM uploads ORDER BY id")
        assert found == [("s0",), ("s1",), ("s2",), ("s3",)]

    async def test_a_start_waits_for_another_one_only_so_long(self, empty: str) -> None:
        from haulier.adapters.sql.postgres.connection import advisory_key

        with psycopg.connect(empty, autocommit=True) as other:
            other.execute("SELECT pg_advisory_lock(%s)", [advisory_key("migrations")])
            with pytest.raises(StorageUnavailable, match="lock timeout"):
                await PostgresDatabase(empty, patience_s=0.1).open()

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE uploads SET status = 'odd'",
            "UPDATE uploads SET status = 'finishing'",
            "UPDATE uploads SET size = -1",
            "UPDATE uploads SET expected_name = 'md5'",
            "UPDATE uploads SET capsule_id = 'none'",
            "UPDATE capsules SET reserved_bytes = -1",
            "UPDATE records SET deleted_at = 1",
            "INSERT INTO chunks VALUES ('none', 0, 1, '\\x00')",
        ],
    )
    async def test_rows_that_make_no_sense_are_refused(
        self, database: PostgresDatabase, url: str, change: str
    ) -> None:
        await add_upload(database, upload("a"))
        await add_record(database, record("r"))
        with pytest.raises(psycopg.IntegrityError):
            execute(url, change)


STARTER = """
import asyncio, sys
from haulier.adapters.sql.postgres.database import PostgresDatabase
from haulier.testing.rows import add_upload, upload

async def main():
    async with PostgresDatabase(sys.argv[1]) as database:
        await add_upload(database, upload(sys.argv[2]))

print("imported", flush=True)
sys.stdin.read()
asyncio.run(main())
"""


def begin(session: Upload, limit: LiveLimit) -> Callable[[Any], Awaitable[None]]:
    async def work(tx: Any) -> None:
        await tx.sessions.insert(session, limit=limit)

    return work


async def _accept(name: SessionId, tx: Any) -> bool:
    return bool(await tx.sessions.accept_chunk(name, 0, chunk(0), now=T0))


async def _abort(name: SessionId, tx: Any) -> bool:
    return bool(await tx.sessions.end(name, None, SessionStatus.ABORTED, error=None, now=T0))


class TestSideBySide:
    """Conditions that SQLite keeps by having one writer."""

    @pytest.fixture
    async def others(self, url: str, database: PostgresDatabase) -> AsyncIterator[list[PostgresDatabase]]:
        """Three services on one database."""
        async with PostgresDatabase(url) as second, PostgresDatabase(url) as third:
            yield [database, second, third]

    async def test_parallel_begins_never_pass_the_limit_of_their_owner(
        self, others: list[PostgresDatabase]
    ) -> None:
        begins = (others[n % 3].write(begin(upload(f"s{n}"), LiveLimit(of_owner=7))) for n in range(50))
        results = await asyncio.gather(*begins, return_exceptions=True)
        assert results.count(None) == 7
        assert sum(isinstance(result, QuotaExceeded) for result in results) == 43
        assert await others[0].read(lambda tx: tx.sessions.count_live(None, "local")) == 7

    async def test_parallel_begins_of_many_owners_never_pass_the_limit_of_their_address(
        self, others: list[PostgresDatabase]
    ) -> None:
        limit = LiveLimit(of_owner=9, address="here", of_address=7)
        begins = (
            others[n % 3].write(begin(upload(f"s{n}", owner=f"user:{n % 10}"), limit)) for n in range(50)
        )
        results = await asyncio.gather(*begins, return_exceptions=True)
        assert results.count(None) == 7
        assert [it.per for it in results if isinstance(it, QuotaExceeded)] == ["address"] * 43

    async def test_parallel_begins_with_one_key_make_one_session(
        self, others: list[PostgresDatabase]
    ) -> None:
        begins = (
            others[n % 3].write(begin(upload(f"s{n}", key="k"), LiveLimit(of_owner=99))) for n in range(30)
        )
        results = await asyncio.gather(*begins, return_exceptions=True)
        assert results.count(None) == 1
        assert sum(isinstance(result, KeyTaken) for result in results) == 29

    async def test_parallel_reservations_never_pass_the_quota(
        self, others: list[PostgresDatabase], url: str
    ) -> None:
        execute(url, "UPDATE capsules SET quota_bytes = 1000")
        reservations = (others[n % 3].write(lambda tx: tx.capsules.reserve("default", 90)) for n in range(50))
        results = await asyncio.gather(*reservations, return_exceptions=True)
        assert results.count(None) == 11
        assert sum(isinstance(result, QuotaExceeded) for result in results) == 39
        assert execute(url, "SELECT reserved_bytes FROM capsules") == [(990,)]

    async def test_no_chunk_is_accepted_by_a_session_that_ends_meanwhile(
        self, others: list[PostgresDatabase], url: str
    ) -> None:
        for number in range(30):
            name = SessionId(f"s{number}")
            await add_upload(others[0], upload(name))
            accepted, ended = await asyncio.gather(
                others[1].write(partial(_accept, name)),
                others[2].write(partial(_abort, name)),
            )
            assert ended
            found = execute(url, "SELECT 1 FROM chunks WHERE upload_id = %s", name)
            # The end forgets chunks that came before it.
            assert found in ([], [(1,)])
            assert accepted or not found

    async def test_a_finish_waits_for_a_chunk_that_is_being_forgotten(
        self, others: list[PostgresDatabase]
    ) -> None:
        session = await add_finishing(others[0], upload("a"))
        await others[0].write(lambda tx: tx.sessions.reopen(session.id, session.fence, "wrong", now=T0))
        forgotten, go_on = asyncio.Event(), asyncio.Event()

        async def forget(tx: Any) -> bool:
            dropped = await tx.sessions.forget_chunk(session.id, 0, now=T0)
            forgotten.set()
            await go_on.wait()
            return bool(dropped)

        forgetting = background(others[1].write(forget))
        await forgotten.wait()
        finishing = background(
            others[2].write(lambda tx: tx.sessions.start_finish(session.id, "b", "w", now=T0))
        )
        await _until_somebody_waits(others[0])
        go_on.set()
        assert await forgetting
        assert await finishing is None

    @pytest.mark.parametrize("late", ["restore", "picture"])
    async def test_a_record_never_comes_back_without_the_assets_that_are_being_dropped(
        self, others: list[PostgresDatabase], late: str
    ) -> None:
        await add_record(others[0], record("r"), original="b")
        await others[0].write(lambda tx: tx.records.delete(RecordId("r"), now=T0, keep_assets=False))
        dropped, go_on = asyncio.Event(), asyncio.Event()

        async def drop(tx: Any) -> int:
            assets = await tx.records.drop_assets(RecordId("r"))
            dropped.set()
            await go_on.wait()
            return len(assets)

        async def come_late(tx: Any) -> bool:
            if late == "restore":
                return bool(await tx.records.restore(RecordId("r")))
            return bool(await tx.records.add_asset(RecordId("r"), asset("p", AssetKind.DISPLAY)))

        dropping = background(others[1].write(drop))
        await dropped.wait()
        coming = background(others[2].write(come_late))
        await _until_somebody_waits(others[0])
        go_on.set()
        assert await dropping == 1
        assert not await coming

    async def test_a_reader_never_skips_an_event_that_is_committed_late(
        self, others: list[PostgresDatabase]
    ) -> None:
        written, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(tx: Any) -> None:
            await tx.events.append(event("early"))
            written.set()
            await go_on.wait()

        writing = background(others[1].write(slowly))
        await written.wait()
        await append(others[2], event("late"))
        place = await others[0].read(lambda tx: tx.events.last_settled())
        # The later one is committed, but the earlier one may still come before it.
        assert await others[0].read(lambda tx: tx.events.after(START, limit=9)) == ([], False)
        # Nor is whoever is interested in neither of them brought past the place of the earlier one.
        nothing = Interest(frozenset())
        assert await others[0].read(lambda tx: tx.events.after(START, limit=9, interest=nothing)) == (
            [],
            True,
        )
        go_on.set()
        await writing
        for start in (START, place):
            assert [told.event.record for told in await events_after(others[0], start)] == ["early", "late"]
        assert [told.event.record for told in await events_after(others[0], interest=nothing)] == ["late"]

    async def test_an_event_that_is_rolled_back_holds_nobody_up(self, others: list[PostgresDatabase]) -> None:
        written, go_on = asyncio.Event(), asyncio.Event()

        async def fail(tx: Any) -> None:
            await tx.events.append(event("never"))
            written.set()
            await go_on.wait()
            raise QuotaExceeded("bytes", 1, "capsule")

        writing = background(others[1].write(fail))
        await written.wait()
        await append(others[2], event("late"))
        go_on.set()
        with pytest.raises(QuotaExceeded):
            await writing
        assert [told.event.record for told in await events_after(others[0])] == ["late"]

    async def test_readers_beside_many_writers_see_every_event_once_in_one_order(
        self, others: list[PostgresDatabase]
    ) -> None:
        async def write_all(number: int) -> None:
            for turn in range(20):
                await append(others[number], event(f"{number}-{turn}-a"), event(f"{number}-{turn}-b"))

        async def read_all(database: PostgresDatabase) -> list[str]:
            seen: list[str] = []
            place = START
            while len(seen) < 120:
                found, _ = await database.read(partial(_after, place))
                seen += [told.event.record for told in found]
                place = found[-1].position if found else place
            return seen

        async with asyncio.timeout(DEADLINE_S):
            first, second, *_ = await asyncio.gather(
                read_all(others[0]), read_all(others[1]), *(write_all(number) for number in range(3))
            )
        assert first == second
        assert len(set(first or ())) == 120

    async def test_each_ended_session_is_purged_by_one(self, others: list[PostgresDatabase]) -> None:
        async def add(tx: Any) -> None:
            for number in range(40):
                await tx.sessions.insert(upload(f"s{number}"), limit=LiveLimit(of_owner=99))
                await tx.sessions.end(
                    SessionId(f"s{number}"), None, SessionStatus.ABORTED, error=None, now=T0
                )

        await others[0].write(add)
        purged = await asyncio.gather(
            *(one.write(lambda tx: tx.sessions.purge(before=T0 + 1, limit=40)) for one in others)
        )
        assert sorted(session.id for batch in purged for session in batch) == sorted(
            f"s{n}" for n in range(40)
        )

    async def test_a_purge_sees_the_record_that_takes_an_upload_meanwhile(
        self, others: list[PostgresDatabase]
    ) -> None:
        """It found the upload without a record, and frees the bytes of what it removed: so it must know of it now."""
        committed = await _add_committed(others[0])
        taken, go_on = asyncio.Event(), asyncio.Event()

        async def take(tx: Any) -> bool:
            held: bool = await tx.sessions.settle(
                committed.id, committed.details.attached(RecordId("r")), instead_of=committed.details
            )
            taken.set()
            await go_on.wait()
            return held

        taking = background(others[1].write(take))
        await taken.wait()
        purging = background(others[2].write(lambda tx: tx.sessions.purge(before=T0 + 99, limit=9)))
        await _until_somebody_waits(others[0])
        go_on.set()
        assert await taking
        (purged,) = await purging
        assert purged.details.record == RecordId("r")

    async def test_no_record_takes_an_upload_that_is_purged_meanwhile(
        self, others: list[PostgresDatabase]
    ) -> None:
        committed = await _add_committed(others[0])
        removed, go_on = asyncio.Event(), asyncio.Event()

        async def purge(tx: Any) -> list[Upload]:
            batch: list[Upload] = await tx.sessions.purge(before=T0 + 99, limit=9)
            removed.set()
            await go_on.wait()
            return batch

        purging = background(others[1].write(purge))
        await removed.wait()
        details = committed.details
        taking = background(
            others[2].write(
                lambda tx: tx.sessions.settle(
                    committed.id, details.attached(RecordId("r")), instead_of=details
                )
            )
        )
        await _until_somebody_waits(others[0])
        go_on.set()
        (purged,) = await purging
        assert purged.details.record is None
        assert not await taking


async def _add_committed(database: PostgresDatabase) -> Upload:
    """Add a committed upload that no record has."""
    finishing = await add_finishing(database, upload("a"))
    assert await database.write(
        lambda tx: tx.sessions.commit(finishing.id, finishing.fence, finishing.details, now=T0 + 2)
    )
    committed = await see(database, "a")
    assert committed is not None
    return committed


async def _after(place: Position, tx: Any) -> Any:
    return await tx.events.after(place, limit=7)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - another process has nobody to tell
            await asyncio.sleep(0.005)


async def _until_somebody_waits(database: PostgresDatabase) -> None:
    """Wait until a transaction waits for a lock of another."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    await until(lambda: bool(execute_on(database, waiting)))


def execute_on(database: PostgresDatabase, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement beside the adapter, on its database."""
    with psycopg.connect(**database._options, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def connections_of(database: PostgresDatabase) -> list[tuple[Any, ...]]:
    """Return the connections to its database, but the one that looks."""
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    return execute_on(database, f"SELECT pid FROM pg_stat_activity WHERE {others}")


class TestTransientErrors:
    """What failed before its commit is tried again; nobody notices."""

    async def test_connections_that_were_cut_while_idle_are_replaced(
        self, database: PostgresDatabase
    ) -> None:
        await asyncio.gather(*(see(database, "a") for _ in range(20)))
        cut_all(database)
        await add_upload(database, upload("a"))
        assert await see(database, "a") == upload("a")

    async def test_work_that_is_cut_is_done_again(self, database: PostgresDatabase) -> None:
        tries = 0

        async def work(tx: Any) -> None:
            nonlocal tries
            tries += 1
            await tx.sessions.insert(upload("a"), limit=LiveLimit(of_owner=9))
            if tries < 3:
                await asyncio.to_thread(cut_all, database)
            await tx.sessions.insert(upload("b"), limit=LiveLimit(of_owner=9))

        await database.write(work)
        assert tries == 3
        assert {
            session.id
            for session in await database.read(lambda tx: tx.sessions.live(after=None, limit=10_000))
        } == {"a", "b"}

    async def test_of_two_that_lock_each_other_out_both_succeed(self, database: PostgresDatabase) -> None:
        await add_upload(database, upload("a"))
        await add_upload(database, upload("b"))
        met = asyncio.Barrier(2)
        first = True

        def touch(*names: str) -> Callable[[Any], Awaitable[None]]:
            async def work(tx: Any) -> None:
                nonlocal first
                await tx.sessions.touch(SessionId(names[0]), now=T0)
                if first:
                    await met.wait()
                    first = False
                await tx.sessions.touch(SessionId(names[1]), now=T0)

            return work

        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(database.write(touch("a", "b")), database.write(touch("b", "a")))

    async def test_a_row_that_stays_locked_is_unavailable(self, url: str) -> None:
        async with PostgresDatabase(url, patience_s=0.5) as database:
            await add_upload(database, upload("a"))
            with psycopg.connect(url) as other:
                other.execute("SELECT 1 FROM uploads FOR UPDATE")
                with pytest.raises(
                    StorageUnavailable, match="55P03: canceling statement due to lock timeout"
                ):
                    await database.write(lambda tx: tx.sessions.touch(SessionId("a"), now=T0))
                assert await see(database, "a") == upload("a")
            assert await database.write(lambda tx: tx.sessions.touch(SessionId("a"), now=T0))

    async def test_a_short_lock_is_waited_out(self, database: PostgresDatabase, url: str) -> None:
        await add_upload(database, upload("a"))
        async with await psycopg.AsyncConnection.connect(url) as other:
            await other.execute("SELECT 1 FROM uploads FOR UPDATE")
            touching = background(database.write(lambda tx: tx.sessions.touch(SessionId("a"), now=T0)))
            await _until_somebody_waits(database)
        assert await touching

    async def test_an_error_that_stays_is_told_with_its_detail(
        self, database: PostgresDatabase, url: str
    ) -> None:
        execute(url, "ALTER TABLE chunks RENAME TO elsewhere")
        with pytest.raises(StorageUnavailable, match='42P01: relation "chunks" does not exist'):
            await see(database, (await add_upload(database, upload("a"))))


class Way:
    """A way to the database, on which somebody looks on."""

    def __init__(self, url: str) -> None:
        self._socket = f"{options_of(url)['host']}/.s.PGSQL.5432"
        self._handlers: set[asyncio.Task[Any]] = set()
        self.lose = asyncio.Event()
        """Once it is set, the answer to a COMMIT is lost with the connection."""
        self.turns = 0
        """How often something was said after an answer."""
        self._answered = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what one connection says, and what it is answered."""
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        far_reader, far_writer = await asyncio.open_unix_connection(self._socket)
        lost: list[bool] = []
        await asyncio.gather(
            self._pass_on(reader, far_writer, lost), self._pass_back(far_reader, writer, lost)
        )

    async def ended(self) -> None:
        """Wait until nobody speaks any more."""
        await asyncio.gather(*self._handlers)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: list[bool]
    ) -> None:
        while data := await reader.read(65536):
            self.turns += self._answered
            self._answered = False
            if self.lose.is_set() and b"COMMIT\0" in data:
                lost.append(True)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def _pass_back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: list[bool]
    ) -> None:
        while (data := await reader.read(65536)) and not lost:
            self._answered = True
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def way_to(url: str) -> AsyncIterator[tuple[str, Way]]:
    """Another URL of the database, and the way that leads there."""
    way = Way(url)
    server = await asyncio.start_server(way.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    name = options_of(url)["dbname"]
    async with server:
        yield f"postgresql://haulier@127.0.0.1:{port}/{name}?sslmode=disable&gssencmode=disable", way
        await way.ended()


class TestRoundTrips:
    """What a request waits for, and what it costs."""

    @pytest.fixture
    async def watched(self, url: str) -> AsyncIterator[tuple[PostgresDatabase, Way]]:
        """One connection, on which everything here was said before."""
        async with way_to(url) as (seen, way), PostgresDatabase(seen, connections=1) as database:
            await add_upload(database, upload("a"), chunks=1)
            for _ in range(2):
                await self.look(database)
                await self.look_twice(database)
            yield database, way

    @staticmethod
    async def look(database: PostgresDatabase) -> None:
        assert await database.read(lambda tx: tx.sessions.peek_chunk(SessionId("a"), 0)) is not None

    @staticmethod
    async def look_twice(database: PostgresDatabase) -> None:
        async def work(tx: Any) -> None:
            await tx.sessions.peek(SessionId("a"))
            await tx.capsules.exists("default")

        await database.read(work)

    async def test_an_acceptance_takes_two(self, watched: tuple[PostgresDatabase, Way]) -> None:
        database, way = watched
        before = way.turns
        assert await database.write(partial(_accept_more, 1))
        assert way.turns - before == 2

    async def test_a_read_of_one_statement_takes_one(self, watched: tuple[PostgresDatabase, Way]) -> None:
        database, way = watched
        before = way.turns
        await self.look(database)
        assert way.turns - before == 1

    async def test_a_read_of_two_begins_and_ends_beside_them(
        self, watched: tuple[PostgresDatabase, Way]
    ) -> None:
        database, way = watched
        before = way.turns
        await self.look_twice(database)
        assert way.turns - before == 4

    async def test_what_asks_for_nothing_takes_none(self, watched: tuple[PostgresDatabase, Way]) -> None:
        async def nothing(_: Any) -> int:
            return 5

        database, way = watched
        before = way.turns
        assert (await database.read(nothing), await database.write(nothing)) == (5, 5)
        with pytest.raises(ZeroDivisionError):
            await database.write(_fail)
        assert way.turns == before

    async def test_a_read_of_more_sees_one_moment_the_first_time_too(
        self, database: PostgresDatabase, url: str
    ) -> None:
        await add_upload(database, upload("a"))
        seen: list[int] = []

        async def look(tx: Any) -> None:
            seen.append((await tx.sessions.peek(SessionId("a"))).fence)
            execute(url, "UPDATE uploads SET fence = fence + 1")
            seen.append((await tx.sessions.peek(SessionId("a"))).fence)

        await database.read(look)
        # What was read before it was known that there is more is read again.
        assert seen == [0, 1, 1]

    async def test_a_read_writes_nothing_by_one_statement_either(self, database: PostgresDatabase) -> None:
        await add_upload(database, upload("a"))
        with pytest.raises(StorageNotWritable):
            await database.read(lambda tx: tx.sessions.touch(SessionId("a"), now=T0 + 1))


async def _accept_more(index: int, tx: Any) -> bool:
    return bool(await tx.sessions.accept_chunk(SessionId("a"), 0, chunk(index), now=T0))


async def _fail(_: Any) -> None:
    raise ZeroDivisionError


async def test_the_time_is_the_servers(database: PostgresDatabase, url: str) -> None:
    asked = "SELECT extract(epoch FROM clock_timestamp())::float8"
    ((before,),) = execute(url, asked)
    now = await database.now()
    ((after,),) = execute(url, asked)
    assert before <= now <= after


class TestHurry:
    """A process that is to end waits for no transaction that hangs."""

    async def test_one_that_takes_too_long_lets_all_fail_at_once(self, url: str) -> None:
        async with PostgresDatabase(url, patience_s=600) as database:
            await add_upload(database, upload("a"))
            async with await psycopg.AsyncConnection.connect(url) as other:
                await other.execute("SELECT 1 FROM uploads FOR UPDATE")
                touching = background(database.write(lambda tx: tx.sessions.touch(SessionId("a"), now=T0)))
                await _until_somebody_waits(database)
                database.hurry(0.1)
                with pytest.raises(StorageUnavailable, match="does not answer"):
                    await touching
                with pytest.raises(StorageUnavailable, match="does not answer"):
                    await see(database, "a")

    async def test_one_that_begins_later_has_no_more_time(self, url: str) -> None:
        async with PostgresDatabase(url, patience_s=600) as database:
            await add_upload(database, upload("a"))
            database.hurry(0.1)
            async with await psycopg.AsyncConnection.connect(url) as other:
                await other.execute("SELECT 1 FROM uploads FOR UPDATE")
                with pytest.raises(StorageUnavailable, match="does not answer"):
                    await database.write(lambda tx: tx.sessions.touch(SessionId("a"), now=T0))

    async def test_a_database_that_answers_does_so_to_the_end(self, database: PostgresDatabase) -> None:
        adding = background(add_upload(database, upload("a")))
        await asyncio.sleep(0)
        database.hurry(DEADLINE_S)
        await adding
        await add_upload(database, upload("b"))
        assert await see(database, "b") == upload("b")

    async def test_whoever_waits_is_told_when_it_closes_under_them(self, url: str) -> None:
        database = PostgresDatabase(url, patience_s=600)
        await database.open()
        await add_upload(database, upload("a"))
        async with await psycopg.AsyncConnection.connect(url) as other:
            await other.execute("SELECT 1 FROM uploads FOR UPDATE")
            touching = background(database.write(lambda tx: tx.sessions.touch(SessionId("a"), now=T0)))
            await _until_somebody_waits(database)
            database.hurry(0.1)
            await database.close()
            with pytest.raises(StorageUnavailable, match="does not answer"):
                await touching
        await database.open()
        assert await database.write(lambda tx: tx.sessions.touch(SessionId("a"), now=T0))
        await database.close()


def cut_all(database: PostgresDatabase) -> None:
    """End every other connection to this database, from the server's side."""
    execute_on(
        database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


class TestCommits:
    """Nobody knows what came of a commit whose answer is lost; that is never repeated."""

    async def test_a_commit_that_is_cut_is_told_and_not_repeated(
        self, database: PostgresDatabase, url: str
    ) -> None:
        execute(
            url,
            "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';"
            "CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON uploads DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION cut()",
        )
        tries = 0

        async def work(tx: Any) -> None:
            nonlocal tries
            tries += 1
            await tx.sessions.insert(upload("a"), limit=LiveLimit(of_owner=9))

        with pytest.raises(StorageUnavailable, match="committed or not"):
            await database.write(work)
        assert tries == 1
        assert await see(database, "a") is None

    async def test_a_commit_whose_answer_is_lost_is_told_and_not_repeated(self, url: str) -> None:
        async with way_to(url) as (lossy, way), PostgresDatabase(lossy) as database:
            await add_upload(database, upload("a"))
            way.lose.set()
            with pytest.raises(StorageUnavailable, match="committed or not"):
                await add_upload(database, upload("b"))
            way.lose.clear()
            # Whoever repeats it finds what came of it.
            assert await see(database, "b") == upload("b")

    async def test_a_commit_that_is_refused_is_done_again(self, database: PostgresDatabase, url: str) -> None:
        execute(
            url,
            "CREATE SEQUENCE tries;"
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN IF nextval(''tries'') < 3 THEN"
            " RAISE EXCEPTION ''again'' USING ERRCODE = ''40001''; END IF; RETURN NULL; END';"
            "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON uploads DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        await add_upload(database, upload("a"))
        assert execute(url, "SELECT last_value FROM tries") == [(3,)]

    async def test_commits_wait_for_the_disk_whatever_the_server_is_told(self, url: str) -> None:
        execute(url, f"ALTER DATABASE {name_of(url)} SET synchronous_commit = off")
        levels: list[str] = []

        async def look(tx: Any) -> None:
            await tx.sessions._sql.execute(b"SHOW synchronous_commit", {})
            levels.append((await tx.sessions._sql._cursor.fetchone())["synchronous_commit"])

        async with PostgresDatabase(url, connections=1) as database:
            for durable in (False, True, False):
                await database.write(look, durable=durable)
        assert levels == ["local", "on", "local"]

    async def test_work_that_goes_on_after_a_failed_statement_is_a_mistake(
        self, database: PostgresDatabase
    ) -> None:
        async def work(tx: Any) -> None:
            with pytest.raises(psycopg.IntegrityError):
                await tx.sessions.insert(upload("a", scope="none"), limit=LiveLimit(of_owner=9))

        with pytest.raises(AssertionError, match="must not go on"):
            await database.write(work)


class TestRestarts:
    """The database crashes in the middle."""

    async def test_what_was_answered_survives_a_crash_in_the_middle_of_writes(self, cluster: Cluster) -> None:
        cluster.execute("DROP DATABASE IF EXISTS crashed WITH (FORCE)")
        cluster.execute("CREATE DATABASE crashed")
        answered: list[str] = []
        stop = asyncio.Event()

        async def begin(database: PostgresDatabase, line: int) -> None:
            number = 0
            while not stop.is_set():
                name = f"s{line}-{number}"
                number += 1
                try:
                    await add_upload(database, upload(name), chunks=3)
                except StorageUnavailable:
                    continue
                answered.append(name)

        async def crash() -> None:
            for _ in range(3):
                seen = len(answered)
                await until(lambda seen=seen: len(answered) >= seen + 50)  # type: ignore[misc]
                await asyncio.to_thread(cluster.restart, "immediate")
            stop.set()

        async with PostgresDatabase(cluster.url("crashed")) as database:
            async with asyncio.timeout(120):
                await asyncio.gather(crash(), *(begin(database, line) for line in range(12)))
            live = {
                session.id: session
                for session in await database.read(lambda tx: tx.sessions.live(after=None, limit=10_000))
            }
            assert live.keys() >= set(answered)
            for name in live:
                loaded = await see(database, name)
                assert loaded is not None
                assert loaded.complete

    async def test_a_standby_is_as_good_as_no_database_and_left_once_the_address_leads_elsewhere(
        self, cluster: Cluster, tmp_path: Path
    ) -> None:
        """As while one server takes over from another: it would read what is old, and write nothing for ever."""
        cluster.execute("DROP DATABASE IF EXISTS taken WITH (FORCE)")
        cluster.execute("CREATE DATABASE taken")
        address = tmp_path / "address"

        def lead_to(server: Cluster) -> None:
            address.unlink(missing_ok=True)
            address.symlink_to(server.root)
            cluster.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'taken'"
                " AND backend_type = 'client backend'"
            )

        lead_to(cluster)
        url = f"postgresql://haulier@/taken?host={quote(str(address), safe='')}"
        async with PostgresDatabase(url, patience_s=1) as database:
            await add_upload(database, upload("a"))
            with cluster.followed() as standby:
                await asyncio.to_thread(lead_to, standby)
                with pytest.raises(StorageUnavailable, match="hot standby"):
                    await add_upload(database, upload("b"))
                with pytest.raises(StorageUnavailable, match="hot standby"):
                    await see(database, "a")
                with pytest.raises(StorageUnavailable, match="hot standby"):
                    await PostgresDatabase(url, patience_s=1).open()
                await asyncio.to_thread(lead_to, cluster)
                await add_upload(database, upload("b"))
                assert await see(database, "b") is not None

    async def test_a_database_that_stays_away_is_unavailable_until_it_is_back(self, cluster: Cluster) -> None:
        cluster.execute("DROP DATABASE IF EXISTS away WITH (FORCE)")
        cluster.execute("CREATE DATABASE away")
        async with PostgresDatabase(cluster.url("away"), patience_s=1) as database:
            await add_upload(database, upload("a"))
            await asyncio.to_thread(cluster.stop)
            try:
                with pytest.raises(StorageUnavailable, match="PostgreSQL database away"):
                    await add_upload(database, upload("b"))
                with pytest.raises(StorageUnavailable):
                    await see(database, "a")
            finally:
                await asyncio.to_thread(cluster.start)
            await add_upload(database, upload("b"))
            assert await see(database, "a") == upload("a")


class TestSupport:
    def test_a_cluster_that_was_killed_does_not_answer_although_its_files_are_there(self) -> None:
        with own_cluster() as cluster:
            assert cluster.answers()
            postmaster = int((cluster.data / "postmaster.pid").read_text().split()[0])
            ended = os.pidfd_open(postmaster)
            os.kill(postmaster, signal.SIGKILL)
            assert select.select([ended], [], [], DEADLINE_S)[0]
            os.close(ended)
            assert not cluster.answers()
            assert (cluster.root / ".s.PGSQL.5432").exists()


class TestCallers:
    async def test_a_caller_that_leaves_does_not_interrupt_its_transaction(
        self, database: PostgresDatabase
    ) -> None:
        entered, go_on = asyncio.Event(), asyncio.Event()

        async def work(tx: Any) -> None:
            await tx.sessions.insert(upload("a"), limit=LiveLimit(of_owner=9))
            entered.set()
            await go_on.wait()

        caller = background(database.write(work))
        await entered.wait()
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        go_on.set()
        await database.close()
        await database.open()
        assert await see(database, "a") == upload("a")

    async def test_a_database_that_never_answers_is_unavailable_in_the_end(self, url: str) -> None:
        async def work(_: Any) -> None:
            await asyncio.Event().wait()

        async with PostgresDatabase(url, patience_s=0.1, connections=1) as database:
            with pytest.raises(StorageUnavailable, match="does not answer"):
                await database.write(work)
            assert await see(database, "a") is None

    async def test_transactions_that_wait_are_bounded(self, url: str) -> None:
        async def work(_: Any) -> None:
            """Do nothing."""

        async with PostgresDatabase(url, patience_s=600) as database:
            jobs = (database.write(work) for _ in range(MAX_WAITING + 1))
            results = await asyncio.gather(*jobs, return_exceptions=True)
        assert sum(isinstance(result, StorageUnavailable) for result in results) == 1
        assert results.count(None) == MAX_WAITING

    async def test_connections_are_bounded(self, url: str) -> None:
        async with PostgresDatabase(url, connections=3) as database:
            await asyncio.gather(*(see(database, "a") for _ in range(50)))
            assert len(connections_of(database)) == 3

    async def test_a_server_that_gives_few_connections_serves_all(
        self, database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, opened = database._connect, list[Any]()

        async def connect() -> Any:
            if len(opened) == 2:
                raise psycopg.OperationalError("sorry, too many clients already")
            opened.append(None)
            return await real()

        monkeypatch.setattr(database._pool, "_connect", connect)
        with capture_logs() as logs:
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.gather(*(add_upload(database, upload(f"u{number}")) for number in range(50)))
        assert logs == []

    async def test_who_waits_for_a_connection_that_comes_back_broken_opens_another(
        self, database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, refused = database._connect, asyncio.Event()
        go_on = asyncio.Event()

        async def connect() -> Any:
            if database._pool._out == 2:
                refused.set()
                raise psycopg.OperationalError("sorry, too many clients already")
            return await real()

        async def hold(tx: Any) -> None:
            await tx.sessions.count_live(None, "local")
            await go_on.wait()
            await tx.sessions.count_live(None, "local")

        monkeypatch.setattr(database._pool, "_connect", connect)
        holding = background(database.write(hold))
        await until(lambda: database._pool._out == 1)
        adding = background(add_upload(database, upload("a")))
        await refused.wait()
        cut_all(database)
        go_on.set()
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(holding, adding)

    async def test_a_read_writes_nothing(self, database: PostgresDatabase) -> None:
        with pytest.raises(StorageNotWritable):
            await database.read(lambda tx: tx.sessions.insert(upload("a"), limit=LiveLimit(of_owner=9)))
        assert await see(database, "a") is None

    async def test_mistakes_of_ours_stay_loud(self, database: PostgresDatabase) -> None:
        await add_record(database, record("r"))
        with pytest.raises(psycopg.IntegrityError):
            await add_record(database, record("r"))
        with pytest.raises(psycopg.IntegrityError):
            await database.write(lambda tx: tx.capsules.release("default", 1))
        with pytest.raises(AssertionError, match="cannot go"):
            await database.write(
                lambda tx: tx.records.end(RecordId("r"), RecordStatus.PROCESSING, error=None, now=T0)
            )
        assert await see_record(database, "r") == record("r")

    async def test_a_wrong_statement_of_ours_is_no_trouble_of_the_storage(
        self, database: PostgresDatabase
    ) -> None:
        for statement in (sa.select(sa.func.no_such_function()), sa.select(sa.column("no_such_column"))):
            with pytest.raises(psycopg.ProgrammingError, match="no_such"):
                await database.read(lambda tx, it=statement: tx.capsules._sql.rows(it, {}))  # type: ignore[misc]
        assert await database.read(lambda tx: tx.capsules.exists("default"))

    async def test_paths_are_listed_in_the_order_of_their_code_points(
        self, database: PostgresDatabase
    ) -> None:
        from haulier.ports import RecordQuery

        for path in ("a/b", "a-b", "aB", "A/b", "ä/b", "a/\U0001f600"):
            await add_record(database, record(path, path=path), original=f"blob {path}")
        page = await database.read(lambda tx: tx.records.list(RecordQuery(path_prefix="a/")))
        assert {row.path for row in page.items} == {"a/b", "a/\U0001f600"}


class TestNotices:
    async def test_a_notice_reaches_every_listener(self, database: PostgresDatabase, url: str) -> None:
        async with (
            asyncio.timeout(DEADLINE_S),
            PostgresDatabase(url) as other,
            aclosing(database.listen("here")) as first,
            aclosing(other.listen("here")) as second,
        ):
            assert await anext(first) is None
            assert await anext(second) is None
            await other.notify("here", "1")
            await other.notify("elsewhere", "2")
            await database.notify("here", "3")
            for listener in (first, second):
                assert [await anext(listener), await anext(listener)] == ["1", "3"]

    async def test_a_listener_that_was_cut_says_that_notices_may_be_missing(
        self, database: PostgresDatabase
    ) -> None:
        async with asyncio.timeout(DEADLINE_S), aclosing(database.listen("here")) as notices:
            assert await anext(notices) is None
            for number in range(3):
                cut_all(database)
                assert await anext(notices) is None
                await database.notify("here", str(number))
                assert await anext(notices) == str(number)

    async def test_a_listener_that_cannot_come_back_says_each_reason_once(
        self, database: PostgresDatabase
    ) -> None:
        reasons = ["no route", "no route", "no route", "no\nroom", "no room"]

        async def connect() -> Any:
            if reasons:
                raise psycopg.OperationalError(reasons.pop(0))
            return await database._connect()

        with capture_logs() as logs:
            async with asyncio.timeout(DEADLINE_S), aclosing(listen(connect, "here", lambda: 0.0)) as notices:
                assert await anext(notices) is None
        assert [(event["event"], event.get("error")) for event in logs] == [
            ("database.listener_lost", "OperationalError: no route"),
            ("database.listener_lost", "OperationalError: no room"),
            ("database.listener_back", None),
        ]

    async def test_a_listener_outlives_whatever_its_driver_says(
        self, database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, errors = psycopg.AsyncConnection.notifies, [psycopg.InterfaceError("the connection is closed")]

        def notifies(connection: Any) -> Any:
            if errors:
                raise errors.pop()
            return real(connection)

        monkeypatch.setattr(psycopg.AsyncConnection, "notifies", notifies)
        async with asyncio.timeout(DEADLINE_S), aclosing(database.listen("here")) as notices:
            assert await anext(notices) is None
            await database.notify("here", "1")
            assert await anext(notices) == "1"

    async def test_a_listener_outlives_a_restart(self, cluster: Cluster) -> None:
        database = PostgresDatabase(cluster.url())
        async with asyncio.timeout(DEADLINE_S), aclosing(database.listen("here")) as notices:
            assert await anext(notices) is None
            await asyncio.to_thread(cluster.restart, "immediate")
            assert await anext(notices) is None

    async def test_a_cancelled_listener_gives_its_connection_up(self, database: PostgresDatabase) -> None:
        async def listen() -> None:
            async with aclosing(database.listen("here")) as notices:
                async for _ in notices:
                    listening.set()

        listening = asyncio.Event()
        task = background(listen())
        await listening.wait()
        task.cancel()
        await asyncio.wait([task])
        await until(lambda: not connections_of(database))
