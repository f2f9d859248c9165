"""What accepting a chunk costs: its transaction alone, on SQLite and on PostgreSQL, one by one and 32 at once.

Both databases lie in the same temporary folder and sync for real;
PostgreSQL runs beside the measuring process, so the two share its cores. `off` is what we do not use: a setting under
which a crash of PostgreSQL loses what was answered.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.harness import Verdict, conclude
from haulier.adapters.sql.database import SqlDatabase, open_database
from haulier.adapters.sql.postgres import database as postgres
from haulier.core.quantity import MIB
from haulier.testing.rows import T0, add_upload, chunk, upload
from tests.support.postgres import SETTINGS, own_cluster

ROUNDS: Final = 5
ONE_BY_ONE: Final = 300
CROWD: Final = 32
IN_CROWDS: Final = 2560

Accept = Callable[[int, bool], Awaitable[None]]


@asynccontextmanager
async def prepared(database: SqlDatabase) -> AsyncIterator[Accept]:
    """Open a database with as many uploads as a crowd has members; yield what accepts the n-th chunk."""
    async with database:
        uploads = [upload(f"s{number}", size=2**20 * MIB) for number in range(CROWD)]
        for each in uploads:
            await add_upload(database, each)

        async def accept(number: int, durable: bool) -> None:  # noqa: FBT001 - a column of the table
            session, piece = uploads[number % CROWD], chunk(number // CROWD)
            accepted = await database.write(
                lambda tx: tx.sessions.accept_chunk(session.id, session.fence, piece, now=T0 + number),
                durable=durable,
            )
            assert accepted

        for number in range(10 * CROWD):
            await accept(number, False)
        yield accept


async def measure(accept: Accept, start: int, *, durable: bool) -> tuple[float, float, float, int]:
    """Return milliseconds for one alone, its CPU's share, acceptances a second in crowds, and the next chunk's number."""
    began, used = time.perf_counter(), time.process_time()
    for number in range(start, start + ONE_BY_ONE):
        await accept(number, durable)
    alone = (time.perf_counter() - began) / ONE_BY_ONE * 1000
    cpu = (time.process_time() - used) / ONE_BY_ONE * 1000
    start += ONE_BY_ONE
    began = time.perf_counter()
    for first in range(start, start + IN_CROWDS, CROWD):
        await asyncio.gather(*(accept(first + member, durable) for member in range(CROWD)))
    return alone, cpu, IN_CROWDS / (time.perf_counter() - began), start + IN_CROWDS


Line = tuple[str, float, float, float]


async def row(name: str, place: Path | str, *, durable: bool) -> Line:
    """Measure one line of the table, the median of its rounds."""
    print(name, file=sys.stderr)
    async with prepared(open_database(place)) as accept:
        number, results = 10 * CROWD, []
        for _ in range(ROUNDS):
            *measured, number = await measure(accept, number, durable=durable)
            results.append(measured)
    alone, cpu, crowd = map(statistics.median, zip(*results, strict=True))
    return name, alone, cpu, crowd


async def rows(place: str | None) -> list[Line]:
    """Measure all lines; the files lie in a temporary folder in `place`."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        found = [
            await row("SQLite, process", Path(folder) / "process.db", durable=False),
            await row("SQLite, power", Path(folder) / "power.db", durable=True),
        ]
    SETTINGS.update(fsync="on", full_page_writes="on")
    with own_cluster() as cluster:
        begin = postgres.BEGIN_WRITE
        for number, (name, more) in enumerate(
            (("PostgreSQL, both levels", ()), ("PostgreSQL, off", (b"SET LOCAL synchronous_commit TO OFF",)))
        ):
            cluster.execute(f"CREATE DATABASE rows{number}")
            vars(postgres)["BEGIN_WRITE"] = (*begin, *more)
            found.append(await row(name, cluster.url(f"rows{number}"), durable=False))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "place", nargs="?", help="a folder on the disk to measure; default: the temporary one"
    )
    found = uvloop.run(rows(parser.parse_args().place))
    alone = {name: ms for name, ms, _, _ in found}
    return conclude(
        Verdict(
            id="acceptance",
            title="what accepting a chunk costs in the database",
            ratio=alone["PostgreSQL, both levels"] / alone["SQLite, power"],
            bar=10.0,
            aim=5.0,
            columns=("database, commit", "one alone: ms", "its CPU here: ms", "32 at once: a second"),
            rows=tuple((name, ms, cpu, round(crowd)) for name, ms, cpu, crowd in found),
            notes="The ratio is one acceptance on PostgreSQL, which goes through a socket, to one on SQLite that is synced too. "
            "The last line is what we do not use: a crash of PostgreSQL would lose what was answered.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
