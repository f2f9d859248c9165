"""Access tokens from a command of the operator's: whatever signs in there, we only read what it prints.

Rule 1: a token is kept until it is refused; then the command is asked once more.
Rule 2: nothing that the command prints is ever told: it may be the token.
"""

import asyncio
import shlex
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from haulier.core.errors import ConfigError, PeerBlocked
from haulier.core.transfer import Obstacle

DEADLINE_S: Final = 60.0
"""How long the command may take: it may ask a service of its own."""
KILLED_S: Final = 5.0
"""How long one that is killed is waited for: it ends at once, but where the kernel does not let it go."""
MAX_TOKEN: Final = 16 * 1024
"""Characters. Microsoft's have up to 4 000."""


class CommandTokens:
    """Runs a command, without a shell, and takes the first line that it prints."""

    def __init__(self, command: str) -> None:
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise ConfigError("option token_command", "***", f"it cannot be read: {error}") from None
        if not self._command:
            raise ConfigError("option token_command", command, "it must name a program")
        self._token: str | None = None
        self._running = asyncio.Lock()

    async def __call__(self, renew: bool) -> str:  # noqa: FBT001 - as `Tokens` has it
        """Return the token; with `renew`, another one.

        Raises:
            PeerBlocked: the command failed, or printed no token.
        """
        refused = self._token if renew else None
        async with self._running:
            if self._token is None or self._token == refused:
                self._token = await self._ask()
            return self._token

    async def _ask(self) -> str:
        try:
            status, printed = await _run(self._command)
        except TimeoutError:
            raise _failed(f"took longer than {DEADLINE_S:.0f} s") from None
        except OSError as error:
            raise _failed(f"cannot be run: {error.strerror}") from error
        if status:
            raise _failed(f"ended with {status}")
        token = printed.decode("utf-8", "replace").partition("\n")[0].strip()
        if not token or len(token) > MAX_TOKEN or not token.isascii() or " " in token:
            raise _failed("printed no token in its first line")
        return token


class _Child(asyncio.SubprocessProtocol):
    """Keeps what a process prints, up to a bound, and tells its end."""

    def __init__(self) -> None:
        self.printed = bytearray()
        self.exited = asyncio.Event()
        self.silent = asyncio.Event()
        """Set when it has ended, and everybody whom it has left its output to."""

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.printed += data[: MAX_TOKEN + 1 - len(self.printed)]

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.silent.set()


async def _run(command: Sequence[str]) -> tuple[int | None, bytes]:
    """Return how a command has ended, and what it has printed. Whatever ends this ends the command, and leaves no zombie.

    Raises:
        OSError: it cannot be run.
        TimeoutError: it takes too long.
    """
    loop = asyncio.get_running_loop()
    transport, child = await loop.subprocess_exec(
        _Child, *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=None
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            await child.silent.wait()
    finally:
        # Kills it if it still runs. Children of its own may live on; nobody reads what they print.
        transport.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(child.exited.wait(), KILLED_S)
    return transport.get_returncode(), bytes(child.printed)


def _failed(what: str) -> PeerBlocked:
    return PeerBlocked(Obstacle.AUTH, f"the command for tokens {what}")
