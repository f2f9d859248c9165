"""What looks at the bytes of one body while they pass."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from haulier.core.digest import Buffer

Scan = Callable[[Callable[[Buffer], None]], Awaitable[None]]
"""Hands the whole body on once more, from where it is stored; off the event loop."""


class BodyCheck(Protocol):
    """Looks at every byte of one body, and judges it at its end."""

    strict: bool
    """Whether nothing of the body counts before it was judged."""

    def update(self, piece: Buffer) -> None:
        """See the next piece."""

    async def verify(self, scan: Scan) -> None:
        """Judge the whole body, which `scan` gives again to who has not looked at it while it passed.

        Raises:
            RequestError: it is not what it should be, or nobody can say.
        """


async def judge_whole(check: BodyCheck | None, content: bytes) -> None:
    """Judge a body that is in memory.

    Raises:
        RequestError: it is not what it should be, or nobody can say.
    """
    if check is None:
        return

    async def scan(consume: Callable[[Buffer], None]) -> None:
        consume(content)

    check.update(content)
    await check.verify(scan)


class NoCheck:
    """The check of a body that came without a digest."""

    strict = False

    def update(self, piece: Buffer) -> None:
        """Nothing to see."""

    async def verify(self, scan: Scan) -> None:
        """Nothing to judge."""
