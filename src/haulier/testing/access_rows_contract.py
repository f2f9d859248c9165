"""What every `CapsuleStore` and `TokenStore` does, as a suite to inherit from; see `unit_of_work_contract`."""

import asyncio
from typing import Any

import pytest

from haulier.core.caller import Role, Scope
from haulier.core.capsule import Capsule, CapsulePolicy
from haulier.core.digest import DigestName
from haulier.core.errors import CapsuleNotFound, QuotaExceeded
from haulier.core.session import LiveLimit
from haulier.core.token import Token
from haulier.core.values import replace
from haulier.ports import RecordQuery
from haulier.testing.rows import T0, Database, add_record, add_upload, record, upload

ALICE = "user:alice"
BOB = "user:bob"
FULL_POLICY = CapsulePolicy(
    min_size=1,
    max_size=2**62,
    types=("image/*", "text/csv"),
    ttl=60.5,
    min_ttl=1.0,
    max_ttl=3600.0,
    digests=(DigestName.SHA_256, DigestName.BLAKE3),
    digest=DigestName.BLAKE3,
    admits_users=True,
    admits_visitors=True,
    forward='r\u00e9mote:"admits_users":true',
)


async def add_capsule(database: Database, name: str, **fields: Any) -> Capsule:
    """Add a capsule of Alice's."""
    capsule = Capsule(**{"name": name, "owner": ALICE, **fields})
    assert await database.write(lambda tx: tx.capsules.add(f"id of {name}", capsule))
    return capsule


async def see_capsule(database: Database, name: str) -> Capsule | None:
    """Load a capsule by its name."""
    return await database.read(lambda tx: tx.capsules.load(name))


