"""A node that downloads from a peer that does just what a test says."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from haulier.core.transfer import Outcome
from haulier.soulseek.connection import Connection
from haulier.soulseek.download import Download
from haulier.soulseek.messages import PeerInit
from haulier.soulseek.node import Node
from haulier.soulseek.peer_messages import QueueUpload, TransferRequest, TransferResponse
from tests.support.soulseek import DEADLINE_S, eventually
from tests.support.stranger import Stranger

FILE = "Music\\song.bin"
CONTENT = bytes(range(256)) * 400
SIZE = len(CONTENT)


class Scene:
    """A node that downloads, and a stranger who has the file."""

    def __init__(self, node: Node, stranger: Stranger, folder: Path) -> None:
        self.node = node
        self.stranger = stranger
        self.folder = folder
        self.tokens = iter(range(1, 100))

    async def fetch(self, size: int | None = None, file: str = FILE) -> Download:
        return await self.node.downloads.fetch("mallory", file, self.folder / file.rpartition("\\")[2], size)

    async def asked(self, file: str = FILE) -> None:
        """The node asks for the file."""
        assert await self.stranger.hear(QueueUpload) == QueueUpload(file)

    async def offer(self, size: int = SIZE, file: str = FILE) -> TransferResponse:
        """Offer the file; return the answer."""
        token = next(self.tokens)
        await self.stranger.link.send(TransferRequest(TransferRequest.OFFERED, token, file, size))
        answer = await self.stranger.hear(TransferResponse)
        assert isinstance(answer, TransferResponse)
        assert answer.token == token
        return answer

    async def bring(self, token: int) -> tuple[Connection, int]:
        """Open the connection for the file; return it and the offset that the node wants."""
        connection = await self.stranger.connect(*self.node.address)
        await connection.send(PeerInit("mallory", "F"))
        await connection.send_raw(token.to_bytes(4, "little"))
        return connection, int.from_bytes(await connection.read_exactly(8), "little")

    async def send(self, content: bytes = CONTENT) -> None:
        """Offer the file and send it from where the node wants it; the node closes."""
        answer = await self.offer()
        assert answer.allowed
        connection, offset = await self.bring(answer.token)
        await connection.send_raw(content[offset:])
        assert await connection.read_some() == b""

    @asynccontextmanager
    async def publishing(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Download]:
        """A download of which all has come, and that is held at the disk until this is left."""
        syncing, may_go_on = threading.Event(), threading.Event()
        sync = os.fsync

        def slowly(descriptor: int) -> None:
            syncing.set()
            may_go_on.wait(DEADLINE_S)
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", slowly)
        download = await self.fetch()
        await self.asked()
        await self.send()
        await eventually(syncing.is_set, "the disk is at it")
        try:
            yield download
        finally:
            may_go_on.set()

    async def ended(self, download: Download, outcome: Outcome, reason: str | None = None) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await download.ended.wait()
        assert (download.transfer.outcome, download.transfer.reason) == (outcome, reason)
        await eventually(lambda: self.node.downloads.slots.held == 0, "its slot is free")
        assert parts_in(self.folder) == []
        whole = self.folder / "song.bin"
        assert whole.exists() is (outcome is Outcome.SUCCEEDED)
        if outcome is Outcome.SUCCEEDED:
            assert whole.read_bytes() == CONTENT


def parts_in(folder: Path) -> list[Path]:
    return list(folder.glob(".haulier*"))
