"""A Soulseek peer that costs as little as one can: it asks for a file and reads it into one buffer.

Run as a process of its own: `python -m benchmarks.drain SERVER_PORT USER VIRTUAL_PATH`; `- PORT -` reads whatever a bare
server on that port sends. It prints one JSON line: the seconds from the request to the last byte, and how many came.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from contextlib import suppress

from haulier.soulseek.bounds import Bounds
from haulier.soulseek.connection import Connection, ConnectionLost, connect
from haulier.soulseek.messages import (
    FROM_SERVER,
    TO_SERVER,
    GetPeerAddress,
    Login,
    PeerAddress,
    PeerInit,
    SetWaitPort,
)
from haulier.soulseek.peer_messages import TO_PEER, QueueUpload, TransferRequest, TransferResponse

HOST = "127.0.0.1"
BOUNDS = Bounds()
PIECE = 1024 * 1024


def drain(sock: socket.socket, size: int | None) -> int:
    """Read until the size is reached, or to the end; return how many bytes came."""
    sock.setblocking(True)
    buffer = bytearray(PIECE)
    came = 0
    while (size is None or came < size) and (piece := sock.recv_into(buffer)):
        came += piece
    return came


class Peer:
    """A peer that takes every offer, and every connection for a file."""

    def __init__(self) -> None:
        self.name = f"drain{os.getpid()}"
        self.files: asyncio.Queue[Connection] = asyncio.Queue()
        self.offers: asyncio.Queue[TransferRequest] = asyncio.Queue()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody has connected, for messages or for a file."""
        connection = Connection(reader, writer, BOUNDS)
        with suppress(ConnectionLost):
            init = await connection.receive()
            if isinstance(init, PeerInit) and init.type == "F":
                self.files.put_nowait(connection)
            elif isinstance(init, PeerInit):
                connection.switch(TO_PEER, TO_PEER)
                await self.listen(connection)

    async def listen(self, connection: Connection) -> None:
        """Take whatever is offered."""
        while True:
            message = await connection.receive()
            if isinstance(message, TransferRequest):
                self.offers.put_nowait(message)
                await connection.send(TransferResponse(message.token, allowed=True))

    async def find(self, server_port: int, port: int, user: str) -> Connection:
        """Log in, and return a message connection to the user."""
        # Kept: whoever is collected is logged out, and nobody uploads to a user who is not there.
        self.server = server = await connect(HOST, server_port, BOUNDS)
        server.switch(FROM_SERVER, TO_SERVER)
        await server.send(Login.of(self.name, "secret"), SetWaitPort(port), GetPeerAddress(user))
        while not isinstance(address := await server.receive(), PeerAddress):
            pass
        link = await connect(address.ip, address.port, BOUNDS)
        await link.send(PeerInit(self.name, "P"))
        link.switch(TO_PEER, TO_PEER)
        return link

    async def take(self) -> tuple[Connection, int]:
        """Return the connection that is to bring the file, and its size."""
        offer = await self.offers.get()
        connection = await self.files.get()
        await connection.read_exactly(4)
        assert offer.size is not None
        return connection, offer.size


async def fetch(server_port: int, user: str, path: str) -> tuple[float, int]:
    peer = Peer()
    listening = await asyncio.start_server(peer.accept, HOST, 0)
    link = await peer.find(server_port, listening.sockets[0].getsockname()[1], user)
    started = time.perf_counter()
    await link.send(QueueUpload(path))
    reading = asyncio.get_running_loop().create_task(peer.listen(link))
    connection, size = await peer.take()
    transport = connection.writer.transport
    assert isinstance(transport, asyncio.Transport)
    # Paused before the offset is told: nothing of the file may end up in the reader's buffer.
    transport.pause_reading()
    with contextlib.closing(
        socket.socket(fileno=os.dup(connection.writer.get_extra_info("socket").fileno()))
    ) as sock:
        await connection.send_raw(bytes(8))
        came = await asyncio.to_thread(drain, sock, size)
    seconds = time.perf_counter() - started
    connection.abort()
    reading.cancel()
    return seconds, came


def main() -> None:
    if sys.argv[1] == "-":
        started = time.perf_counter()
        with socket.create_connection((HOST, int(sys.argv[2]))) as sock:
            seconds, came = time.perf_counter() - started, drain(sock, None)
        seconds = time.perf_counter() - started
    else:
        seconds, came = asyncio.run(fetch(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
    print(json.dumps({"wall_s": seconds, "bytes": came}), flush=True)


if __name__ == "__main__":
    main()
