"""What looks at the bytes of one body while they pass."""

from typing import Protocol

from haulier.core.digest import Buffer


class BodyCheck(Protocol):
    """Looks at every byte of one body, and judges it at its end."""

    strict: bool
    """Whether nothing of the body counts before it was judged."""

    def update(self, piece: Buffer) -> None:
        """See the next piece."""

    def verify(self) -> None:
        """Judge the whole body. Raises DigestMismatch."""


class NoCheck:
    """The check of a body that came without a digest."""

    strict = False

    def update(self, piece: Buffer) -> None:
        """Nothing to see."""

    def verify(self) -> None:
        """Nothing to judge."""