class CapsuleRowsContract:
    """Bytes of a capsule; `small` has a quota of 1000."""

    async def test_capsules_are_known_by_name(self, database: Database) -> None:
        """`default` is there from the start."""
        names = ["default", "other", "small", "none", "Default"]
        known = [await database.read(lambda tx, n=n: tx.capsules.exists(n)) for n in names]  # type: ignore[misc]  # of a lambda with defaults
        assert known == [True, True, True, False, False]

    async def test_reserved_and_used_bytes_count_against_the_quota(self, database: Database) -> None:
        """To the last byte; what is refused takes nothing."""
        await database.write(lambda tx: tx.capsules.reserve("small", 600))
        await database.write(lambda tx: tx.capsules.use("small", reserved=600, size=500))
        with pytest.raises(QuotaExceeded) as refused:
            await database.write(lambda tx: tx.capsules.reserve("small", 501))
        assert (refused.value.resource, refused.value.limit) == ("bytes", 1000)
        await database.write(lambda tx: tx.capsules.reserve("small", 500))
        with pytest.raises(QuotaExceeded):
            await database.write(lambda tx: tx.capsules.reserve("small", 1))
        await database.write(lambda tx: tx.capsules.release("small", 500))
        await database.write(lambda tx: tx.capsules.use("small", reserved=0, size=-500))
        await database.write(lambda tx: tx.capsules.reserve("small", 1000))

    async def test_bytes_that_nobody_set_aside_count_against_the_quota_too(self, database: Database) -> None:
        """To the last byte, beside those that are set aside."""
        await database.write(lambda tx: tx.capsules.reserve("small", 600))
        with pytest.raises(QuotaExceeded) as refused:
            await database.write(lambda tx: tx.capsules.fill("small", 401))
        assert (refused.value.resource, refused.value.limit) == ("bytes", 1000)
        await database.write(lambda tx: tx.capsules.fill("small", 400))
        capsule = await see_capsule(database, "small")
        assert capsule is not None
        assert (capsule.used, capsule.reserved) == (400, 600)
        with pytest.raises(QuotaExceeded):
            await database.write(lambda tx: tx.capsules.fill("small", 1))
        with pytest.raises(CapsuleNotFound):
            await database.write(lambda tx: tx.capsules.fill("none", 1))

    async def test_without_a_quota_any_size_fits(self, database: Database) -> None:
        """An exbibyte, for instance."""
        await database.write(lambda tx: tx.capsules.reserve("default", 2**60))
        await database.write(lambda tx: tx.capsules.release("default", 2**60))

    async def test_an_unknown_capsule_has_no_room(self, database: Database) -> None:
        """Reserving tells; giving back does nothing."""
        with pytest.raises(CapsuleNotFound):
            await database.write(lambda tx: tx.capsules.reserve("none", 1))
        await database.write(lambda tx: tx.capsules.release("none", 1))
        await database.write(lambda tx: tx.capsules.use("none", reserved=1, size=1))

    async def test_reservations_never_pass_the_quota_under_concurrency(self, database: Database) -> None:
        """A hundred at once, ten fit."""

        async def reserve(_: int) -> bool:
            try:
                await database.write(lambda tx: tx.capsules.reserve("small", 100))
            except QuotaExceeded:
                return False
            return True

        assert sum(await asyncio.gather(*map(reserve, range(100)))) == 10

    async def test_a_capsule_is_loaded_unchanged(self, database: Database) -> None:
        """Every field comes back as it was; a new one holds nothing."""
        made = await add_capsule(database, "team", policy=FULL_POLICY, quota=2**62)
        assert await see_capsule(database, "team") == made
        assert await see_capsule(database, "none") is None
        plain = await add_capsule(database, "plain", used=5, reserved=6)
        assert await see_capsule(database, "plain") == replace(plain, used=0, reserved=0)

    async def test_everybody_with_a_token_finds_room_in_default(self, database: Database) -> None:
        """Nobody has to know the word capsule."""
        default = await see_capsule(database, "default")
        assert default == Capsule(name="default", owner="local", policy=CapsulePolicy(admits_users=True))
        other = await see_capsule(database, "other")
        assert other == Capsule(name="other", owner="local")

    async def test_a_name_is_taken_once(self, database: Database) -> None:
        """Of fifty who want it at once, one has it; the first owner stays."""

        async def add(number: int) -> bool:
            capsule = Capsule(name="team", owner=f"user:u{number}")
            return await database.write(lambda tx: tx.capsules.add(f"id {number}", capsule))

        added = await asyncio.gather(*map(add, range(50)))
        assert sum(added) == 1
        kept = await see_capsule(database, "team")
        assert kept is not None
        assert kept.owner == f"user:u{added.index(True)}"

    async def test_capsules_are_listed_by_name(self, database: Database) -> None:
        """All of them."""
        await add_capsule(database, "attic")
        listed = await database.read(lambda tx: tx.capsules.list())
        assert [capsule.name for capsule in listed] == ["attic", "default", "other", "small"]

    async def test_settings_change_and_what_is_held_does_not(self, database: Database) -> None:
        """Not even to what the changed value says of it."""
        await database.write(lambda tx: tx.capsules.reserve("small", 600))
        before = await see_capsule(database, "small")
        assert before is not None
        changed = replace(before, owner=BOB, policy=FULL_POLICY, quota=500, reserved=0)
        assert await database.write(lambda tx: tx.capsules.change(changed))
        assert await see_capsule(database, "small") == replace(changed, reserved=600)
        missing = replace(changed, name="none")
        assert not await database.write(lambda tx: tx.capsules.change(missing))

    async def test_below_what_is_used_a_quota_lets_nothing_in(self, database: Database) -> None:
        """Not a byte; nothing at all still goes, and so does giving back."""
        await database.write(lambda tx: tx.capsules.use("small", reserved=0, size=600))
        small = await see_capsule(database, "small")
        assert small is not None
        await database.write(lambda tx: tx.capsules.change(replace(small, quota=500)))
        with pytest.raises(QuotaExceeded):
            await database.write(lambda tx: tx.capsules.reserve("small", 1))
        await database.write(lambda tx: tx.capsules.use("small", reserved=0, size=-200))
        await database.write(lambda tx: tx.capsules.reserve("small", 100))

    async def test_changes_of_settings_at_once_lose_none(self, database: Database) -> None:
        """Each is made to what the one before it left."""

        async def count_up(_: int) -> None:
            async def work(tx: Any) -> None:
                capsule = await tx.capsules.lock("small")
                await tx.capsules.change(replace(capsule, quota=capsule.quota + 1))

            await database.write(work)

        await asyncio.gather(*map(count_up, range(50)))
        counted = await see_capsule(database, "small")
        assert counted is not None
        assert counted.quota == 1050
        assert await database.write(lambda tx: tx.capsules.lock("none")) is None

    async def test_bytes_never_pass_the_quota_when_begins_race(self, database: Database) -> None:
        """Fifty begins of a hundred bytes each, where ten fit: ten sessions and a thousand bytes."""

        async def begin(number: int) -> bool:
            async def work(tx: Any) -> None:
                session = upload(f"s{number}", scope="small", size=100)
                await tx.sessions.insert(session, limit=LiveLimit(of_owner=1000))
                await tx.capsules.reserve("small", 100)

            try:
                await database.write(work)
            except QuotaExceeded:
                return False
            return True

        assert sum(await asyncio.gather(*map(begin, range(50)))) == 10
        small = await see_capsule(database, "small")
        assert small is not None
        assert small.reserved == 1000
        assert await database.read(lambda tx: tx.sessions.count_live("small", "local")) == 10

    async def test_live_sessions_never_pass_their_number_when_begins_race(self, database: Database) -> None:
        """Fifty at once, ten may live; another owner's do not count."""
        await add_upload(database, upload("foreign", owner=BOB))

        async def begin(number: int) -> bool:
            session = upload(f"s{number}", owner=ALICE)
            try:
                await database.write(lambda tx: tx.sessions.insert(session, limit=LiveLimit(of_owner=10)))
            except QuotaExceeded:
                return False
            return True

        assert sum(await asyncio.gather(*map(begin, range(50)))) == 10
        assert await database.read(lambda tx: tx.sessions.count_live(None, ALICE)) == 10


