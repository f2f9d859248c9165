"""Parts put together of others: by the kernel where it can, by ourselves where it cannot, and again after a fault."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from haulier.adapters.disk import DiskSink
from haulier.adapters.disk import assembly as assembly_module
from haulier.adapters.disk.assembly import steps_of
from haulier.adapters.disk.writer import DiskTools
from haulier.core.digest import Buffer
from haulier.core.errors import StorageFull, StorageUnavailable
from haulier.testing.byte_sink_contract import put, read_part
from tests.support.faulty_calls import FaultyCalls

DATA = bytes(range(256)) * 5000


@pytest.fixture
def calls() -> FaultyCalls:
    return FaultyCalls()


@pytest.fixture
async def sink(tmp_path: Path, calls: FaultyCalls) -> AsyncIterator[DiskSink]:
    sink = DiskSink(tmp_path / "data", min_free=0, tools=DiskTools(calls=calls))
    await put(sink, "a", DATA)
    await put(sink, "b", DATA[::-1])
    calls.made.clear()
    yield sink
    sink.close()


PARTS = [("a", len(DATA)), ("b", len(DATA)), ("a", 3)]
WHOLE = DATA + DATA[::-1] + DATA[:3]


async def test_the_kernel_copies_in_worker_threads(sink: DiskSink, calls: FaultyCalls) -> None:
    await sink.concatenate("whole", PARTS)
    assert await read_part(sink, "whole", 0, len(WHOLE)) == WHOLE
    assert set(calls.threads("copy_range")) == {True}
    assert "pwrite" not in calls.names()


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
async def test_where_the_kernel_cannot_bytes_are_read_and_written(
    sink: DiskSink, calls: FaultyCalls, code: int
) -> None:
    calls.fail("copy_range", code)
    await sink.concatenate("whole", PARTS)
    assert await read_part(sink, "whole", 0, len(WHOLE)) == WHOLE
    assert calls.names().count("copy_range") == 1
    assert set(calls.threads("pwrite")) == {True}


async def test_a_short_part_is_found_there_too(sink: DiskSink, calls: FaultyCalls) -> None:
    calls.fail("copy_range", errno.EXDEV)
    with pytest.raises(StorageUnavailable, match="before its end"):
        await sink.concatenate("whole", [("a", len(DATA) + 1)])


class LimitedCalls(FaultyCalls):
    """A disk that cannot copy by itself, and takes at most `most` bytes a write."""

    most = 100_000

    def copy_range(self, source: int, target: int, size: int, *, start: int, position: int) -> int:
        raise OSError(errno.ENOSYS, "not here")

    def pwrite(self, descriptor: int, piece: Buffer, offset: int) -> int:
        return os.pwrite(descriptor, memoryview(piece)[: self.most], offset)


@pytest.mark.parametrize("most", [0, 100_000])
async def test_short_writes_are_continued_and_a_disk_that_takes_nothing_is_unavailable(
    tmp_path: Path, most: int
) -> None:
    calls = LimitedCalls()
    sink = DiskSink(tmp_path, min_free=0, tools=DiskTools(calls=calls))
    await put(sink, "a", DATA)
    await put(sink, "b", DATA[::-1])
    calls.most = most
    if most:
        await sink.concatenate("whole", PARTS)
        assert await read_part(sink, "whole", 0, len(WHOLE)) == WHOLE
    else:
        with pytest.raises(StorageUnavailable, match="took no byte"):
            await sink.concatenate("whole", PARTS)
        with pytest.raises(StorageUnavailable, match="took no byte"):
            await sink.store("blob", b"hello")
        assert await sink.stat("blob") is None
    sink.close()


@pytest.mark.parametrize(("code", "error"), [(errno.EIO, StorageUnavailable), (errno.ENOSPC, StorageFull)])
async def test_a_fault_is_told_and_a_second_try_begins_anew(
    sink: DiskSink, calls: FaultyCalls, code: int, error: type[Exception]
) -> None:
    calls.fail("copy_range", code)
    with pytest.raises(error):
        await sink.concatenate("whole", PARTS)
    await sink.concatenate("whole", PARTS)
    assert await sink.extent("whole") == len(WHOLE)
    assert await read_part(sink, "whole", 0, len(WHOLE)) == WHOLE


async def test_large_parts_go_in_steps(
    sink: DiskSink, calls: FaultyCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly_module, "STEP", 300_000)
    await sink.concatenate("whole", PARTS)
    assert await read_part(sink, "whole", 0, len(WHOLE)) == WHOLE
    assert calls.names().count("copy_range") >= 11


def test_steps_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly_module, "STEP", 4)
    a, b = Path("a"), Path("b")
    assert steps_of([(a, 6), (b, 0), (a, 1)]) == [(a, 0, 4, 0), (a, 4, 6, 4), (a, 0, 1, 6)]
