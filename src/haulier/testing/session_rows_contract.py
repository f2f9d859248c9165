"""What every `SessionStore` does, as a suite to inherit from; see `unit_of_work_contract`."""

import asyncio
import itertools
from functools import partial
from typing import Any

import pytest

from haulier.core.errors import QuotaExceeded
from haulier.core.quantity import MIB
from haulier.core.ranges import Ranges
from haulier.core.record import AssetKind, RecordId
from haulier.core.session import Concat, LiveLimit, Mode, SessionId, SessionStatus
from haulier.core.values import replace
from haulier.ports import KeyTaken
from haulier.testing.concatenation_contract import ConcatenationContract
from haulier.testing.rows import (
    SHA_256,
    T0,
    TTL_S,
    Database,
    add_finishing,
    add_upload,
    add_whole,
    chunk,
    see,
    upload,
    whole,
)
from haulier.testing.session_ends_contract import ExpiryContract, FinishContract

A = SessionId("a")
NONE = SessionId("none")
FULL = Ranges(((0, 2 * MIB + 5),))


class BeginContract:
    """`insert`, and the ways to find a session again."""

    async def test_what_is_inserted_is_loaded_unchanged(self, database: Database) -> None:
        """Every field comes back as it was."""
        session = upload(
            "a",
            key="key",
            filename="Größe 😀.txt",
            path="x/ÿ/Größe 😀.txt",
            metadata={"größe": "5", "": "\u2028"},
            expected=SHA_256,
            record=RecordId("r"),
            asset=AssetKind.DISPLAY,
            adds_to_record=True,
        )
        await add_upload(database, session)
        assert await see(database, "a") == session
        assert await database.read(lambda tx: tx.sessions.peek(A)) == session

    async def test_an_append_of_unknown_size_is_loaded_unchanged(self, database: Database) -> None:
        """None stays None."""
        session = upload("a", mode=Mode.APPEND, size=None)
        await add_upload(database, session)
        assert await see(database, "a") == session

    async def test_a_session_that_is_committed_at_once_is_loaded_unchanged(self, database: Database) -> None:
        """Like one that got there step by step: it is not live, it expires never, its blob is named."""
        session = whole("a", record=RecordId("r"))
        await add_whole(database, session)
        assert session.status is SessionStatus.COMMITTED
        assert await see(database, "a") == session
        assert await database.read(lambda tx: tx.sessions.count_live(None, "local")) == 0
        keys = {"blob of a", "other"}
        assert await database.read(lambda tx: tx.sessions.blob_keys(keys)) == {"blob of a"}
        late = T0 + 1000 * TTL_S
        assert await database.write(lambda tx: tx.sessions.expire(now=late, held=frozenset(), limit=10)) == []
        assert await see(database, "a") == session

    async def test_sessions_that_are_committed_together_are_added_all_or_none(
        self, database: Database
    ) -> None:
        """Each as if it came alone; one that cannot be added leaves none of them."""
        first = [whole("a"), whole("b", filename="b.bin", record=RecordId("r")), whole("c", size=7)]
        await add_whole(database, *first)
        assert [await see(database, session) for session in first] == first
        with pytest.raises(AssertionError):
            await add_whole(database, whole("d"), whole("b"))
        with pytest.raises(AssertionError):
            await add_whole(database, whole("d"), upload("e"))
        assert [await see(database, name) for name in ("d", "e")] == [None, None]

    async def test_an_unknown_session_is_none(self, database: Database) -> None:
        """No error, no row."""
        assert await see(database, "none") is None
        assert await database.read(lambda tx: tx.sessions.peek(NONE)) is None
        assert await database.read(lambda tx: tx.sessions.chunk(NONE, 0)) is None
        assert await database.read(lambda tx: tx.sessions.find("default", "local", "key")) is None

    async def test_an_id_that_no_row_can_have_is_none(self, database: Database) -> None:
        """Strangers may ask for any text, beside what is there."""
        session = await add_upload(database, upload("a"))
        strange = SessionId("a\0")
        assert await see(database, strange) is None
        assert await database.read(lambda tx: tx.sessions.peek(strange)) is None
        assert await database.read(lambda tx: tx.sessions.find("default", "local", strange)) is None
        assert [*await database.read(lambda tx: tx.sessions.marks([A, strange]))] == [session.id]

    async def test_a_key_of_a_live_session_is_taken(self, database: Database) -> None:
        """For the same scope and owner only."""
        await add_upload(database, upload("a", key="key"))
        with pytest.raises(KeyTaken):
            await add_upload(database, upload("b", key="key"))
        await add_upload(database, upload("c", key="key", owner="user:x"))
        await add_upload(database, upload("d", key="key", scope="other"))
        await add_upload(database, upload("e"))
        await add_upload(database, upload("f"))
        found = await database.read(lambda tx: tx.sessions.find("default", "local", "key"))
        assert found is not None
        assert found.id == "a"

    async def test_a_key_is_taken_even_at_the_limit(self, database: Database) -> None:
        """Whoever repeats a request is told so, not that there is no room."""
        await add_upload(database, upload("a", key="key"))
        with pytest.raises(KeyTaken):
            await database.write(
                lambda tx: tx.sessions.insert(upload("b", key="key"), limit=LiveLimit(of_owner=1))
            )

    async def test_a_key_of_a_committed_session_is_taken(self, database: Database) -> None:
        """The repetition gets the result."""
        session = await add_finishing(database, upload("a", key="key"))
        await database.write(lambda tx: tx.sessions.commit(A, session.fence, session.details, now=T0))
        with pytest.raises(KeyTaken):
            await add_upload(database, upload("b", key="key"))
        found = await database.read(lambda tx: tx.sessions.find("default", "local", "key"))
        assert found is not None
        assert found.received == FULL

    @pytest.mark.parametrize("status", [SessionStatus.ABORTED, SessionStatus.EXPIRED, SessionStatus.FAILED])
    async def test_a_key_of_a_session_without_result_is_free(
        self, database: Database, status: SessionStatus
    ) -> None:
        """It may be used anew."""
        await add_upload(database, upload("a", key="key"))
        await database.write(lambda tx: tx.sessions.end(A, None, status, error=None, now=T0))
        assert await database.read(lambda tx: tx.sessions.find("default", "local", "key")) is None
        await add_upload(database, upload("b", key="key"))

    async def test_an_owner_has_at_most_so_many_live_sessions(self, database: Database) -> None:
        """Counted over all capsules; ended ones and others' do not count."""
        await add_upload(database, upload("a"))
        await add_upload(database, upload("b", scope="other"))
        await add_upload(database, upload("c", owner="user:x"))
        with pytest.raises(QuotaExceeded) as refused:
            await database.write(lambda tx: tx.sessions.insert(upload("d"), limit=LiveLimit(of_owner=2)))
        assert (refused.value.resource, refused.value.limit) == ("sessions", 2)
        await database.write(lambda tx: tx.sessions.end(A, None, SessionStatus.ABORTED, error=None, now=T0))
        await database.write(lambda tx: tx.sessions.insert(upload("d"), limit=LiveLimit(of_owner=2)))

    async def test_the_limit_holds_under_concurrency(self, database: Database) -> None:
        """A hundred at once, five may."""

        async def begin(number: int) -> bool:
            try:
                await database.write(
                    lambda tx: tx.sessions.insert(upload(f"s{number}"), limit=LiveLimit(of_owner=5))
                )
            except QuotaExceeded:
                return False
            return True

        assert sum(await asyncio.gather(*map(begin, range(100)))) == 5
        assert await database.read(lambda tx: tx.sessions.count_live(None, "local")) == 5

    async def test_an_address_has_at_most_so_many_live_sessions(self, database: Database) -> None:
        """Of all owners, over all capsules; ended ones, other addresses' and those of none do not count."""
        here, there = (LiveLimit(of_owner=9, address=name, of_address=2) for name in ("here", "there"))

        def begin(name: str, limit: LiveLimit = here, **fields: Any) -> Any:
            return database.write(lambda tx: tx.sessions.insert(upload(name, **fields), limit=limit))

        await begin("a", owner="user:x")
        await begin("b", scope="other")
        await begin("c", there)
        await add_upload(database, upload("d"))
        with pytest.raises(QuotaExceeded) as refused:
            await begin("e", owner="user:y")
        assert (refused.value.resource, refused.value.limit, refused.value.per) == ("sessions", 2, "address")
        await database.write(lambda tx: tx.sessions.end(A, None, SessionStatus.ABORTED, error=None, now=T0))
        await begin("e", owner="user:y")
        with pytest.raises(QuotaExceeded):
            await begin("f")

    async def test_the_limit_of_the_owner_holds_beside_that_of_the_address(self, database: Database) -> None:
        """Whoever has both used up hears of its own; a key is told first."""
        limit = LiveLimit(of_owner=1, address="here", of_address=1)
        await database.write(lambda tx: tx.sessions.insert(upload("a", key="key"), limit=limit))
        with pytest.raises(QuotaExceeded) as refused:
            await database.write(lambda tx: tx.sessions.insert(upload("b"), limit=limit))
        assert refused.value.per == "owner"
        with pytest.raises(KeyTaken):
            await database.write(lambda tx: tx.sessions.insert(upload("b", key="key"), limit=limit))

    async def test_an_address_without_room_keeps_nothing_in_one_step_either(self, database: Database) -> None:
        """What is committed at once takes no place itself."""
        limit = LiveLimit(of_owner=9, address="here", of_address=1)

        await add_whole(database, whole("a"), whole("b"), limit=limit)
        await database.write(lambda tx: tx.sessions.insert(upload("c"), limit=limit))
        with pytest.raises(QuotaExceeded) as refused:
            await add_whole(database, whole("d"), limit=limit)
        assert refused.value.per == "address"
        with pytest.raises(QuotaExceeded) as refused:
            await add_whole(database, whole("d"), limit=LiveLimit(of_owner=1))
        assert refused.value.per == "owner"
        await add_whole(database, whole("d", owner="user:x"), limit=LiveLimit(of_owner=1))

    async def test_the_limit_of_an_address_holds_under_concurrency(self, database: Database) -> None:
        """A hundred at once of ten owners, five may."""
        limit = LiveLimit(of_owner=9, address="here", of_address=5)

        async def begin(number: int) -> bool:
            session = upload(f"s{number}", owner=f"user:{number % 10}")
            try:
                await database.write(lambda tx: tx.sessions.insert(session, limit=limit))
            except QuotaExceeded:
                return False
            return True

        assert sum(await asyncio.gather(*map(begin, range(100)))) == 5

    async def test_live_sessions_are_counted_by_owner_and_scope(self, database: Database) -> None:
        """Open and finishing ones are live."""
        await add_finishing(database, upload("a"))
        await add_upload(database, upload("b", scope="other"))
        await add_upload(database, upload("c", owner="user:x"))

        async def counts(owner: str) -> list[int]:
            return [
                await database.read(lambda tx, scope=scope: tx.sessions.count_live(scope, owner))  # type: ignore[misc]  # of a lambda with defaults
                for scope in (None, "default", "other")
            ]

        assert await counts("local") == [2, 1, 1]
        assert await counts("user:x") == [1, 1, 0]
        assert await counts("nobody") == [0, 0, 0]

    async def test_live_sessions_are_listed_oldest_first(self, database: Database) -> None:
        """Without what they have received in mode chunks, with it in mode append."""
        await add_upload(database, upload("b", begun_at=T0 + 1), chunks=1)
        await add_finishing(database, upload("a", begun_at=T0 + 2))
        await add_upload(database, upload("c", mode=Mode.APPEND))
        await database.write(lambda tx: tx.sessions.claim(SessionId("c"), 0, "w", now=T0))
        await database.write(
            lambda tx: tx.sessions.advance(SessionId("c"), 1, 7, tail_trusted=False, boot_id="", now=T0)
        )
        await add_upload(database, upload("d"))
        await database.write(
            lambda tx: tx.sessions.end(SessionId("d"), None, SessionStatus.ABORTED, error=None, now=T0)
        )
        live = await database.read(lambda tx: tx.sessions.live(after=None, limit=10_000))
        assert [(session.id, session.received) for session in live] == [
            ("c", Ranges(((0, 7),))),
            ("b", Ranges()),
            ("a", Ranges()),
        ]

    async def test_live_sessions_come_in_pages(self, database: Database) -> None:
        """By time of begin, then by id; each page behind the last row of the one before."""
        for name, begun_at in (("c", T0), ("a", T0 + 1), ("b", T0)):
            await add_upload(database, upload(name, begun_at=begun_at))

        async def page(after: tuple[float, str] | None, limit: int) -> list[str]:
            found = await database.read(lambda tx: tx.sessions.live(after=after, limit=limit))
            return [session.id for session in found]

        assert await page(None, 2) == ["b", "c"]
        assert await page((T0, "b"), 9) == ["c", "a"]
        assert await page((T0 + 1, "a"), 9) == []

    async def test_only_what_somebody_may_have_to_go_on_with_is_unfinished(self, database: Database) -> None:
        """What is finishing, and appends that have all their bytes and wait for no word; in pages."""
        await add_upload(database, upload("open"), chunks=3)
        await add_finishing(database, upload("finishing", begun_at=T0 + 2))
        appends: dict[str, tuple[dict[str, Any], int]] = {
            "due": ({"size": 7}, 7),
            "short": ({"size": 8}, 7),
            "of unknown size": ({"size": None}, 7),
            "partial": ({"size": 7, "concat": Concat.PARTIAL}, 7),
            "by word": ({"size": 7, "ends_by_word": True}, 7),
        }
        for name, (fields, offset) in appends.items():
            await add_upload(database, upload(name, mode=Mode.APPEND, **fields))
            await database.write(partial(_append, SessionId(name), offset))
        await add_upload(database, upload("ended"))
        await database.write(
            lambda tx: tx.sessions.end(SessionId("ended"), None, SessionStatus.ABORTED, error=None, now=T0)
        )

        async def page(after: tuple[float, str] | None, limit: int) -> list[str]:
            found = await database.read(lambda tx: tx.sessions.unfinished(after=after, limit=limit))
            return [session.id for session in found]

        assert await page(None, 9) == ["due", "finishing"]
        assert await page(None, 1) == ["due"]
        assert await page((T0, "due"), 9) == ["finishing"]


