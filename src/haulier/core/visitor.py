"""A browser's identity that no token names, and how long it lasts.

Rule 1: a visitor ends at `expires_at`, whether or not a janitor has come by: an ended one is nobody and is never extended.
Rule 2: only being seen moves the end, and never to an earlier time.
Rule 3: a browser proves who it is by its id and our signature of it; whatever else it sends names nobody.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import field
from typing import Final

from haulier.core.values import dataclass, replace

VISITOR: Final = "visitor:"
"""How the owners begin that a visitor's cookie names."""
_PURPOSE: Final = b"haulier visitor\0"
"""Keeps these signatures apart from all others that are made with the same key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """One browser; its records outlive it."""

    id: str
    created_at: float
    """Seconds since the epoch, UTC, as the other times here."""
    last_seen_at: float
    expires_at: float
    principal: str | None = None
    """The `user:NAME` that signed in from this browser last; None: nobody did."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What tells one's own browsers apart: `user_agent`."""

    @classmethod
    def begin(
        cls, visitor_id: str, *, now: float, ttl_s: float, metadata: Mapping[str, str] | None = None
    ) -> "Visitor":
        """Return a visitor that is seen for the first time."""
        return cls(
            id=visitor_id, created_at=now, last_seen_at=now, expires_at=now + ttl_s, metadata=metadata or {}
        )

    @property
    def owner(self) -> str:
        """Whose things this visitor makes and finds."""
        return VISITOR + self.id

    def lives(self, *, now: float) -> bool:
        """Whether this visitor is still somebody."""
        return now < self.expires_at

    def seen(self, *, now: float, ttl_s: float) -> "Visitor":
        """Return the visitor with its end moved on; an ended one stays as it is."""
        if not self.lives(now=now):
            return self
        return replace(
            self, last_seen_at=max(self.last_seen_at, now), expires_at=max(self.expires_at, now + ttl_s)
        )


def sign_visitor(visitor_id: str, key: bytes) -> str:
    """Return what a browser keeps: the id, a dot, and the HMAC-SHA-256 of the id in hex."""
    signature = hmac.new(key, _PURPOSE + visitor_id.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return f"{visitor_id}.{signature.hexdigest()}"


def read_visitor(value: str, key: bytes) -> str | None:
    """Return the id in what a browser sent; None unless we signed it with this key."""
    visitor_id, _, _ = value.rpartition(".")
    expected = sign_visitor(visitor_id, key)
    same = hmac.compare_digest(
        value.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass")
    )
    return visitor_id if same and visitor_id else None
