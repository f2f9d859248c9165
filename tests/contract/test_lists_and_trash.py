"""Lists of records read what they show, however much lies between: the trash, what is not in it, and others' things."""

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa

from haulier.adapters.sql import searches
from haulier.adapters.sql.database import SqlDatabase, open_database
from haulier.adapters.sql.sqlite.connection import SqliteExecutor, drive
from haulier.adapters.sql.stores import SqlTransaction
from haulier.adapters.sqlite_driver import connect
from haulier.core.record import RecordId, RecordStatus
from haulier.ports import Page, RecordQuery
from tests.support.postgres import fresh_database

AGE: Final = 1_700_000_000.0
OLD: Final = 1000
MANY: Final = 6000
"""Of the trash, of what is not in it, and of others' things."""
LIMIT: Final = 20
MOST: Final = 25 * LIMIT
"""Rows that a page may read: of each of several ways to them, some that do not fit, and once more by their ids."""
FILLED: Final = (
    """
    INSERT INTO capsules (id, name, owner, policy, used_bytes, reserved_bytes)
    VALUES ('a', 'a', 'user:x', '{}', 0, 0), ('b', 'b', 'user:y', '{"admits_users":true}', 0, 0),
        ('c', 'c', 'user:z', '{}', 0, 0)
    """,
    # From the oldest: `OLD` in the trash, `MANY` that are not, `MANY` in the trash.
    f"""
    INSERT INTO records (id, capsule_id, owner, original_filename, folded_filename, path, content_type, status, size,
        metadata, created_at, uploaded_at, finished_at, deleted_at, keeps_assets)
    SELECT 'r' || n, CASE WHEN n % 600 = 0 THEN 'c' WHEN n % 2 = 0 THEN 'a' ELSE 'b' END, CASE WHEN n % 600 = 1 THEN 'user:z' WHEN n % 3 = 0 THEN 'user:x' ELSE 'user:y' END,
        'name ' || n, 'name ' || n, 'in/' || n, 'text/plain', CASE WHEN n % 5 = 0 THEN 'failed' ELSE 'completed' END, n,
        '{{}}', {AGE} + n, {AGE} + n, {AGE} + n,
        CASE WHEN n BETWEEN {OLD} AND {OLD + MANY - 1} THEN NULL ELSE {AGE} + n END, false
    FROM (
        WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {OLD + 2 * MANY}) SELECT n FROM c
    ) AS numbers
    """,
    """
    INSERT INTO assets (record_id, kind, blob_key, size, content_type)
    SELECT id, 'original', id, 1, 'text/plain' FROM records
    """,
)
ROWS_READ: Final = sa.text(
    "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) AS count FROM pg_stat_xact_user_tables WHERE relname = 'records'"
)
ON_SSD: Final = sa.text("SET LOCAL random_page_cost = 1.1")
FAILED: Final = frozenset({RecordStatus.FAILED})
ENDED: Final = frozenset({RecordStatus.FAILED, RecordStatus.COMPLETED})
QUERIES: Final[dict[str, dict[str, Any]]] = {
    "all": {},
    "owner": {"owner": "user:x"},
    "capsule": {"capsule": "b"},
    "owner and capsule": {"capsule": "b", "owner": "user:x"},
    "status": {"statuses": FAILED},
    "statuses": {"statuses": ENDED},
    "owner and status": {"owner": "user:x", "statuses": FAILED},
    "path": {"path_prefix": "in/"},
    "kind": {"kind": "original"},
    "since": {"since": AGE},
    "name": {"name": "NAME "},
    "short name": {"name": "n"},
    "what one may read": {"visible_to": "user:x"},
    "what one may read, of one status": {"visible_to": "user:x", "statuses": FAILED},
    "what one may read, by name": {"visible_to": "user:x", "name": "name"},
}
Read = Callable[[RecordQuery], Awaitable[tuple[Page[Any], int]]]
"""Gives a page, and how many rows were read for it."""


