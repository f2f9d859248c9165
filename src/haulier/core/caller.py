"""Who calls, and the most that their credential lets them do.

Rule 1: a credential narrows what its owner may do and never widens it: a right needs both the owner's role in the
        capsule and the credential's scope.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from haulier.core.session import SessionId


class Scope(StrEnum):
    """What a credential is for; each includes the ones before it."""

    READ = "read"
    WRITE = "write"
    OWNER = "owner"
    OPERATOR = "operator"

    def includes(self, other: "Scope") -> bool:
        """Whether whoever has this scope has `other` too."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


class Role(StrEnum):
    """What a principal is to a capsule; each includes the ones before it."""

    READER = "reader"
    WRITER = "writer"
    OWNER = "owner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, as whoever judged the credential names them."""

    owner: str
    """Whose things are made and found: `local`, `user:NAME`."""
    scope: Scope = Scope.OWNER
    capsule: str | None = None
    """The only capsule that the credential is for; None: every one."""
    upload: SessionId | None = None
    """The only upload that the credential is for; None: every one."""

    @property
    def operator(self) -> bool:
        """Whether the operators' calls are open to this caller."""
        return self.scope is Scope.OPERATOR


LOCAL: Final = Caller(owner="local", scope=Scope.OPERATOR)
"""The one caller of open mode."""
