"""Smaller pictures of local images, made here, in the child processes that the service uses, too."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from haulier.core.errors import ImageUnusable
from haulier.core.processing import Derivative, ProcessingFailure, Unprocessed, content_of
from haulier.core.record import AssetKind
from haulier.core.values import dataclass
from haulier.engine.tasks import in_thread

if TYPE_CHECKING:
    from haulier.bounded.processor import BoundedProcessor

PROCESSES: Final = 2
"""Images that are opened at a time: decoding fills a core each."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A smaller picture, in a file of its own."""

    path: Path
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Made:
    """All pictures of an image, and its own dimensions as people see it."""

    pictures: Mapping[AssetKind, Picture]
    width: int
    height: int


class PictureMaker:
    """Makes pictures; `close` it in the end. Its processes are started when there is work."""

    def __init__(self) -> None:
        self._processor: BoundedProcessor | None = None

    async def make(self, image: Path, folder: Path) -> Made:
        """Write the pictures of an image into a folder of their own.

        Raises:
            ImageUnusable: none can be made of it.
            StorageUnavailable: the folder cannot be written to, or the system gives no process.
        """
        display, thumbnail, placeholder = (folder / f"{kind}.webp" for kind in _KINDS)
        for left in (display, thumbnail):
            left.unlink(missing_ok=True)  # of an attempt before
        made = await self._ready().derive(image, display=display, thumbnail=thumbnail)
        if isinstance(made, Unprocessed):
            raise ImageUnusable(made.failure.value, made.failure.words)
        await in_thread(placeholder.write_bytes, content_of(made.placeholder_url))
        results = (
            _picture(display, made.display),
            _picture(thumbnail, made.thumbnail),
            _picture(placeholder, made.placeholder),
        )
        return Made(dict(zip(_KINDS, results, strict=True)), made.source_width, made.source_height)

    def _ready(self) -> "BoundedProcessor":
        if self._processor is None:
            try:
                # Only whoever makes pictures needs what that stands on.
                from haulier.bounded.processor import BoundedProcessor  # noqa: PLC0415
            except ModuleNotFoundError as error:
                reason = f"{error.name} is missing; install it with: pip install 'haulier[images]'"
                raise ImageUnusable(ProcessingFailure.FORMAT_UNSUPPORTED.value, reason) from error
            self._processor = BoundedProcessor(processes=PROCESSES)
        return self._processor

    async def close(self) -> None:
        """End the processes; may be called twice."""
        if self._processor is not None:
            await self._processor.close()


_KINDS: Final = (AssetKind.DISPLAY, AssetKind.THUMBNAIL, AssetKind.PLACEHOLDER)


def _picture(path: Path, derivative: Derivative) -> Picture:
    return Picture(path, derivative.width, derivative.height)
