"""What is told of a thing that changes: how it is now, and whether more is new than its progress."""

from typing import Generic, TypeVar

from haulier.core.values import dataclass

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class News(Generic[T]):
    """How a thing is now."""

    value: T
    changed: bool
    """Whether its state is another one; False when it has only moved on."""

    def over(self, older: "News[T] | None") -> "News[T]":
        """Return what is told when the older ones were not heard of yet."""
        return News(self.value, changed=self.changed or (older is not None and older.changed))
