"""The promises of `ByteSink` on every sink that is shipped."""

import asyncio
import errno
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from haulier.adapters.disk import DiskSink
from haulier.adapters.disk.system_calls import TableLocks
from haulier.adapters.disk.writer import DiskTools
from haulier.adapters.memory.sink import MemoryDisk, MemorySink
from haulier.core.errors import StorageUnavailable
from haulier.testing import ByteSinkContract
from tests.support.faulty_calls import FaultyCalls

RAM_DISK = Path("/dev/shm")


@pytest.fixture
def ram_directory() -> Iterator[Path]:
    """An empty directory on the RAM disk."""
    if not RAM_DISK.is_dir():
        pytest.skip(f"there is no {RAM_DISK} here")
    with tempfile.TemporaryDirectory(dir=RAM_DISK, prefix="haulier-") as directory:
        yield Path(directory)


class _SlowTimer:
    """Makes every write look slow, so that writers stay on the thread path."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        self._now += 1.0
        return self._now


class _OnDisk(ByteSinkContract):
    """Sinks on a real disk, of which a sync can be made to fail."""

    @pytest.fixture
    def calls(self) -> FaultyCalls:
        return FaultyCalls()

    @pytest.fixture
    def fail_sync(self, calls: FaultyCalls) -> Callable[[], None]:
        return lambda: calls.fail("sync", errno.EIO)


class _InMemory(ByteSinkContract):
    @pytest.fixture
    def fail_sync(self, sink: MemorySink) -> Callable[[], None]:
        return lambda: sink.fail_next("sync", StorageUnavailable("a sync that fails"))


class TestDiskSink(_OnDisk):
    @pytest.fixture
    def sink(self, tmp_path: Path, calls: FaultyCalls) -> Iterator[DiskSink]:
        sink = DiskSink(tmp_path, tools=DiskTools(calls=calls))
        yield sink
        sink.close()

    @pytest.fixture
    def neighbour(self, sink: DiskSink, tmp_path: Path) -> Iterator[DiskSink]:
        neighbour = DiskSink(tmp_path)
        yield neighbour
        neighbour.close()


class TestDiskSinkOnRamDisk(_OnDisk):
    @pytest.fixture
    def sink(self, ram_directory: Path, calls: FaultyCalls) -> Iterator[DiskSink]:
        sink = DiskSink(ram_directory, tools=DiskTools(calls=calls))
        yield sink
        sink.close()

    @pytest.fixture
    def neighbour(self, sink: DiskSink, ram_directory: Path) -> Iterator[DiskSink]:
        neighbour = DiskSink(ram_directory)
        yield neighbour
        neighbour.close()


class TestDiskSinkOnTheThreadPath(_OnDisk):
    @pytest.fixture
    def sink(self, tmp_path: Path, calls: FaultyCalls) -> Iterator[DiskSink]:
        sink = DiskSink(tmp_path, tools=DiskTools(calls=calls, timer=_SlowTimer()))
        yield sink
        sink.close()

    @pytest.fixture
    def neighbour(self, sink: DiskSink, tmp_path: Path) -> Iterator[DiskSink]:
        neighbour = DiskSink(tmp_path, tools=DiskTools(timer=_SlowTimer()))
        yield neighbour
        neighbour.close()


class TestDiskSinkWithoutKernelLocks(_OnDisk):
    """What other platforms get: exclusion inside one process, however many sinks it has."""

    @pytest.fixture
    def locks(self) -> TableLocks:
        return TableLocks()

    @pytest.fixture
    def sink(self, tmp_path: Path, locks: TableLocks, calls: FaultyCalls) -> Iterator[DiskSink]:
        sink = DiskSink(tmp_path, tools=DiskTools(calls=calls, locks=locks))
        yield sink
        sink.close()

    @pytest.fixture
    def neighbour(self, sink: DiskSink, tmp_path: Path, locks: TableLocks) -> Iterator[DiskSink]:
        neighbour = DiskSink(tmp_path, tools=DiskTools(locks=locks))
        yield neighbour
        neighbour.close()


class TestMemorySink(_InMemory):
    @pytest.fixture
    def sink(self) -> MemorySink:
        return MemorySink(MemoryDisk(capacity=64 * 1024 * 1024))

    @pytest.fixture
    def neighbour(self, sink: MemorySink) -> MemorySink:
        return MemorySink(sink.disk)


class TestMemorySinkThatPauses(_InMemory):
    @pytest.fixture
    def sink(self) -> MemorySink:
        return MemorySink(MemoryDisk(capacity=64 * 1024 * 1024), pause=lambda: asyncio.sleep(0))

    @pytest.fixture
    def neighbour(self, sink: MemorySink) -> MemorySink:
        return MemorySink(sink.disk, pause=lambda: asyncio.sleep(0))
