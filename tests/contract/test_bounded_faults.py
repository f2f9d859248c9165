"""Children that die, hang, lie or belong to a stranger by now: the job ends, and the next one works."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from haulier.bounded.limits import Limits, environment
from haulier.bounded.processor import BoundedProcessor
from haulier.core.errors import ServiceStopping, StorageUnavailable
from haulier.core.processing import Derivatives, FileMetadata, ProcessingFailure, Unprocessed
from tests.support.engine import beside
from tests.support.pictures import stored
from tests.support.process_state import is_running, usage_of
from tests.support.processes import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


@pytest.fixture
async def processor() -> AsyncIterator[BoundedProcessor]:
    async with BoundedProcessor(processes=1) as processor:
        yield processor


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo"
    path.write_bytes(stored("jpg"))
    return path


async def derive(processor: BoundedProcessor, photo: Path, *, line: str = "") -> Derivatives | Unprocessed:
    clear(photo)
    return await processor.derive(
        photo, display=photo.with_name("display"), thumbnail=photo.with_name("thumbnail"), line=line
    )


async def only_child(processor: BoundedProcessor, photo: Path) -> int:
    assert isinstance(await processor.check(photo, filename="photo.jpg"), FileMetadata)
    (pid,) = processor.pids
    return pid


async def until(condition: object, what: str) -> None:
    assert callable(condition)
    await asyncio.to_thread(wait_until, condition, what)


def program(code: str) -> tuple[str, ...]:
    """Return the command of a child that does something else. It is told the socket's number first."""
    start = "import socket, sys, time, os; line = socket.socket(fileno=int(sys.argv[1])); "
    return (sys.executable, "-c", start + code)


def clear(photo: Path) -> None:
    for name in outputs_of(photo):
        photo.with_name(name).unlink()


def overwrite(photo: Path, data: bytes) -> None:
    photo.write_bytes(data)


def exists(pid: int) -> bool:
    """Whether there is such a process, even one that only waits to be buried."""
    return Path(f"/proc/{pid}").exists()


def outputs_of(photo: Path) -> list[str]:
    return [name for name in ("display", "thumbnail") if photo.with_name(name).exists()]


async def test_a_child_killed_while_idle_is_buried_and_not_missed(
    processor: BoundedProcessor, photo: Path
) -> None:
    pid = await only_child(processor, photo)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not exists(pid), "the dead child is reaped")
    assert isinstance(await derive(processor, photo), Derivatives)
    assert pid not in processor.pids


async def test_a_child_killed_at_work_costs_nothing_but_time(
    processor: BoundedProcessor, photo: Path
) -> None:
    pid = await only_child(processor, photo)
    os.kill(pid, signal.SIGSTOP)
    job = beside(derive(processor, photo))
    await until(lambda: outputs_of(photo) == ["display", "thumbnail"], "the job is under way")
    os.kill(pid, signal.SIGKILL)
    assert isinstance(await job, Derivatives)
    assert not exists(pid)


async def test_twenty_kills_in_a_row_leave_no_zombie_and_nothing_open(
    processor: BoundedProcessor, photo: Path
) -> None:
    await derive(processor, photo)
    before = usage_of(os.getpid()).descriptors
    for _ in range(20):
        (pid,) = processor.pids
        os.kill(pid, signal.SIGKILL)
        assert isinstance(await processor.check(photo, filename="photo.jpg"), FileMetadata)
    assert usage_of(os.getpid()).descriptors <= before
    assert all(is_running(pid) for pid in processor.pids)
    assert len(processor.pids) == 1


async def test_a_file_that_ends_two_children_has_a_name_for_it(photo: Path) -> None:
    command = program(
        "line.recv(99); print('last words', file=sys.stderr, flush=True); os.kill(os.getpid(), 11)"
    )
    async with BoundedProcessor(command=command) as processor:
        outcome = await derive(processor, photo)
        assert isinstance(outcome, Unprocessed)
        assert outcome.failure is ProcessingFailure.IMAGE_CRASHED
        assert "SIGSEGV" in outcome.detail
        assert "last words" in outcome.detail
        checked = await processor.check(photo, filename="photo.jpg")
        assert isinstance(checked, Unprocessed)
        assert checked.failure is ProcessingFailure.CHECK_CRASHED
        assert processor.pids == frozenset()
    assert outputs_of(photo) == []


async def test_a_child_that_hangs_is_killed_when_its_time_is_over(photo: Path) -> None:
    async with BoundedProcessor(command=program("time.sleep(1000)"), limits=Limits(job_s=0.2)) as processor:
        outcome = await derive(processor, photo)
        assert isinstance(outcome, Unprocessed)
        assert outcome.failure is ProcessingFailure.IMAGE_TIMEOUT
        checked = await processor.check(photo, filename="photo.jpg")
        assert isinstance(checked, Unprocessed)
        assert checked.failure is ProcessingFailure.CHECK_TIMEOUT
        assert processor.pids == frozenset()
    assert outputs_of(photo) == []


