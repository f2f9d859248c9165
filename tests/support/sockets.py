"""What can be asked of a socket beyond reading and writing."""

import asyncio
import fcntl
import socket
import struct
import termios
from contextlib import suppress
from typing import Final

_PIECE: Final = 64 * 1024
SETTLE_S: Final = 1.0
"""How long a drop waits for the other side's kernel to take what was let through."""


async def forget(end: socket.socket) -> None:
    """Read to the end and keep nothing: a socket closed with unread bytes is reset."""
    with suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(end, _PIECE):
            pass


def reset_at_close(end: socket.socket) -> None:
    """Have its closing send a reset. Source: socket(7), SO_LINGER with a time of 0."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def settle(end: socket.socket) -> None:
    """Wait until the other side's kernel has all that was written. Source: tcp(7), SIOCOUTQ, which is TIOCOUTQ."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S):
            while struct.unpack("i", fcntl.ioctl(end, termios.TIOCOUTQ, b"\0\0\0\0"))[0]:  # noqa: ASYNC110
                await asyncio.sleep(0.001)  # the kernel wakes nobody for this


async def connect(port: int) -> socket.socket:
    """Return a connection to this machine that sends every write at once."""
    end = socket.socket()
    try:
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(end, ("127.0.0.1", port))
    except BaseException:
        end.close()
        raise
    return end
