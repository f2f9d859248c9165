"""What stored parts hold, found in bounded child processes."""

import os
from pathlib import PurePosixPath

from haulier.adapters.disk import DiskSink
from haulier.adapters.memory.sink import MemorySink
from haulier.bounded.content import inspect
from haulier.bounded.processor import BoundedProcessor
from haulier.core.digest import Buffer
from haulier.core.processing import FileMetadata, Unprocessed


class BoundedContentChecker:
    """`ContentChecker` for parts on a disk."""

    def __init__(self, sink: DiskSink, processor: BoundedProcessor) -> None:
        self._sink = sink
        self._processor = processor

    async def check(
        self,
        key: str,
        *,
        size: int,  # noqa: ARG002 - a part of a form has no more
        filename: str,
        charset: str | None,
        line: str,
    ) -> FileMetadata | Unprocessed:
        """Judge a part."""
        path = self._sink.path_of_part(key)
        return await self._processor.check(path, filename=filename, charset=charset, line=line)


class MemoryContentChecker:
    """`ContentChecker` for parts in memory: the same judgement, without a child."""

    def __init__(self, sink: MemorySink) -> None:
        self.answers: list[FileMetadata | Unprocessed | Exception] = []
        """What the next checks answer instead of looking."""
        self._sink = sink

    async def check(
        self,
        key: str,
        *,
        size: int,
        filename: str,
        charset: str | None,
        line: str,  # noqa: ARG002 - there are no lines
    ) -> FileMetadata | Unprocessed:
        """Judge a part."""
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        descriptor = os.memfd_create("part")
        try:

            def keep(piece: Buffer) -> None:
                os.write(descriptor, piece)

            await self._sink.scan(key, 0, size, keep)
            return inspect(descriptor, extension=PurePosixPath(filename).suffix.lower(), charset=charset)
        finally:
            os.close(descriptor)
