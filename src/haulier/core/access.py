"""Who may do what: a role in a capsule, narrowed by a credential.

Rule 1: a right needs both: what the principal is to the capsule, and the scope of the credential.
Rule 2: a grant decides alone; that a capsule admits everybody counts only for those who have none.
Rule 3: an upload is its owner's business, and that of whoever owns the capsule; readers and writers of the capsule
        do not learn that it exists before it has become a record.
Rule 4: a credential for one upload opens that upload, and nothing beside it.

| what | guest | reader | writer | owner, operator |
|---|---|---|---|---|
| knows the capsule | yes | yes | yes | yes |
| begins uploads (scope `write`) | yes | no | yes | yes |
| sees uploads | own | own | own | all |
| goes on with, ends uploads (scope `write`) | own | no | own | own; all with scope `owner` |
| lists and reads records | own | all | all | all |
| deletes and restores records (scope `write`) | own | no | own | own; all with scope `owner` |

A guest is who has a token, in a capsule that admits users, or a visitor, in one that admits visitors.
"""

from typing import Final

from haulier.core.caller import USER, Caller, Role, Scope
from haulier.core.capsule import Capsule
from haulier.core.session import SessionId
from haulier.core.values import dataclass
from haulier.core.visitor import VISITOR

WRITERS: Final = frozenset({Role.WRITER, Role.OWNER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What one caller may do in one capsule that its credential is for."""

    capsule: Capsule
    """As it was when the rights were read."""
    owner: str
    """Who calls: whose things are `own`."""
    upload: SessionId | None = None
    """The only upload that these rights are about; None: everything in the capsule."""
    reads_own: bool = False
    reads_all: bool = False
    writes: bool = False
    """Begins uploads, and does with what is its own what one can do."""
    rules: bool = False
    """Does the same with what is others'."""

    @property
    def known(self) -> bool:
        """Whether the caller may learn that there is such a capsule."""
        return self.reads_own or self.reads_all or self.writes or self.rules

    @property
    def begins(self) -> bool:
        """Whether new uploads may be begun."""
        return self.writes and self.upload is None

    def reads(self, owner: str) -> bool:
        """Whether `owner`'s records may be read."""
        return self.reads_all or (self.reads_own and owner == self.owner)

    def removes(self, owner: str) -> bool:
        """Whether `owner`'s records may be changed, deleted and restored."""
        return self.rules or (self.begins and owner == self.owner)

    def sees(self, upload: SessionId, owner: str) -> bool:
        """Whether the caller may learn that `owner`'s upload exists.

        One's own stay visible when all rights in their capsule are gone: that is how their end is told.
        """
        return self.rules or (owner == self.owner and self.upload in {None, upload})

    def moves(self, owner: str) -> bool:
        """Whether `owner`'s upload, which the caller sees, may be continued, finished and aborted."""
        return self.rules or (self.writes and owner == self.owner)


def rights_in(capsule: Capsule, granted: Role | None, caller: Caller, *, operator: bool) -> Rights | None:
    """Return what the caller may do in the capsule; None when the credential is not for it.

    Args:
        capsule: as it is now.
        granted: the role that the caller's principal was granted there.
        caller: who calls, as the credential says.
        operator: whether everybody's things are this principal's.
    """
    if not caller.covers(capsule.name):
        return None
    role = Role.OWNER if operator else capsule.role_of(caller.owner, granted)
    guest = role is None and admits(capsule, caller.owner)
    writes = (guest or role in WRITERS) and caller.scope.includes(Scope.WRITE)
    if caller.upload is not None:
        return Rights(capsule=capsule, owner=caller.owner, upload=caller.upload, writes=writes)
    return Rights(
        capsule=capsule,
        owner=caller.owner,
        reads_own=guest or role is not None,
        reads_all=role is not None,
        writes=writes,
        rules=role is Role.OWNER and caller.scope.includes(Scope.OWNER),
    )


def admits(capsule: Capsule, owner: str) -> bool:
    """Whether the capsule takes from whoever this is, without a role there."""
    if owner.startswith(VISITOR):
        return capsule.policy.admits_visitors
    return capsule.policy.admits_users and owner.startswith(USER)
