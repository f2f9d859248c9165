"""Capsules, grants and tokens in memory: the access half of `MemoryDatabase`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field

from haulier.core.access import admits
from haulier.core.caller import Role, Scope
from haulier.core.capsule import Capsule
from haulier.core.errors import CapsuleNotFound, QuotaExceeded
from haulier.core.record import Record
from haulier.core.token import SignIn, Token
from haulier.core.values import dataclass, replace

Pause = Callable[[], Awaitable[None]]
"""Awaited wherever a real database would wait."""


@dataclass(slots=True, kw_only=True)
class AccessRows:
    """One version of these rows; a committed one is never changed again."""

    capsules: dict[str, Capsule] = field(default_factory=dict)
    grants: dict[tuple[str, str], Role] = field(default_factory=dict)
    """By capsule and principal."""
    tokens: dict[bytes, Token] = field(default_factory=dict)
    """By the hash of the secret."""
    sign_ins: dict[bytes, SignIn] = field(default_factory=dict)
    """By the hash of the secret, each with its token as it was then."""

    def draft(self) -> "AccessRows":
        """Return a version that may be changed."""
        return AccessRows(
            capsules=dict(self.capsules),
            grants=dict(self.grants),
            tokens=dict(self.tokens),
            sign_ins=dict(self.sign_ins),
        )

    def shows(self, record: Record, principal: str) -> bool:
        """Whether the principal may read the record; see core/access.py."""
        capsule = self.capsules.get(record.capsule)
        if capsule is None:
            return False
        if capsule.role_of(principal, self.grants.get((record.capsule, principal))) is not None:
            return True
        return record.owner == principal and admits(capsule, principal)


class MemoryCapsuleStore:
    """`CapsuleStore` on a draft; contracts as in the port."""

    def __init__(self, rows: AccessRows, pause: Pause) -> None:
        self._rows = rows
        self._pause = pause

    async def exists(self, name: str) -> bool:
        """Whether there is such a capsule."""
        return await self.load(name) is not None

    async def load(self, name: str) -> Capsule | None:
        """Return the capsule with what it holds now."""
        await self._pause()
        return self._rows.capsules.get(name)

    async def standing(self, name: str, principal: str) -> tuple[Capsule, Role | None] | None:
        """Return the capsule, and what was granted to the principal there."""
        capsule = await self.load(name)
        return None if capsule is None else (capsule, self._rows.grants.get((name, principal)))

    async def admit_visitors(self) -> bool:
        """Whether one of them admits visitors."""
        await self._pause()
        return any(capsule.policy.admits_visitors for capsule in self._rows.capsules.values())

    async def list(self) -> Sequence[Capsule]:
        """Return all capsules, by name."""
        await self._pause()
        return [capsule for _, capsule in sorted(self._rows.capsules.items())]

    async def add(self, capsule_id: str, capsule: Capsule) -> bool:
        """Add an empty capsule, unless its name is taken."""
        del capsule_id  # rows in memory are found by name
        if await self.exists(capsule.name):
            return False
        self._rows.capsules[capsule.name] = replace(capsule, used=0, reserved=0)
        return True

    async def lock(self, name: str) -> Capsule | None:
        """Return the capsule: whoever writes is alone."""
        return await self.load(name)

    async def change(self, capsule: Capsule) -> bool:
        """Store owner, policy and quota."""
        present = await self.load(capsule.name)
        if present is None:
            return False
        changed = replace(present, owner=capsule.owner, policy=capsule.policy, quota=capsule.quota)
        self._rows.capsules[capsule.name] = changed
        return True

    async def grant(self, name: str, principal: str, role: Role) -> bool:
        """Make this the principal's role."""
        if not await self.exists(name):
            return False
        self._rows.grants[name, principal] = role
        return True

    async def ungrant(self, name: str, principal: str) -> bool:
        """Take the principal's grant away."""
        await self._pause()
        return self._rows.grants.pop((name, principal), None) is not None

    async def grants(self, name: str) -> Mapping[str, Role]:
        """Return the roles that were granted, by principal."""
        await self._pause()
        granted = sorted(self._rows.grants.items())
        return {principal: role for (capsule, principal), role in granted if capsule == name}

    async def reserve(self, name: str, size: int) -> None:
        """Set `size` bytes aside, if the quota allows it."""
        self._rows.capsules[name] = _moved(await self._with_room(name, size), reserved=size)

    async def fill(self, name: str, size: int) -> None:
        """Use `size` bytes, if the quota allows it."""
        self._rows.capsules[name] = _moved(await self._with_room(name, size), used=size)

    async def _with_room(self, name: str, size: int) -> Capsule:
        capsule = await self.load(name)
        if capsule is None:
            raise CapsuleNotFound(name)
        if capsule.quota is not None and capsule.used + capsule.reserved + size > capsule.quota:
            raise QuotaExceeded("bytes", capsule.quota, "capsule")
        return capsule

    async def release(self, name: str, size: int) -> None:
        """Give reserved bytes back."""
        await self.use(name, reserved=size, size=0)

    async def use(self, name: str, *, reserved: int, size: int) -> None:
        """Turn a reservation into used bytes."""
        capsule = await self.load(name)
        if capsule is not None:
            self._rows.capsules[name] = _moved(capsule, used=size, reserved=-reserved)


