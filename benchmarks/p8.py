"""P8: a page of a history with filters among 1 000 000 records against 1 000; the last page against the first.

On SQLite and PostgreSQL, from the rows to what is presented, without HTTP, whose constant cost would flatter the ratios.
`ARGS=--small` tries it out with 50 000 records and keeps no result.
"""

import asyncio
import sqlite3
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.harness import Verdict, conclude
from benchmarks.programs import workspace
from haulier.adapters.sql.database import SqlDatabase, open_database
from haulier.core.record import RecordStatus
from haulier.ports import HistoryQuery
from haulier.server.presenter import present_all
from tests.support.postgres import own_cluster

SMALL: Final = 1_000
LARGE: Final = 1_000_000
TRIED: Final = 50_000
ROUNDS: Final = 5
PAGES: Final = 20
"""Pages that are read in a row; their median is one measure."""
OWNER: Final = "user:of the history"
ONE: Final = "filename of one"
BAR: Final = 3.0
FIRST_AT: Final = 1_700_000_000.0

# Every tenth name has `report` in it; one record in a thousand has failed, and one in ten is somebody else's.
_RECORDS: Final = """
INSERT INTO records (id, capsule_id, owner, original_filename, folded_filename, content_type, status, size, metadata,
    created_at, uploaded_at, finished_at, keeps_assets)
SELECT 'r' || substr('0000000' || n, -7), '00000000-0000-7000-8000-000000000000',
    CASE WHEN n % 10 = 7 THEN 'user:else' ELSE '{owner}' END,
    CASE WHEN n % 10 = 3 THEN 'report ' ELSE 'file ' END || n || '.json',
    CASE WHEN n % 10 = 3 THEN 'report ' ELSE 'file ' END || n || '.json',
    'application/json', CASE WHEN n % 1000 = 5 THEN 'failed' ELSE 'completed' END, n, '{{}}',
    {first} + n, {first} + n, {first} + n, {false}
FROM {numbers}
"""
_ASSETS: Final = """
INSERT INTO assets (record_id, kind, blob_key, size, content_type)
SELECT id, 'original', 'ingestion-' || id, 5, 'application/json' FROM records
"""
_FILES: Final = """
INSERT INTO file_metadata (record_id, media_type, line_count, errors)
SELECT id, 'application/json', 1, '[]' FROM records
"""


def fill_sqlite(path: Path, count: int) -> None:
    numbers = (
        f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) SELECT n FROM c)"
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        _fill(connection.execute, numbers, "0")
        connection.execute("ANALYZE")


def fill_postgres(url: str, count: int) -> None:
    numbers = f"generate_series(1, {count}) AS n"
    with psycopg.connect(url, autocommit=True) as connection:
        _fill(lambda statement: connection.execute(statement.encode()), numbers, "false")
        connection.execute(b"VACUUM ANALYZE")


def _fill(execute: Any, numbers: str, false: str) -> None:
    records = _RECORDS.format(owner=OWNER, first=FIRST_AT, numbers=numbers, false=false)
    if numbers.startswith("generate"):
        records = records.replace("substr('0000000' || n, -7)", "lpad(n::text, 7, '0')")
    for statement in (records, _ASSETS, _FILES):
        execute(statement)


def queries(count: int) -> Mapping[str, HistoryQuery]:
    """Return what is asked of a history of so many records; each finds a full page there, but `ONE`."""
    statuses = {RecordStatus.COMPLETED, RecordStatus.FAILED}
    middle = FIRST_AT + count / 2
    everything = {"owner": OWNER, "since": FIRST_AT + count / 10, "until": FIRST_AT + count * 0.9}
    return {
        "no filter": HistoryQuery(owner=OWNER),
        "one status": HistoryQuery(owner=OWNER, statuses=frozenset({RecordStatus.COMPLETED})),
        "two statuses": HistoryQuery(owner=OWNER, statuses=frozenset(statuses)),
        "from and to": HistoryQuery(owner=OWNER, since=middle - 100, until=middle + 100),
        "filename": HistoryQuery(owner=OWNER, filename="Report"),
        ONE: HistoryQuery(owner=OWNER, filename="File 500.j"),
        "all filters": HistoryQuery(**everything, statuses=frozenset(statuses), filename="report"),  # type: ignore[arg-type]  # by name, from a dictionary
    }


