"""The parent's side of one child process.

Rule 1: a child that did anything but answer is killed and reaped, whatever it was.
Rule 2: a child inherits one socket and nothing else: no environment, no descriptors, no standard streams of ours.
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Final, Self

from haulier.bounded.limits import Limits, environment
from haulier.bounded.messages import LENGTH, MAX_DETAIL, ProtocolBroken, frame, length_of
from haulier.logs import get_logger

COMMAND: Final = (sys.executable, "-P", "-m", "haulier.bounded.child")

log = get_logger()


class ChildLost(Exception):
    """The child ended instead of answering; a signal inside this package."""


class Child:
    """A running child. Not for several tasks at once; whoever has it calls `end`, in the end."""

    def __init__(self, process: asyncio.subprocess.Process, line: socket.socket, words: IO[bytes]) -> None:
        self._process = process
        self._line = line
        self._words = words
        self.jobs = 0
        """How many it was given."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """False once its end was seen."""
        return self._process.returncode is None

    @classmethod
    async def start(cls, limits: Limits, command: Sequence[str] = COMMAND) -> Self:
        """Start a child.

        Raises:
            OSError: the system gives no process.
        """
        ours, theirs = socket.socketpair()
        words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        try:
            with theirs:
                number = theirs.fileno()
                process = await asyncio.create_subprocess_exec(
                    *(*command, str(number), str(os.getpid()), limits.to_json()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=words,
                    pass_fds=(number,),
                    # An interrupt on the terminal is for the parent, which decides what still ends well.
                    start_new_session=True,
                    env=environment(),
                )
        except BaseException:
            ours.close()
            words.close()
            raise
        ours.setblocking(False)
        return cls(process, ours, words)

    async def ask(self, request: bytes, files: Sequence[int]) -> bytes:
        """Hand over a job with its files; return the answer, unread. After a cancel the child is of no use.

        Raises:
            ChildLost: it ended.
            ProtocolBroken: what it says is no message.
        """
        self.jobs += 1
        message = frame(request)
        try:
            # The line is empty, and every message is far shorter than its buffer: all of it goes at once.
            if socket.send_fds(self._line, [message], list(files)) != len(message):
                raise ProtocolBroken("the line is full")
            return await self._receive(length_of(await self._receive(LENGTH.size)))
        except OSError as error:
            raise ChildLost(str(error)) from error

    async def _receive(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray()
        while len(data) < size:
            piece = await loop.sock_recv(self._line, size - len(data))
            if not piece:
                raise ChildLost
            data += piece
        return bytes(data)

    def kill(self) -> None:
        """Kill it; whoever is asking it gets `ChildLost`. Not yet the end: see `end`."""
        if self.alive:
            try:
                self._process.kill()
            except ProcessLookupError:
                log.debug("bounded.ended_by_itself", pid=self.pid)

    async def wait(self) -> int:
        """Wait until it is reaped; return its exit code, negative for a signal."""
        return await self._process.wait()

    async def end(self, *, grace_s: float = 0.0) -> str:
        """Kill and reap it; return how it ended and its last words. May be called twice.

        Never while somebody is asking it: a closed socket wakes nobody. `grace_s`: seconds in which it may
        end by itself, so that its own reason is told.
        """
        try:
            if grace_s:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.wait(), grace_s)
        finally:
            self.kill()
            self._line.close()
        return f"{_ending(await self.wait())} {self._last_words()}".strip()

    def _last_words(self) -> str:
        if self._words.closed:
            return ""
        with self._words:
            size = self._words.seek(0, os.SEEK_END)
            self._words.seek(max(0, size - MAX_DETAIL // 2))
            return " ".join(self._words.read().decode(errors="replace").split())


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with {code}."
    try:
        return f"ended by {signal.Signals(-code).name}."
    except ValueError:
        return f"ended by signal {-code}."
