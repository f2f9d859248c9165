"""P7: `finish` after all bytes are in: 4 GiB against 4 MiB, without digest and with BLAKE3, on both disks."""

import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.harness import GIB, MIB, Measure, Verdict, conclude, median, request, take_turns, upload
from benchmarks.programs import RAM_DISK, REAL_DISK, Program, haulier, make_source, workspace

ROUNDS = 3
CHUNK = 4 * MIB
SIZES = (4 * MIB, 4 * GIB)
DIGESTS = ("none", "blake3")
DISKS = {"RAM disk": RAM_DISK, "real disk": REAL_DISK}


def run(directory: Path, source: Path, size: int, digest: str) -> Measure:
    with haulier(directory) as server:
        begin = {"filename": "file", "size": size, "chunk_size": CHUNK, "digest_name": digest}
        _, begun = server.ask("POST", "/api/uploads", begin)
        target = f"/api/uploads/{begun['id']}"
        length = begun["chunk_size"]
        plan = [
            request(f"{target}/chunks/{at // length}", length=min(length, size - at), offset=at)
            for at in range(0, size, length)
        ]
        upload(server, source, plan)
        started = time.perf_counter()
        finish(server, target)
        return Measure(0.0, time.perf_counter() - started)


def finish(server: Program, target: str) -> None:
    """Finish and wait for the result; 202 says that the work goes on."""
    status, _ = server.ask("POST", f"{target}/finish", {})
    while status == 202:
        status, _ = server.ask("POST", f"{target}/finish", {})


def compare(source: Path, place: Path, digest: str) -> tuple[float, float]:
    """Return the medians of the small and of the large."""
    with workspace(place) as directory:
        runs = {str(size): partial(run, directory, source, size, digest) for size in SIZES}
        found = take_turns(ROUNDS, runs)
    small, large = (median(measures, "wall_s") for measures in found.values())
    return small, large


def main() -> int:
    rows = []
    with workspace() as sources:
        source = make_source(sources, max(SIZES))
        for disk, place in DISKS.items():
            for digest in DIGESTS:
                small, large = compare(source, place, digest)
                rows.append((disk, digest, small * 1000, large * 1000, large / small))
    return conclude(
        Verdict(
            id="P7",
            title="finish after all bytes are in, 4 GiB against 4 MiB",
            ratio=max(row[-1] for row in rows),
            bar=3.0,
            aim=1.5,
            columns=("disk", "digest", "4 MiB: ms", "4 GiB: ms", "ratio"),
            rows=tuple(rows),
            notes="Chunks of 4 MiB, one after the other. The ratio is the worst of the four.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
