"""Changes reach the store, together and the newest of each; a store that fails loses none."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from haulier.adapters.memory_transfer_queue import MemoryTransferQueueStore
from haulier.core.errors import StorageUnavailable
from haulier.core.transfer import Direction
from haulier.ports import PeerTransfer
from haulier.soulseek.ledger import Ledger
from haulier.testing.transfer_queue_contract import kept


class Store(MemoryTransferQueueStore):
    def __init__(self) -> None:
        super().__init__()
        self.saves: list[list[str]] = []
        self.broken = False
        self.saved = asyncio.Event()

    async def save(self, transfers: Sequence[PeerTransfer]) -> None:
        if self.broken:
            raise StorageUnavailable("EIO")
        self.saves.append([it.transfer.id for it in transfers])
        await super().save(transfers)
        self.saved.set()


async def test_changes_are_written_together_and_only_the_newest_of_each() -> None:
    store = Store()
    ledger = Ledger(store, lambda *_, **__: None)
    for id_ in ("a", "b", "a"):
        ledger.put(kept(id_))
    await ledger.flush()
    await ledger.flush()
    assert store.saves == [["a", "b"]]


async def test_what_is_put_is_written_soon() -> None:
    store = Store()
    ledger = Ledger(store, lambda *_, **__: None)
    running = asyncio.get_running_loop().create_task(ledger.run())
    ledger.put(kept("a"))
    async with asyncio.timeout(10):
        await store.saved.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert store.saves == [["a"]]


async def test_a_store_that_fails_loses_nothing() -> None:
    store = Store()
    told: list[str] = []
    ledger = Ledger(store, lambda event, **_: told.append(event))
    store.broken = True
    ledger.put(kept("a", address="older"))
    ledger.put(kept("b"))
    with pytest.raises(StorageUnavailable):
        await ledger.flush()
    ledger.put(kept("a", address="newer"))
    store.broken = False
    await ledger.flush()
    assert [it.address for it in await store.live(Direction.UPLOAD)] == ["newer", ""]
