"""What every `VisitorStore` does, as a suite to inherit from; see `unit_of_work_contract`."""

from haulier.core.capsule import Capsule, CapsulePolicy
from haulier.core.session import SessionStatus
from haulier.core.visitor import Visitor
from haulier.ports import RecordQuery
from haulier.testing.rows import (
    T0,
    TTL_S,
    Database,
    add_committed,
    add_record,
    add_upload,
    record,
    see,
    upload,
)

FIRST = Visitor(
    id="v1",
    created_at=T0,
    last_seen_at=T0,
    expires_at=T0 + 30.0,
    metadata={"user_agent": "Mozilla/5.0 (\u00e9)"},
)


async def see_visitor(database: Database, visitor_id: str) -> Visitor | None:
    """Load a visitor by its id."""
    return await database.read(lambda tx: tx.visitors.load(visitor_id))


class VisitorRowsContract:
    """Browsers without a token."""

    async def test_a_visitor_comes_back_as_it_was_added(self, database: Database) -> None:
        """With what it said about itself; an unknown id is nobody."""
        await database.write(lambda tx: tx.visitors.add(FIRST))
        assert await see_visitor(database, "v1") == FIRST
        assert await see_visitor(database, "v2") is None

    async def test_being_seen_moves_the_end_of_a_living_visitor_only_further(
        self, database: Database
    ) -> None:
        """A clock that went back and a shorter time change nothing; an ended or unknown one is nobody."""
        await database.write(lambda tx: tx.visitors.add(FIRST))
        seen = await database.write(lambda tx: tx.visitors.see("v1", now=T0 + 20.0, ttl_s=30.0))
        assert seen == Visitor(
            id="v1",
            created_at=T0,
            last_seen_at=T0 + 20.0,
            expires_at=T0 + 50.0,
            metadata=FIRST.metadata,
        )
        assert await database.write(lambda tx: tx.visitors.see("v1", now=T0 + 10.0, ttl_s=5.0)) == seen
        assert await database.write(lambda tx: tx.visitors.see("v1", now=T0 + 50.0, ttl_s=30.0)) is None
        assert await database.write(lambda tx: tx.visitors.see("v2", now=T0, ttl_s=30.0)) is None
        assert await see_visitor(database, "v1") == seen

    async def test_a_visitor_is_removed_once(self, database: Database) -> None:
        """And nobody else with it."""
        await database.write(lambda tx: tx.visitors.add(FIRST))
        await database.write(lambda tx: tx.visitors.add(Visitor.begin("v2", now=T0, ttl_s=1.0)))
        assert await database.write(lambda tx: tx.visitors.remove("v1"))
        assert not await database.write(lambda tx: tx.visitors.remove("v1"))
        assert await see_visitor(database, "v1") is None
        assert await see_visitor(database, "v2") is not None

    async def test_ended_visitors_go_longest_ended_first_and_living_ones_stay(
        self, database: Database
    ) -> None:
        """A visitor ends at its end; so many are removed as were asked for."""
        for visitor_id, ttl_s in (("lives", 10.1), ("third", 10.0), ("first", 1.0), ("second", 2.0)):
            visitor = Visitor.begin(visitor_id, now=T0, ttl_s=ttl_s)
            await database.write(lambda tx, v=visitor: tx.visitors.add(v))  # type: ignore[misc]  # of a lambda with defaults
        now = T0 + 10.0
        assert await database.write(lambda tx: tx.visitors.remove_ended(now=now, limit=2)) == [
            "first",
            "second",
        ]
        assert await database.write(lambda tx: tx.visitors.remove_ended(now=now, limit=2)) == ["third"]
        assert await database.write(lambda tx: tx.visitors.remove_ended(now=now, limit=2)) == []
        assert await see_visitor(database, "lives") is not None

    async def test_the_open_uploads_of_one_owner_are_made_overdue(self, database: Database) -> None:
        """Those of others, what is overdue already and what is committed stay as they are."""
        mine = await add_upload(database, upload("mine", owner="visitor:v1"))
        late = await add_upload(database, upload("late", owner="visitor:v1", begun_at=T0 - 2 * TTL_S))
        done = await add_committed(database, upload("done", owner="visitor:v1"))
        other = await add_upload(database, upload("other", owner="visitor:v2"))
        now = T0 + 1.0
        assert await database.write(lambda tx: tx.sessions.hasten("visitor:v1", now=now)) == 2
        found = await see(database, mine)
        assert found is not None
        assert (found.status, found.expires_at) == (SessionStatus.OPEN, now)
        assert [await see(database, it) for it in (late, done, other)] == [late, done, other]

    async def test_whether_any_capsule_admits_visitors_is_known(self, database: Database) -> None:
        """A capsule that admits users does not."""
        assert not await database.read(lambda tx: tx.capsules.admit_visitors())
        policy = CapsulePolicy(admits_visitors=True)
        capsule = Capsule(name="lobby", owner="user:a", policy=policy)
        await database.write(lambda tx: tx.capsules.add("id of lobby", capsule))
        assert await database.read(lambda tx: tx.capsules.admit_visitors())

    async def test_a_visitor_lists_its_own_where_visitors_are_admitted(self, database: Database) -> None:
        """Not those of others, nor its own where they are not admitted (any more)."""
        policy = CapsulePolicy(admits_visitors=True)
        capsule = Capsule(name="lobby", owner="user:a", policy=policy)
        await database.write(lambda tx: tx.capsules.add("id of lobby", capsule))
        for name, where, owner in (
            ("r1", "lobby", "visitor:v1"),
            ("r2", "lobby", "visitor:v2"),
            ("r3", "default", "visitor:v1"),
            ("r4", "lobby", "user:a"),
        ):
            await add_record(database, record(name, capsule=where, owner=owner))
        found = await database.read(lambda tx: tx.records.list(RecordQuery(visible_to="visitor:v1")))
        assert [it.id for it in found] == ["r1"]
