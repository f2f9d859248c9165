"""Changes reach the store, together and the newest of each; a store that fails loses none."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from haulier.adapters.memory.transfer_queue import MemoryTransferQueueStore
from haulier.core.errors import StorageUnavailable
from haulier.core.news import News
from haulier.core.transfer import Direction, Outcome, TransferId
from haulier.core.values import replace
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
    async with asyncio.timeout(60):
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


async def test_who_follows_hears_of_what_is_written_and_only_of_that() -> None:
    store = Store()
    ledger = Ledger(store, lambda *_, **__: None)
    with ledger.followers.following() as follower:
        ledger.put(kept("a"))
        ledger.put(kept("b"), moved=True)
        store.broken = True
        with pytest.raises(StorageUnavailable):
            await ledger.flush()
        assert follower.hear() == (False, [])
        store.broken = False
        await ledger.flush()
        assert follower.hear() == (False, [News(kept("a"), changed=True), News(kept("b"), changed=False)])
        ledger.put(kept("a"))
        ledger.put(kept("a", address="newer"), moved=True)
        await ledger.flush()
        assert follower.hear() == (False, [News(kept("a", address="newer"), changed=True)])


async def test_what_is_forgotten_is_missed() -> None:
    store = Store()
    ledger = Ledger(store, lambda *_, **__: None)
    old = replace(kept("a"), transfer=kept("a").transfer.end(Outcome.SUCCEEDED, now=1.0), ended_at=1.0)
    ledger.put(old)
    await ledger.flush()
    with ledger.followers.following() as follower:
        await ledger.forget(ended_before=1.0)
        assert follower.hear() == (False, [])
        await ledger.forget(ended_before=2.0)
        assert follower.hear() == (True, [])


async def test_what_a_full_disk_does_not_take_is_read_all_the_same() -> None:
    store = Store()
    ledger = Ledger(store, lambda *_, **__: None)
    for id_ in "abc":
        ledger.put(kept(id_))
    await ledger.flush()
    store.broken = True
    ledger.put(kept("b", address="newer"))
    ledger.put(kept("d"))
    with pytest.raises(StorageUnavailable):
        await ledger.flush()
    assert await ledger.latest(3) == [kept("d"), kept("c"), kept("b", address="newer")]
    assert await ledger.find(TransferId("b")) == kept("b", address="newer")
    assert await ledger.find(TransferId("a")) == kept("a")
    ledger.take_back(TransferId("d"))
    ledger.take_back(TransferId("d"))
    assert await ledger.find(TransferId("d")) is None


async def test_what_is_put_while_the_store_writes_is_written_after_it() -> None:
    store = Store()
    ledger = Ledger(store, lambda *_, **__: None)
    ledger.put(kept("a"))
    save = store.save

    async def save_slowly(transfers: Sequence[PeerTransfer]) -> None:
        ledger.put(kept("a", address="newer"))
        await save(transfers)

    store.save = save_slowly  # type: ignore[method-assign]
    await ledger.flush()
    store.save = save  # type: ignore[method-assign]
    assert (await ledger.find(TransferId("a"))) == kept("a", address="newer")
    await ledger.flush()
    assert await store.live(Direction.UPLOAD) == [kept("a", address="newer")]
