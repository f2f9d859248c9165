"""The local digest of a file while it is being sent.

Rule 1: bytes are hashed in file order, in a worker thread, not before their sending has begun: then they are
        read from the page cache, not from the disk again.
Rule 2: a hash cannot be saved, so after a restart the prefix that the service holds is read and hashed
        again, beside the sending.
"""

import asyncio
from typing import Final

from haulier.client.source import FileSource
from haulier.core.digest import Digest, DigestName, OrderedDigest
from haulier.engine.tasks import in_thread

STEP: Final = 4 * 1024 * 1024
"""Bytes hashed in one go; about 10 ms, so that a cancel is soon obeyed."""


class FollowingDigest:
    """Hashes a file up to where it is allowed to; `run` is a task of its own."""

    def __init__(self, source: FileSource, name: DigestName) -> None:
        self._source = source
        self._digest = None if name is DigestName.NONE else OrderedDigest(name)
        self._allowed = 0
        self._moved = asyncio.Event()

    def allow(self, position: int) -> None:
        """Bytes below `position` are on their way, or with the service."""
        if position > self._allowed:
            self._allowed = position
            self._moved.set()

    async def run(self) -> Digest | None:
        """Return the digest of the whole file; None when none is wanted.

        Raises:
            SourceChanged: the file became shorter.
        """
        digest = self._digest
        if digest is None:
            return None
        while digest.frontier < self._source.size:
            self._moved.clear()
            if digest.frontier < self._allowed:
                await in_thread(self._step, digest, min(digest.frontier + STEP, self._allowed))
            else:
                await self._moved.wait()
        return digest.value()

    def _step(self, digest: OrderedDigest, stop: int) -> None:
        digest.update(digest.frontier, self._source.read(digest.frontier, stop))
