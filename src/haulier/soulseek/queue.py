"""Who waits for an upload: how much of whom, in which order, and who is passed over for now.

Rule 1: limits count for the name that asks and for the address that it asks from: a name is only a claim. What others
        ask for under a name does not count against whoever it belongs to.
Rule 2: a user has two lines, one for what was asked from the address that the server gives, one for the rest.
        Only the first can be favoured; slots are the user's, not the lines'.
Rule 3: a taken slot, back-off and absence hold a user's lines; each is let go by who held them.
"""

from collections.abc import Collection, Iterable
from enum import Enum
from typing import Final

from haulier.core.rounds import TurnQueue, Waiting
from haulier.core.transfer import TransferId
from haulier.core.values import dataclass
from haulier.machine import Clock
from haulier.soulseek.bounds import Bounds

TOO_MANY_FILES: Final = "Too many files"
TOO_MANY_BYTES: Final = "Too many megabytes"
DAY_S: Final = 86_400.0
_UNTRUSTED: Final = "\n"
"""Follows the name in the second line; no name has it."""


class Hold(Enum):
    """Why a user is passed over."""

    TURN = "turn"
    ABSENT = "absent"
    BACKING_OFF = "backing off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A file that a user wants."""

    id: TransferId
    user: str
    address: str
    size: int
    trusted: bool
    """Whether the address is the user's."""

    @property
    def owners(self) -> tuple[tuple[str, str], ...]:
        """Whose limits it counts for."""
        return ("user" if self.trusted else "claimed", self.user), ("address", self.address)

    @property
    def limits(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """What is limited: what each of these groups has together. A borrowed name takes nothing from its owner."""
        name = (("user", self.user),) if self.trusted else (("user", self.user), ("claimed", self.user))
        return name, (("address", self.address),)


@dataclass(slots=True)
class _Load:
    files: int = 0
    size: int = 0


class UploadQueue:
    """Requests from the moment they are taken until they are forgotten; some wait, some have their turn."""

    def __init__(self, bounds: Bounds, *, first_come: bool = False) -> None:
        self._bounds = bounds
        self._turns: TurnQueue[TransferId] = TurnQueue(first_come=first_come)
        self._requests: dict[TransferId, Request] = {}
        self._loads: dict[tuple[str, str], _Load] = {}
        self._holds: dict[str, set[Hold]] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._turns)

    def __contains__(self, request: TransferId) -> bool:
        """Whether it waits."""
        return request in self._turns

    def has(self, user: str) -> bool:
        """Whether anything of the user waits or has its turn."""
        return ("user", user) in self._loads or ("claimed", user) in self._loads

    def excess(self, request: Request) -> str | None:
        """Return what there would be too much of with one more request, as peers are told; or None."""
        if len(self._requests) >= self._bounds.queued_files:
            return TOO_MANY_FILES
        for group in request.limits:
            loads = [self._loads[owner] for owner in group if owner in self._loads]
            if sum(load.files for load in loads) >= self._bounds.queued_files_per_user:
                return TOO_MANY_FILES
            if sum(load.size for load in loads) + request.size > self._bounds.queued_bytes_per_user:
                return TOO_MANY_BYTES
        return None

    def add(self, request: Request, *, at_head: bool = False) -> None:
        """Take a request; it waits."""
        self._requests[request.id] = request
        for owner in request.owners:
            load = self._loads.setdefault(owner, _Load())
            load.files += 1
            load.size += request.size
        self.wait(request.id, at_head=at_head)

    def wait(self, id_: TransferId, *, at_head: bool) -> None:
        """Let a request whose turn was cut short wait again."""
        request = self._requests[id_]
        line = request.user if request.trusted else request.user + _UNTRUSTED
        self._turns.add(Waiting(key=id_, line=line, size=request.size), at_head=at_head)

    def forget(self, id_: TransferId) -> None:
        """Take a request out; harmless when it is not there."""
        self._turns.remove(id_)
        request = self._requests.pop(id_, None)
        if request is None:
            return
        for owner in request.owners:
            load = self._loads[owner]
            load.files -= 1
            load.size -= request.size
            if not load.files:
                del self._loads[owner]

    def take(self) -> tuple[TransferId, ...]:
        """Take those whose turn it is: some of one user, in order; none when nobody can have a turn."""
        return tuple(waiting.key for waiting in self._turns.take())

    def bump(self, id_: TransferId) -> None:
        """Make a request the first of its line; harmless when it does not wait."""
        if self._turns.remove(id_) is not None:
            self.wait(id_, at_head=True)

    def place(self, id_: TransferId) -> int | None:
        """Return 1 + how many would start before it; None when it does not wait."""
        return self._turns.place(id_)

    def favour(self, users: Collection[str]) -> None:
        """Say which users go first, where it is surely they who ask."""
        self._turns.favour(users)

    def hold(self, user: str, why: Hold) -> None:
        """Pass a user over until let go for the same reason."""
        self._holds.setdefault(user, set()).add(why)
        for line in _lines(user):
            self._turns.hold(line, absent=why is Hold.ABSENT)

    def let_go(self, user: str, why: Hold) -> None:
        """Take a reason away; harmless when there was none."""
        holds = self._holds.get(user, set())
        holds.discard(why)
        if holds:
            return
        self._holds.pop(user, None)
        for line in _lines(user):
            self._turns.let_go(line)


def _lines(user: str) -> Iterable[str]:
    return user, user + _UNTRUSTED


class Failures:
    """When uploads failed, by who is to blame: whoever fails often has to wait for the day to pass.

    Args:
        bounds: How many are too many.
        clock: The time.
    """

    def __init__(self, bounds: Bounds, clock: Clock) -> None:
        self._bounds = bounds
        self._clock = clock
        self._at: dict[str, list[float]] = {}

    def note(self, blamed: str) -> None:
        """One has failed."""
        self._at.setdefault(blamed, []).append(self._clock.now())

    def are_many(self, blamed: str) -> bool:
        """Whether there were too many in a day; older ones are forgotten."""
        since = self._clock.now() - DAY_S
        recent = [at for at in self._at.get(blamed, ()) if at > since]
        if recent:
            self._at[blamed] = recent
        else:
            self._at.pop(blamed, None)
        return len(recent) >= self._bounds.failures_per_day

    def sweep(self) -> None:
        """Forget those of other days."""
        for blamed in list(self._at):
            self.are_many(blamed)
