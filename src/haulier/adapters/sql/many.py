"""Rows that belong together, read for many at once: a look-up for each would be a way to the database for each."""

from collections import defaultdict
from collections.abc import Sequence

from haulier.adapters.sql.among import array
from haulier.adapters.sql.executor import Executor
from haulier.adapters.sql.rows import Row, asset_of, ranges_of_runs, record_of, session_of, whole
from haulier.adapters.sql.statements import ASSETS, RUNS_OF_MANY
from haulier.core.ranges import Ranges
from haulier.core.record import Asset, Record
from haulier.core.session import Mode, SessionStatus
from haulier.core.upload import Upload

_COMPLETE = frozenset({SessionStatus.FINISHING.value, SessionStatus.COMMITTED.value})


async def records_of(executor: Executor, rows: Sequence[Row]) -> Sequence[Record]:
    """Return the records of these rows, with their assets."""
    if not rows:
        return []
    assets = defaultdict[str, list[Asset]](list)
    for row in await executor.rows(ASSETS, {"record_ids": array(row["id"] for row in rows)}):
        assets[row["record_id"]].append(asset_of(row))
    return [record_of(row, assets[row["id"]]) for row in rows]


async def sessions_of(executor: Executor, rows: Sequence[Row]) -> Sequence[Upload]:
    """Return the sessions of these rows, with all they have received."""
    runs = defaultdict[str, list[Row]](list)
    if chunked := [row["id"] for row in rows if received_at_once(row) is None]:
        for run in await executor.rows(RUNS_OF_MANY, {"ids": array(chunked)}):
            runs[run["upload_id"]].append(run)
    return [session_of(row, received_by(row, runs[row["id"]])) for row in rows]


def received_at_once(row: Row) -> Ranges | None:
    """Return what a session has received, where its own row says so."""
    if row["mode"] == Mode.APPEND:
        return whole(row["offset"])
    # Every chunk is here, and after the commit their rows are not.
    return whole(row["size"]) if row["status"] in _COMPLETE else None


def received_by(row: Row, runs: Sequence[Row]) -> Ranges:
    """Return what a session has received, of whose chunks these are the runs."""
    received = received_at_once(row)
    if received is None:
        received = ranges_of_runs(runs, chunk_size=row["chunk_size"], size=row["size"])
    return received
