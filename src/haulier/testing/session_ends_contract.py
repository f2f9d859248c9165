"""What every `SessionStore` does when sessions finish, end and expire; see `session_rows_contract`."""

import asyncio
from functools import partial
from typing import Any

from haulier.core.quantity import MIB
from haulier.core.ranges import Ranges
from haulier.core.record import RecordId
from haulier.core.session import Mode, SessionId, SessionStatus
from haulier.core.upload import UploadDetails
from haulier.core.values import replace
from haulier.testing.rows import (
    MD5,
    SHA_256,
    T0,
    TTL_S,
    Database,
    add_committed,
    add_finishing,
    add_upload,
    chunk,
    see,
    upload,
)

A = SessionId("a")
NONE = SessionId("none")
FULL = Ranges(((0, 2 * MIB + 5),))


class FinishContract:
    """From open to a result, or to none."""

    async def test_only_a_complete_session_starts_to_finish(self, database: Database) -> None:
        """Once."""
        session = await add_upload(database, upload("a"), chunks=2)
        assert await database.write(lambda tx: tx.sessions.start_finish(A, "blob", "w", now=T0)) is None
        await database.write(lambda tx: tx.sessions.accept_chunk(A, 0, chunk(2, 5), now=T0))
        finishing = await database.write(lambda tx: tx.sessions.start_finish(A, "blob", "w", now=T0 + 1))
        complete = session.accept(0, now=T0).accept(1, now=T0).accept(2, now=T0)
        assert finishing == complete.finish("blob", "w", now=T0 + 1)
        assert finishing == await see(database, "a")
        assert await database.write(lambda tx: tx.sessions.start_finish(A, "late", "w", now=T0)) is None
        assert not await database.write(lambda tx: tx.sessions.accept_chunk(A, 0, chunk(0), now=T0))
        assert not await database.write(lambda tx: tx.sessions.touch(A, now=T0))

    async def test_an_empty_file_is_complete_at_once(self, database: Database) -> None:
        """It has no chunks."""
        await add_upload(database, upload("a", size=0))
        finishing = await database.write(lambda tx: tx.sessions.start_finish(A, "blob", "w", now=T0))
        assert finishing is not None
        assert finishing.received == Ranges()

    async def test_a_dead_finish_is_taken_under_its_fence(self, database: Database) -> None:
        """The old holder can do nothing any more."""
        old = await add_finishing(database, upload("a"))
        taken = await database.write(lambda tx: tx.sessions.take_finish(A, old.fence, "two"))
        assert taken == old.take_finish("two")
        assert taken == await see(database, "a")
        assert await database.write(lambda tx: tx.sessions.take_finish(A, old.fence, "three")) is None
        assert await database.write(lambda tx: tx.sessions.take_finish(NONE, 1, "three")) is None
        assert await database.write(lambda tx: tx.sessions.amend(A, old.fence, old.details)) is None
        assert not await database.write(lambda tx: tx.sessions.commit(A, old.fence, old.details, now=T0))
        assert not await database.write(lambda tx: tx.sessions.reopen(A, old.fence, "late", now=T0))
        assert not await database.write(
            lambda tx: tx.sessions.end(A, old.fence, SessionStatus.FAILED, error="late", now=T0)
        )

    async def test_details_are_amended_under_the_fence(self, database: Database) -> None:
        """Nothing else changes."""
        session = await add_finishing(database, upload("a"))
        details = replace(session.details, expected=SHA_256, promised=MD5)
        amended = await database.write(lambda tx: tx.sessions.amend(A, session.fence, details))
        assert amended == replace(session, details=details)
        assert amended == await see(database, "a")

    async def test_a_commit_keeps_the_result_and_forgets_the_chunks(self, database: Database) -> None:
        """Once."""
        session = await add_finishing(database, upload("a", record=RecordId("r")))
        details = replace(session.details, digest=SHA_256)
        assert await database.write(lambda tx: tx.sessions.commit(A, session.fence, details, now=T0 + 2))
        committed = await see(database, "a")
        assert committed == session.commit(details, now=T0 + 2)
        assert await database.read(lambda tx: tx.sessions.chunk(A, 0)) is None
        assert not await database.write(lambda tx: tx.sessions.commit(A, session.fence, details, now=T0))

    async def test_a_reopened_session_may_finish_again(self, database: Database) -> None:
        """With a higher fence, and without its error."""
        session = await add_finishing(database, upload("a"))
        assert await database.write(lambda tx: tx.sessions.reopen(A, session.fence, "wrong", now=T0 + 2))
        assert await see(database, "a") == session.reopen("wrong", now=T0 + 2)
        again = await database.write(lambda tx: tx.sessions.start_finish(A, "blob", "w", now=T0))
        assert again is not None
        assert (again.fence, again.error) == (2, None)

    async def test_an_end_without_fence_ends_what_is_open(self, database: Database) -> None:
        """Not what is finishing, and nothing twice."""
        session = await add_upload(database, upload("a"), chunks=1)
        await add_finishing(database, upload("b"))

        async def abort(name: str) -> bool:
            end = SessionStatus.ABORTED
            return await database.write(
                lambda tx: tx.sessions.end(SessionId(name), None, end, error="why", now=T0 + 2)
            )

        assert [await abort(name) for name in ("a", "a", "b", "none")] == [True, False, False, False]
        ended = session.accept(0, now=T0).end(SessionStatus.ABORTED, error="why", now=T0 + 2)
        assert ended.received == Ranges()
        assert await see(database, "a") == ended
        assert await database.read(lambda tx: tx.sessions.chunk(A, 0)) is None

    async def test_an_end_with_fence_ends_what_is_finishing(self, database: Database) -> None:
        """Not what is open."""
        session = await add_finishing(database, upload("a"))
        await add_upload(database, upload("b"))

        async def fail(name: str, fence: int) -> bool:
            end = SessionStatus.FAILED
            return await database.write(
                lambda tx: tx.sessions.end(SessionId(name), fence, end, error="why", now=T0 + 2)
            )

        assert [await fail("a", 0), await fail("a", 1), await fail("b", 0)] == [False, True, False]
        assert await see(database, "a") == session.end(SessionStatus.FAILED, error="why", now=T0 + 2)
        assert await database.read(lambda tx: tx.sessions.chunk(A, 0)) is None

    async def test_one_of_many_racing_finishes_starts(self, database: Database) -> None:
        """The others find it finishing."""
        await add_upload(database, upload("a"), chunks=3)

        async def finish(number: int) -> bool:
            started = await database.write(
                lambda tx: tx.sessions.start_finish(A, f"blob{number}", "w", now=T0)
            )
            return started is not None

        assert sum(await asyncio.gather(*map(finish, range(50)))) == 1


