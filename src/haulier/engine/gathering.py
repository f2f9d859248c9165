"""Things that come at the same time, done together: whatever waits while the ones before it are being done.

Rule 1: nothing waits by the clock for company. What comes in the same turns of the event loop is begun together, as soon as
        a turn brings no more; what comes meanwhile is begun when that has ended.
Rule 2: everybody has an outcome of its own. What fails together is done again one by one, in the order in which it came,
        so that one which is refused takes nobody with it. Only where nobody knows whether it was done, it is not repeated.
Rule 3: whoever is cancelled no longer hears of its own, which is done as if somebody waited for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

from haulier.core.errors import StorageUnavailable
from haulier.core.values import dataclass
from haulier.engine.background import Background

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

MOST: Final = 64
"""Done together: what each adds to the price of a commit is small by then, and the first does not wait long for the last."""


@dataclass(frozen=True, slots=True)
class _One(Generic[T]):
    """A thing, and who waits for it."""

    thing: T
    done: asyncio.Future[None]

    def tell(self, error: Exception | None) -> None:
        """Say what came of it, unless nobody waits any more."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Gathering(Generic[K, T]):
    """Does things of one key together, and those of different keys beside each other."""

    def __init__(self, do: Callable[[K, Sequence[T]], Awaitable[None]], background: Background) -> None:
        """`do` does all of some things of one key, or none of them and raises."""
        self._do = do
        self._background = background
        self._waiting: dict[K, list[_One[T]]] = {}
        """By the keys of which some are being done."""

    async def add(self, key: K, thing: T) -> None:
        """Have a thing done, and return when it is.

        Raises:
            What doing it raises.
        """
        one = _One(thing, asyncio.get_running_loop().create_future())
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = []
            self._background.start(self._run(key, waiting), name="gathered")
        waiting.append(one)
        await one.done

    async def _run(self, key: K, waiting: list[_One[T]]) -> None:
        """Do what waits until nothing does."""
        together: list[_One[T]] = []
        try:
            while waiting:
                await _turns(waiting)
                together, waiting[:MOST] = waiting[:MOST], []
                await self._do_together(key, together)
        finally:
            del self._waiting[key]
            for one in (*together, *waiting):  # some are left when the service ends: nobody knows of these
                one.done.cancel()

    async def _do_together(self, key: K, together: Sequence[_One[T]]) -> None:
        try:
            await self._do(key, [one.thing for one in together])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers'
            if len(together) > 1 and not isinstance(error, StorageUnavailable):
                for one in together:
                    await self._do_together(key, [one])
                return
            outcome: Exception | None = error
        else:
            outcome = None
        for one in together:
            one.tell(outcome)


async def _turns(waiting: Sequence[object]) -> None:
    """Let turns of the event loop pass while each of them brings more, up to what is done together."""
    known = 0
    while known < len(waiting) < MOST:
        known = len(waiting)
        await asyncio.sleep(0)
