"""Pictures that cost nothing: what a child would answer, and its parts in a memory sink."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from haulier.core.processing import Derivative, Derivatives, Unprocessed
from haulier.ports import ByteSink

DISPLAY: Final = b"display picture"
THUMBNAIL: Final = b"thumbnail"
PLACEHOLDER: Final = b"tiny"
PLACEHOLDER_URL: Final = "data:image/webp;base64,dGlueQ=="
MADE: Final = Derivatives(
    media_type="image/png",
    source_width=400,
    source_height=300,
    display=Derivative(width=200, height=150, size=len(DISPLAY)),
    thumbnail=Derivative(width=100, height=75, size=len(THUMBNAIL)),
    placeholder=Derivative(width=32, height=24, size=len(PLACEHOLDER)),
    placeholder_url=PLACEHOLDER_URL,
)


class FakePictures:
    """`Pictures` that answer what a test wants, after what it wants."""

    def __init__(self, *answers: Derivatives | Unprocessed | BaseException) -> None:
        """Answer these in turn, then success."""
        self.sink: ByteSink | None = None
        self.answers = list(answers)
        self.asked: list[str] = []
        """The lines of all who asked."""
        self.first: Callable[[], Awaitable[Any]] | None = None
        """Awaited before each answer."""

    async def derive(
        self, blob_key: str, *, display: str, thumbnail: str, line: str
    ) -> Derivatives | Unprocessed:
        """Answer."""
        assert self.sink is not None
        assert await self.sink.stat(blob_key) is not None
        self.asked.append(line)
        if self.first is not None:
            await self.first()
        answer = self.answers.pop(0) if self.answers else MADE
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Derivatives):
            await fill(self.sink, display, DISPLAY)
            await fill(self.sink, thumbnail, THUMBNAIL)
        return answer


class Held:
    """A wait that a test ends."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._go = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self._go.wait()

    def go(self) -> None:
        """Let whoever waits go on."""
        self._go.set()


async def fill(sink: ByteSink, key: str, content: bytes) -> None:
    """Write a part."""
    writer = await sink.open(key, 0, None)
    waiting = writer.write(content)
    if waiting is not None:
        await waiting
    await writer.close()