@pytest.fixture(autouse=True)
def short_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few rows be near, so that looking at them is no more than a page."""
    monkeypatch.setattr(searches, "NEAR", 2 * LIMIT)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("lists") / "haulier.db"
    with ThreadPoolExecutor(1) as thread:  # loops of tests may be running on this one
        thread.submit(asyncio.run, _migrate(file)).result()
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in FILLED:
            connection.execute(statement)
    return file


async def _migrate(file: Path) -> None:
    async with open_database(file):
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with fresh_database(template=(*FILLED, "ANALYZE")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
async def read(request: pytest.FixtureRequest) -> AsyncIterator[Read]:
    if request.param == "sqlite":
        yield _reading_sqlite(request.getfixturevalue("file"))
        return
    async with open_database(request.getfixturevalue("url")) as database:
        yield partial(_read_postgresql, database)


def _reading_sqlite(file: Path) -> Read:
    # Its machine's steps tell: as many as rows of a page that is read straight along an index.
    plain = RecordQuery(limit=LIMIT, owner="user:x", after=(AGE + OLD + MANY, ""))
    each = _steps(file, plain)[1] // LIMIT

    async def read(query: RecordQuery) -> tuple[Page[Any], int]:
        page, steps = _steps(file, query)
        return page, steps // each

    return read


def _steps(file: Path, query: RecordQuery) -> tuple[Page[Any], int]:
    steps = itertools.count()
    with closing(connect(file, busy_timeout_s=1, read_only=True)) as connection:
        connection.set_progress_handler(lambda: next(steps) < 0, 1)
        page = drive(lambda tx: tx.records.list(query), SqlTransaction(SqliteExecutor(connection)))
    return page, next(steps)


async def _read_postgresql(database: SqlDatabase, query: RecordQuery) -> tuple[Page[Any], int]:
    async def work(tx: Any) -> tuple[Page[Any], int]:
        await tx.records._sql.count(ON_SSD, {})
        page = await tx.records.list(query)
        (row,) = await tx.records._sql.rows(ROWS_READ, {})
        return page, int(row["count"])

    return await database.read(work)


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("cursor", [None, (AGE + OLD + MANY / 2, "")], ids=["first", "middle"])
async def test_a_page_steps_over_no_trash(read: Read, name: str, cursor: tuple[float, str] | None) -> None:
    page, rows = await read(RecordQuery(**QUERIES[name], limit=LIMIT, after=cursor))
    assert len(page.items) == LIMIT
    assert rows <= MOST


@pytest.mark.parametrize("name", QUERIES)
async def test_a_page_of_the_trash_steps_over_nothing_else(read: Read, name: str) -> None:
    newest = AGE + OLD + MANY + LIMIT / 2
    query = RecordQuery(**QUERIES[name], limit=LIMIT, deleted=True, after=(newest, ""))
    page, rows = await read(query)
    assert len(page.items) == LIMIT
    assert page.items[-1].created_at < AGE + OLD
    assert rows <= MOST


@pytest.mark.parametrize("deleted", [False, True])
async def test_who_may_read_little_does_not_read_the_rest(read: Read, *, deleted: bool) -> None:
    """A capsule of one's own with few records, and few of one's own in another, among thousands of others'."""
    page, rows = await read(RecordQuery(visible_to="user:z", limit=LIMIT, deleted=deleted))
    assert {record.capsule for record in page.items} == {"b", "c"}
    assert len(page.items) >= MANY // 600
    assert rows <= MOST


@pytest.mark.parametrize("others", [{}, {"visible_to": "user:x"}, {"owner": "user:x", "statuses": ENDED}])
async def test_ids_lead_to_their_rows_and_no_others_are_read(read: Read, others: dict[str, Any]) -> None:
    ids = frozenset(RecordId(f"r{OLD + 2 + 6 * number}") for number in range(100))
    page, rows = await read(RecordQuery(ids=ids, limit=LIMIT, **others))
    assert len(page.items) == LIMIT
    assert {record.id for record in page.items} <= ids
    assert page.next is not None
    assert rows <= MOST