class MemoryTokenStore:
    """`TokenStore` on a draft; contracts as in the port."""

    def __init__(self, rows: AccessRows, pause: Pause) -> None:
        self._rows = rows
        self._pause = pause

    async def add(self, token: Token, secret_sha256: bytes) -> None:
        """Add a new token."""
        await self._pause()
        if token.capsule is not None and token.capsule not in self._rows.capsules:
            raise CapsuleNotFound(token.capsule)
        self._rows.tokens[secret_sha256] = token

    async def find(self, secret_sha256: bytes) -> Token | None:
        """Return the token with that secret."""
        await self._pause()
        return self._rows.tokens.get(secret_sha256)

    async def list(self) -> Sequence[Token]:
        """Return all tokens, oldest first."""
        await self._pause()
        return sorted(self._rows.tokens.values(), key=lambda token: (token.created_at, token.id))

    async def any(self) -> bool:
        """Whether there is a token at all."""
        await self._pause()
        return bool(self._rows.tokens)

    async def note_use(self, token_id: str, *, now: float, unless_since: float) -> bool:
        """Note a use, unless one was noted lately."""
        await self._pause()
        secret, token = self._named(token_id)
        if token is None or (token.last_used_at is not None and token.last_used_at >= unless_since):
            return False
        self._rows.tokens[secret] = replace(token, last_used_at=now)
        return True

    async def revoke(self, token_id: str, *, now: float) -> Token | None:
        """Let the token count no more."""
        await self._pause()
        secret, token = self._named(token_id)
        if token is None or token.expired(now):
            return token
        self._rows.tokens[secret] = replace(token, expires_at=now)
        return self._rows.tokens[secret]

    async def forget(self, token_id: str, *, now: float) -> bool:
        """Remove a token that counts no more."""
        await self._pause()
        secret, token = self._named(token_id)
        if token is None or not token.expired(now):
            return False
        del self._rows.tokens[secret]
        for own in [key for key, it in self._rows.sign_ins.items() if it.token.id == token_id]:
            del self._rows.sign_ins[own]
        return True

    async def name_operator(self, principal: str, *, now: float) -> bool:
        """Whether a token that counts makes this principal an operator."""
        await self._pause()
        return any(
            token.principal == principal
            and token.scope is Scope.OPERATOR
            and token.capsule is None
            and not token.expired(now)
            for token in self._rows.tokens.values()
        )

    def _named(self, token_id: str) -> tuple[bytes, Token | None]:
        found = (item for item in self._rows.tokens.items() if item[1].id == token_id)
        return next(found, (b"", None))


class MemorySignInStore:
    """`SignInStore` on a draft; contracts as in the port."""

    def __init__(self, rows: AccessRows, pause: Pause) -> None:
        self._rows = rows
        self._pause = pause

    async def add(self, sign_in: SignIn, secret_sha256: bytes) -> bool:
        """Add a new one, of a token that is there."""
        await self._pause()
        if self._token(sign_in) is None:
            return False
        self._rows.sign_ins[secret_sha256] = sign_in
        return True

    async def find(self, secret_sha256: bytes) -> SignIn | None:
        """Return the one with that secret, with its token as that is now."""
        await self._pause()
        sign_in = self._rows.sign_ins.get(secret_sha256)
        token = None if sign_in is None else self._token(sign_in)
        return None if sign_in is None or token is None else replace(sign_in, token=token)

    async def remove(self, secret_sha256: bytes) -> bool:
        """Remove one."""
        await self._pause()
        return self._rows.sign_ins.pop(secret_sha256, None) is not None

    async def remove_ended(self, *, now: float, limit: int) -> int:
        """Remove those whose own time is over."""
        await self._pause()
        ended = [key for key, it in self._rows.sign_ins.items() if it.expires_at <= now][:limit]
        for key in ended:
            del self._rows.sign_ins[key]
        return len(ended)

    def _token(self, sign_in: SignIn) -> Token | None:
        return next((it for it in self._rows.tokens.values() if it.id == sign_in.token.id), None)


def _moved(capsule: Capsule, *, used: int = 0, reserved: int = 0) -> Capsule:
    """Add to both counts; below zero there is a bug in the caller."""
    moved = replace(capsule, used=capsule.used + used, reserved=capsule.reserved + reserved)
    if moved.used < 0 or moved.reserved < 0:
        message = f"more bytes are given back than were taken: {moved}"
        raise AssertionError(message)
    return moved
