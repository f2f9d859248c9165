"""Bearer tokens: who is called by one, what it is for, and until when it counts."""

from dataclasses import dataclass

from haulier.core.caller import Caller, Scope


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
