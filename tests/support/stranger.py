"""A peer that does just what a test says, over real sockets."""

import asyncio
from contextlib import AsyncExitStack, suppress

from haulier.soulseek.codec import Message
from haulier.soulseek.connection import Connection, ConnectionLost
from haulier.soulseek.messages import FROM_SERVER, TO_SERVER, Login, LoginAnswer, PeerInit, SetWaitPort
from haulier.soulseek.node import Node
from haulier.soulseek.peer_messages import TO_PEER, QueueUpload, TransferRequest, TransferResponse
from tests.support.soulseek import DEADLINE_S, HOST, PATIENT, Network

VIRTUAL = "Music\\song.bin"
"""The file that is asked for when a test names none."""


class Stranger:
    """A peer that does just what a test says, over real sockets."""

    def __init__(self, name: str, stack: AsyncExitStack) -> None:
        self.name = name
        self._stack = stack
        self.files: asyncio.Queue[Connection] = asyncio.Queue()
        self.link: Connection
        self.server: Connection

    @classmethod
    async def enter(
        cls, net: Network, node: Node, stack: AsyncExitStack, name: str = "mallory"
    ) -> "Stranger":
        """Log in, listen, and open a message connection to the node."""
        self = cls(name, stack)
        listening = await asyncio.start_server(self._accept, HOST, 0)
        stack.callback(listening.close)
        self.server = await self.connect(HOST, net.port)
        self.server.switch(FROM_SERVER, TO_SERVER)
        await self.server.send(Login.of(name, "secret"), SetWaitPort(listening.sockets[0].getsockname()[1]))
        assert isinstance(await self.server.receive(), LoginAnswer)
        self.link = await self.opened(node, PeerInit(name, "P"))
        return self

    async def connect(self, host: str, port: int, *, local: str = HOST) -> Connection:
        """Open a connection, from another address of this machine if need be; it ends with the test."""
        reader, writer = await asyncio.open_connection(host, port, local_addr=(local, 0))
        connection = Connection(reader, writer, PATIENT)
        self._stack.callback(connection.abort)
        return connection

    async def opened(self, node: Node, init: Message, *, local: str = HOST) -> Connection:
        """Open a connection to a node, with messages to follow."""
        connection = await self.connect(*node.address, local=local)
        await connection.send(init)
        connection.switch(TO_PEER, TO_PEER)
        return connection

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, PATIENT)
        self._stack.callback(connection.abort)
        with suppress(ConnectionLost):
            init = await connection.receive()
            assert isinstance(init, PeerInit)
            if init.type == "F":
                self.files.put_nowait(connection)

    async def hear(self, kind: type[Message]) -> Message:
        """Return the next message of a kind."""
        async with asyncio.timeout(DEADLINE_S):
            while not isinstance(message := await self.link.receive(), kind):
                pass
        assert isinstance(message, kind)
        return message

    async def offered(self, file: str = VIRTUAL) -> TransferRequest:
        """Ask for a file and return the offer."""
        await self.link.send(QueueUpload(file))
        offer = await self.hear(TransferRequest)
        assert isinstance(offer, TransferRequest)
        return offer

    async def connected(self, file: str = VIRTUAL) -> Connection:
        """Ask for a file, accept it, and return the connection that it comes over, after the token."""
        offer = await self.offered(file)
        await self.link.send(TransferResponse(offer.token, allowed=True))
        async with asyncio.timeout(DEADLINE_S):
            connection = await self.files.get()
        assert await connection.read_exactly(4) == offer.token.to_bytes(4, "little")
        return connection

    async def begun(self, offset: int = 0) -> Connection:
        """Go as far as telling the offset."""
        connection = await self.connected()
        await connection.send_raw(offset.to_bytes(8, "little"))
        return connection


def hold(connection: Connection) -> None:
    """Read nothing more from it."""
    transport = connection.writer.transport
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
