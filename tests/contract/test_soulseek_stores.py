"""The stores of a Soulseek node, all of them to one contract."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from haulier.adapters.memory.shares import MemoryShareIndex
from haulier.adapters.memory.transfer_queue import MemoryTransferQueueStore
from haulier.adapters.share_index import SqliteShareIndex
from haulier.adapters.transfer_queue import SqliteTransferQueueStore
from haulier.core.errors import StorageUnavailable
from haulier.core.transfer import Direction
from haulier.ports import ShareIndex, TransferQueueStore
from haulier.testing.share_index_contract import ALL, ShareIndexContract
from haulier.testing.transfer_queue_contract import TransferQueueContract, kept


class TestMemoryShareIndex(ShareIndexContract):
    def index(self) -> AbstractAsyncContextManager[ShareIndex]:
        @asynccontextmanager
        async def make() -> AsyncIterator[ShareIndex]:
            yield MemoryShareIndex()

        return make()


@asynccontextmanager
async def sqlite_index(path: Path) -> AsyncIterator[SqliteShareIndex]:
    index = SqliteShareIndex(path)
    await index.open()
    try:
        yield index
    finally:
        await index.close()


@asynccontextmanager
async def sqlite_store(path: Path) -> AsyncIterator[SqliteTransferQueueStore]:
    store = SqliteTransferQueueStore(path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


class TestSqliteShareIndex(ShareIndexContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "shares.db"

    def index(self) -> AbstractAsyncContextManager[ShareIndex]:
        return sqlite_index(self.path)

    async def test_it_outlives_its_process_and_is_its_owners_alone(self) -> None:
        async with sqlite_index(self.path) as index:
            await index.replace(ALL)
        async with sqlite_index(self.path) as index:
            assert len(await index.all()) == len(ALL)
        assert self.path.stat().st_mode & 0o777 == 0o600


class TestMemoryTransferQueueStore(TransferQueueContract):
    def store(self) -> AbstractAsyncContextManager[TransferQueueStore]:
        @asynccontextmanager
        async def make() -> AsyncIterator[TransferQueueStore]:
            yield MemoryTransferQueueStore()

        return make()


class TestSqliteTransferQueueStore(TransferQueueContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "transfers.db"

    def store(self) -> AbstractAsyncContextManager[TransferQueueStore]:
        return sqlite_store(self.path)

    async def test_it_outlives_its_process_and_is_its_owners_alone(self) -> None:
        async with sqlite_store(self.path) as store:
            await store.save([kept("a")])
        async with sqlite_store(self.path) as store:
            assert await store.live(Direction.UPLOAD) == [kept("a")]
        assert self.path.stat().st_mode & 0o777 == 0o600

    async def test_a_transaction_that_fails_leaves_nothing(self) -> None:
        async with sqlite_store(self.path) as store:
            await store.save([kept("a")])
            self.path.write_bytes(b"no database")
            self.path.with_name("transfers.db-wal").write_bytes(b"")
            with pytest.raises(StorageUnavailable):
                async with sqlite_store(self.path) as other:
                    await other.live(Direction.UPLOAD)
