"""What every `VisitorStore` and `SignInStore` does, as a suite to inherit from; see `unit_of_work_contract`."""

from collections.abc import Sequence

from haulier.core.caller import Scope
from haulier.core.capsule import Capsule, CapsulePolicy
from haulier.core.record import RecordId
from haulier.core.session import SessionStatus
from haulier.core.token import SignIn, Token
from haulier.core.values import replace
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
    see_record,
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
        assert [it.id for it in found.items] == ["r1"]

    async def test_who_signed_in_from_a_browser_is_noted(self, database: Database) -> None:
        """The last one; of nobody nothing is."""
        await database.write(lambda tx: tx.visitors.add(FIRST))
        assert await database.write(lambda tx: tx.visitors.sign_in("v1", "user:a"))
        assert await database.write(lambda tx: tx.visitors.sign_in("v1", "user:b"))
        assert not await database.write(lambda tx: tx.visitors.sign_in("v2", "user:a"))
        assert await see_visitor(database, "v1") == replace(FIRST, principal="user:b")

    async def test_records_go_to_another_owner_in_one_capsule_and_in_batches(
        self, database: Database
    ) -> None:
        """Deleted ones too; those of others and of other capsules stay."""
        for name, where, owner in (
            ("r1", "default", "visitor:v1"),
            ("r2", "default", "visitor:v1"),
            ("r3", "other", "visitor:v1"),
            ("r4", "default", "visitor:v2"),
        ):
            await add_record(database, record(name, capsule=where, owner=owner), original=f"blob of {name}")
        await database.write(lambda tx: tx.records.delete(RecordId("r2"), now=T0 + 1, keep_assets=False))

        async def adopt() -> Sequence[str]:
            return await database.write(
                lambda tx: tx.records.adopt("default", "visitor:v1", "user:a", limit=1)
            )

        first, second = await adopt(), await adopt()
        assert sorted([*first, *second]) == ["r1", "r2"]
        assert list(await adopt()) == []
        found = [await see_record(database, name) for name in ("r1", "r2", "r3", "r4")]
        assert [None if it is None else it.owner for it in found] == [
            "user:a",
            "user:a",
            "visitor:v1",
            "visitor:v2",
        ]

    async def test_uploads_go_to_another_owner_but_those_whose_key_it_uses(self, database: Database) -> None:
        """What is under way and what has ended alike."""
        await add_upload(database, upload("open", owner="visitor:v1", key="k1"))
        await add_upload(database, upload("plain", owner="visitor:v1"))
        await add_upload(database, upload("clash", owner="visitor:v1", key="k2"))
        await add_upload(database, upload("elsewhere", owner="visitor:v1", scope="other"))
        await add_committed(database, upload("done", owner="visitor:v1", key="k3"))
        await add_committed(database, upload("own", owner="user:a", key="k2"), blob_key="blob 2")
        assert await database.write(lambda tx: tx.sessions.adopt("default", "visitor:v1", "user:a")) == 3
        found = {
            name: await see(database, name) for name in ("open", "plain", "clash", "elsewhere", "done", "own")
        }
        assert {name: None if it is None else it.spec.owner for name, it in found.items()} == {
            "open": "user:a",
            "plain": "user:a",
            "clash": "visitor:v1",
            "elsewhere": "visitor:v1",
            "done": "user:a",
            "own": "user:a",
        }
        kept = await database.read(lambda tx: tx.sessions.find("default", "user:a", "k1"))
        assert kept is not None
        assert kept.id == "open"


TOKEN = Token(id="t1", principal="user:a", scope=Scope.WRITE, created_at=T0, expires_at=T0 + 100.0)
SIGNED_IN = SignIn(token=TOKEN, created_at=T0 + 1.0, expires_at=T0 + 50.0)


class SignInRowsContract:
    """Browsers that signed in with a token."""

    async def test_a_sign_in_comes_back_with_its_token_as_that_is_now(self, database: Database) -> None:
        """By the hash of its own secret, not of the token's."""
        await database.write(lambda tx: tx.tokens.add(TOKEN, b"token"))
        assert await database.write(lambda tx: tx.sign_ins.add(SIGNED_IN, b"browser"))
        assert await database.read(lambda tx: tx.sign_ins.find(b"browser")) == SIGNED_IN
        assert await database.read(lambda tx: tx.sign_ins.find(b"token")) is None
        revoked = await database.write(lambda tx: tx.tokens.revoke("t1", now=T0 + 2.0))
        found = await database.read(lambda tx: tx.sign_ins.find(b"browser"))
        assert found is not None
        assert found.token == revoked

    async def test_a_sign_in_needs_its_token_and_goes_with_it(self, database: Database) -> None:
        """Those of other tokens stay."""
        assert not await database.write(lambda tx: tx.sign_ins.add(SIGNED_IN, b"browser"))
        other = replace(TOKEN, id="t2")
        await database.write(lambda tx: tx.tokens.add(TOKEN, b"token"))
        await database.write(lambda tx: tx.tokens.add(other, b"token 2"))
        await database.write(lambda tx: tx.sign_ins.add(SIGNED_IN, b"browser"))
        await database.write(lambda tx: tx.sign_ins.add(replace(SIGNED_IN, token=other), b"browser 2"))
        assert await database.write(lambda tx: tx.tokens.forget("t1", now=T0 + 100.0))
        assert await database.read(lambda tx: tx.sign_ins.find(b"browser")) is None
        assert await database.read(lambda tx: tx.sign_ins.find(b"browser 2")) is not None

    async def test_a_sign_in_is_removed_once_or_when_its_time_is_over(self, database: Database) -> None:
        """So many at a time as are asked for."""
        await database.write(lambda tx: tx.tokens.add(TOKEN, b"token"))
        for number in range(4):
            sign_in = replace(SIGNED_IN, expires_at=T0 + 50.0 + number)
            await database.write(lambda tx, s=sign_in, n=number: tx.sign_ins.add(s, b"%d" % n))  # type: ignore[misc]  # of a lambda with defaults
        assert await database.write(lambda tx: tx.sign_ins.remove(b"0"))
        assert not await database.write(lambda tx: tx.sign_ins.remove(b"0"))
        now = T0 + 52.0
        assert await database.write(lambda tx: tx.sign_ins.remove_ended(now=now, limit=1)) == 1
        assert await database.write(lambda tx: tx.sign_ins.remove_ended(now=now, limit=9)) == 1
        assert await database.write(lambda tx: tx.sign_ins.remove_ended(now=now, limit=9)) == 0
        assert await database.read(lambda tx: tx.sign_ins.find(b"3")) is not None
