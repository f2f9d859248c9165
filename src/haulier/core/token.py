"""Bearer tokens: who is called by one, what it is for, and until when it counts; and browsers that signed in with one.

Rule 1: a browser that signed in is never more than its token, nor for longer.
"""

from typing import Final

from haulier.core.caller import Caller, Scope
from haulier.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A credential as it is stored; its secret is not, only a hash of it. Times are UTC seconds."""

    id: str
    """A UUIDv7; names the token where its secret must not be shown."""
    principal: str
    scope: Scope
    capsule: str | None = None
    """The only capsule that it is for; None: every one."""
    created_at: float
    expires_at: float | None = None
    """From then on it counts no more; revoking one sets this. None: never."""
    last_used_at: float | None = None
    """To the minute."""

    def expired(self, now: float) -> bool:
        """Whether it counts no more: its time is over, or it was revoked."""
        return self.expires_at is not None and self.expires_at <= now

    @property
    def caller(self) -> Caller:
        """Who calls with it."""
        return Caller(owner=self.principal, scope=self.scope, capsule=self.capsule)


MAX_TOKEN_S: Final = 100 * 365 * 24 * 3600.0
"""The longest time that a token may be given, a century: beyond some thousand years no calendar tells its end."""
SIGN_IN_S: Final = 7 * 24 * 3600.0
"""How long a browser stays signed in: a week, so that who uses it daily is asked seldom, and a lost one is not good
for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """A browser that showed a token once; what it keeps is a secret of its own."""

    token: Token
    created_at: float
    expires_at: float

    @classmethod
    def begin(cls, token: Token, *, now: float) -> "SignIn":
        """Return the sign-in of a browser that shows the token now."""
        ends = now + SIGN_IN_S
        return cls(
            token=token,
            created_at=now,
            expires_at=ends if token.expires_at is None else min(ends, token.expires_at),
        )

    def expired(self, now: float) -> bool:
        """Whether it counts no more: its own time is over, or its token's."""
        return self.expires_at <= now or self.token.expired(now)
