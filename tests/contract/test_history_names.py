"""Histories searched by a part of a name: what is far down is found as in memory, and not by reading all before it."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.dialects import sqlite

from haulier.adapters.memory.rows import MemoryDatabase
from haulier.adapters.sql import searches
from haulier.adapters.sql.database import open_database
from haulier.adapters.sql.upgrade import alembic_config
from haulier.adapters.sql.walks import Shape
from haulier.core.record import Record, RecordStatus
from haulier.core.upload import UploadDetails
from haulier.core.values import replace
from haulier.ports import HistoryQuery
from haulier.testing.rows import T0, Database, add_record, record
from tests.support.databases import alchemy_url
from tests.support.postgres import fresh_database

KINDS: Final = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
OWNERS: Final = ("user:me", "user:else")
NAMES: Final = (
    "report.json",
    "Größe 1.csv",
    'a"b" AND c.txt',
    "100%_!.txt",
    "写真 2026.jpg",
    "repository.txt",
    "ab.txt",
)
PARTS: Final = (
    *NAMES,
    "rep",
    "REP",
    "größ",
    '"b"',
    'b" and',
    "%_!",
    "写真 2",
    "写真",
    "a",
    "port.j",
    "nothing",
    "a\0bc",
)


@pytest.fixture(autouse=True)
def short_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nearly everything be far."""
    monkeypatch.setattr(searches, "NEAR", 3)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    if request.param == "sqlite":
        async with open_database(tmp_path / "haulier.db") as database:
            yield database
    else:
        with fresh_database() as url:
            async with open_database(url) as database:
                yield database


async def add(database: Database, row: Record) -> None:
    await add_record(database, row, original=f"blob of {row.id}" if row.id[-1] in "02468" else None)


async def found(database: Database, query: HistoryQuery) -> list[str]:
    page = await database.read(lambda tx: tx.history.page(query))
    return [row["id"] for row in page.items]


async def test_what_is_found_is_what_memory_finds(database: Database) -> None:
    draw = random.Random(20)
    memory: MemoryDatabase[UploadDetails] = MemoryDatabase()
    for number in range(60):
        row = record(
            f"r{number:02}",
            owner=draw.choice(OWNERS),
            filename=draw.choice(NAMES),
            path=draw.choice([None, "in/a", "in/b"]),
            # Out of order, and of one moment often.
            begun_at=T0 + draw.randrange(20) + draw.choice([0, 0.3333333]),
        )
        await add(memory, row)
        await add(database, row)
    seen = 0
    for part in PARTS:
        for _ in range(12):
            after = (T0 + draw.randrange(20), f"r{draw.randrange(60):02}")
            query = HistoryQuery(
                owner="user:me",
                filename=part,
                limit=draw.choice([1, 2, 50]),
                skip=draw.choice([0, 0, 3]),
                after=draw.choice([None, after]),
                since=draw.choice([None, None, T0 + 4.3333333]),
                until=draw.choice([None, None, T0 + 15]),
                path_prefix=draw.choice([None, None, "in/"]),
                statuses=frozenset(
                    draw.sample([RecordStatus.COMPLETED, RecordStatus.UPLOADING], draw.randrange(3))
                ),
            )
            expected = await memory.read(lambda tx, it=query: tx.history.page(it))  # type: ignore[misc]  # of a lambda with defaults
            page = await database.read(lambda tx, it=query: tx.history.page(it))  # type: ignore[misc]  # the same
            assert [row["id"] for row in page.items] == [row["id"] for row in expected.items], query
            assert page.next == expected.next, query
            seen += len(expected.items)
    assert seen > 200


