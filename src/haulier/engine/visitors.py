"""Visitors: browsers that are known by what we signed for them.

Rule 1: whoever shows what we did not sign, or what has ended, is nobody; nothing that is somebody's is made known.
Rule 2: a visitor's end takes what it had under way with it, and leaves its records.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from haulier.core.caller import Caller
from haulier.core.errors import StorageError, VisitorNotFound
from haulier.core.event import EventKind
from haulier.core.upload import UploadDetails
from haulier.core.values import dataclass
from haulier.core.visitor import VISITOR, Visitor, read_visitor, sign_visitor
from haulier.engine.outbox import tell
from haulier.logs import get_logger
from haulier.machine import Clock, Identifiers
from haulier.ports import AccessPolicy, Transaction, UnitOfWork

NOTE_SEEN_EVERY_S: Final = 60.0
"""How exact the end of a visitor is: each note is a write, and a page makes many requests a second."""
NOTE_SEEN_PART: Final = 0.1
"""As that, for visitors that end soon: a part of their time."""
MAX_USER_AGENT: Final = 256
"""Characters of `User-Agent` that are kept; browsers send about 120."""
ADOPTED_BATCH: Final = 100
"""Records that one transaction gives to another owner, with an event each."""
ENDED_BATCH: Final = 200
"""Visitors that one transaction removes; keeps it short."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Seen:
    """A visitor that came back."""

    visitor: Visitor
    extended: bool
    """Whether its end has moved, so that its browser has to keep it for longer."""


class VisitorService:
    """Visitors. All calls may run in parallel."""

    def __init__(
        self,
        work: UnitOfWork[UploadDetails],
        clock: Clock,
        ids: Identifiers,
        access: AccessPolicy,
        *,
        secret: bytes,
        ttl_s: float,
    ) -> None:
        """`secret` signs what browsers keep; `ttl_s` is how long a visitor lasts after it was seen."""
        self._work = work
        self._clock = clock
        self._ids = ids
        self._access = access
        self._secret = secret
        self._ttl_s = ttl_s

    def signed(self, visitor: Visitor) -> str:
        """Return what the visitor's browser keeps."""
        return sign_visitor(visitor.id, self._secret)

    def remaining_s(self, visitor: Visitor) -> float:
        """Return how long it lasts from now on."""
        return max(visitor.expires_at - self._clock.now(), 0.0)

    async def find(self, shown: Iterable[str]) -> Seen | None:
        """Return the visitor whom the first of these texts names that names one who lives.

        Raises:
            StorageError
        """
        for text in shown:
            visitor_id = read_visitor(text, self._secret)
            if visitor_id is None:
                continue
            visitor = await self._work.read(lambda tx, it=visitor_id: tx.visitors.load(it))  # type: ignore[misc]  # of a lambda with defaults
            if visitor is not None and visitor.lives(now=self._clock.now()):
                seen = await self._see(visitor)
                if seen is not None:
                    return seen
        return None

    async def _see(self, visitor: Visitor) -> Seen | None:
        later = visitor.seen(now=self._clock.now(), ttl_s=self._ttl_s).expires_at - visitor.expires_at
        if later < min(NOTE_SEEN_EVERY_S, self._ttl_s * NOTE_SEEN_PART):
            return Seen(visitor, extended=False)
        try:
            return Seen(await self.extend(visitor), extended=True)
        except VisitorNotFound:
            return None  # it ended meanwhile
        except StorageError as error:
            # A disk that is full keeps nobody from seeing what is theirs.
            log.warning("visitor.not_extended", visitor=visitor.id, error=str(error))
            return Seen(visitor, extended=False)

    async def extend(self, visitor: Visitor) -> Visitor:
        """Let the visitor last for its whole time from now on.

        Raises:
            VisitorNotFound: it has ended meanwhile.
            StorageError
        """
        now = self._clock.now()
        seen = await self._work.write(lambda tx: tx.visitors.see(visitor.id, now=now, ttl_s=self._ttl_s))
        if seen is None:
            raise VisitorNotFound
        return seen

    async def begin(self, user_agent: str | None) -> Visitor:
        """Make a visitor of a browser that nobody knows. Raises StorageError."""
        metadata = {} if user_agent is None else {"user_agent": user_agent[:MAX_USER_AGENT]}
        visitor = Visitor.begin(
            self._ids.row_id(), now=self._clock.now(), ttl_s=self._ttl_s, metadata=metadata
        )
        await self._work.write(lambda tx: tx.visitors.add(visitor))
        log.info("visitor.made", visitor=visitor.id)
        return visitor

    async def clear(self, visitor: Visitor) -> None:
        """End a visitor now, with what it has under way; its records stay. Repeating is harmless."""
        await self._work.write(partial(_clear, visitor, self._clock.now()), frees=True)

    async def adopt(self, visitor: Visitor, caller: Caller) -> int:
        """Give what the visitor made to whoever signed in from its browser; return how many records.

        Only where the principal may put things in; the rest stays the visitor's. May be repeated, and goes on
        where a failure stopped it. Raises StorageError.
        """
        await self._work.write(lambda tx: tx.visitors.sign_in(visitor.id, caller.owner))
        total = 0
        for capsule in await self._work.read(partial(self._own_capsules, caller)):
            give = partial(_adopt, capsule, visitor.owner, by=caller.owner, now=self._clock.now())
            while count := await self._work.write(give):
                total += count
        if total:
            log.info("visitor.adopted", visitor=visitor.id, records=total)
        return total

    async def _own_capsules(self, caller: Caller, tx: Transaction[UploadDetails]) -> Sequence[str]:
        rights = [await self._access.rights(tx, caller, each.name) for each in await tx.capsules.list()]
        return [each.capsule.name for each in rights if each is not None and each.begins]

    async def admitted(self) -> bool:
        """Whether a capsule admits visitors, so that a browser without a token may become one."""
        return await self._work.read(lambda tx: tx.capsules.admit_visitors())

    async def purge(self, *, now: float) -> int:
        """Remove the visitors that have ended, with what they have under way; return how many."""
        total = 0
        while count := await self._work.write(partial(_purge, now), frees=True):
            total += count
        return total


async def _clear(visitor: Visitor, now: float, tx: Transaction[UploadDetails]) -> None:
    if await tx.visitors.remove(visitor.id):
        await tx.sessions.hasten(visitor.owner, now=now)


async def _adopt(capsule: str, owner: str, tx: Transaction[UploadDetails], *, by: str, now: float) -> int:
    await tx.sessions.adopt(capsule, owner, by)
    adopted = await tx.records.adopt(capsule, owner, by, limit=ADOPTED_BATCH)
    for record_id in adopted:
        await tell(tx, EventKind.UPDATED, record_id, now=now)
    return len(adopted)


async def _purge(now: float, tx: Transaction[UploadDetails]) -> int:
    ended = await tx.visitors.remove_ended(now=now, limit=ENDED_BATCH)
    for visitor_id in ended:
        await tx.sessions.hasten(VISITOR + visitor_id, now=now)
    return len(ended)
