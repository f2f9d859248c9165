"""Lock files tell the living from the dead, whatever order starts, ends and sweeps come in."""

import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from haulier.adapters.worker_locks import WorkerLocks, new_worker
from haulier.core.errors import StorageUnavailable

HOLD = """
import sys
from pathlib import Path
from haulier.adapters.worker_locks import WorkerLocks
with WorkerLocks(Path(sys.argv[1])).held(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def locks(tmp_path: Path) -> WorkerLocks:
    return WorkerLocks(tmp_path)


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "run").iterdir())


def test_a_worker_lives_while_it_holds_its_file(locks: WorkerLocks, tmp_path: Path) -> None:
    worker = new_worker()
    with locks.held(worker):
        assert not locks.is_dead(worker)
        assert locks.count_living() == 1
        assert names(tmp_path) == [f"{worker}.lock"]
    assert locks.is_dead(worker)
    assert locks.count_living() == 0
    assert names(tmp_path) == []


def test_a_killed_worker_is_dead_at_once_and_swept_by_the_next_start(
    locks: WorkerLocks, tmp_path: Path
) -> None:
    worker = new_worker()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path, worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert not locks.is_dead(worker)
        locks.sweep()
        assert names(tmp_path) == [f"{worker}.lock"]
        process.kill()
    assert locks.is_dead(worker)
    assert locks.count_living() == 0
    assert names(tmp_path) == [f"{worker}.lock"]
    locks.sweep()
    assert names(tmp_path) == []
    assert locks.is_dead(worker)


def test_a_sweep_leaves_the_living_and_what_is_not_a_worker(locks: WorkerLocks, tmp_path: Path) -> None:
    with locks.held("a" * 32):
        (tmp_path / "run" / "service.lock").touch()
        (tmp_path / "run" / f".{'b' * 32}.new").touch()
        locks.sweep()
        assert names(tmp_path) == ["a" * 32 + ".lock", "service.lock"]


def test_a_sweep_before_the_first_start_finds_nothing(locks: WorkerLocks, tmp_path: Path) -> None:
    locks.sweep()
    assert not (tmp_path / "run").exists()


def test_nobody_is_dead_because_the_storage_is_away(locks: WorkerLocks) -> None:
    with pytest.raises(StorageUnavailable):
        locks.is_dead(new_worker())


def test_an_error_inside_still_ends_the_worker(locks: WorkerLocks) -> None:
    worker = new_worker()
    with pytest.raises(RuntimeError), locks.held(worker):
        raise RuntimeError
    assert locks.is_dead(worker)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(StorageUnavailable), WorkerLocks(tmp_path).held(new_worker()):
        pass


def test_starts_and_sweeps_at_once_leave_every_worker_its_file(locks: WorkerLocks, tmp_path: Path) -> None:
    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            locks.sweep()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        with ExitStack() as workers:
            ids = [new_worker() for _ in range(100)]
            for worker in ids:
                workers.enter_context(locks.held(worker))
            assert not any(locks.is_dead(worker) for worker in ids)
            assert names(tmp_path) == sorted(f"{worker}.lock" for worker in ids)
    finally:
        done.set()
        sweeper.join()
