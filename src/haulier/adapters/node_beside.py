"""The Soulseek node that uses this service's data directory, as the service sees it.

Rule 1: what it does and has done is read from its file of transfers; none is made where there is none.
Rule 2: what is wanted of it is asked of the node, through its control API: nobody else writes its file.
Rule 3: nothing of `haulier.soulseek` is imported. The node runs in a process of its own.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx2

from haulier.adapters.node_news import NodeNews
from haulier.adapters.transfer_queue import FILE_NAME, SqliteTransferQueueStore
from haulier.core.errors import InvalidRequest, StorageUnavailable
from haulier.core.news import News
from haulier.core.transfer import Phase, TransferId
from haulier.core.transfer_document import peer_document
from haulier.core.values import replace
from haulier.ports import PeerTransfer
from haulier.sending_ports import EVERY_ROW, JournalQuery

CONTROL_ADDRESS: Final = "control.json"
CONTROL_TOKEN: Final = "control.token"  # noqa: S105 - a file's name
_ANSWER_S: Final = 10.0
"""For an answer over loopback, beside the time that it is asked to wait."""
_AT_REST: Final = frozenset({Phase.QUEUED, Phase.PAUSED, Phase.ENDED})

Document = Mapping[str, Any]


class NodeOfDirectory:
    """The node of a data directory.

    Args:
        data_dir: Where the node keeps its transfers, its address and its token.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._store: SqliteTransferQueueStore | None = None
        self._opening = asyncio.Lock()
        self._news = NodeNews(self._address)

    async def close(self) -> None:
        """Close its file, and let those come to their end who follow; a second call is harmless."""
        await self._news.close()
        store, self._store = self._store, None
        if store is not None:
            await store.close()

    async def latest(
        self, limit: int, *, query: JournalQuery = EVERY_ROW, below: int | None = None
    ) -> Sequence[PeerTransfer]:
        """Return the newest."""
        store = await self._opened()
        if store is None:
            return ()
        found = await store.latest(limit, query=query, below=below)
        runs = await asyncio.to_thread(self._address) is not None
        return found if runs else [_at_rest(kept) for kept in found]

    async def places(self) -> Mapping[str, int]:
        """Return the places in the queues, which only the node itself knows."""
        answer = await self._ask("GET", "/transfers")
        if answer is None or answer.is_error:
            return {}
        return {it["id"]: it["place"] for it in answer.json()["items"] if it["place"] is not None}

    async def show(self, transfer: TransferId, *, wait_s: float) -> Document | None:
        """Return how one stands: as the node tells it, or else as it is kept."""
        kept = await self._find(transfer)
        if kept is None:
            return None
        answer = await self._ask("GET", f"/transfers/{transfer}?wait={wait_s:g}", wait_s=wait_s)
        if answer is not None and answer.status_code == HTTPStatus.OK:
            told: Document = answer.json()
            return told
        found = kept if answer is not None else _at_rest(kept)
        return peer_document(found.transfer, found.file, local=found.target, retry_of=found.retry_of)

    async def act(self, transfer: TransferId, action: str) -> Document | None:
        """Let the node do something."""
        if await self._find(transfer) is None:
            return None
        answer = await self._ask("POST", f"/transfers/{transfer}/{action}")
        if answer is None:
            raise InvalidRequest.of(
                "transfer", "its Soulseek node does not run; start it with haulier soulseek share"
            )
        document: Document = answer.json()
        if answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
            raise InvalidRequest.of("transfer", document["detail"])
        if answer.is_error:
            raise StorageUnavailable(f"the Soulseek node refuses: {document['detail']}")
        return document

    def events(self) -> AsyncGenerator[News[Document] | None, None]:
        """Yield how transfers are when they have changed, as the node tells it; None: look at them anew."""
        return self._news.events()

    async def _find(self, transfer: TransferId) -> PeerTransfer | None:
        store = await self._opened()
        return None if store is None else await store.find(transfer)

    async def _opened(self) -> SqliteTransferQueueStore | None:
        async with self._opening:
            path = self._data_dir / FILE_NAME
            if self._store is None and await asyncio.to_thread(path.exists):
                store = SqliteTransferQueueStore(path)
                await store.open()
                self._store = store
            return self._store

    async def _ask(self, method: str, path: str, *, wait_s: float = 0.0) -> httpx2.Response | None:
        """Return the node's answer; None when it does not run."""
        address = await asyncio.to_thread(self._address)
        if address is None:
            return None
        url, token = address
        try:
            async with httpx2.AsyncClient(timeout=wait_s + _ANSWER_S, trust_env=False) as client:
                return await client.request(
                    method, f"{url}{path}", headers={"Authorization": f"Bearer {token}"}
                )
        except httpx2.TransportError:
            return None

    def _address(self) -> tuple[str, str] | None:
        """Return where the node is controlled, and its token; None when it does not run."""
        url = control_url(self._data_dir)
        if url is None:
            return None
        with suppress(FileNotFoundError):
            return url, (self._data_dir / CONTROL_TOKEN).read_text().strip()
        return None


def control_url(data_dir: Path) -> str | None:
    """Return where the node that runs in a data directory is controlled; what one that was killed has left is none."""
    try:
        written = json.loads((data_dir / CONTROL_ADDRESS).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None  # or it starts in this moment
    url: str = written["url"]
    return url if _is_alive(written["pid"]) else None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _at_rest(kept: PeerTransfer) -> PeerTransfer:
    """Return a transfer as it is while its node does not run: it waits for the next start."""
    if kept.transfer.phase in _AT_REST:
        return kept
    return replace(kept, transfer=replace(kept.transfer.requeue(), speed=None))
