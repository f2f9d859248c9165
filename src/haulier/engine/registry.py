"""Who is active, by every name that others know it by.

Rule 1: registering is one step: all keys of an item are taken, or none is.
Rule 2: a registration ends what it began and nothing else; ended by its owner or by a successor, ending it
        again is harmless, and it never takes away what the successor holds.
"""

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from haulier.core.values import dataclass

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Registration(Generic[T]):
    """An item under its keys, until it ends."""

    item: T
    keys: frozenset[Hashable]
    _end: Callable[["Registration[T]"], None]
    active: bool = True

    def end(self) -> None:
        """Give the keys back; once they are, nothing more happens."""
        if self.active:
            self.active = False
            self._end(self)


class Registry(Generic[T]):
    """Active items by key."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Registration[T]] = {}

    def __len__(self) -> int:
        return len(set(self._by_key.values()))

    def __iter__(self) -> Iterator[T]:
        return iter([registration.item for registration in dict.fromkeys(self._by_key.values())])

    def find(self, key: Hashable) -> T | None:
        """Return who has the key."""
        registration = self._by_key.get(key)
        return None if registration is None else registration.item

    def register(
        self, item: T, *keys: Hashable, replaces: Callable[[T], bool] | None = None
    ) -> Registration[T] | None:
        """Take all `keys` for `item`; None, and nothing taken, when one of them has a holder that stays.

        Args:
            item: Who becomes active.
            keys: At least one; tuples that say what they are, so that two kinds of key never meet.
            replaces: Says of a holder whether `item` takes its place (it is broken, say); all its keys go.
        """
        assert keys, "an item without a key is never found"
        holders = {self._by_key[key] for key in keys if key in self._by_key}
        if any(replaces is None or not replaces(holder.item) for holder in holders):
            return None
        for holder in holders:
            holder.end()
        registration = Registration(item, frozenset(keys), self._forget)
        self._by_key.update(dict.fromkeys(keys, registration))
        return registration

    def _forget(self, registration: Registration[T]) -> None:
        for key in registration.keys:
            del self._by_key[key]