async def _append(session_id: SessionId, offset: int, tx: Any) -> None:
    await tx.sessions.claim(session_id, 0, "w", now=T0)
    await tx.sessions.advance(session_id, 1, offset, tail_trusted=False, boot_id="", now=T0)


class ChunksContract:
    """Acceptance of chunks."""

    async def test_an_accepted_chunk_is_received_and_activity(self, database: Database) -> None:
        """In any order; the last one is short."""
        session = await add_upload(database, upload("a"))
        assert await database.write(lambda tx: tx.sessions.accept_chunk(A, 0, chunk(2, 5), now=T0 + 1.5))
        assert await database.write(lambda tx: tx.sessions.accept_chunk(A, 0, chunk(0), now=T0 + 2.5))
        assert await see(database, "a") == session.accept(2, now=T0 + 1.5).accept(0, now=T0 + 2.5)
        assert await database.read(lambda tx: tx.sessions.chunk(A, 2)) == chunk(2, 5)
        assert await database.read(lambda tx: tx.sessions.chunk(A, 1)) is None
        peeked = await database.read(lambda tx: tx.sessions.peek(A))
        assert await database.read(lambda tx: tx.sessions.peek_chunk(A, 2)) == (peeked, chunk(2, 5))
        assert await database.read(lambda tx: tx.sessions.peek_chunk(A, 1)) == (peeked, None)
        assert await database.read(lambda tx: tx.sessions.peek_chunk(SessionId("none"), 2)) is None

    async def test_a_peek_leaves_the_chunks_out(self, database: Database) -> None:
        """Everything else is there."""
        await add_upload(database, upload("a"), chunks=2)
        peeked = await database.read(lambda tx: tx.sessions.peek(A))
        loaded = await see(database, "a")
        assert loaded is not None
        assert peeked == replace(loaded, received=Ranges())

    async def test_an_index_is_accepted_once(self, database: Database) -> None:
        """The first one stays, and the second one is no activity."""
        await add_upload(database, upload("a"), chunks=1)
        second = chunk(0, fill=b"y")
        assert not await database.write(lambda tx: tx.sessions.accept_chunk(A, 0, second, now=T0 + 9))
        assert await database.read(lambda tx: tx.sessions.chunk(A, 0)) == chunk(0)
        session = await see(database, "a")
        assert session is not None
        assert session.last_seen_at == T0

    async def test_one_of_a_hundred_acceptances_of_one_index_holds(self, database: Database) -> None:
        """Whatever their order, the stored bytes are the accepted ones."""
        await add_upload(database, upload("a"))

        async def accept(number: int) -> bool:
            mine = chunk(0, fill=bytes([number]))
            return await database.write(lambda tx: tx.sessions.accept_chunk(A, 0, mine, now=T0))

        accepted = await asyncio.gather(*map(accept, range(100)))
        stored = await database.read(lambda tx: tx.sessions.chunk(A, 0))
        assert stored == chunk(0, fill=bytes([accepted.index(True)]))
        assert sum(accepted) == 1

    async def test_a_hundred_acceptances_of_different_indexes_hold(self, database: Database) -> None:
        """None disturbs another."""
        await add_upload(database, upload("a", size=100 * MIB))

        async def accept(index: int) -> bool:
            return await database.write(lambda tx: tx.sessions.accept_chunk(A, 0, chunk(index), now=T0))

        assert all(await asyncio.gather(*(accept(index) for index in (*range(1, 100, 2), *range(0, 100, 2)))))
        session = await see(database, "a")
        assert session is not None
        assert session.received == Ranges(((0, 100 * MIB),))

    async def test_only_an_open_session_accepts(self, database: Database) -> None:
        """Neither an ended nor an unknown one."""
        await add_upload(database, upload("a"))
        await database.write(lambda tx: tx.sessions.end(A, None, SessionStatus.ABORTED, error=None, now=T0))
        assert not await database.write(lambda tx: tx.sessions.accept_chunk(A, 0, chunk(0), now=T0))
        assert not await database.write(lambda tx: tx.sessions.accept_chunk(NONE, 0, chunk(0), now=T0))
        assert await database.read(lambda tx: tx.sessions.chunk(A, 0)) is None

    async def test_a_chunk_is_forgotten_only_after_a_mismatch(self, database: Database) -> None:
        """And then accepted anew."""
        await add_upload(database, upload("a"), chunks=3)
        assert not await database.write(lambda tx: tx.sessions.forget_chunk(A, 0, now=T0))
        await database.write(lambda tx: tx.sessions.start_finish(A, "blob", "w", now=T0))
        assert not await database.write(lambda tx: tx.sessions.forget_chunk(A, 0, now=T0))
        assert await database.write(lambda tx: tx.sessions.reopen(A, 1, "wrong digest", now=T0))
        assert await database.write(lambda tx: tx.sessions.forget_chunk(A, 1, now=T0 + 5))
        assert not await database.write(lambda tx: tx.sessions.forget_chunk(A, 1, now=T0 + 6))
        session = await see(database, "a")
        assert session is not None
        assert session.received == Ranges(((0, MIB), (2 * MIB, 2 * MIB + 5)))
        assert session.expires_at == T0 + 5 + TTL_S
        assert await database.write(lambda tx: tx.sessions.accept_chunk(A, 1, chunk(1, fill=b"y"), now=T0))

    async def test_lost_chunks_count_no_more_and_are_accepted_anew(self, database: Database) -> None:
        """Under a new fence: what was written before it went where they are."""
        await add_upload(database, upload("a"), chunks=2)
        await database.write(lambda tx: tx.sessions.follow(A, "w", instead_of=None))
        before = await see(database, "a")
        assert before is not None
        assert await database.write(lambda tx: tx.sessions.lose_chunks(A, 0, "lost", now=T0 + 5))
        assert await see(database, "a") == before.lose("lost", now=T0 + 5)
        assert await database.read(lambda tx: tx.sessions.chunk(A, 0)) is None
        assert not await database.write(lambda tx: tx.sessions.accept_chunk(A, 0, chunk(0), now=T0))
        assert await database.write(lambda tx: tx.sessions.accept_chunk(A, 1, chunk(0, fill=b"y"), now=T0))
        assert await database.read(lambda tx: tx.sessions.chunk(A, 0)) == chunk(0, fill=b"y")

    async def test_only_an_open_session_under_its_fence_loses_chunks(self, database: Database) -> None:
        """Whoever comes second, or after the end, takes nothing back."""
        await add_upload(database, upload("a"), chunks=1)
        assert await database.write(lambda tx: tx.sessions.lose_chunks(A, 0, None, now=T0))
        assert await database.write(lambda tx: tx.sessions.accept_chunk(A, 1, chunk(0), now=T0))
        assert not await database.write(lambda tx: tx.sessions.lose_chunks(A, 0, None, now=T0))
        assert not await database.write(lambda tx: tx.sessions.lose_chunks(NONE, 0, None, now=T0))
        assert await database.read(lambda tx: tx.sessions.chunk(A, 0)) == chunk(0)
        await database.write(lambda tx: tx.sessions.end(A, None, SessionStatus.ABORTED, error=None, now=T0))
        assert not await database.write(lambda tx: tx.sessions.lose_chunks(A, 1, None, now=T0))


