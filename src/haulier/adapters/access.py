"""Who may do what while there are no tokens: one owner, `local`, who may do everything."""

from haulier.core.caller import Caller, Role
from haulier.core.errors import CapsuleNotFound
from haulier.core.upload import UploadDetails
from haulier.ports import UnitOfWork


class OpenAccess:
    """`haulier.ports.AccessPolicy` of open mode; the server has made sure that the caller is local."""

    def __init__(self, work: UnitOfWork[UploadDetails]) -> None:
        self._work = work

    async def check(self, caller: Caller, capsule: str, role: Role) -> None:
        """Pass when there is such a capsule."""
        del caller, role
        if not await self._work.read(lambda tx: tx.capsules.exists(capsule)):
            raise CapsuleNotFound(capsule)

    def only_owner(self, caller: Caller) -> str | None:
        """Show everything to everybody who may reach the service."""
        del caller
        return None

    def may_know(self, caller: Caller, owner: str) -> bool:
        """Let everybody who may reach the service know everything."""
        del caller, owner
        return True
