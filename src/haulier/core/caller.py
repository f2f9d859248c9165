"""Who calls, and the most that their credential lets them do.

Rule 1: a credential narrows what its owner may do and never widens it: a right needs both the owner's role in the
        capsule and the credential's scope. (See `core/access.py`, which combines the two.)
Rule 2: only the scope `operator` stands above the capsules' roles, and only without any narrowing.
"""

import re
from dataclasses import field
from enum import StrEnum
from typing import Final

from haulier.core.errors import InvalidRequest
from haulier.core.session import SessionId
from haulier.core.values import dataclass

USER: Final = "user:"
"""How the owners begin that a token names."""
MAX_NAME: Final = 128
"""Characters of a user's name; most systems that names come from (LDAP, e-mail) stay below."""
_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._@+-]{{0,{MAX_NAME - 1}}}")


class Scope(StrEnum):
    """What a credential is for; each includes the ones before it."""

    READ = "read"
    WRITE = "write"
    OWNER = "owner"
    OPERATOR = "operator"

    def includes(self, other: "Scope") -> bool:
        """Whether whoever has this scope has `other` too."""
        return _RANKS[self] >= _RANKS[other]


_RANKS: Final = {scope: rank for rank, scope in enumerate(Scope)}


class Role(StrEnum):
    """What a principal is to a capsule; each includes the ones before it."""

    READER = "reader"
    WRITER = "writer"
    OWNER = "owner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, as whoever judged the credential names them."""

    owner: str
    """Whose things are made and found: `local`, `user:NAME`, `visitor:ID`."""
    scope: Scope = Scope.OWNER
    capsule: str | None = None
    """The only capsule that the credential is for; None: every one."""
    upload: SessionId | None = None
    """The only upload that the credential is for; None: every one."""
    address: str | None = field(default=None, compare=False)
    """What the address counts as that the call came from; None: it does not count. Says nothing about who calls."""

    @property
    def operator(self) -> bool:
        """Whether the operators' calls are open to this caller, and everybody's things."""
        return self.scope is Scope.OPERATOR and self.capsule is None and self.upload is None

    @property
    def local(self) -> bool:
        """Whether this is one of open mode's, whom no token names."""
        return self.operator and not self.owner.startswith(USER)

    def covers(self, capsule: str) -> bool:
        """Whether the credential is for that capsule."""
        return self.capsule in {None, capsule}


LOCAL: Final = Caller(owner="local", scope=Scope.OPERATOR)
"""Who calls in open mode, if no visitor does."""


def read_principal(text: str, *, field: str = "principal") -> str:
    """Return the owner `user:NAME` of a name, written with or without `user:`.

    Names are ASCII, so that no two of them look alike, and case counts. Open mode's `local` is an owner too, but
    nobody is called by that name with a token: it is for whoever owns what was made before there were any.

    Raises:
        InvalidRequest: it is no name.
    """
    name = text.removeprefix(USER)
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest.of(
            field,
            f"must be a name of 1 to {MAX_NAME} ASCII letters, digits and ._@+- that begins with a letter or digit",
        )
    return USER + name
