"""Sending the bytes of a file over a connection, and knowing whether they arrived.

Rule 1: what counts is what the other kernel has acknowledged: written minus what waits in ours (SIOCOUTQ).
Rule 2: the end of the peer's stream with an empty send queue is success; with bytes still queued, or by a
        reset, it is a broken transfer. A peer that does not close after everything was acknowledged has it all
        the same, but has not confirmed it.
Rule 3: as long as bytes are on their way the peer has to take some, at a least rate: whoever takes none holds
        a slot that others wait for.
Rule 4: the announced bytes of one content are sent, or the transfer fails: a file that shrank, was written to
        in place or was replaced is never passed off as whole. One that grew still has the bytes that it had.
"""

import asyncio
import fcntl
import os
import struct
import termios
from collections import deque
from collections.abc import Callable
from dataclasses import field
from typing import Final

from haulier.core.errors import PeerError, SourceChanged
from haulier.core.values import dataclass
from haulier.engine.tasks import in_thread
from haulier.sending_ports import Throttle
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.connection import Connection, ConnectionLost

SLICE: Final = 1024 * 1024
"""Bytes that are handed to the kernel at a time, so that a cancel and others' turns come soon."""
LOOK_S: Final = 1.0
"""How often an upload that waits is looked at."""
PROGRESS_S: Final = 0.2
"""Between two looks at the progress of one that moves."""
IN_A_ROW: Final = 4 * SLICE
"""Bytes after which the event loop has its turn, on a line that is faster than we are."""
DRAIN_S: Final = 0.05
"""How often the kernel is asked whether it got rid of everything; it tells nobody by itself."""
_PIECE: Final = 64 * 1024
"""Bytes that go at a time where the rate is limited."""


class TooSlow(PeerError):
    """The peer takes or sends nothing, or next to nothing."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(eq=False)
class Guard:
    """Judges whether acknowledged or received bytes come fast enough. Times are seconds of any clock that never steps."""

    bounds: Bounds
    began_at: float
    _moved_at: float = field(init=False)
    _acknowledged: int = 0
    _samples: "deque[tuple[float, int]]" = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._moved_at = self.began_at
        self._samples.append((self.began_at, 0))

    def forgive(self, waited_s: float) -> None:
        """So long we kept the peer waiting, for a bound on the rate of our own: that is nobody's slowness."""
        self._moved_at += waited_s
        self._samples = deque((at + waited_s, acknowledged) for at, acknowledged in self._samples)

    def check(self, acknowledged: int, *, now: float) -> None:
        """So many bytes have been acknowledged by now; raises TooSlow."""
        if acknowledged > self._acknowledged:
            self._acknowledged, self._moved_at = acknowledged, now
        if now - self._moved_at >= self.bounds.stall_s:
            raise TooSlow(f"no byte moved for {self.bounds.stall_s:g} s")
        if now - self._samples[-1][0] >= LOOK_S / 2:
            self._samples.append((now, acknowledged))
        window = self.bounds.rate_window_s
        while len(self._samples) > 1 and now - self._samples[1][0] >= window:
            self._samples.popleft()
        since, before = self._samples[0]
        if now - since >= window and acknowledged - before < self.bounds.minimum_rate * (now - since):
            raise TooSlow(f"less than {self.bounds.minimum_rate} bytes a second moved")


def unacknowledged(connection: Connection) -> int:
    """Return how many bytes the other kernel has not acknowledged."""
    sock = connection.writer.get_extra_info("socket")
    answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0]) + connection.writer.transport.get_write_buffer_size()


