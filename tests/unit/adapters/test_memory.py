import asyncio

import pytest

from haulier.adapters.memory.sink import MemoryDisk, MemorySink
from haulier.core.errors import StorageFull, StorageUnavailable
from haulier.ports import RangeBusy
from haulier.testing import ManualClock
from haulier.testing.byte_sink_contract import put, read_part


@pytest.mark.parametrize(
    "operation",
    ["prepare", "check", "open", "extent", "truncate", "scan", "discard", "commit", "stat", "delete"],
)
async def test_a_fault_strikes_the_next_call_of_its_operation_once(operation: str) -> None:
    async def call() -> None:
        match operation:
            case "prepare":
                await sink.prepare("part", size=5)
            case "check":
                await sink.check(5)
            case "open":
                await (await sink.open("part", 0, 5)).close()
            case "scan":
                await sink.scan("part", 0, 5, lambda _: None)
            case "truncate":
                await sink.truncate("part", 5)
            case "commit":
                await sink.commit("part", "blob", size=5)
            case _:
                await getattr(sink, operation)("part")

    sink = MemorySink()
    await put(sink, "part", b"hello")
    sink.fail_next(operation, StorageUnavailable("injected"))
    with pytest.raises(StorageUnavailable, match="injected"):
        await call()
    await call()


async def test_faults_of_one_operation_strike_in_turn() -> None:
    sink = MemorySink()
    sink.fail_next("check", StorageFull(1))
    sink.fail_next("check", StorageUnavailable("injected"))
    with pytest.raises(StorageFull):
        await sink.check(None)
    with pytest.raises(StorageUnavailable):
        await sink.check(None)
    await sink.check(None)


async def test_a_write_that_fails_stores_nothing() -> None:
    sink = MemorySink()
    writer = await sink.open("part", 0, None)
    sink.fail_next("write", StorageUnavailable("injected"))
    with pytest.raises(StorageUnavailable):
        writer.write(b"hello")
    assert await writer.flush(durable=False) == 0
    sink.fail_next("sync", StorageUnavailable("injected"))
    with pytest.raises(StorageUnavailable):
        await writer.flush(durable=True)
    await writer.close()


async def test_a_full_disk_takes_what_still_fits() -> None:
    sink = MemorySink(MemoryDisk(capacity=8))
    await put(sink, "other", b"xyz")
    writer = await sink.open("part", 0, None)
    with pytest.raises(StorageFull):
        writer.write(b"hello world")
    assert writer.position == 5
    await writer.close()
    assert await read_part(sink, "part", 0, 5) == b"hello"
    with pytest.raises(StorageFull) as caught:
        await sink.check(1)
    assert (caught.value.needed, caught.value.available) == (1, 0)


async def test_a_committed_part_counts_once() -> None:
    sink = MemorySink(MemoryDisk(capacity=5))
    await put(sink, "part", b"hello")
    await sink.commit("part", "blob", size=5)
    assert sink.disk.free == 0
    await sink.discard("part")
    assert sink.disk.free == 0
    await sink.delete("blob")
    assert sink.disk.free == 5


async def test_reserved_room_is_written_on_a_full_disk() -> None:
    sink = MemorySink(MemoryDisk(capacity=5))
    await sink.prepare("part", size=5)
    await put(sink, "part", b"hello")
    assert await read_part(sink, "part", 0, 5) == b"hello"


async def test_a_process_that_dies_loses_its_claims_only() -> None:
    disk = MemoryDisk()
    dying, other = MemorySink(disk), MemorySink(disk)
    mine = await other.open("mine", 0, None)
    writer = await dying.open("part", 0, None)
    writer.write(b"hello")
    dying.die()
    with pytest.raises(AssertionError):
        writer.write(b"!")
    taken = await other.open("part", 5, None)
    with pytest.raises(RangeBusy):
        await dying.open("mine", 0, None)
    assert await read_part(other, "part", 0, 5) == b"hello"
    await taken.close()
    await mine.close()


async def test_a_pause_lets_others_run_inside_every_write() -> None:
    steps: list[str] = []

    async def pause() -> None:
        steps.append("pause")
        await asyncio.sleep(0)

    sink = MemorySink(pause=pause)
    writer = await sink.open("part", 0, None)
    buffer = bytearray(b"hello")
    pending = writer.write(buffer)
    buffer[:] = b"xxxxx"
    assert pending is not None
    await pending
    await writer.close()
    assert await read_part(sink, "part", 0, 5) == b"hello"
    assert steps == ["pause"] * 3


async def test_strays_tell_when_they_last_changed() -> None:
    clock = ManualClock(1000.0)
    sink = MemorySink(MemoryDisk(clock=clock))
    await put(sink, "part", b"hello")
    clock.advance(5)
    await put(sink, "part", b"HELLO")
    assert [(stray.key, stray.modified_at) async for stray in sink.parts()] == [("part", 1005.0)]
    await sink.set_aside_part("part")
    assert sink.disk.lost_and_found == {"part": b"HELLO"}