class AppendsContract:
    """The offset of an append, under its fence."""

    async def test_each_claim_has_a_higher_fence(self, database: Database) -> None:
        """The latest one holds."""
        await add_upload(database, upload("a", mode=Mode.APPEND))
        first = await database.write(lambda tx: tx.sessions.claim(A, 0, "one", now=T0 + 1))
        second = await database.write(lambda tx: tx.sessions.claim(A, 1, "two", now=T0 + 2))
        assert first is not None
        assert (first.fence, first.holder) == (1, "one")
        session = await see(database, "a")
        assert session is not None
        assert session == second
        assert (session.fence, session.holder, session.last_seen_at) == (2, "two", T0 + 2)
        assert await database.write(lambda tx: tx.sessions.claim(NONE, 0, "one", now=T0)) is None

    async def test_one_of_those_who_saw_the_same_fence_claims(self, database: Database) -> None:
        """The others look again."""
        await add_upload(database, upload("a", mode=Mode.APPEND))

        async def claim(holder: str) -> bool:
            return await database.write(lambda tx: tx.sessions.claim(A, 0, holder, now=T0)) is not None

        assert sum(await asyncio.gather(*(claim(f"w{number}") for number in range(8)))) == 1

    async def test_a_fence_moves_without_a_holder(self, database: Database) -> None:
        """The one before can write no more, and nobody needs to let go."""
        await add_upload(database, upload("a", mode=Mode.APPEND))
        await database.write(lambda tx: tx.sessions.claim(A, 0, "one", now=T0))
        moved = await database.write(lambda tx: tx.sessions.claim(A, 1, None, now=T0))
        assert moved is not None
        assert (moved.fence, moved.holder) == (2, None)

    async def test_a_holder_is_asked_under_its_fence(self, database: Database) -> None:
        """And nobody else is."""
        await add_upload(database, upload("a", mode=Mode.APPEND))
        await database.write(lambda tx: tx.sessions.claim(A, 0, "one", now=T0))
        assert not await database.write(lambda tx: tx.sessions.ask(A, 0))
        assert await database.write(lambda tx: tx.sessions.ask(A, 1))
        session = await see(database, "a")
        assert session is not None
        assert session.asked == 1
        await database.write(lambda tx: tx.sessions.end(A, None, SessionStatus.ABORTED, error=None, now=T0))
        assert not await database.write(lambda tx: tx.sessions.ask(A, 1))

    async def test_a_finish_can_be_asked_for(self, database: Database) -> None:
        """Its holder may have given up on an error."""
        session = await add_finishing(database, upload("a"))
        assert await database.write(lambda tx: tx.sessions.ask(A, session.fence))

    async def test_a_holder_that_was_asked_and_could_not_may_be_asked_again(self, database: Database) -> None:
        """Under its fence, while it is live."""
        session = await add_finishing(database, upload("a"))
        fence = session.fence

        async def unask(fence: int) -> bool:
            return await database.write(lambda tx: tx.sessions.unask(A, fence))

        async def asked() -> int | None:
            seen = await see(database, "a")
            assert seen is not None
            return seen.asked

        assert await database.write(lambda tx: tx.sessions.ask(A, fence))
        assert not await unask(fence - 1)
        assert await asked() == fence
        assert await unask(fence)
        assert await asked() is None
        assert await database.write(lambda tx: tx.sessions.ask(A, fence))
        assert await asked() == fence
        assert await database.write(
            lambda tx: tx.sessions.end(A, fence, SessionStatus.FAILED, error="x", now=T0)
        )
        assert not await unask(fence)
        assert not await database.write(lambda tx: tx.sessions.unask(NONE, 1))

    async def test_a_holder_lets_go_under_its_fence(self, database: Database) -> None:
        """By itself, or with its last offset."""
        await add_upload(database, upload("a", mode=Mode.APPEND))
        await database.write(lambda tx: tx.sessions.claim(A, 0, "one", now=T0))
        assert not await database.write(lambda tx: tx.sessions.release(A, 0))
        assert await database.write(lambda tx: tx.sessions.release(A, 1))
        assert not await database.write(lambda tx: tx.sessions.release(NONE, 1))
        released = await see(database, "a")
        await database.write(lambda tx: tx.sessions.claim(A, 1, "two", now=T0))
        assert await database.write(
            lambda tx: tx.sessions.advance(A, 2, 5, tail_trusted=True, boot_id="", now=T0, release=True)
        )
        ended = await see(database, "a")
        assert released is not None
        assert ended is not None
        assert (released.holder, released.fence) == (None, 1)
        assert (ended.holder, ended.fence, ended.offset) == (None, 2, 5)

    async def test_one_worker_follows_the_bytes(self, database: Database) -> None:
        """Another one only in its place, and nobody after an end."""
        await add_upload(database, upload("a"))

        async def follow(worker: str, instead_of: str | None) -> bool:
            return await database.write(lambda tx: tx.sessions.follow(A, worker, instead_of=instead_of))

        assert await follow("one", None)
        assert not await follow("two", None)
        assert await follow("two", "one")
        session = await see(database, "a")
        assert session is not None
        assert session.follower == "two"
        await database.write(lambda tx: tx.sessions.end(A, None, SessionStatus.ABORTED, error=None, now=T0))
        assert not await follow("three", "two")

    async def test_nobody_follows_bytes_that_are_taken_back(self, database: Database) -> None:
        """A chunk, a whole that was wrong, or a tail that was lost."""
        await add_upload(database, upload("p", mode=Mode.APPEND))
        await database.write(lambda tx: tx.sessions.follow(SessionId("p"), "w", instead_of=None))

        async def advance(offset: int) -> str | None:
            await database.write(
                lambda tx: tx.sessions.advance(
                    SessionId("p"), 0, offset, tail_trusted=True, boot_id="", now=T0
                )
            )
            session = await see(database, "p")
            assert session is not None
            return session.follower

        assert [await advance(5), await advance(5), await advance(4)] == ["w", "w", None]
        finishing = await add_finishing(database, upload("a"))
        await database.write(lambda tx: tx.sessions.follow(A, "w", instead_of=None))
        await database.write(lambda tx: tx.sessions.reopen(A, finishing.fence, "wrong", now=T0))
        reopened = await see(database, "a")
        await database.write(lambda tx: tx.sessions.follow(A, "w", instead_of=None))
        await database.write(lambda tx: tx.sessions.forget_chunk(A, 0, now=T0))
        forgotten = await see(database, "a")
        assert reopened is not None
        assert forgotten is not None
        assert (reopened.follower, forgotten.follower) == (None, None)

    async def test_a_mark_tells_every_change(self, database: Database) -> None:
        """Whatever somebody may wait for."""
        await add_upload(database, upload("a", size=MIB, chunk_size=MIB))
        await add_upload(database, upload("p", mode=Mode.APPEND, size=9))
        p, seen = SessionId("p"), []

        async def see_marks(work: Any) -> None:
            await database.write(work)
            seen.append(await database.read(lambda tx: tx.sessions.marks([A, p, NONE])))

        await see_marks(lambda tx: tx.sessions.accept_chunk(A, 0, chunk(0), now=T0 + 1))
        await see_marks(lambda tx: tx.sessions.follow(A, "w", instead_of=None))
        await see_marks(lambda tx: tx.sessions.start_finish(A, "blob", "w", now=T0 + 1))
        await see_marks(lambda tx: tx.sessions.ask(A, 1))
        await see_marks(lambda tx: tx.sessions.claim(p, 0, "w", now=T0))
        await see_marks(
            lambda tx: tx.sessions.advance(p, 1, 5, tail_trusted=True, boot_id="", now=T0, release=True)
        )
        assert all(before != after for before, after in itertools.pairwise(seen))
        assert all(marks.keys() == {A, p} for marks in seen)
        assert (seen[-1][A].status, seen[-1][A].asked, seen[-1][p].holder) == (
            SessionStatus.FINISHING,
            1,
            None,
        )

    async def test_an_older_fence_moves_no_offset(self, database: Database) -> None:
        """A newer one does, in both directions."""
        session = await add_upload(database, upload("a", mode=Mode.APPEND))
        await database.write(lambda tx: tx.sessions.claim(A, 0, "one", now=T0))
        await database.write(lambda tx: tx.sessions.claim(A, 1, "two", now=T0))

        async def advance(fence: int, offset: int) -> bool:
            return await database.write(
                lambda tx: tx.sessions.advance(A, fence, offset, tail_trusted=True, boot_id="b", now=T0 + 3)
            )

        assert not await advance(1, 10)
        assert await advance(2, 10)
        assert await advance(2, 4)
        expected = session.claim("one", now=T0).claim("two", now=T0)
        assert await see(database, "a") == expected.advance(4, tail_trusted=True, boot_id="b", now=T0 + 3)
        assert await advance(2, 0)
        emptied = await see(database, "a")
        assert emptied is not None
        assert emptied.received == Ranges()

    async def test_an_unknown_size_is_declared_once(self, database: Database) -> None:
        """And never below the offset."""
        await add_upload(database, upload("a", mode=Mode.APPEND, size=None))
        await database.write(lambda tx: tx.sessions.claim(A, 0, "w", now=T0))
        await database.write(lambda tx: tx.sessions.advance(A, 1, 10, tail_trusted=False, boot_id="", now=T0))
        assert not await database.write(lambda tx: tx.sessions.declare_size(A, 9))
        assert await database.write(lambda tx: tx.sessions.declare_size(A, 10))
        assert not await database.write(lambda tx: tx.sessions.declare_size(A, 11))
        session = await see(database, "a")
        assert session is not None
        assert (session.size, session.spec.size, session.complete) == (10, None, True)

    async def test_an_append_finishes_when_its_offset_is_its_size(self, database: Database) -> None:
        """Not before, and not while the size is unknown."""
        await add_upload(database, upload("a", mode=Mode.APPEND, size=None))
        assert await database.write(lambda tx: tx.sessions.start_finish(A, "blob", "w", now=T0)) is None
        await database.write(lambda tx: tx.sessions.declare_size(A, 3))
        assert await database.write(lambda tx: tx.sessions.start_finish(A, "blob", "w", now=T0)) is None
        await database.write(lambda tx: tx.sessions.claim(A, 0, "w", now=T0))
        await database.write(lambda tx: tx.sessions.advance(A, 1, 3, tail_trusted=False, boot_id="", now=T0))
        finishing = await database.write(lambda tx: tx.sessions.start_finish(A, "blob", "w", now=T0))
        assert finishing == await see(database, "a")
        assert finishing is not None
        assert (finishing.fence, finishing.received) == (2, Ranges(((0, 3),)))


class SessionRowsContract(
    BeginContract, ChunksContract, AppendsContract, ConcatenationContract, FinishContract, ExpiryContract
):
    """All of it."""
