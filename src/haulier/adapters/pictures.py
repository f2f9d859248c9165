"""Pictures of blobs on a disk, made in bounded child processes."""

from importlib.util import find_spec

from haulier.adapters.disk import DiskSink
from haulier.bounded.processor import BoundedProcessor
from haulier.core.processing import Derivatives, Unprocessed


def can_make_pictures() -> bool:
    """Whether the library for it is installed; it is loaded in children only."""
    return find_spec("pyvips") is not None


class DiskPictures:
    """`haulier.ports.Pictures`; `close` it in the end."""

    def __init__(self, sink: DiskSink, *, processes: int) -> None:
        """Use so many child processes at a time; they are started when there is work."""
        self._sink = sink
        self._processor = BoundedProcessor(processes=processes)

    async def derive(
        self, blob_key: str, *, display: str, thumbnail: str, line: str
    ) -> Derivatives | Unprocessed:
        """Make the display picture and the thumbnail of a blob as parts.

        Raises:
            StorageUnavailable · ServiceStopping
        """
        return await self._processor.derive(
            self._sink.path_of_blob(blob_key),
            display=self._sink.path_of_part(display),
            thumbnail=self._sink.path_of_part(thumbnail),
            line=line,
        )

    async def close(self) -> None:
        """End every child; what they work on raises `ServiceStopping`. May be called twice."""
        await self._processor.close()