async def test_a_stopped_child_is_replaced(photo: Path) -> None:
    async with BoundedProcessor(processes=1, limits=Limits(job_s=3)) as processor:
        pid = await only_child(processor, photo)
        os.kill(pid, signal.SIGSTOP)
        outcome = await derive(processor, photo)
        assert isinstance(outcome, Unprocessed)
        assert outcome.failure is ProcessingFailure.IMAGE_TIMEOUT
        assert not exists(pid)
        assert isinstance(await processor.check(photo, filename="photo.jpg"), FileMetadata)


@pytest.mark.parametrize(
    "said",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\0\0\0\x02[]",
        b"\0\0\0\x02{}",
        b"\0\0\0\x03\xff\xfe\xfd",
        b"\0\0\0\x09[" + b"[" * 8,
        b"\0\0\0\x2d" + b'{"failure":"queue-full","detail":"not my job"}'[:45],
    ],
)
async def test_an_answer_that_is_none_counts_as_a_crash(photo: Path, said: bytes) -> None:
    async with BoundedProcessor(command=program(f"line.sendall({said!r}); time.sleep(1000)")) as processor:
        outcome = await derive(processor, photo)
        assert isinstance(outcome, Unprocessed)
        assert outcome.failure is ProcessingFailure.IMAGE_CRASHED
        assert processor.pids == frozenset()


async def test_a_program_that_does_not_exist_is_our_fault_not_the_file_s(photo: Path) -> None:
    async with BoundedProcessor(command=("/nonexistent/python",)) as processor:
        with pytest.raises(StorageUnavailable):
            await derive(processor, photo)
    assert outputs_of(photo) == []


async def test_a_child_is_replaced_after_its_share_of_jobs(photo: Path) -> None:
    async with BoundedProcessor(processes=1, limits=Limits(jobs_per_child=3)) as processor:
        seen = [await only_child(processor, photo), await only_child(processor, photo)]
        assert seen[0] == seen[1]
        assert isinstance(await derive(processor, photo), Derivatives)
        assert processor.pids == frozenset()
        assert await only_child(processor, photo) != seen[0]


async def test_any_failure_of_a_file_replaces_the_child(processor: BoundedProcessor, photo: Path) -> None:
    pid = await only_child(processor, photo)
    overwrite(photo, stored("png")[:100])
    assert isinstance(await derive(processor, photo), Unprocessed)
    await until(lambda: not exists(pid), "the child is gone")


async def test_a_cancelled_job_leaves_neither_work_nor_files(
    processor: BoundedProcessor, photo: Path
) -> None:
    pid = await only_child(processor, photo)
    os.kill(pid, signal.SIGSTOP)
    job = beside(derive(processor, photo))
    await until(lambda: outputs_of(photo) == ["display", "thumbnail"], "the job is under way")
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert outputs_of(photo) == []
    await until(lambda: not exists(pid), "its child is gone")
    assert isinstance(await derive(processor, photo), Derivatives)


async def test_a_cancel_at_any_moment_leaves_nothing_behind(processor: BoundedProcessor, photo: Path) -> None:
    await derive(processor, photo)
    clear(photo)
    before = usage_of(os.getpid()).descriptors
    for steps in range(30):
        job = beside(derive(processor, photo))
        for _ in range(steps):
            await asyncio.sleep(0)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        assert outputs_of(photo) == ([] if job.cancelled() else ["display", "thumbnail"])
        clear(photo)
    assert isinstance(await derive(processor, photo), Derivatives)
    await until(lambda: usage_of(os.getpid()).descriptors <= before + 2, "nothing more is open than at first")


async def test_close_ends_jobs_and_children(photo: Path) -> None:
    processor = BoundedProcessor(processes=1)
    pid = await only_child(processor, photo)
    os.kill(pid, signal.SIGSTOP)
    at_work, waiting = beside(derive(processor, photo)), beside(processor.check(photo, filename="a"))
    await until(lambda: outputs_of(photo) == ["display", "thumbnail"], "the job is under way")
    await processor.close()
    for job in (at_work, waiting):
        with pytest.raises(ServiceStopping):
            await job
    await processor.close()
    assert processor.pids == frozenset()
    assert not exists(pid)
    assert outputs_of(photo) == []
    with pytest.raises(ServiceStopping):
        await processor.check(photo, filename="a")


