"""What every `Overview` does, as a suite to inherit from; see `unit_of_work_contract`."""

from functools import partial
from typing import Any

from haulier.core.quantity import MIB
from haulier.core.record import RecordId, RecordStatus
from haulier.core.session import Mode, SessionId, SessionStatus
from haulier.core.upload import Upload
from haulier.testing.rows import T0, Database, add_finishing, add_record, add_upload, chunk, record, upload


async def page(database: Database, after: tuple[float, str] | None = None, limit: int = 10) -> list[str]:
    """Return the ids of a page."""
    found = await database.read(lambda tx: tx.overview.live(after=after, limit=limit))
    return [session.id for session in found]


async def _accept(session: Upload, index: int, tx: Any) -> None:
    await tx.sessions.accept_chunk(session.id, 0, chunk(index), now=T0 + 1)


class OverviewContract:
    """All that lives, and how much there is."""

    async def test_live_sessions_are_paged_oldest_first(self, database: Database) -> None:
        """By time of begin, then by id; of every owner and capsule."""
        for name, begun_at, scope in (("c", T0, "default"), ("a", T0 + 1, "other"), ("b", T0, "default")):
            await add_upload(database, upload(name, begun_at=begun_at, scope=scope, owner=f"user:{name}"))
        assert await page(database) == ["b", "c", "a"]
        assert await page(database, limit=2) == ["b", "c"]
        assert await page(database, (T0, "b"), limit=1) == ["c"]
        assert await page(database, (T0, "c")) == ["a"]
        assert await page(database, (T0 + 1, "a")) == []

    async def test_live_sessions_come_with_what_they_received(self, database: Database) -> None:
        """In both modes, and while they are finishing."""
        await add_upload(database, upload("chunks"), chunks=2)
        gaps = await add_upload(database, upload("gaps", begun_at=T0 + 1, size=9 * MIB))
        for index in (0, 1, 3, 4, 7):
            await database.write(partial(_accept, gaps, index))
        await add_upload(database, upload("none", begun_at=T0 + 1))
        await add_finishing(database, upload("finishing", begun_at=T0 + 1))
        await add_upload(database, upload("append", begun_at=T0 + 2, mode=Mode.APPEND, size=None))
        found = await database.read(lambda tx: tx.overview.live(after=None, limit=10))
        received = {session.id: (session.status, session.received.pairs) for session in found}
        assert received == {
            "chunks": (SessionStatus.OPEN, ((0, 2 * MIB),)),
            "gaps": (SessionStatus.OPEN, ((0, 2 * MIB), (3 * MIB, 5 * MIB), (7 * MIB, 8 * MIB))),
            "none": (SessionStatus.OPEN, ()),
            "finishing": (SessionStatus.FINISHING, ((0, 2 * MIB + 5),)),
            "append": (SessionStatus.OPEN, ()),
        }

    async def test_what_has_ended_is_not_live(self, database: Database) -> None:
        """Neither listed nor counted."""
        await add_upload(database, upload("a"))
        await add_upload(database, upload("b"))
        await database.write(
            lambda tx: tx.sessions.end(SessionId("a"), None, SessionStatus.ABORTED, error=None, now=T0)
        )
        assert await page(database) == ["b"]
        assert dict(await database.read(lambda tx: tx.overview.live_counts())) == {SessionStatus.OPEN: 1}

    async def test_sessions_and_records_are_counted_by_status(self, database: Database) -> None:
        """The trash beside them."""
        await add_upload(database, upload("a"))
        await add_finishing(database, upload("b"))
        await add_record(database, record("a"))
        for name in ("b", "c", "d"):
            await add_record(database, record(name), original=name)
        await database.write(lambda tx: tx.records.delete(RecordId("d"), now=T0 + 1, keep_assets=False))
        live = await database.read(lambda tx: tx.overview.live_counts())
        assert dict(live) == {SessionStatus.OPEN: 1, SessionStatus.FINISHING: 1}
        records = await database.read(lambda tx: tx.overview.record_counts())
        assert dict(records) == {RecordStatus.UPLOADING: 1, RecordStatus.COMPLETED: 2}
        assert await database.read(lambda tx: tx.overview.deleted_count()) == 1

    async def test_nothing_is_counted_where_nothing_is(self, database: Database) -> None:
        """A new database."""
        assert await page(database) == []
        assert dict(await database.read(lambda tx: tx.overview.live_counts())) == {}
        assert dict(await database.read(lambda tx: tx.overview.record_counts())) == {}
        assert await database.read(lambda tx: tx.overview.deleted_count()) == 0
