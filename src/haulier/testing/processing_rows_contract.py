"""What every `ProcessingStore` does, as a suite to inherit from; see `unit_of_work_contract`."""

import asyncio
from typing import Any

from haulier.core.record import AssetKind, Record, RecordId, RecordStatus
from haulier.core.values import replace
from haulier.testing.rows import T0, Database, asset, record, see_record

R = RecordId("r")
UNPROCESSED = RecordStatus.UPLOADED


async def arrived(database: Database, name: str = "r", *, begun_at: float = T0) -> Record:
    """Insert a record whose original has come, and is to be processed."""
    row = record(name, begun_at=begun_at)

    async def arrive(tx: Any) -> Any:
        await tx.records.insert(row)
        return await tx.records.complete(row.id, asset(f"blob-{name}"), now=begun_at + 1, more=True)

    assert await database.write(arrive)
    return row.complete(asset(f"blob-{name}"), now=begun_at + 1, more=True)


async def take(database: Database, fence: int, holder: str = "w", *, now: float = T0 + 2) -> Record | None:
    """Let `holder` process the record."""
    return await database.write(lambda tx: tx.processing.take(R, fence, holder, now=now))


async def left(database: Database, after: tuple[float, str] | None = None, *, limit: int = 9) -> list[str]:
    """Return the ids of what is to be processed."""
    rows = await database.read(lambda tx: tx.processing.left(after=after, limit=limit))
    return [row.id for row in rows]


