"""What looks at the bytes of one body while they pass."""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from haulier.core.digest import Buffer

Scan = Callable[[Callable[[Buffer], None]], Awaitable[None]]
"""Hands the whole body on once more, from where it is stored; off the event loop."""


SHORT: Final = 64 * 1024
"""Bytes that are hashed in less time than a way to a thread and back takes; what is longer is hashed in a thread."""


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


class ChunkCheck(BodyCheck, Protocol):
    """A check that can also judge a body which is only compared with stored bytes, and stored nowhere."""

    def update_aside(self, piece: Buffer) -> Awaitable[None] | None:
        """See the next piece of such a body, off the event loop; instead of `update`."""
        ...


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

    def update_aside(self, piece: Buffer) -> None:
        """Nothing to see."""

    async def verify(self, scan: Scan) -> None:
        """Nothing to judge."""
