"""P3: the same with SHA-256 of the whole file: wall against the slower of nginx's PUT and `openssl sha256`."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.harness import GIB, MIB, Measure, Verdict, conclude, median, take_turns
from benchmarks.p1 import run
from benchmarks.programs import haulier, make_source, nginx, workspace

ROUNDS = 5


def openssl(source: Path) -> Measure:
    started = time.perf_counter()
    subprocess.run(["openssl", "sha256", str(source)], check=True, capture_output=True)
    return Measure(0.0, time.perf_counter() - started)


def main() -> int:
    with workspace() as directory:
        source = make_source(directory, GIB)
        found = take_turns(
            ROUNDS,
            {
                "haulier": lambda: run(haulier, "/api/files/{}?digest=sha-256", directory, source),
                "nginx PUT": lambda: run(partial(nginx, buffer="256k"), "/{}", directory, source),
                "openssl sha256": lambda: openssl(source),
            },
        )
    wall = {name: median(measures, "wall_s") for name, measures in found.items()}
    slower = max(wall["nginx PUT"], wall["openssl sha256"])
    rows = tuple(
        (
            name,
            wall[name],
            wall[name] / slower,
            median(found[name], "cpu_s"),
            median(found[name], "peak_bytes") / MIB,
        )
        for name in found
    )
    return conclude(
        Verdict(
            id="P3",
            title="one upload of 1 GiB with SHA-256, RAM disk",
            ratio=wall["haulier"] / slower,
            bar=1.3,
            aim=1.1,
            columns=("what", "wall s", "ratio", "CPU s/GiB", "peak MiB"),
            rows=rows,
            notes="haulier receives, hashes and stores; nginx (body buffer 256 KiB) only stores, openssl only "
            "reads and hashes. The ratio is against the slower of the two.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
