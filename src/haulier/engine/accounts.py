"""Accounts: who a secret belongs to, and what operators do with tokens, capsules and grants.

Rule 1: a secret is seen twice: when it is made, and when its bearer shows it. Only its hash is kept.
Rule 2: a service that has ever had a token does not open by itself: a token that expired or was revoked still counts
        as one, until somebody says in so many words that it shall be forgotten.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from haulier.core.caller import USER, Caller, Role, Scope
from haulier.core.capsule import Capsule, check_capsule_name
from haulier.core.errors import (
    CapsuleNotFound,
    CapsuleTaken,
    InvalidRequest,
    StorageError,
    TokenNotFound,
    Unauthenticated,
)
from haulier.core.secret import Secret, hash_token, is_token, make_token
from haulier.core.token import MAX_TOKEN_S, SignIn, Token
from haulier.core.upload import UploadDetails, require_valid
from haulier.core.values import dataclass
from haulier.logs import get_logger
from haulier.machine import Clock, Identifiers
from haulier.ports import Transaction, UnitOfWork

NOTE_USE_EVERY_S: Final = 60.0
"""How exact a token's last use is: each note is a write, and a client makes hundreds of requests a second."""

ENDED_BATCH: Final = 500
"""Sign-ins that one statement removes; keeps the write transaction short."""

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token that was just made, with the only sight of its secret."""

    token: Token
    secret: Secret
    first: bool
    """Whether there was none before: from the next start on the service asks who calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSignIn:
    """A browser that just signed in, with the only sight of what it keeps."""

    sign_in: SignIn
    secret: Secret