@dataclass(eq=False)
class FileStream:
    """One file on its way to a peer.

    Args:
        connection: Whose raw bytes these are; nothing else is sent on it meanwhile.
        descriptor: The file, open; the caller closes it.
        offset: Where to begin.
        size: What was announced.
        bounds: Limits.
        name: Of the file, for errors.
        throttles: Bounds on the rate.
        progress: Told how far the peer is, at most five times a second.
    """

    connection: Connection
    descriptor: int
    offset: int
    size: int
    bounds: Bounds
    name: str = ""
    throttles: tuple[Throttle, ...] = ()
    progress: Callable[[int], None] = lambda _: None
    _sent: int = 0
    _judge_at: float = 0.0
    _woken: "asyncio.Future[None] | None" = None
    _timer: asyncio.TimerHandle = field(init=False)
    _opened: os.stat_result = field(init=False)
    _guard: Guard = field(init=False)

    async def run(self) -> bool:
        """Send all; returns whether the peer has confirmed it by closing.

        Raises:
            SourceChanged: see Rule 4.
            TooSlow: see Rule 3.
            ConnectionLost: the peer went before it had everything.
        """
        loop = asyncio.get_running_loop()
        self._opened = os.fstat(self.descriptor)
        self._guard = Guard(self.bounds, loop.time())
        ended = loop.create_task(self._wait_end())
        ended.add_done_callback(self._wake)
        sock = os.dup(self.connection.writer.get_extra_info("socket").fileno())
        self._tick()
        try:
            await self._send(sock, ended)
            await self._drain(ended)
            return await self._linger(ended)
        finally:
            self._timer.cancel()
            os.close(sock)
            ended.cancel()
            await asyncio.wait({ended})
            if not ended.cancelled():
                ended.exception()

    def _tick(self) -> None:
        """Wake whoever waits every now and then: a peer that takes nothing wakes nobody."""
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._tick)
        self._wake()

    def _wake(self, *_: object) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    @property
    def acknowledged(self) -> int:
        """Bytes that the peer's kernel has of what this stream has sent."""
        return max(0, self._sent - unacknowledged(self.connection))

    async def _wait_end(self) -> None:
        """Return at the end of what the peer sends, which should be nothing."""
        unexpected = 0
        while data := await self.connection.read_some():
            unexpected += len(data)
            if unexpected > self.bounds.unexpected:
                raise ConnectionLost("the downloader sends instead of receiving")

    async def _send(self, sock: int, ended: "asyncio.Task[None]") -> None:
        """Hand everything to the kernel."""
        paid = in_a_row = 0
        while (at := self.offset + self._sent) < self.size:
            paid = paid or await self._paid(self.size - at)
            self._check_source()
            await self._warm(at, paid)
            sent = self._push(sock, at, paid)
            paid -= sent
            in_a_row += sent
            if not sent:
                await self._wait_writable(sock)
                in_a_row = 0
            elif in_a_row >= IN_A_ROW:
                await asyncio.sleep(0)
                in_a_row = 0
            self._check_end(ended)
            self._judge()

    def _push(self, sock: int, at: int, count: int) -> int:
        """Hand bytes to the kernel; return how many it took, 0 when it has to send some first."""
        try:
            sent = os.sendfile(sock, self.descriptor, at, count)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ConnectionLost(f"the connection broke: {error.strerror}") from error
        if sent == 0:
            raise SourceChanged(self.name, "the file has become shorter")
        self._sent += sent
        return sent

    async def _allowance(self, left: int) -> int:
        """Wait until bytes may go; return how many."""
        pieces = [(throttle, throttle.piece) for throttle in self.throttles]
        count = min([left, SLICE, *(min(piece, _PIECE) for _, piece in pieces if piece is not None)])
        for throttle, piece in pieces:
            if piece is not None:
                await throttle.take(count)
        return count

    async def _paid(self, left: int) -> int:
        """Wait for the allowance; how long that takes is not the peer's fault."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        count = await self._allowance(left)
        if self.throttles:
            self._guard.forgive(loop.time() - began)
        return count

    def _check_source(self) -> None:
        now = os.fstat(self.descriptor)
        if now.st_size < self.size:
            raise SourceChanged(self.name, "the file has become shorter")
        if not now.st_nlink:
            raise SourceChanged(self.name, "the file was replaced or removed")
        if now.st_size == self._opened.st_size and now.st_mtime_ns != self._opened.st_mtime_ns:
            raise SourceChanged(self.name, "the file was written to")

    async def _warm(self, at: int, count: int) -> None:
        """See that the bytes are in memory: sending them must not hold up the event loop for a disk."""
        if not _in_memory(self.descriptor, at + count - 1):
            await in_thread(_read_ahead, self.descriptor, at, count)

    def _judge(self) -> None:
        """Look at how it goes, not more often than somebody can see."""
        now = asyncio.get_running_loop().time()
        if now < self._judge_at:
            return
        self._judge_at = now + PROGRESS_S
        acknowledged = self.acknowledged
        self._guard.check(acknowledged, now=now)
        self.progress(self.offset + acknowledged)

    @staticmethod
    def _check_end(ended: "asyncio.Task[None]") -> None:
        if ended.done():
            ended.result()
            raise ConnectionLost("the downloader closed before it had everything")

    async def _wait_writable(self, sock: int) -> None:
        """Wait until the kernel takes bytes, the peer has ended, or it is time to look."""
        loop = asyncio.get_running_loop()
        self._woken = loop.create_future()
        loop.add_writer(sock, self._wake)
        try:
            await self._woken
        finally:
            loop.remove_writer(sock)
            self._woken = None

    async def _drain(self, ended: "asyncio.Task[None]") -> None:
        """Wait until the peer's kernel has everything."""
        while unacknowledged(self.connection):
            self._check_end_of_drained(ended)
            self._judge()
            await asyncio.wait({ended}, timeout=DRAIN_S)
            if ended.done():
                break
        self._check_end_of_drained(ended)
        self._judge()

    def _check_end_of_drained(self, ended: "asyncio.Task[None]") -> None:
        if ended.done():
            ended.result()
            if unacknowledged(self.connection):
                raise ConnectionLost("the downloader closed before it had everything")

    async def _linger(self, ended: "asyncio.Task[None]") -> bool:
        """Wait for the peer to close."""
        await asyncio.wait({ended}, timeout=self.bounds.linger_s)
        if not ended.done():
            return False
        ended.result()
        return True


def _in_memory(descriptor: int, at: int) -> bool:
    """Whether a byte can be read without waiting for a disk; true where that cannot be asked."""
    try:
        os.preadv(descriptor, [bytearray(1)], at, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except (OSError, AttributeError):
        return True
    return True


def _read_ahead(descriptor: int, at: int, count: int) -> None:
    os.posix_fadvise(descriptor, at, 4 * count, os.POSIX_FADV_WILLNEED)
    for page in range(at, at + count, _PIECE):
        os.pread(descriptor, 1, page)
    os.pread(descriptor, 1, at + count - 1)