async def test_what_was_erased_is_found_no_more_and_what_was_made_with_it_is(database: Database) -> None:
    for number in range(6):
        await add_record(
            database, record(f"r{number}", filename=f"name {number}.txt", begun_at=T0 + number // 2)
        )
    for name in ("r0", "r2", "r3"):
        await database.write(lambda tx, it=name: tx.records.erase(it))  # type: ignore[misc]  # of a lambda with defaults
    query = HistoryQuery(owner="local", filename="name ")
    assert await found(database, query) == ["r5", "r4", "r1"]
    query = HistoryQuery(owner="local", filename="name 1", limit=1)
    assert await found(database, query) == ["r1"]


async def test_names_from_before_they_were_noted_are_found(tmp_path: Path) -> None:
    """The migration notes them."""
    place = tmp_path / "haulier.db"
    async with open_database(place) as database:
        for number in range(6):
            await add_record(
                database, record(f"r{number}", filename=f"name {number}.txt", begun_at=T0 + number)
            )
    engine = sa.create_engine(alchemy_url(place), poolclass=sa.NullPool)
    with engine.begin() as connection:
        command.downgrade(alembic_config(connection), "0013")
    async with open_database(place) as database:
        query = HistoryQuery(owner="local", filename="name 0")
        assert await found(database, query) == ["r0"]


async def test_a_database_without_the_extension_compares_names_one_by_one() -> None:
    with fresh_database() as url:
        with psycopg.connect(url) as connection:
            connection.execute("DROP EXTENSION pg_trgm CASCADE")
        async with open_database(url) as database:
            for number in range(6):
                await add_record(
                    database, record(f"r{number}", filename=f"name {number}.txt", begun_at=T0 + number)
                )
            query = HistoryQuery(owner="local", filename="name 0")
            assert await found(database, query) == ["r0"]


async def test_the_full_text_table_gives_what_fits_in_order(tmp_path: Path) -> None:
    """So that a page of what many have ends soon."""
    place = tmp_path / "haulier.db"
    async with open_database(place):
        pass
    everything = frozenset({"owner", "filename", "path_from", "path_to", "since", "until", "after_id"})
    statement = searches.named_on_sqlite(Shape(filters=everything, statuses=2))
    compiled = statement.compile(dialect=sqlite.dialect(paramstyle="named"))
    values = dict.fromkeys(compiled.params, 0) | {"grams": '"abc"'}
    with sa.create_engine(alchemy_url(place), poolclass=sa.NullPool).connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled.string}", values)
        plan = [row[3] for row in rows]
    assert plan[0].startswith("SCAN record_names VIRTUAL TABLE INDEX")
    assert "ix_records_owner (owner=? AND created_at>? AND created_at<?)" in plan[1]
    assert not any("TEMP B-TREE" in line for line in plan)


async def test_names_that_come_together_are_written_at_once(tmp_path: Path) -> None:
    """In whatever order: each step back in time would be a segment of its own, to be merged with others later."""
    place = tmp_path / "haulier.db"
    rows = [record(f"r{number}", begun_at=T0 + number * 7 % 16) for number in range(16)]
    async with open_database(place) as database:
        await database.write(lambda tx: tx.records.insert(*rows))
    with sa.create_engine(alchemy_url(place), poolclass=sa.NullPool).connect() as connection:
        segments = connection.exec_driver_sql("SELECT count(DISTINCT segid) FROM record_names_idx").scalar()
    assert segments == 1


async def test_a_short_name_is_looked_for_in_so_many_rows_a_page(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page ends there, empty perhaps, and the next one goes on."""
    monkeypatch.setattr(searches, "FAR", 5)
    for number in range(12):
        name = "zq.txt" if number in {2, 9} else "name.txt"
        await add_record(database, record(f"r{number:02}", filename=name, begun_at=T0 + number))
    query = HistoryQuery(owner="local", filename="ZQ", limit=2)
    pages = []
    while True:
        page = await database.read(lambda tx, it=query: tx.history.page(it))  # type: ignore[misc]  # of a lambda with defaults
        pages.append(([row["id"] for row in page.items], page.next))
        if page.next is None:
            break
        query = replace(query, after=page.next)
    assert pages == [(["r09"], (T0 + 7, "r07")), (["r02"], (T0 + 2, "r02")), ([], None)]


async def test_no_page_follows_the_last_row_that_was_looked_at(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searches, "FAR", 5)
    for number in range(5):
        await add_record(database, record(f"r{number}", begun_at=T0 + number))
    page = await database.read(lambda tx: tx.history.page(HistoryQuery(owner="local", filename="zq")))
    assert (list(page.items), page.next) == ([], None)


async def test_postgresql_has_an_index_of_names() -> None:
    with fresh_database() as url, psycopg.connect(url) as connection:
        connection.execute("SET enable_seqscan = off")
        rows = connection.execute("EXPLAIN SELECT id FROM records WHERE folded_filename LIKE '%report%'")
        assert "ix_records_names" in "\n".join(row[0] for row in rows)