class Accounts:
    """Tokens, capsules and grants. All calls may run in parallel, and beside a running service."""

    def __init__(self, work: UnitOfWork[UploadDetails], clock: Clock, ids: Identifiers) -> None:
        self._work = work
        self._clock = clock
        self._ids = ids

    # --- who calls -----------------------------------------------------------------------------------

    async def find(self, secret: str) -> Caller:
        """Return who the secret of a bearer token belongs to.

        Raises:
            Unauthenticated: nobody; the reason says whether it is unknown or counts no more.
            StorageError
        """
        now = self._clock.now()
        token = await self._work.read(partial(_good_token, _hash_of(secret), now))
        await self._note_use(token, now)
        return token.caller

    async def sign_in(self, secret: str) -> NewSignIn:
        """Let a browser keep a secret of its own instead of the token that it shows.

        Raises:
            Unauthenticated: as `find`.
            StorageError
        """
        own = make_token(self._ids.secret())
        keep = partial(_sign_in, _hash_of(secret), hash_token(own.reveal()), self._clock.now())
        return NewSignIn(sign_in=await self._work.write(keep, durable=True), secret=own)

    async def find_sign_in(self, secret: str) -> SignIn:
        """Return the sign-in of a browser that keeps this secret.

        Raises:
            Unauthenticated: there is none, or it or its token counts no more.
            StorageError
        """
        found = None
        if is_token(secret):
            hashed = hash_token(secret)
            found = await self._work.read(lambda tx: tx.sign_ins.find(hashed))
        if found is None or found.expired(self._clock.now()):
            raise Unauthenticated(
                "this browser is not signed in any more", given=True, ended=found is not None
            )
        await self._note_use(found.token, self._clock.now())
        return found

    async def sign_out(self, secret: str) -> None:
        """Let what a browser keeps count no more. Repeating is harmless; what is no secret of ours costs nothing."""
        if not is_token(secret):
            return
        hashed = hash_token(secret)
        await self._work.write(lambda tx: tx.sign_ins.remove(hashed), durable=True, frees=True)

    async def purge_sign_ins(self, *, now: float) -> int:
        """Remove sign-ins whose time is over; return how many."""
        total = 0
        while count := await self._work.write(
            lambda tx: tx.sign_ins.remove_ended(now=now, limit=ENDED_BATCH), frees=True
        ):
            total += count
        return total

    async def any_tokens(self) -> bool:
        """Whether there is a token, be it one that counts no more: then callers must have one."""
        return await self._work.read(lambda tx: tx.tokens.any())

    async def _note_use(self, token: Token, now: float) -> None:
        since = now - NOTE_USE_EVERY_S
        if token.last_used_at is not None and token.last_used_at >= since:
            return
        try:
            await self._work.write(lambda tx: tx.tokens.note_use(token.id, now=now, unless_since=since))
        except StorageError as error:
            # A disk that is full keeps nobody from fetching files.
            log.warning("token.use_not_noted", token=token.id, error=str(error))

    # --- tokens --------------------------------------------------------------------------------------

    async def create_token(
        self, principal: str, *, scope: Scope, capsule: str | None = None, expires_in_s: float | None = None
    ) -> NewToken:
        """Make a token for `user:NAME`, which need not have one before.

        Raises:
            InvalidRequest: a time in the past or beyond `MAX_TOKEN_S`, or an operator of one capsule.
            CapsuleNotFound
        """
        if expires_in_s is not None and not 0 < expires_in_s <= MAX_TOKEN_S:
            raise InvalidRequest.of(
                "expires_in", f"must be a number of seconds above 0, up to {MAX_TOKEN_S:.0f} (a century)"
            )
        if scope is Scope.OPERATOR and capsule is not None:
            raise InvalidRequest.of(
                "capsule", "cannot be combined with scope operator, which is for all of them"
            )
        if not principal.startswith(USER):
            message = f"{principal!r} is no user; see read_principal"
            raise ValueError(message)
        now = self._clock.now()
        token = Token(
            id=self._ids.row_id(),
            principal=principal,
            scope=scope,
            capsule=capsule,
            created_at=now,
            expires_at=None if expires_in_s is None else now + expires_in_s,
        )
        secret = make_token(self._ids.secret())
        hashed = hash_token(secret.reveal())

        async def add(tx: Transaction[UploadDetails]) -> bool:
            first = not await tx.tokens.any()
            await tx.tokens.add(token, hashed)
            return first

        return NewToken(token=token, secret=secret, first=await self._work.write(add, durable=True))

    async def list_tokens(self) -> Sequence[Token]:
        """Return all tokens, oldest first."""
        return await self._work.read(lambda tx: tx.tokens.list())

    async def revoke_token(self, token_id: str) -> Token:
        """Let a token count no more, at once; harmless when it does not.

        Uploads that were begun with it go on by their own tokens, as long as its principal has the right to.

        Raises:
            TokenNotFound
        """
        now = self._clock.now()
        token = await self._work.write(lambda tx: tx.tokens.revoke(token_id, now=now), durable=True)
        if token is None:
            raise TokenNotFound(token_id)
        return token

    async def forget_token(self, token_id: str) -> bool:
        """Remove a token that counts no more; return whether it was the last, so that the service opens again.

        Raises:
            TokenNotFound: there is none, or it still counts.
        """
        now = self._clock.now()

        async def forget(tx: Transaction[UploadDetails]) -> bool:
            if not await tx.tokens.forget(token_id, now=now):
                raise TokenNotFound(token_id)
            return not await tx.tokens.any()

        return await self._work.write(forget, durable=True)

    # --- capsules ------------------------------------------------------------------------------------

    async def create_capsule(self, name: str, *, owner: str) -> Capsule:
        """Make an empty capsule that takes everything.

        Raises:
            InvalidRequest: the name is no name.
            CapsuleTaken
        """
        require_valid(check_capsule_name(name))
        capsule, capsule_id = Capsule(name=name, owner=owner), self._ids.row_id()
        if not await self._work.write(lambda tx: tx.capsules.add(capsule_id, capsule), durable=True):
            raise CapsuleTaken(name)
        return capsule

    async def list_capsules(self) -> Sequence[tuple[Capsule, Mapping[str, Role]]]:
        """Return all capsules by name, each with its grants."""

        async def read(tx: Transaction[UploadDetails]) -> Sequence[tuple[Capsule, Mapping[str, Role]]]:
            return [(capsule, await tx.capsules.grants(capsule.name)) for capsule in await tx.capsules.list()]

        return await self._work.read(read)

    async def set_capsule(self, name: str, changes: Mapping[str, str]) -> Capsule:
        """Change settings by their keys; what is under way follows them from its next step on.

        Raises:
            InvalidRequest · CapsuleNotFound
        """

        async def change(tx: Transaction[UploadDetails]) -> Capsule:
            capsule = await tx.capsules.lock(name)
            if capsule is None:
                raise CapsuleNotFound(name)
            changed = capsule.set(changes)
            await tx.capsules.change(changed)
            return changed

        return await self._work.write(change, durable=True)

    async def grant(self, name: str, principal: str, role: Role) -> None:
        """Give a principal a role in a capsule, instead of the one that it had.

        Raises:
            CapsuleNotFound
        """

        async def grant(tx: Transaction[UploadDetails]) -> None:
            await tx.capsules.lock(name)
            if not await tx.capsules.grant(name, principal, role):
                raise CapsuleNotFound(name)

        await self._work.write(grant, durable=True)

    async def ungrant(self, name: str, principal: str) -> bool:
        """Take a principal's role away; return whether it had one.

        Raises:
            CapsuleNotFound
        """

        async def ungrant(tx: Transaction[UploadDetails]) -> bool:
            if await tx.capsules.lock(name) is None:
                raise CapsuleNotFound(name)
            return await tx.capsules.ungrant(name, principal)

        return await self._work.write(ungrant, durable=True)


def _hash_of(secret: str) -> bytes:
    if not is_token(secret):
        raise Unauthenticated("this is not a token of this service", given=True)
    return hash_token(secret)


async def _good_token(secret_sha256: bytes, now: float, tx: Transaction[UploadDetails]) -> Token:
    token = await tx.tokens.find(secret_sha256)
    if token is None:
        raise Unauthenticated("the token is unknown", given=True)
    if token.expired(now):
        raise Unauthenticated("the token has expired or was revoked", given=True)
    return token


async def _sign_in(
    token_sha256: bytes, own_sha256: bytes, now: float, tx: Transaction[UploadDetails]
) -> SignIn:
    sign_in = SignIn.begin(await _good_token(token_sha256, now, tx), now=now)
    await tx.sign_ins.add(sign_in, own_sha256)
    return sign_in
