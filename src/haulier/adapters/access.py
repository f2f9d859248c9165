"""Who may do what, by the capsules' owners, grants and tokens; in open mode too, whose callers are operators."""

from typing import Any

from haulier.core.access import WRITERS, Rights, rights_in
from haulier.core.caller import LOCAL, Caller
from haulier.core.capsule import check_capsule_name
from haulier.core.visitor import VISITOR
from haulier.machine import Clock
from haulier.ports import Transaction


class GrantedAccess:
    """`haulier.ports.AccessPolicy` by the rows."""

    def __init__(self, clock: Clock, *, opened: bool = False) -> None:
        """`opened`: in open mode, where visitors are operators as everybody is."""
        self._clock = clock
        self._opened = opened

    async def rights(self, tx: Transaction[Any], caller: Caller, capsule: str) -> Rights | None:
        """Return what the caller may do in the capsule now."""
        if any(check_capsule_name(capsule)):
            return None  # strangers' words; some of them no database can even look for
        found = await tx.capsules.standing(capsule, caller.owner)
        if found is None:
            return None
        space, granted = found
        operator = caller.operator
        if caller.upload is not None and space.role_of(caller.owner, granted) not in WRITERS:
            operator = await self._names_operator(tx, caller.owner)
        return rights_in(space, granted, caller, operator=operator)

    async def _names_operator(self, tx: Transaction[Any], owner: str) -> bool:
        # What an operator began in a capsule without a role there goes on while there is such a token.
        if owner == LOCAL.owner or (self._opened and owner.startswith(VISITOR)):
            return True
        return await tx.tokens.name_operator(owner, now=self._clock.now())
