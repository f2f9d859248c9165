"""People with tokens, made the way operators make them: in the database, before or while a service runs."""

import asyncio
from pathlib import Path
from typing import Final

from haulier.adapters.clock import SystemClock, SystemIdentifiers
from haulier.adapters.sql.database import open_database
from haulier.administration import open_accounts
from haulier.config import Settings
from haulier.core.caller import USER, Role, Scope
from haulier.core.values import dataclass
from haulier.engine.accounts import Accounts

TEAM: Final = "team"
"""A capsule with an owner, a reader and two writers."""


class _YesterdaysClock(SystemClock):
    def now(self) -> float:
        return super().now() - 24 * 3600


@dataclass(frozen=True)
class Person:
    """Somebody with a token."""

    name: str
    token: str

    @property
    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def make_token(data_dir: Path, name: str, scope: Scope = Scope.WRITE) -> Person:
    """Give somebody a token."""

    async def make() -> str:
        async with open_accounts(Settings(data_dir=data_dir)) as accounts:
            return (await accounts.create_token(USER + name, scope=scope)).secret.reveal()

    return Person(name, asyncio.run(make()))


def revoke_tokens(data_dir: Path) -> None:
    """Let all tokens count no more."""

    async def revoke() -> None:
        async with open_accounts(Settings(data_dir=data_dir)) as accounts:
            for token in await accounts.list_tokens():
                await accounts.revoke_token(token.id)

    asyncio.run(revoke())


def make_expired_token(data_dir: Path, name: str) -> Person:
    """Give somebody a token that counted until yesterday."""

    async def make() -> str:
        clock = _YesterdaysClock()
        async with open_database(Settings(data_dir=data_dir).database) as database:
            accounts = Accounts(database, clock, SystemIdentifiers(clock))
            made = await accounts.create_token(USER + name, scope=Scope.OWNER, expires_in_s=60)
            return made.secret.reveal()

    return Person(name, asyncio.run(make()))


def make_team(data_dir: Path, *, admits_visitors: bool = False) -> dict[str, Person]:
    """Make the capsule, and everybody who is anything to it or to the service."""

    async def make() -> None:
        async with open_accounts(Settings(data_dir=data_dir)) as accounts:
            await accounts.create_capsule(TEAM, owner=USER + "owner")
            await accounts.set_capsule(TEAM, {"admits_visitors": str(admits_visitors).lower()})
            await accounts.grant(TEAM, USER + "reader", Role.READER)
            await accounts.grant(TEAM, USER + "writer", Role.WRITER)
            await accounts.grant(TEAM, USER + "fellow", Role.WRITER)

    asyncio.run(make())
    people = [make_token(data_dir, name) for name in ("stranger", "reader", "writer", "fellow")]
    people.append(make_token(data_dir, "owner", Scope.OWNER))
    people.append(make_token(data_dir, "operator", Scope.OPERATOR))
    expired = make_expired_token(data_dir, "owner")
    return {person.name: person for person in people} | {"expired": expired}
