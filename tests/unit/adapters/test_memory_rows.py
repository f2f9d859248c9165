"""The faults that the shipped fake of the database makes on demand."""

import asyncio
from typing import Any

import pytest

from haulier.adapters.memory.rows import MemoryDatabase
from haulier.core.errors import StorageFull, StorageUnavailable
from haulier.core.record import RecordId
from haulier.core.session import LiveLimit, SessionId
from haulier.core.upload import UploadDetails
from haulier.testing.rows import add_record, add_upload, record, see, upload


@pytest.fixture
def database() -> MemoryDatabase[UploadDetails]:
    return MemoryDatabase()


Database = MemoryDatabase[UploadDetails]


async def test_a_planned_failure_happens_once_and_changes_nothing(database: Database) -> None:
    database.fail_next(StorageFull(1))
    database.fail_next(StorageUnavailable("planned"))
    with pytest.raises(StorageFull):
        await add_upload(database, upload("a"))
    with pytest.raises(StorageUnavailable, match="planned"):
        await see(database, "a")
    assert await see(database, "a") is None
    await add_upload(database, upload("a"))


async def test_a_lost_answer_is_a_commit_all_the_same(database: Database) -> None:
    database.lose_next_answer()
    with pytest.raises(StorageUnavailable, match="lost"):
        await add_upload(database, upload("a"))
    assert await see(database, "a") == upload("a")
    await add_upload(database, upload("b"))


async def test_a_write_that_fails_leaves_the_next_answer_to_be_lost(database: Database) -> None:
    async def refuse(_: Any) -> None:
        raise LookupError

    database.lose_next_answer()
    with pytest.raises(LookupError):
        await database.write(refuse)
    with pytest.raises(StorageUnavailable, match="lost"):
        await add_upload(database, upload("a"))


async def test_a_crash_of_the_process_keeps_all_commits(database: Database) -> None:
    await add_upload(database, upload("a"))
    database.crash()
    assert await see(database, "a") == upload("a")


async def test_a_power_loss_keeps_what_the_last_durable_commit_had(database: Database) -> None:
    await add_upload(database, upload("a"))
    await database.write(
        lambda tx: tx.sessions.insert(upload("b"), limit=LiveLimit(of_owner=9)), durable=True
    )
    await add_upload(database, upload("c"))
    database.crash(power=True)
    assert [await see(database, name) is not None for name in "abc"] == [True, True, False]


async def test_a_transaction_does_not_outlive_a_crash(database: Database) -> None:
    async def crash_in_between(tx: Any) -> None:
        await tx.sessions.insert(upload("a"), limit=LiveLimit(of_owner=9))
        database.crash()

    with pytest.raises(StorageUnavailable, match="crashed"):
        await database.write(crash_in_between)
    assert await see(database, "a") is None
    await add_upload(database, upload("b"))


async def test_every_await_point_is_a_pause(database: Database) -> None:
    pauses = 0

    async def pause() -> None:
        nonlocal pauses
        pauses += 1

    database.pause = pause
    await database.write(lambda tx: tx.sessions.touch(SessionId("a"), now=1.0))
    # In the statement, before the commit, and before the answer.
    assert pauses == 3
    await see(database, "a")
    assert pauses == 5


async def test_others_see_nothing_of_a_transaction_before_its_commit(database: Database) -> None:
    inserted, go_on = asyncio.Event(), asyncio.Event()

    async def work(tx: Any) -> None:
        await tx.sessions.insert(upload("a"), limit=LiveLimit(of_owner=9))
        inserted.set()
        await go_on.wait()

    async def look() -> bool:
        await inserted.wait()
        seen = await see(database, "a")
        go_on.set()
        return seen is not None

    _, seen = await asyncio.gather(database.write(work), look())
    assert not seen
    assert await see(database, "a") == upload("a")


async def test_a_cancelled_write_commits_nothing(database: Database) -> None:
    async def work(tx: Any) -> None:
        await tx.sessions.insert(upload("a"), limit=LiveLimit(of_owner=9))
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(database.write(work), 0)
    assert await see(database, "a") is None


async def test_giving_back_more_than_was_taken_is_a_mistake(database: Database) -> None:
    with pytest.raises(AssertionError, match="given back"):
        await database.write(lambda tx: tx.capsules.release("default", 1))


async def test_what_is_there_is_not_inserted_again(database: Database) -> None:
    await add_upload(database, upload("a"))
    with pytest.raises(AssertionError, match="not new"):
        await add_upload(database, upload("a"))
    await add_record(database, record("r"))
    with pytest.raises(AssertionError, match="not new"):
        await add_record(database, record("r"))


async def test_closing_is_harmless(database: Database) -> None:
    await database.close()
    assert not await database.write(lambda tx: tx.records.restore(RecordId("r")))
