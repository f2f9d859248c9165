"""Access tokens from a command of the operator's: whatever signs in there, we only read what it prints.

Rule 1: a token is kept until it is refused; then the command is asked once more.
Rule 2: nothing that the command prints is ever told: it may be the token.
"""

import asyncio
import shlex
from contextlib import suppress
from typing import Final

from haulier.core.errors import ConfigError, PeerBlocked
from haulier.core.transfer import Obstacle

DEADLINE_S: Final = 60.0
"""How long the command may take: it may ask a service of its own."""
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
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
            )
        except OSError as error:
            raise _failed(f"cannot be run: {error.strerror}") from error
        try:
            async with asyncio.timeout(DEADLINE_S):
                printed, _ = await process.communicate()
        except TimeoutError:
            raise _failed(f"took longer than {DEADLINE_S:.0f} s") from None
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        if process.returncode:
            raise _failed(f"ended with {process.returncode}")
        token = printed.decode("utf-8", "replace").partition("\n")[0].strip()
        if not token or len(token) > MAX_TOKEN or not token.isascii() or " " in token:
            raise _failed("printed no token in its first line")
        return token


def _failed(what: str) -> PeerBlocked:
    return PeerBlocked(Obstacle.AUTH, f"the command for tokens {what}")
