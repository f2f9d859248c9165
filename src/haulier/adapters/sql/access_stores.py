"""The stores of capsules, grants and tokens in one transaction; contracts as in the ports."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from haulier.adapters.sql import access_statements as sql
from haulier.adapters.sql.executor import Executor
from haulier.adapters.sql.rows import Parameters, Row
from haulier.core.caller import Role, Scope
from haulier.core.capsule import Capsule, CapsulePolicy
from haulier.core.errors import CapsuleNotFound, QuotaExceeded
from haulier.core.token import SignIn, Token


class SqlCapsuleStore:
    """`CapsuleStore`; contracts as in the port."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor

    async def exists(self, name: str) -> bool:
        """Whether there is such a capsule."""
        return await self.load(name) is not None

    async def load(self, name: str) -> Capsule | None:
        """Return the capsule with what it holds now."""
        row = await self._sql.row(sql.CAPSULE, {"capsule": name})
        return None if row is None else _capsule_of(row)

    async def standing(self, name: str, principal: str) -> tuple[Capsule, Role | None] | None:
        """Return the capsule, and what was granted to the principal there."""
        row = await self._sql.row(sql.STANDING, {"capsule": name, "principal": principal})
        if row is None:
            return None
        return _capsule_of(row), None if row["role"] is None else Role(row["role"])

    async def admit_visitors(self) -> bool:
        """Whether one of them admits visitors."""
        return await self._sql.row(sql.ADMITTING, {}) is not None

    async def list(self) -> Sequence[Capsule]:
        """Return all capsules, by name."""
        return [_capsule_of(row) for row in await self._sql.rows(sql.CAPSULES, {})]

    async def add(self, capsule_id: str, capsule: Capsule) -> bool:
        """Add an empty capsule, unless its name is taken."""
        values = {
            "id": capsule_id,
            "capsule": capsule.name,
            "owner": capsule.owner,
            "policy": _policy_text(capsule.policy),
            "quota": capsule.quota,
        }
        return await self._sql.count(sql.ADD_CAPSULE, values) == 1

    async def lock(self, name: str) -> Capsule | None:
        """Return the capsule, whose settings and grants stay as they are for everybody else."""
        # The row alone would not do where it does not exist, nor may bytes that move wait for settings.
        await self._sql.exclude(f"settings of capsule {name}")
        return await self.load(name)

    async def change(self, capsule: Capsule) -> bool:
        """Store owner, policy and quota."""
        values = {
            "capsule": capsule.name,
            "new_owner": capsule.owner,
            "new_policy": _policy_text(capsule.policy),
            "new_quota": capsule.quota,
        }
        return await self._sql.count(sql.CHANGE_CAPSULE, values) == 1

    async def grant(self, name: str, principal: str, role: Role) -> bool:
        """Make this the principal's role."""
        values = {"capsule": name, "principal": principal, "new_role": role.value}
        changed = await self._sql.count(sql.CHANGE_GRANT, values)
        return changed == 1 or await self._sql.count(sql.ADD_GRANT, values) == 1

    async def ungrant(self, name: str, principal: str) -> bool:
        """Take the principal's grant away."""
        return await self._sql.count(sql.REMOVE_GRANT, {"capsule": name, "principal": principal}) == 1

    async def grants(self, name: str) -> Mapping[str, Role]:
        """Return the roles that were granted, by principal."""
        rows = await self._sql.rows(sql.GRANTS, {"capsule": name})
        return {row["principal"]: Role(row["role"]) for row in rows}

    async def reserve(self, name: str, size: int) -> None:
        """Set `size` bytes aside, if the quota allows it."""
        await self._take_room(name, reserved=size, size=0)

    async def fill(self, name: str, size: int) -> None:
        """Use `size` bytes, if the quota allows it."""
        await self._take_room(name, reserved=0, size=size)

    async def _take_room(self, name: str, *, reserved: int, size: int) -> None:
        if await self._sql.count(sql.TAKE_ROOM, {"capsule": name, "reserved": reserved, "bytes": size}):
            return
        capsule = await self.load(name)
        if capsule is None:
            raise CapsuleNotFound(name)
        raise QuotaExceeded("bytes", capsule.quota or 0, "capsule")

    async def release(self, name: str, size: int) -> None:
        """Give reserved bytes back."""
        await self.use(name, reserved=size, size=0)

    async def use(self, name: str, *, reserved: int, size: int) -> None:
        """Turn a reservation into used bytes."""
        await self._sql.count(sql.USE, {"capsule": name, "reserved": reserved, "bytes": size})