class GrantRowsContract:
    """Roles of principals in capsules."""

    async def test_a_principal_has_one_role_in_a_capsule(self, database: Database) -> None:
        """The last one that was granted."""
        for role in (Role.READER, Role.OWNER, Role.WRITER):
            assert await database.write(lambda tx, r=role: tx.capsules.grant("other", BOB, r))  # type: ignore[misc]  # of a lambda with defaults
        assert not await database.write(lambda tx: tx.capsules.grant("none", BOB, Role.READER))
        await database.write(lambda tx: tx.capsules.grant("other", ALICE, Role.READER))
        grants = await database.read(lambda tx: tx.capsules.grants("other"))
        assert list(grants.items()) == [(ALICE, Role.READER), (BOB, Role.WRITER)]
        assert await database.read(lambda tx: tx.capsules.grants("small")) == {}

    async def test_standing_is_the_capsule_with_the_role_in_it(self, database: Database) -> None:
        """Of that principal there, and of no other."""
        await database.write(lambda tx: tx.capsules.grant("other", BOB, Role.READER))
        other, small = await see_capsule(database, "other"), await see_capsule(database, "small")
        for name, who, expected in (
            ("other", BOB, (other, Role.READER)),
            ("other", ALICE, (other, None)),
            ("small", BOB, (small, None)),
            ("none", BOB, None),
        ):
            assert await database.read(lambda tx, n=name, w=who: tx.capsules.standing(n, w)) == expected  # type: ignore[misc]  # of a lambda with defaults

    async def test_a_grant_is_taken_away_once(self, database: Database) -> None:
        """Afterwards there is none."""
        await database.write(lambda tx: tx.capsules.grant("other", BOB, Role.READER))
        assert await database.write(lambda tx: tx.capsules.ungrant("other", BOB))
        assert not await database.write(lambda tx: tx.capsules.ungrant("other", BOB))
        assert not await database.write(lambda tx: tx.capsules.ungrant("none", BOB))
        assert await database.read(lambda tx: tx.capsules.grants("other")) == {}

    async def test_a_list_shows_what_its_reader_may_read(self, database: Database) -> None:
        """All of one's own capsules and of granted ones; one's own where users are admitted, unless by grant."""
        await add_capsule(database, "attic", policy=CapsulePolicy(forward=FULL_POLICY.forward))
        await add_capsule(database, "box", policy=CapsulePolicy(admits_users=True))
        await database.write(lambda tx: tx.capsules.grant("other", BOB, Role.READER))
        for number, (capsule, owner) in enumerate(
            (capsule, owner)
            for capsule in ("attic", "box", "default", "other", "small")
            for owner in (ALICE, BOB, "local")
        ):
            await add_record(database, record(f"{number:02}", capsule=capsule, owner=owner))

        async def seen(principal: str) -> list[str]:
            page = await database.read(
                lambda tx: tx.records.list(RecordQuery(visible_to=principal, limit=50))
            )
            return sorted(row.id for row in page.items)

        assert await seen(ALICE) == ["00", "01", "02", "03", "04", "05", "06"]
        assert await seen(BOB) == ["04", "07", "09", "10", "11"]
        assert await seen("user:nobody") == []
        assert await seen("local") == ["06", "07", "08", "09", "10", "11", "12", "13", "14"]


def token(name: str, **fields: Any) -> Token:
    """Return a token of Alice's; `fields` replace what it has otherwise."""
    return Token(**{"id": name, "principal": ALICE, "scope": Scope.WRITE, "created_at": T0, **fields})