PARENT = """
import asyncio, pathlib, sys
from haulier.bounded.processor import BoundedProcessor
async def main():
    processor = BoundedProcessor()
    await processor.check(pathlib.Path(sys.argv[1]), filename="photo.jpg")
    print(*processor.pids, flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


def test_children_die_with_their_parent_even_when_they_are_stopped(photo: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(photo)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, signal.SIGSTOP)
        parent.kill()
    wait_until(lambda: not is_running(pid), "the child is gone")


async def test_a_child_has_what_it_needs_and_no_more(processor: BoundedProcessor, photo: Path) -> None:
    assert isinstance(await derive(processor, photo), Derivatives)
    (pid,) = processor.pids
    home = Path(f"/proc/{pid}")
    limits = {line[:26].strip(): line[26:].split()[:2] for line in (home / "limits").read_text().splitlines()}
    assert limits["Max address space"] == ["2147483648"] * 2
    assert limits["Max file size"] == ["268435456"] * 2
    assert limits["Max open files"] == ["64"] * 2
    assert limits["Max core file size"] == ["1"] * 2
    assert 120 <= int(limits["Max cpu time"][0]) < 180
    assert "NoNewPrivs:\t1" in (home / "status").read_text()
    told = dict(entry.split("=", 1) for entry in (home / "environ").read_text().strip("\0").split("\0"))
    assert told == environment()
    assert len(list((home / "fd").iterdir())) <= 5  # three standard streams, its socket, what Python opens
    assert os.getsid(pid) == pid


async def test_fifty_jobs_keep_no_file_open_in_the_child(processor: BoundedProcessor, photo: Path) -> None:
    await derive(processor, photo)
    (pid,) = processor.pids
    before = usage_of(pid).descriptors
    for _ in range(50):
        assert isinstance(await derive(processor, photo), Derivatives)
    assert processor.pids == {pid}
    assert usage_of(pid).descriptors == before


async def test_who_finds_no_room_to_wait_is_told(photo: Path) -> None:
    async with BoundedProcessor(processes=1, waiting=1) as processor:
        pid = await only_child(processor, photo)
        os.kill(pid, signal.SIGSTOP)
        first = beside(derive(processor, photo))
        await until(lambda: outputs_of(photo) == ["display", "thumbnail"], "the first is under way")
        others = [beside(processor.check(photo, filename="photo.jpg")) for _ in range(3)]
        done, pending = await asyncio.wait(others, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 2:
            more, pending = await asyncio.wait(pending, timeout=30, return_when=asyncio.FIRST_COMPLETED)
            assert more
            done |= more
        assert {job.result() for job in done} == {Unprocessed(ProcessingFailure.QUEUE_FULL)}
        os.kill(pid, signal.SIGCONT)
        assert isinstance(await first, Derivatives)
        assert isinstance(await pending.pop(), FileMetadata)


async def test_no_more_children_than_allowed_work_at_a_time(photo: Path) -> None:
    async with BoundedProcessor(processes=2) as processor:
        jobs = [beside(processor.check(photo, filename="photo.jpg")) for _ in range(12)]
        most = 0
        while not all(job.done() for job in jobs):
            most = max(most, len(processor.pids))
            await asyncio.sleep(0)
        assert most == 2
        assert all(isinstance(job.result(), FileMetadata) for job in jobs)


async def test_a_missing_file_and_a_taken_output_are_storage_errors(
    processor: BoundedProcessor, photo: Path, tmp_path: Path
) -> None:
    with pytest.raises(StorageUnavailable):
        await processor.check(tmp_path / "nothing", filename="a.json")
    taken, free = tmp_path / "taken", tmp_path / "free"
    taken.write_bytes(b"somebody's")
    with pytest.raises(StorageUnavailable):
        await processor.derive(photo, display=free, thumbnail=taken)
    assert taken.read_bytes() == b"somebody's"
    assert not free.exists()


@pytest.mark.parametrize(("missing", "kind"), [("pi_heif", "heic"), ("pyvips", "jpg")])
async def test_a_library_that_is_not_installed_makes_a_format_unsupported(
    photo: Path, missing: str, kind: str
) -> None:
    run = "runpy.run_module('haulier.bounded.child', run_name='__main__')"
    command = (sys.executable, "-c", f"import runpy, sys; sys.modules['{missing}'] = None; {run}")
    overwrite(photo, stored(kind))
    async with BoundedProcessor(command=command) as processor:
        outcome = await derive(processor, photo)
    assert isinstance(outcome, Unprocessed)
    assert outcome.failure is ProcessingFailure.FORMAT_UNSUPPORTED
    assert "haulier[images]" in outcome.detail


def test_a_child_loads_nothing_of_the_service() -> None:
    code = (
        "import sys, haulier.bounded.child; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"asyncio", "pydantic", "pyvips", "sqlalchemy", "starlette", "structlog"} & set(loaded)


def test_all_of_it_holds_on_uvloop_too(photo: Path) -> None:
    async def scenario() -> None:
        async with BoundedProcessor(processes=1, limits=Limits(job_s=3)) as processor:
            assert isinstance(await derive(processor, photo), Derivatives)
            for sign in (signal.SIGKILL, signal.SIGSTOP):
                (pid,) = processor.pids
                os.kill(pid, sign)
                outcome = await processor.check(photo, filename="photo.jpg")
                stopped = sign is signal.SIGSTOP
                expected = Unprocessed(ProcessingFailure.CHECK_TIMEOUT, "over 3 s")
                assert outcome == expected if stopped else isinstance(outcome, FileMetadata)
                assert not exists(pid)
            pid = await only_child(processor, photo)
            os.kill(pid, signal.SIGSTOP)
            job = beside(derive(processor, photo))
            await until(lambda: outputs_of(photo) == ["display", "thumbnail"], "the job is under way")
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
            assert outputs_of(photo) == []
        assert not exists(pid)

    uvloop.run(scenario())
