"""What every `SessionStore` does with sessions that are made of others; see `session_rows_contract`."""

from typing import Any

from haulier.core.ranges import Ranges
from haulier.core.session import Concat, LiveLimit, Mode, SessionId, SessionStatus
from haulier.testing.rows import T0, TTL_S, Database, Upload, add_upload, see, upload

A, B, F = SessionId("a"), SessionId("b"), SessionId("f")


def partial(name: str, *, size: int | None = 5, **fields: Any) -> Upload:
    """Return a new partial session."""
    return upload(name, mode=Mode.APPEND, size=size, concat=Concat.PARTIAL, **fields)


def final(name: str, *, size: int | None = None, **fields: Any) -> Upload:
    """Return a new final session."""
    return upload(name, mode=Mode.APPEND, size=size, concat=Concat.FINAL, **fields)


async def fill(database: Database, session: Upload, size: int = 5) -> None:
    """Let a partial session have that many bytes, at its beginning."""

    async def work(tx: Any) -> None:
        await tx.sessions.claim(session.id, 0, None, now=T0)
        await tx.sessions.advance(session.id, 1, size, tail_trusted=True, boot_id="b", now=T0)

    await database.write(work)


async def add_final(database: Database, session: Upload, *partials: SessionId) -> None:
    """Insert a final session of these."""

    async def work(tx: Any) -> None:
        await tx.sessions.insert(session, limit=LiveLimit(of_owner=1000))
        await tx.sessions.join(session.id, partials)

    await database.write(work)


class ConcatenationContract:
    """`join`, `partials`, `finals`, `assemble`, and what changes for others by them."""

    async def test_partial_and_final_sessions_are_loaded_unchanged(self, database: Database) -> None:
        a, f = (
            partial("a", raw_concat="partial"),
            final("f", raw_concat="final;/tus/a", raw_metadata="\u00e9"),
        )
        await add_upload(database, a)
        await add_final(database, f, A)
        assert (await see(database, "a"), await see(database, "f")) == (a, f)

    async def test_what_a_final_one_is_made_of_comes_in_order_and_more_than_once(
        self, database: Database
    ) -> None:
        a, b = await add_upload(database, partial("a")), await add_upload(database, partial("b"))
        await add_final(database, final("f"), B, A, B)
        assert await database.read(lambda tx: tx.sessions.partials(F)) == [b, a, b]
        assert await database.read(lambda tx: tx.sessions.partials(A)) == []

    async def test_the_live_final_ones_of_a_partial_one_are_found(self, database: Database) -> None:
        for name in "ab":
            await add_upload(database, partial(name))
        f, g = final("f"), final("g")
        await add_final(database, g, A)
        await add_final(database, f, B, A, A)
        assert await database.write(lambda tx: tx.sessions.finals(A)) == [f, g]
        assert await database.write(lambda tx: tx.sessions.finals(B)) == [f]
        assert await database.write(lambda tx: tx.sessions.finals(F)) == []
        await database.write(lambda tx: tx.sessions.end(F, None, SessionStatus.ABORTED, error=None, now=T0))
        assert await database.write(lambda tx: tx.sessions.finals(A)) == [g]

    async def test_an_assembled_one_has_all_its_bytes_and_can_finish(self, database: Database) -> None:
        await add_upload(database, partial("a"))
        f = final("f")
        await add_final(database, f, A)
        assert await database.write(lambda tx: tx.sessions.start_finish(F, "blob", "w", now=T0)) is None
        assert await database.write(lambda tx: tx.sessions.assemble(F, 5, now=T0 + 1))
        assert await see(database, "f") == f.assemble(5, now=T0 + 1)
        finishing = await database.write(lambda tx: tx.sessions.start_finish(F, "blob", "w", now=T0 + 2))
        assert finishing is not None
        assert (finishing.status, finishing.received) == (SessionStatus.FINISHING, Ranges(((0, 5),)))
        assert not await database.write(lambda tx: tx.sessions.assemble(F, 5, now=T0 + 3))

    async def test_only_a_final_one_is_assembled(self, database: Database) -> None:
        await add_upload(database, partial("a"))
        assert not await database.write(lambda tx: tx.sessions.assemble(A, 5, now=T0))
        assert not await database.write(lambda tx: tx.sessions.assemble(SessionId("none"), 5, now=T0))

    async def test_a_complete_partial_one_does_not_count_as_live(self, database: Database) -> None:
        a, b = await add_upload(database, partial("a")), await add_upload(database, partial("b", size=None))
        assert await database.read(lambda tx: tx.sessions.count_live(None, "local")) == 2
        await fill(database, a)
        await fill(database, b)
        assert await database.read(lambda tx: tx.sessions.count_live(None, "local")) == 1
        assert await database.read(lambda tx: tx.sessions.count_live("default", "local")) == 1
        await database.write(lambda tx: tx.sessions.declare_size(B, 5))
        assert await database.read(lambda tx: tx.sessions.count_live(None, "local")) == 0

    async def test_a_partial_one_stays_while_a_live_final_one_is_made_of_it(self, database: Database) -> None:
        await add_upload(database, partial("a"))
        await add_final(database, final("f", begun_at=T0 + TTL_S), A)
        late = T0 + TTL_S + 1
        assert await database.write(lambda tx: tx.sessions.expire(now=late, held=[], limit=9)) == []
        await database.write(lambda tx: tx.sessions.end(F, None, SessionStatus.ABORTED, error=None, now=late))
        expired = await database.write(lambda tx: tx.sessions.expire(now=late, held=[], limit=9))
        assert [session.id for session in expired] == [A]

    async def test_a_final_one_stays_while_anything_that_it_is_made_of_has_time(
        self, database: Database
    ) -> None:
        await add_upload(database, partial("a"))
        await add_upload(database, partial("b", begun_at=T0 + 10))
        await add_final(database, final("f"), A, B)

        async def expire(now: float) -> list[str]:
            expired = await database.write(lambda tx: tx.sessions.expire(now=now, held=[], limit=9))
            return [session.id for session in expired]

        assert await expire(T0 + TTL_S + 1) == []
        assert await expire(T0 + TTL_S + 11) == ["f"]
        assert await expire(T0 + TTL_S + 11) == ["a", "b"]

    async def test_a_purged_session_is_part_of_nothing(self, database: Database) -> None:
        await add_upload(database, partial("a"))
        await add_upload(database, partial("b"))
        await add_final(database, final("f"), A, B, A)
        await database.write(lambda tx: tx.sessions.end(A, None, SessionStatus.ABORTED, error=None, now=T0))
        await database.write(lambda tx: tx.sessions.purge(before=T0 + 1, limit=9))
        left = await database.read(lambda tx: tx.sessions.partials(F))
        assert [session.id for session in left] == [B]
        assert await database.write(lambda tx: tx.sessions.erase(F))
        assert await database.write(lambda tx: tx.sessions.finals(B)) == []
