"""What every `UnitOfWork` and its stores do, as a suite to inherit from.

A subclass in a test module gives the fixture `database`: a fresh `UnitOfWork` of uploads with the capsules
`default` and `other` (no quota) and `small` (a quota of 1000 bytes).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from haulier.core.errors import QuotaExceeded, RequestError
from haulier.core.session import LiveLimit, SessionId, SessionStatus
from haulier.testing.access_rows_contract import AccessRowsContract
from haulier.testing.delivery_rows_contract import DeliveryRowsContract
from haulier.testing.event_rows_contract import EventRowsContract
from haulier.testing.history_contract import HistoryContract
from haulier.testing.overview_contract import OverviewContract
from haulier.testing.processing_rows_contract import ProcessingRowsContract
from haulier.testing.record_rows_contract import RecordRowsContract
from haulier.testing.rows import (
    T0,
    Database,
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
from haulier.testing.session_rows_contract import SessionRowsContract
from haulier.testing.visitor_rows_contract import SignInRowsContract, VisitorRowsContract


class Refusal(RequestError):
    """Raised by a test's work."""


class TransactionsContract:
    """All or nothing, and visible at once."""

    async def test_work_returns_through_the_transaction(self, database: Database) -> None:
        """Reads and writes alike."""

        async def work(_: Any) -> str:
            return "done"

        assert await database.read(work) == "done"
        assert await database.write(work) == "done"
        assert await database.write(work, durable=True) == "done"

    async def test_what_work_raises_rolls_back_and_comes_out(self, database: Database) -> None:
        """Nothing that it did before is left."""

        async def work(tx: Any) -> None:
            await tx.capsules.reserve("small", 900)
            await tx.records.insert(record("r"))
            await tx.sessions.insert(upload("a", key="key"), limit=LiveLimit(of_owner=9))
            await tx.sessions.accept_chunk(SessionId("a"), 0, chunk(0), now=T0)
            raise Refusal

        with pytest.raises(Refusal):
            await database.write(work)
        assert await see(database, "a") is None
        assert await see_record(database, "r") is None
        await database.write(lambda tx: tx.capsules.reserve("small", 1000))
        await add_upload(database, upload("a", key="key"))

    async def test_work_sees_its_own_changes(self, database: Database) -> None:
        """Before they are committed."""

        async def work(tx: Any) -> Any:
            await tx.sessions.insert(upload("a"), limit=LiveLimit(of_owner=9))
            await tx.sessions.accept_chunk(SessionId("a"), 0, chunk(0), now=T0)
            return await tx.sessions.load(SessionId("a"))

        assert await database.write(work) == await see(database, "a")

    async def test_one_transaction_commits_session_record_and_capsule(self, database: Database) -> None:
        """All together, as finishing an upload does."""
        session = await add_finishing(database, upload("a"))
        await add_record(database, record("r"))

        async def work(tx: Any) -> bool:
            committed = await tx.sessions.commit(session.id, session.fence, session.details, now=T0)
            await tx.records.complete(record("r").id, asset("blob"), now=T0)
            await tx.capsules.use("default", reserved=0, size=5)
            return bool(committed)

        assert await database.write(work, durable=True)
        loaded = await see(database, "a")
        assert loaded is not None
        assert loaded.status is SessionStatus.COMMITTED

    async def test_one_that_fails_in_a_crowd_takes_nobody_along(self, database: Database) -> None:
        """Every third one raises after its change; the others are there."""

        def job(number: int) -> Callable[[Any], Awaitable[None]]:
            async def work(tx: Any) -> None:
                await tx.sessions.insert(upload(f"s{number}"), limit=LiveLimit(of_owner=1000))
                if number % 3 == 0:
                    raise Refusal

            return work

        jobs = (database.write(job(number), durable=number % 2 == 0) for number in range(60))
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert [isinstance(result, Refusal) for result in results] == [n % 3 == 0 for n in range(60)]
        live = {
            session.id
            for session in await database.read(lambda tx: tx.sessions.live(after=None, limit=10_000))
        }
        assert live == {f"s{number}" for number in range(60) if number % 3}

    async def test_what_was_committed_is_read_at_once(self, database: Database) -> None:
        """A hundred times in parallel: a write, then everything that can show it."""

        async def write_then_read(number: int) -> bool:
            name = f"r{number:03}"
            await add_record(database, record(name), original=name)
            row = await see_record(database, name)
            return row is not None and row.asset(asset("").kind) is not None

        assert all(await asyncio.gather(*map(write_then_read, range(100))))

    async def test_a_read_has_one_consistent_view(self, database: Database) -> None:
        """Two counts in one read are equal while others write."""

        async def count_twice(tx: Any) -> bool:
            first = await tx.sessions.count_live(None, "local")
            return bool(first == await tx.sessions.count_live(None, "local"))

        async def write(number: int) -> bool:
            await add_upload(database, upload(f"s{number}"))
            return await database.read(count_twice)

        assert all(await asyncio.gather(*map(write, range(50))))

    async def test_a_cancelled_caller_harms_nobody(self, database: Database) -> None:
        """Its own change is there as a whole or not at all."""

        async def begin(number: int) -> None:
            await add_upload(database, upload(f"s{number}"), chunks=3)

        tasks = [asyncio.ensure_future(begin(number)) for number in range(20)]  # noqa: TID251 - cancelled below
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[1::2] == [None] * 10
        for number in range(20):
            session = await see(database, f"s{number}")
            assert session.complete if session is not None else number % 2 == 0

    async def test_a_refused_reservation_refuses_the_whole_begin(self, database: Database) -> None:
        """No session and no record without room."""

        async def work(tx: Any) -> None:
            await tx.records.insert(record("r", capsule="small"))
            await tx.sessions.insert(upload("a", scope="small"), limit=LiveLimit(of_owner=9))
            await tx.capsules.reserve("small", 1001)

        with pytest.raises(QuotaExceeded):
            await database.write(work)
        assert await see(database, "a") is None
        assert await see_record(database, "r") is None


class UnitOfWorkContract(
    SessionRowsContract,
    RecordRowsContract,
    HistoryContract,
    AccessRowsContract,
    EventRowsContract,
    DeliveryRowsContract,
    ProcessingRowsContract,
    VisitorRowsContract,
    SignInRowsContract,
    OverviewContract,
    TransactionsContract,
):
    """All facts about a `UnitOfWork`."""
