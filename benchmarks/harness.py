"""Measure side by side, tell the ratio.

Rule 1: what is compared takes turns within one run (A B B A ...). Compared are medians, or the runs of each round, and then the
        median of their ratios; never absolute times.
Rule 2: clients are processes of their own; only the server's CPU counts.
Rule 3: the last line is the verdict, and the exit code says the same.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.programs import Program, versions

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
RESULTS: Final = Path(__file__).parent / "results"
Row = Sequence[object]


@dataclass(frozen=True, slots=True)
class Measure:
    """One run: server CPU and wall seconds, peak resident bytes."""

    cpu_s: float
    wall_s: float
    peak_bytes: int = 0


def machine() -> dict[str, str]:
    """Return what the figures were made on and with."""
    model = next(
        (
            line.partition(": ")[2]
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    flags = "with SHA-NI" if "sha_ni" in Path("/proc/cpuinfo").read_text() else "without SHA-NI"
    return {"cpu": f"{os.cpu_count()} cores of {model}, {flags}", "kernel": platform.release(), **versions()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a benchmark found; `ratio` must not be above `bar`."""

    id: str
    title: str
    ratio: float
    bar: float
    aim: float
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    notes: str = ""
    machine: Mapping[str, str] = field(default_factory=machine)

    @property
    def ok(self) -> bool:
        """Whether the bar is met."""
        return self.ratio <= self.bar

    @property
    def line(self) -> str:
        """The last line of the output."""
        word = "ok" if self.ok else "MISSED"
        return f"{self.id} ratio={self.ratio:.2f} bar={self.bar:.2f} {word}"


def request(target: str, *, length: int, offset: int = 0, method: str = "PUT") -> dict[str, Any]:
    """Describe one request of the uploader."""
    return {"method": method, "target": target, "offset": offset, "length": length}


def upload(program: Program, source: Path, *plans: Sequence[dict[str, Any]]) -> float:
    """Send each plan on a connection of its own, all at once; return the seconds until the last is answered."""
    command = [sys.executable, "-m", "benchmarks.uploader", str(program.port), str(source), str(len(plans))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdout.readline()
        started = time.perf_counter()
        client.stdin.write(json.dumps(plans) + "\n")
        client.stdin.flush()
        answer = client.stdout.readline()
        wall_s = time.perf_counter() - started
    if not answer or json.loads(answer)["refused"]:
        raise RuntimeError(f"{program.name} refused an upload: {answer}")
    return wall_s


def measured(program: Program, run: Callable[[], float]) -> Measure:
    """Run, which returns its wall seconds, and measure the program beside it."""
    program.forget_peak()
    before = program.cpu_s()
    wall_s = run()
    return Measure(program.cpu_s() - before, wall_s, program.peak_bytes())


def take_turns(rounds: int, runs: Mapping[str, Callable[[], Measure]]) -> dict[str, list[Measure]]:
    """Run each in turn, `rounds` times; tell the progress on standard error.

    Every second round goes backwards: what a run leaves behind for the next one shall not always meet the same.
    """
    found: dict[str, list[Measure]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name in reversed(found) if turn % 2 else found:
            print(f"round {turn + 1} of {rounds}: {name}", file=sys.stderr)
            found[name].append(runs[name]())
    return found


def median(measures: Sequence[Measure], what: str) -> float:
    """Return the median of a field of the measures."""
    return float(statistics.median(getattr(measure, what) for measure in measures))


def round_ratios(measures: Sequence[Measure], others: Sequence[Measure], *, what: str) -> list[float]:
    """Return a field's ratio in each round, `measures` to `others`.

    A shared machine is a third faster in one minute than in the next: two runs of one round share its speed, two medians
    of a quarter of an hour do not.
    """
    return [getattr(one, what) / getattr(other, what) for one, other in zip(measures, others, strict=True)]


def table(columns: Row, rows: Sequence[Row]) -> str:
    """Return a table of text."""
    lines = [
        [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in (columns, *rows)
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def conclude(verdict: Verdict, *, keep: bool = True) -> int:
    """Print the table and the verdict, write both down (unless it was only tried out), return the exit code."""
    print(f"{verdict.id}: {verdict.title}\n\n{table(verdict.columns, verdict.rows)}\n")
    if verdict.notes:
        print(f"{verdict.notes}\n")
    if keep:
        RESULTS.mkdir(exist_ok=True)
        result = asdict(verdict) | {"ok": verdict.ok, "date": time.strftime("%Y-%m-%d", time.gmtime())}
        (RESULTS / f"{verdict.id.lower()}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(verdict.line)
    return 0 if verdict.ok else 1
