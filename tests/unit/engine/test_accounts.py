"""Accounts: secrets that are found, tokens that end, capsules and grants that operators change."""

import pytest

from haulier.core.caller import Caller, Role, Scope
from haulier.core.capsule import Capsule
from haulier.core.errors import (
    CapsuleNotFound,
    CapsuleTaken,
    InvalidRequest,
    StorageFull,
    TokenNotFound,
    Unauthenticated,
)
from haulier.core.secret import hash_token, make_token
from haulier.core.upload import UploadDetails
from haulier.engine.accounts import Accounts
from haulier.testing import ManualClock, MemoryDatabase, SeededIdentifiers

ALICE = "user:alice"


class World:
    """Accounts on rows in memory."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.database: MemoryDatabase[UploadDetails] = MemoryDatabase()
        self.accounts = Accounts(self.database, self.clock, SeededIdentifiers(self.clock))

    @property
    def stored(self) -> object:
        """All that the rows know of tokens."""
        return self.database._rows.access.tokens


async def test_a_secret_names_its_caller() -> None:
    world = World()
    made = await world.accounts.create_token(ALICE, scope=Scope.READ, capsule="default")
    assert await world.accounts.find(made.secret.reveal()) == Caller(
        owner=ALICE, scope=Scope.READ, capsule="default"
    )


async def test_only_the_hash_of_a_secret_is_kept() -> None:
    world = World()
    made = await world.accounts.create_token(ALICE, scope=Scope.WRITE)
    secret = made.secret.reveal()
    assert secret not in f"{world.stored!r} {made!r}"
    assert hash_token(secret) in world.database._rows.access.tokens


@pytest.mark.parametrize("secret", ["", "hl_x", "Bearer", "\udc80", make_token(bytes(32)).reveal()])
async def test_other_secrets_are_nobodys(secret: str) -> None:
    world = World()
    await world.accounts.create_token(ALICE, scope=Scope.WRITE)
    with pytest.raises(Unauthenticated) as refused:
        await world.accounts.find(secret)
    assert refused.value.given


async def test_what_is_no_token_is_refused_without_a_look_at_the_rows() -> None:
    world = World()
    world.database.fail_next(StorageFull(1))
    with pytest.raises(Unauthenticated, match="not a token"):
        await world.accounts.find("hl_guess")


async def test_a_token_that_expired_or_was_revoked_says_so() -> None:
    world = World()
    short = await world.accounts.create_token(ALICE, scope=Scope.WRITE, expires_in_s=10)
    long = await world.accounts.create_token(ALICE, scope=Scope.WRITE)
    world.clock.advance(9)
    await world.accounts.find(short.secret.reveal())
    world.clock.advance(1)
    await world.accounts.revoke_token(long.token.id)
    for made in (short, long):
        with pytest.raises(Unauthenticated, match="expired or was revoked"):
            await world.accounts.find(made.secret.reveal())


async def test_a_use_is_noted_to_the_minute() -> None:
    world = World()
    made = await world.accounts.create_token(ALICE, scope=Scope.WRITE)
    first = world.clock.now()
    for _ in range(3):
        await world.accounts.find(made.secret.reveal())
        world.clock.advance(30)
    (token,) = await world.accounts.list_tokens()
    assert token.last_used_at == first
    await world.accounts.find(made.secret.reveal())
    (token,) = await world.accounts.list_tokens()
    assert token.last_used_at == first + 90


async def test_a_use_that_cannot_be_noted_keeps_nobody_out() -> None:
    world = World()
    made = await world.accounts.create_token(ALICE, scope=Scope.WRITE)
    real = world.database.write

    async def fail(*_: object, **__: object) -> None:
        raise StorageFull(1)

    world.database.write = fail  # type: ignore[method-assign, assignment]
    assert (await world.accounts.find(made.secret.reveal())).owner == ALICE
    world.database.write = real  # type: ignore[method-assign]


async def test_the_first_token_ends_open_mode_and_only_forgetting_the_last_brings_it_back() -> None:
    world = World()
    assert not await world.accounts.any_tokens()
    first = await world.accounts.create_token(ALICE, scope=Scope.WRITE)
    second = await world.accounts.create_token(ALICE, scope=Scope.OPERATOR)
    assert (first.first, second.first) == (True, False)
    for made in (first, second):
        await world.accounts.revoke_token(made.token.id)
    assert await world.accounts.any_tokens()
    assert not await world.accounts.forget_token(first.token.id)
    assert await world.accounts.forget_token(second.token.id)
    assert not await world.accounts.any_tokens()


async def test_a_token_that_counts_is_not_forgotten() -> None:
    world = World()
    made = await world.accounts.create_token(ALICE, scope=Scope.WRITE)
    for call in (world.accounts.forget_token(made.token.id), world.accounts.revoke_token("none")):
        with pytest.raises(TokenNotFound):
            await call


async def test_a_token_that_cannot_be_is_refused() -> None:
    world = World()
    for arguments, field in (
        ({"scope": Scope.WRITE, "expires_in_s": 0.0}, "expires_in"),
        ({"scope": Scope.WRITE, "expires_in_s": float("nan")}, "expires_in"),
        ({"scope": Scope.WRITE, "expires_in_s": float("inf")}, "expires_in"),
        ({"scope": Scope.WRITE, "expires_in_s": 1e300}, "expires_in"),
        ({"scope": Scope.OPERATOR, "capsule": "default"}, "capsule"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await world.accounts.create_token(ALICE, **arguments)
        assert refused.value.errors[0].field == field
    with pytest.raises(CapsuleNotFound):
        await world.accounts.create_token(ALICE, scope=Scope.WRITE, capsule="none")
    with pytest.raises(ValueError, match="no user"):
        await world.accounts.create_token("local", scope=Scope.WRITE)
    assert not await world.accounts.any_tokens()


async def test_a_capsule_is_made_once() -> None:
    world = World()
    assert await world.accounts.create_capsule("team", owner=ALICE) == Capsule(name="team", owner=ALICE)
    with pytest.raises(CapsuleTaken):
        await world.accounts.create_capsule("team", owner="user:bob")
    with pytest.raises(InvalidRequest):
        await world.accounts.create_capsule("a/b", owner=ALICE)


async def test_capsules_are_listed_with_their_grants() -> None:
    world = World()
    await world.accounts.create_capsule("team", owner=ALICE)
    await world.accounts.grant("team", "user:bob", Role.READER)
    listed = {capsule.name: grants for capsule, grants in await world.accounts.list_capsules()}
    assert listed == {"default": {}, "team": {"user:bob": Role.READER}}
    assert await world.accounts.ungrant("team", "user:bob")
    assert not await world.accounts.ungrant("team", "user:bob")


async def test_settings_are_changed_and_what_is_refused_changes_nothing() -> None:
    world = World()
    await world.accounts.create_capsule("team", owner=ALICE)
    changed = await world.accounts.set_capsule("team", {"quota": "5", "ttl": "1h"})
    assert (changed.quota, changed.policy.ttl) == (5, 3600.0)
    with pytest.raises(InvalidRequest):
        await world.accounts.set_capsule("team", {"quota": "6", "ttl": "x"})
    assert world.database._rows.capsules["team"] == changed


async def test_what_is_not_there_is_told() -> None:
    world = World()
    for call in (
        world.accounts.set_capsule("none", {"quota": "5"}),
        world.accounts.grant("none", ALICE, Role.READER),
        world.accounts.ungrant("none", ALICE),
    ):
        with pytest.raises(CapsuleNotFound):
            await call