class SqlTokenStore:
    """`TokenStore`; contracts as in the port."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor

    async def add(self, token: Token, secret_sha256: bytes) -> None:
        """Add a new token."""
        if token.capsule is not None and await self._sql.row(sql.CAPSULE, {"capsule": token.capsule}) is None:
            raise CapsuleNotFound(token.capsule)
        await self._sql.count(sql.ADD_TOKEN, {**_token_parameters(token), "secret_sha256": secret_sha256})

    async def find(self, secret_sha256: bytes) -> Token | None:
        """Return the token with that secret."""
        row = await self._sql.row(sql.TOKEN_BY_SECRET, {"secret_sha256": secret_sha256})
        return None if row is None else _token_of(row)

    async def list(self) -> Sequence[Token]:
        """Return all tokens, oldest first."""
        return [_token_of(row) for row in await self._sql.rows(sql.TOKENS, {})]

    async def any(self) -> bool:
        """Whether there is a token at all."""
        return await self._sql.row(sql.ANY_TOKEN, {}) is not None

    async def note_use(self, token_id: str, *, now: float, unless_since: float) -> bool:
        """Note a use, unless one was noted lately."""
        values = {"id": token_id, "now": now, "unless_since": unless_since}
        return await self._sql.count(sql.NOTE_USE, values) == 1

    async def revoke(self, token_id: str, *, now: float) -> Token | None:
        """Let the token count no more."""
        await self._sql.count(sql.REVOKE, {"id": token_id, "now": now})
        row = await self._sql.row(sql.TOKEN, {"id": token_id})
        return None if row is None else _token_of(row)

    async def forget(self, token_id: str, *, now: float) -> bool:
        """Remove a token that counts no more."""
        return await self._sql.count(sql.FORGET, {"id": token_id, "now": now}) == 1

    async def name_operator(self, principal: str, *, now: float) -> bool:
        """Whether a token that counts makes this principal an operator."""
        return await self._sql.row(sql.OPERATOR_TOKEN, {"principal": principal, "now": now}) is not None


class SqlSignInStore:
    """`SignInStore`; contracts as in the port."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor

    async def add(self, sign_in: SignIn, secret_sha256: bytes) -> bool:
        """Add a new one, of a token that is there."""
        values = {
            "id": sign_in.token.id,
            "secret_sha256": secret_sha256,
            "begun_at": sign_in.created_at,
            "ends_at": sign_in.expires_at,
        }
        return await self._sql.count(sql.ADD_SIGN_IN, values) == 1

    async def find(self, secret_sha256: bytes) -> SignIn | None:
        """Return the one with that secret, with its token as that is now."""
        row = await self._sql.row(sql.SIGN_IN, {"secret_sha256": secret_sha256})
        if row is None:
            return None
        return SignIn(token=_token_of(row), created_at=row["begun_at"], expires_at=row["ends_at"])

    async def remove(self, secret_sha256: bytes) -> bool:
        """Remove one."""
        return await self._sql.count(sql.REMOVE_SIGN_IN, {"secret_sha256": secret_sha256}) == 1

    async def remove_ended(self, *, now: float, limit: int) -> int:
        """Remove those whose own time is over."""
        return await self._sql.count(sql.REMOVE_ENDED_SIGN_INS, {"now": now, "limit": limit})


def _capsule_of(row: Row) -> Capsule:
    return Capsule(
        name=row["name"],
        owner=row["owner"],
        policy=_policy_of(row["policy"]),
        quota=row["quota_bytes"],
        used=row["used_bytes"],
        reserved=row["reserved_bytes"],
    )


@lru_cache(maxsize=1024)
def _policy_of(text: str) -> CapsulePolicy:
    # Read for every request, changed by hand: most capsules share a few texts.
    return CapsulePolicy.of(json.loads(text))


def _policy_text(policy: CapsulePolicy) -> str:
    # Without blanks: a statement looks for a key in it (models.py, ADMITS_USERS).
    return json.dumps(policy.document(), ensure_ascii=False, separators=(",", ":"))


def _token_parameters(token: Token) -> Parameters:
    return {
        "id": token.id,
        "principal": token.principal,
        "scope": token.scope.value,
        "capsule": token.capsule,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
    }


def _token_of(row: Row) -> Token:
    values: Any = row
    return Token(
        id=values["id"],
        principal=values["principal"],
        scope=Scope(values["scope"]),
        capsule=values["capsule"],
        created_at=values["created_at"],
        expires_at=values["expires_at"],
        last_used_at=values["last_used_at"],
    )