class ProcessingRowsContract:
    """From the arrival of an original to the end of its processing."""

    async def test_a_record_can_arrive_with_work_left_to_do(self, database: Database) -> None:
        """It has its original, and is not finished."""
        expected = await arrived(database)
        assert expected.status is UNPROCESSED
        assert (expected.uploaded_at, expected.finished_at) == (T0 + 1, None)
        assert await see_record(database, "r") == expected

    async def test_what_is_left_comes_oldest_first_in_pages(self, database: Database) -> None:
        """Uploaded or processing, and not in the trash."""
        for name, begun_at in (("c", T0 + 2), ("r", T0), ("b", T0 + 2), ("d", T0 + 1)):
            await arrived(database, name, begun_at=begun_at)
        await take(database, 0)
        await database.write(lambda tx: tx.records.delete(RecordId("d"), now=T0 + 9, keep_assets=False))
        assert await left(database) == ["r", "b", "c"]
        assert await left(database, limit=2) == ["r", "b"]
        assert await left(database, (T0 + 2, "b")) == ["c"]
        assert await left(database, (T0 + 2, "c")) == []
        await database.write(lambda tx: tx.records.restore(RecordId("d")))
        assert await left(database) == ["r", "d", "b", "c"]

    async def test_whoever_takes_a_record_has_its_next_fence(self, database: Database) -> None:
        """Another one takes it over under the fence that it saw."""
        row = await arrived(database)
        first = await take(database, 0)
        assert first == row.process("w", now=T0 + 2)
        assert (first.status, first.fence, first.attempts) == (RecordStatus.PROCESSING, 1, 1)
        assert await take(database, 0, "x") is None
        second = await take(database, 1, "x", now=T0 + 3)
        assert second == first.process("x", now=T0 + 3)
        assert await see_record(database, "r") == second

    async def test_of_many_one_takes_a_record(self, database: Database) -> None:
        """However they come."""
        await arrived(database)
        taken = await asyncio.gather(*(take(database, 0, f"w{number}") for number in range(5)))
        assert sum(row is not None for row in taken) == 1

    async def test_only_what_is_left_to_do_is_taken(self, database: Database) -> None:
        """Not what is uploading, in the trash, finished, or unknown."""
        assert await take(database, 0) is None
        await database.write(lambda tx: tx.records.insert(record("r")))
        assert await take(database, 0) is None
        await database.write(lambda tx: tx.records.complete(R, asset("one"), now=T0, more=True))
        await database.write(lambda tx: tx.records.delete(R, now=T0, keep_assets=False))
        assert await take(database, 0) is None
        await database.write(lambda tx: tx.records.restore(R))
        assert await take(database, 0) is not None
        await database.write(
            lambda tx: tx.processing.settle(R, 1, RecordStatus.COMPLETED, error=None, now=T0 + 3)
        )
        assert await take(database, 1) is None

    async def test_an_attempt_that_is_given_back_does_not_count(self, database: Database) -> None:
        """Only its own; the fence stays where it is."""
        await arrived(database)
        taken = await take(database, 0)
        assert taken is not None
        assert not await database.write(lambda tx: tx.processing.give_back(R, 0))
        assert await database.write(lambda tx: tx.processing.give_back(R, 1))
        given_back = await see_record(database, "r")
        assert given_back == taken.give_back()
        assert (given_back.attempts, given_back.fence, given_back.holder) == (0, 1, None)
        again = await take(database, 1, "x")
        assert again is not None
        assert (again.attempts, again.fence, again.holder) == (1, 2, "x")

    async def test_what_came_to_its_end_is_processed_again_once_under_its_fence(
        self, database: Database
    ) -> None:
        """Completed or failed; with nothing kept of the attempts before."""
        await arrived(database)
        taken = await take(database, 0)
        assert taken is not None

        async def again(fence: int) -> bool:
            return await database.write(lambda tx: tx.processing.again(R, fence))

        assert not await again(1)  # it is being processed
        await database.write(
            lambda tx: tx.processing.settle(R, 1, RecordStatus.COMPLETED, error="why", now=T0 + 5)
        )
        assert [await again(fence) for fence in (0, 1, 1, 2)] == [False, True, False, False]
        found = await see_record(database, "r")
        assert found is not None
        assert found == taken.settle(RecordStatus.COMPLETED, error="why", now=T0 + 5).process_again()
        assert (found.status, found.fence, found.attempts) == (RecordStatus.PROCESSING, 2, 0)
        assert (found.error, found.finished_at, found.holder) == (None, None, None)
        assert await left(database) == ["r"]
        assert await take(database, 2) is not None
        await database.write(
            lambda tx: tx.processing.settle(R, 3, RecordStatus.FAILED, error="why", now=T0 + 6)
        )
        assert await again(3)

    async def test_what_is_deleted_or_has_no_original_is_not_processed_again(
        self, database: Database
    ) -> None:
        """Nor what is not there."""

        async def again() -> bool:
            return await database.write(lambda tx: tx.processing.again(R, 0))

        assert not await again()
        await database.write(lambda tx: tx.records.insert(record("r")))
        assert not await again()
        await database.write(lambda tx: tx.records.end(R, RecordStatus.FAILED, error="no", now=T0))
        assert not await again()
        row = record("s")
        await database.write(lambda tx: tx.records.insert(row))
        await database.write(lambda tx: tx.records.complete(row.id, asset("one"), now=T0))
        await database.write(lambda tx: tx.records.delete(row.id, now=T0, keep_assets=False))
        assert not await database.write(lambda tx: tx.processing.again(row.id, 0))

    async def test_processing_ends_once_under_its_fence(self, database: Database) -> None:
        """Completed or failed, with a reason or without."""
        await arrived(database)
        taken = await take(database, 0)
        assert taken is not None

        async def settle(fence: int) -> bool:
            return await database.write(
                lambda tx: tx.processing.settle(R, fence, RecordStatus.FAILED, error="why", now=T0 + 5)
            )

        assert [await settle(fence) for fence in (0, 1, 1)] == [False, True, False]
        ended = await see_record(database, "r")
        assert ended == taken.settle(RecordStatus.FAILED, error="why", now=T0 + 5)
        assert (ended.status, ended.error, ended.finished_at) == (RecordStatus.FAILED, "why", T0 + 5)
        assert not await database.write(lambda tx: tx.processing.give_back(R, 1))

    async def test_a_record_that_lost_its_original_is_not_settled(self, database: Database) -> None:
        """It was deleted for good meanwhile."""
        await arrived(database)
        await take(database, 0)
        await database.write(lambda tx: tx.records.delete(R, now=T0, keep_assets=False))
        await database.write(lambda tx: tx.records.drop_assets(R))
        assert not await database.write(
            lambda tx: tx.processing.settle(R, 1, RecordStatus.COMPLETED, error=None, now=T0)
        )

    async def test_dimensions_are_noted_where_none_are_known(self, database: Database) -> None:
        """Of that asset only."""
        row = await arrived(database)
        display = replace(asset("two", AssetKind.DISPLAY), data_url="data:image/webp;base64,AA==")
        await database.write(lambda tx: tx.records.add_asset(R, display))

        async def measure(kind: AssetKind, width: int) -> bool:
            return await database.write(lambda tx: tx.processing.measure(R, kind, width=width, height=3))

        assert await measure(AssetKind.ORIGINAL, 4)
        assert not await measure(AssetKind.ORIGINAL, 5)
        assert not await measure(AssetKind.THUMBNAIL, 4)
        (original,) = row.assets
        found = await see_record(database, "r")
        assert found is not None
        assert found.assets == (replace(original, width=4, height=3), display)
