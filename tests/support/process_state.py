"""What a running process uses, as Linux tells it: memory, descriptors, tasks."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from haulier.core.values import dataclass
from tests.support.accidents import Accidents
from tests.support.processes import wait_until


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources of a process at one moment; memory in bytes."""

    memory: int
    """Resident; counted page by page, since the kernel's sums may be off by some for each processor."""
    anonymous: int
    """What of it no file stands behind; shown when a bound is broken."""
    peak: int
    """The most memory since `forget_peak`."""
    descriptors: int
    threads: int


def usage_of(pid: int) -> Usage:
    """Look at a process. Source: proc(5): /proc/PID/status, which may be inexact, and smaps_rollup, which is not."""
    status, rollup = _fields(f"/proc/{pid}/status"), _fields(f"/proc/{pid}/smaps_rollup")
    return Usage(
        memory=int(rollup["Rss"]) * 1024,
        anonymous=int(rollup["Anonymous"]) * 1024,
        peak=int(status["VmHWM"]) * 1024,
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208 - names only
        threads=int(status["Threads"]),
    )


def _fields(path: str) -> dict[str, str]:
    lines = (line.partition(":") for line in Path(path).read_text().splitlines())
    return {name: value.split()[0] for name, _, value in lines if value.strip()}


def forget_peak(pid: int) -> None:
    """Let the peak begin at the present memory. Source: proc(5), /proc/PID/clear_refs, 5."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def tasks_of(pid: int, accidents: Accidents) -> int:
    """Return how many asyncio tasks an unlucky service has."""
    accidents.directory.mkdir(exist_ok=True)
    told = accidents.directory / "tasks"
    told.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    wait_until(told.exists, "the service has counted its tasks")
    return int(told.read_text())


def has_open(pid: int, path: Path) -> bool:
    """Whether a process has a file open. Source: proc(5), /proc/PID/fd."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            found.append(descriptor.readlink())
    return path.resolve() in found


def is_running(pid: int) -> bool:
    """Whether a process runs; one that only waits to be buried does not. Source: proc(5), /proc/PID/stat."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False
