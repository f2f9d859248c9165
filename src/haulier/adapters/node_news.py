"""What happens to the transfers of the Soulseek node beside the service, as its control API tells it.

Rule 1: the node is asked once for all who listen here, and only while somebody does.
Rule 2: when it begins or ceases to answer all look anew: what happened before is told by nobody.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import httpx2

from haulier.core.news import News
from haulier.engine.followers import Followers

LOOK_S: Final = 2.0
"""How often one looks for a node that does not run, or does not answer."""
SILENCE_S: Final = 45.0
"""A node says something four times a minute; after three silences it hangs."""
CONNECT_S: Final = 10.0

Document = Mapping[str, Any]


class NodeNews:
    """Listens to the node for all who want to hear.

    Args:
        address: Returns where the node is controlled and its token, or None while it does not run. Reads files.
    """

    def __init__(self, address: Callable[[], tuple[str, str] | None]) -> None:
        self._address = address
        self._followers: Followers[Document] = Followers()
        self._listening: asyncio.Task[None] | None = None

    async def events(self) -> AsyncGenerator[News[Document] | None, None]:
        """Yield how transfers are when they have changed, from now on; None: look at them anew."""
        with self._followers.following() as follower:
            self._listen()
            try:
                while not follower.over:
                    await follower.wait()
                    missed, news = follower.hear()
                    if missed:
                        yield None
                    for each in news:
                        yield each
            finally:
                if len(self._followers) == 1:
                    await self._stop()

    async def close(self) -> None:
        """Let all come to their end; a second call is harmless."""
        self._followers.close()
        await self._stop()

    def _listen(self) -> None:
        if self._listening is None:
            # Owned here: it ends with the last who hears.
            self._listening = asyncio.get_running_loop().create_task(self._listen_on())

    async def _stop(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.wait({listening})

    async def _listen_on(self) -> None:
        while True:
            address = await asyncio.to_thread(self._address)
            if address is not None:
                with suppress(httpx2.TransportError):
                    await self._hear(*address)
            await asyncio.sleep(LOOK_S)

    async def _hear(self, url: str, token: str) -> None:
        """Tell what the node says until it falls silent; raises TransportError."""
        timeout = httpx2.Timeout(CONNECT_S, read=SILENCE_S)
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(timeout=timeout, trust_env=False) as client,
            client.stream("GET", f"{url}/events", headers=headers) as answer,
        ):
            if answer.is_error:
                return
            try:
                async for line in answer.aiter_lines():
                    self._take(line)
            finally:
                self._followers.tell_missed()

    def _take(self, line: str) -> None:
        """Tell what a line says; one that says nothing we know, or was cut off as the node ended, is passed over."""
        try:
            told = json.loads(line)
        except ValueError:
            return
        match told:
            case {"event": "changed" | "progress" as kind, "transfer": {"id": str() as which} as transfer}:
                self._followers.tell(which, News(transfer, changed=kind == "changed"))
            case {"event": "ready" | "reset"}:
                self._followers.tell_missed()
            case _:
                pass