class ExpiryContract:
    """What time does to sessions."""

    async def test_activity_moves_the_expiry_of_an_open_session(self, database: Database) -> None:
        """By its own time to live."""
        session = await add_upload(database, upload("a"))
        assert await database.write(lambda tx: tx.sessions.touch(A, now=T0 + 7.25))
        assert await see(database, "a") == session.seen(T0 + 7.25)
        assert not await database.write(lambda tx: tx.sessions.touch(NONE, now=T0))

    async def test_only_open_sessions_whose_time_is_over_expire(self, database: Database) -> None:
        """To the very moment."""
        session = await add_upload(database, upload("a"), chunks=1)
        await add_upload(database, upload("b", begun_at=T0 + 1))
        await add_finishing(database, upload("c"))
        over = T0 + TTL_S
        assert await database.write(lambda tx: tx.sessions.expire(now=over - 0.125, held=(), limit=9)) == []
        expired = await database.write(lambda tx: tx.sessions.expire(now=over, held=(), limit=9))
        assert expired == [session.seen(T0).end(SessionStatus.EXPIRED, error=None, now=over)]
        assert await see(database, "a") == expired[0]
        assert await database.read(lambda tx: tx.sessions.chunk(A, 0)) is None
        assert [s.status.value for s in [await see(database, n) for n in "abc"] if s] == [
            "expired",
            "open",
            "finishing",
        ]

    async def test_only_sessions_of_a_time_to_live_that_is_short_enough_expire(
        self, database: Database
    ) -> None:
        """The bound is one that expires."""
        await add_upload(database, upload("a"))
        over = T0 + 2 * TTL_S
        for most_ttl_s, ids in ((TTL_S - 0.125, []), (TTL_S, ["a"])):
            expired = await database.write(
                lambda tx, most=most_ttl_s: tx.sessions.expire(now=over, held=(), limit=9, most_ttl_s=most)  # type: ignore[misc]
            )
            assert [session.id for session in expired] == ids

    async def test_held_sessions_do_not_expire_and_do_not_use_up_the_limit(self, database: Database) -> None:
        """The longest overdue ones go first."""
        for number, name in enumerate("abcdef"):
            await add_upload(database, upload(name, begun_at=T0 + number))
        held = [SessionId("a"), SessionId("c"), NONE]
        later = T0 + 2 * TTL_S
        first = await database.write(lambda tx: tx.sessions.expire(now=later, held=held, limit=2))
        second = await database.write(lambda tx: tx.sessions.expire(now=later, held=held, limit=9))
        third = await database.write(lambda tx: tx.sessions.expire(now=later, held=held, limit=9))
        assert [[session.id for session in batch] for batch in (first, second, third)] == [
            ["b", "d"],
            ["e", "f"],
            [],
        ]

    async def test_ended_sessions_are_purged_after_a_while(self, database: Database) -> None:
        """The ones that ended longest ago first; live ones never; what is purged is gone."""
        for number, name in enumerate("abc"):
            await add_upload(database, upload(name), chunks=1)
            await database.write(
                lambda tx, name=name, number=number: tx.sessions.end(  # type: ignore[misc]  # of a lambda with defaults
                    SessionId(name), None, SessionStatus.FAILED, error=None, now=T0 + 10 - number
                )
            )
        await add_upload(database, upload("d"))
        await add_finishing(database, upload("e"))
        assert await database.write(lambda tx: tx.sessions.purge(before=T0 + 8, limit=9)) == []
        purged = await database.write(lambda tx: tx.sessions.purge(before=T0 + 100, limit=2))
        assert [(session.id, session.received) for session in purged] == [("c", Ranges()), ("b", Ranges())]
        assert [await see(database, name) is None for name in "abcde"] == [False, True, True, False, False]
        assert await database.read(lambda tx: tx.sessions.chunk(SessionId("c"), 0)) is None

    async def test_details_of_a_committed_session_are_settled_once(self, database: Database) -> None:
        """By whoever knows the present ones, and of a committed session only."""
        row = await add_committed(database, upload("a"))
        await add_finishing(database, upload("b"), blob_key="two")
        first, second = (row.details.attached(RecordId(name)) for name in ("r1", "r2"))

        async def settle(name: str, details: UploadDetails) -> bool:
            return await database.write(
                lambda tx: tx.sessions.settle(SessionId(name), details, instead_of=row.details)
            )

        assert [await settle(name, first) for name in ("a", "b", "none")] == [True, False, False]
        assert not await settle("a", second)
        assert await see(database, "a") == row.settle(first)

    async def test_a_committed_session_is_withdrawn_while_its_details_are_those(
        self, database: Database
    ) -> None:
        """Its key is free then; what was settled stays."""
        row = await add_committed(database, upload("a", key="key"))
        other = await add_committed(database, upload("b"), blob_key="two")
        await add_finishing(database, upload("c"), blob_key="three")
        taken = other.details.attached(RecordId("r"))
        await database.write(lambda tx: tx.sessions.settle(other.id, taken, instead_of=other.details))

        async def withdraw(name: str) -> bool:
            return await database.write(
                lambda tx: tx.sessions.withdraw(SessionId(name), row.details, now=T0 + 9)
            )

        assert [await withdraw(name) for name in ("a", "a", "b", "c", "none")] == [True, *[False] * 4]
        assert await see(database, "a") == row.end(SessionStatus.ABORTED, error=None, now=T0 + 9)
        assert await database.read(lambda tx: tx.sessions.find("default", "local", "key")) is None
        assert await see(database, "b") == other.settle(taken)

    async def test_a_purge_tells_what_had_become_of_a_session(self, database: Database) -> None:
        """Whoever purges must know whether something names its bytes."""
        row = await add_committed(database, upload("a"))
        taken = row.details.attached(RecordId("r"))
        await database.write(lambda tx: tx.sessions.settle(A, taken, instead_of=row.details))
        (purged,) = await database.write(lambda tx: tx.sessions.purge(before=T0 + 100, limit=5))
        assert purged.details == taken

    async def test_an_erased_session_leaves_nothing(self, database: Database) -> None:
        """Erasing it again does nothing."""
        await add_upload(database, upload("a", key="key"))
        assert await database.write(lambda tx: tx.sessions.erase(A))
        assert not await database.write(lambda tx: tx.sessions.erase(A))
        assert await see(database, "a") is None
        await add_upload(database, upload("a", key="key"))
        session = await see(database, "a")
        assert session is not None
        assert session.received == Ranges()

    async def test_what_was_received_is_never_erased(self, database: Database) -> None:
        """Nor what has ended."""
        await add_upload(database, upload("a"), chunks=1)
        await add_upload(database, upload("b", mode=Mode.APPEND))
        await add_upload(database, upload("c"))
        b, c = SessionId("b"), SessionId("c")
        await database.write(lambda tx: tx.sessions.advance(b, 0, 1, tail_trusted=False, boot_id="", now=T0))
        await database.write(lambda tx: tx.sessions.end(c, None, SessionStatus.ABORTED, error=None, now=T0))
        for session_id in (A, b, c):
            assert not await database.write(partial(_erase, session_id))
            assert await see(database, session_id) is not None

    async def test_the_first_answer_is_kept(self, database: Database) -> None:
        """Whoever comes second is told the first one."""
        await add_upload(database, upload("a"))
        assert await database.write(lambda tx: tx.sessions.keep_answer(A, "first")) == "first"
        assert await database.write(lambda tx: tx.sessions.keep_answer(A, "second")) == "first"
        session = await see(database, "a")
        assert session is not None
        assert session.answer == "first"
        assert await database.write(lambda tx: tx.sessions.keep_answer(NONE, "x")) is None

    async def test_blobs_named_by_sessions_and_assets_are_found(self, database: Database) -> None:
        """Each store knows its own."""
        await add_finishing(database, upload("a"), blob_key="one")
        await add_finishing(database, upload("b"), blob_key="two")
        keys = ["one", "three", "two"]
        assert await database.read(lambda tx: tx.sessions.blob_keys(keys)) == {"one", "two"}
        assert await database.read(lambda tx: tx.records.blob_keys(keys)) == set()
        assert await database.read(lambda tx: tx.sessions.blob_keys([])) == set()


async def _erase(session_id: SessionId, tx: Any) -> bool:
    erased: bool = await tx.sessions.erase(session_id)
    return erased
