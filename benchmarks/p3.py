"""P3: the same with SHA-256 of the whole file: wall against the slower of nginx's PUT and `openssl sha256`."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.harness import GIB, MIB, Measure, Verdict, conclude, machine, median, take_turns
from benchmarks.p1 import run
from benchmarks.programs import haulier, make_source, nginx, workspace

ROUNDS = 5
RATIO = 3
"""The column of it."""
_CAPABILITIES = "OPENSSL_ia32cap"


def openssl(source: Path) -> Measure:
    started = time.perf_counter()
    subprocess.run(["openssl", "sha256", str(source)], check=True, capture_output=True)
    return Measure(0.0, time.perf_counter() - started)


@contextmanager
def plain_sha_256() -> Iterator[None]:
    """Have OpenSSL, everybody's SHA-256 here, do without the processor's own instructions for it.

    Source: OPENSSL_ia32cap(3): the second word's bit 29 is SHA.
    """
    os.environ[_CAPABILITIES] = "~0x0:~0x20000000"
    try:
        yield
    finally:
        del os.environ[_CAPABILITIES]


def take_all(directory: Path, source: Path) -> dict[str, list[Measure]]:
    return take_turns(
        ROUNDS,
        {
            "haulier": lambda: run(haulier, "/api/files/{}?digest=sha-256", directory, source),
            "nginx PUT": lambda: run(partial(nginx, buffer="256k"), "/{}", directory, source),
            "openssl sha256": lambda: openssl(source),
        },
    )


def rows_of(found: dict[str, list[Measure]], digest: str) -> list[tuple[object, ...]]:
    wall = {name: median(measures, "wall_s") for name, measures in found.items()}
    slower = max(wall["nginx PUT"], wall["openssl sha256"])
    return [
        (
            name,
            digest,
            wall[name],
            wall[name] / slower,
            median(found[name], "cpu_s"),
            median(found[name], "peak_bytes") / MIB,
        )
        for name in found
    ]


def main() -> int:
    with workspace() as directory:
        source = make_source(directory, GIB)
        rows = rows_of(take_all(directory, source), "as it is")
        if "with SHA-NI" in machine()["cpu"]:
            with plain_sha_256():
                rows += rows_of(take_all(directory, source), "without SHA-NI")
    ratio = rows[0][RATIO]
    assert isinstance(ratio, float)
    return conclude(
        Verdict(
            id="P3",
            title="one upload of 1 GiB with SHA-256, RAM disk",
            ratio=ratio,
            bar=1.3,
            aim=1.1,
            columns=("what", "processor", "wall s", "ratio", "CPU s/GiB", "peak MiB"),
            rows=tuple(rows),
            notes="haulier receives, hashes and stores; nginx (body buffer 256 KiB) only stores, openssl only "
            "reads and hashes. The ratio is against the slower of the two. Where SHA-256 has instructions of its own "
            "both take as long, and what does both at once is held up by two processors that share a cache, or a core; "
            "the same is measured without these instructions too.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