def secret_of(name: str) -> bytes:
    """Return what is stored of a token's secret."""
    return name.encode().ljust(32, b".")


async def add_token(database: Database, name: str, **fields: Any) -> Token:
    """Add a token whose secret is its name."""
    made = token(name, **fields)
    await database.write(lambda tx: tx.tokens.add(made, secret_of(name)))
    return made


class TokenRowsContract:
    """Bearer tokens, found by the hash of their secret."""

    async def test_a_token_is_found_by_its_secret_unchanged(self, database: Database) -> None:
        """Every field comes back as it was."""
        assert not await database.read(lambda tx: tx.tokens.any())
        plain = await add_token(database, "a")
        full = await add_token(
            database,
            "b",
            principal=BOB,
            scope=Scope.READ,
            capsule="other",
            created_at=T0 - 1,
            expires_at=T0 + 0.25,
            last_used_at=T0,
        )
        assert await database.read(lambda tx: tx.tokens.find(secret_of("a"))) == plain
        assert await database.read(lambda tx: tx.tokens.find(secret_of("b"))) == full
        assert await database.read(lambda tx: tx.tokens.find(secret_of("c"))) is None
        assert list(await database.read(lambda tx: tx.tokens.list())) == [full, plain]
        assert await database.read(lambda tx: tx.tokens.any())

    async def test_a_token_needs_its_capsule(self, database: Database) -> None:
        """One that is not there is told."""
        with pytest.raises(CapsuleNotFound):
            await add_token(database, "a", capsule="none")
        assert not await database.read(lambda tx: tx.tokens.any())

    async def test_a_revoked_token_is_there_and_counts_no_more(self, database: Database) -> None:
        """It ends when it was revoked first, or before, when it had expired."""
        made = await add_token(database, "a", expires_at=T0 + 9)

        async def revoke(name: str, now: float) -> Token | None:
            return await database.write(lambda tx: tx.tokens.revoke(name, now=now))

        assert await revoke("a", T0 + 2) == replace(made, expires_at=T0 + 2)
        assert await revoke("a", T0 + 3) == replace(made, expires_at=T0 + 2)
        assert await revoke("none", T0) is None
        old = await add_token(database, "b", expires_at=T0 - 5)
        assert await revoke("b", T0) == old
        endless = await add_token(database, "c")
        assert await revoke("c", T0) == replace(endless, expires_at=T0)
        assert await database.read(lambda tx: tx.tokens.any())

    async def test_only_what_counts_no_more_is_forgotten(self, database: Database) -> None:
        """Once."""
        await add_token(database, "a", expires_at=T0 + 9)

        async def forget(now: float) -> bool:
            return await database.write(lambda tx: tx.tokens.forget("a", now=now))

        assert not await forget(T0 + 8)
        assert await forget(T0 + 9)
        assert not await forget(T0 + 9)
        assert not await database.read(lambda tx: tx.tokens.any())
        await add_token(database, "a")
        assert not await forget(T0 + 10**9)

    async def test_a_use_is_noted_unless_one_was_lately(self, database: Database) -> None:
        """Of fifty at once, one is."""
        await add_token(database, "a")

        async def note(now: float) -> bool:
            return await database.write(lambda tx: tx.tokens.note_use("a", now=now, unless_since=now - 60))

        assert await note(T0)
        assert not await note(T0 + 60)
        assert sum(await asyncio.gather(*(note(T0 + 61) for _ in range(50)))) == 1
        used = await database.read(lambda tx: tx.tokens.find(secret_of("a")))
        assert used == token("a", last_used_at=T0 + 61)
        assert not await database.write(lambda tx: tx.tokens.note_use("none", now=T0, unless_since=T0))

    async def test_an_operator_is_who_has_a_token_of_that_scope_that_counts(self, database: Database) -> None:
        """For every capsule."""
        await add_token(database, "a", scope=Scope.OWNER)
        await add_token(database, "b", scope=Scope.OPERATOR, capsule="other")
        await add_token(database, "c", scope=Scope.OPERATOR, principal=BOB, expires_at=T0 + 5)

        async def operator(principal: str, now: float) -> bool:
            return await database.read(lambda tx: tx.tokens.name_operator(principal, now=now))

        assert not await operator(ALICE, T0)
        assert await operator(BOB, T0 + 4)
        assert not await operator(BOB, T0 + 5)


class AccessRowsContract(CapsuleRowsContract, GrantRowsContract, TokenRowsContract):
    """All of it."""