async def read(database: SqlDatabase, query: HistoryQuery, *, rows_found: int | None = None) -> float:
    """Return the median of milliseconds that a page takes; it has so many rows, or is full."""
    taken = []
    for _ in range(PAGES):
        began = time.perf_counter()
        page = await database.read(lambda tx: tx.history.page(query))
        items, left_out = present_all(page.items)
        taken.append(time.perf_counter() - began)
        assert len(items) == (rows_found or query.limit)
        assert left_out == 0
    return statistics.median(taken) * 1000


@contextmanager
def filled(kind: str, directory: Path, sizes: tuple[int, int]) -> Iterator[Mapping[int, Path | str]]:
    """Give the places of two databases with so many records."""
    if kind == "SQLite":
        files = {count: directory / f"{count}.db" for count in sizes}
        for count, file in files.items():
            asyncio.run(migrate(file))
            fill_sqlite(file, count)
        yield files
        return
    with own_cluster() as cluster:
        for count in sizes:
            cluster.execute(f"CREATE DATABASE of_{count}")
        urls = {count: cluster.url(f"of_{count}") for count in sizes}
        for count, url in urls.items():
            asyncio.run(migrate(url))
            fill_postgres(url, count)
        yield urls


async def migrate(place: Path | str) -> None:
    async with open_database(place):
        pass


async def compare(
    kind: str, urls: Mapping[int, Path | str]
) -> list[tuple[str, str, float, float, float, float]]:
    """Return a row a query, and one for the last page."""
    (small, large) = urls
    rows = []
    async with open_database(urls[small]) as of_small, open_database(urls[large]) as of_large:
        for name in queries(small):
            pairs = [
                (
                    await read(of_small, queries(small)[name], rows_found=1 if name == ONE else None),
                    await read(of_large, queries(large)[name], rows_found=1 if name == ONE else None),
                )
                for _ in range(ROUNDS)
            ]
            rows.append(_row(kind, name, pairs, bar=BAR))
        first = HistoryQuery(owner=OWNER)
        last = HistoryQuery(owner=OWNER, after=(FIRST_AT + 57.0, "r"))
        pairs = [(await read(of_large, first), await read(of_large, last)) for _ in range(ROUNDS)]
        rows.append(_row(kind, "last page against page 1", pairs, bar=1.5))
    return rows


def _row(
    kind: str, name: str, pairs: list[tuple[float, float]], *, bar: float
) -> tuple[str, str, float, float, float, float]:
    one, other = (statistics.median(pair[place] for pair in pairs) for place in (0, 1))
    return kind, name, one, other, other / one, bar


def main() -> int:
    tried = "--small" in sys.argv[1:]
    sizes = (SMALL, TRIED if tried else LARGE)
    rows: list[tuple[str, str, float, float, float, float]] = []
    with workspace() as directory:
        for kind in ("SQLite", "PostgreSQL"):
            with filled(kind, directory, sizes) as urls:
                rows += asyncio.run(compare(kind, urls))
    return conclude(
        Verdict(
            id="P8",
            title=f"a page of a history among {sizes[1]} records against {sizes[0]}; the last page against the first",
            # One figure for two bars: the last page's is told as what it were under the other bar.
            ratio=max(ratio * BAR / bar for *_, ratio, bar in rows),
            bar=BAR,
            aim=1.3,
            columns=("database", "page", "base: ms", "large: ms", "ratio", "bar"),
            rows=tuple(rows),
            notes="Pages of 50 rows, presented. The verdict's ratio is the worst, each in proportion to its bar.",
        ),
        keep=not tried,
    )


if __name__ == "__main__":
    sys.exit(main())
