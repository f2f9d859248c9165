"""botocore's client for one service, and whose keys it signs with.

Rule 1: keys that are not the remote's own are botocore's to find: in the environment, in files, with the machine's role. A process
        may run for months, and files change meanwhile: keys that are refused are looked for again.
Rule 2: whatever keeps botocore from finding keys is an error of botocore's, for one place to translate.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError

from haulier.core.secret import Secret

T = TypeVar("T")

Keys = tuple[str | None, ...]
"""What something is signed with: to be compared, and never to be told."""

_STUMBLES: Final = (OSError, ValueError, TypeError, LookupError, AttributeError)
"""What botocore lets through of a program for keys that is not there, or prints something else."""


class OwnClient:
    """See the head of this file.

    Args:
        url: the endpoint.
        config: of the client.
        keys: access key and secret key of the remote's own.
        made: called with each client that is made.
    """

    def __init__(
        self, url: str, config: AioConfig, keys: tuple[Secret, Secret] | None, made: Callable[[Any], None]
    ) -> None:
        self._url = url
        self._config = config
        self._own = keys
        self._tell_made = made
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._found: Any = None
        """Botocore's keys, which may renew themselves."""
        self._making = asyncio.Lock()

    async def take(self) -> tuple[Any, Keys]:
        """Return the client, and the keys that it signs with now.

        Raises:
            BotoCoreError, ClientError: they cannot be found.
        """
        async with self._making:
            if self._client is None:
                await self._make(get_session())
            try:
                return self._client, await _read(self._found)
            except (BotoCoreError, ClientError):
                # Next time perhaps by another way, as files say by then.
                self._client = None
                raise

    async def finds_others(self, refused: Keys) -> bool:
        """Return whether the client signs with other keys now than with those that were refused."""
        if self._own is not None:
            return False
        async with self._making:
            try:
                if await _read(self._found) == refused:
                    await self._look_again(refused)
                return await _read(self._found) != refused
            except (BotoCoreError, ClientError):
                return False

    async def close(self) -> None:
        """Let go of the client."""
        await self._stack.aclose()

    async def _look_again(self, refused: Keys) -> None:
        session = get_session()
        if await _read(await _trying(session.get_credentials())) != refused:
            await self._make(session)

    async def _make(self, session: AioSession) -> None:
        # Whoever still uses the one of before may: its connections are the remote's.
        await self._stack.aclose()
        own = {}
        if self._own is not None:
            access, secret = (key.reveal() for key in self._own)
            own = {"aws_access_key_id": access, "aws_secret_access_key": secret}
        self._found = None if own else await _trying(session.get_credentials())
        opening = session.create_client("s3", endpoint_url=self._url, config=self._config, **own)
        self._client = await self._stack.enter_async_context(opening)
        self._tell_made(self._client)


async def _read(found: Any) -> Keys:
    return () if found is None else tuple(await _trying(found.get_frozen_credentials()))


async def _trying(finding: Awaitable[T]) -> T:
    try:
        return await finding
    except _STUMBLES as error:
        raise CredentialRetrievalError(
            provider="a program for them", error_msg=type(error).__name__
        ) from error
