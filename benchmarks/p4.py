"""P4: four uploads at once, and four chunks of one upload at once, against one stream of the same server."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.harness import (
    GIB,
    MIB,
    Measure,
    Verdict,
    conclude,
    measured,
    median,
    request,
    take_turns,
    upload,
)
from benchmarks.programs import Program, ballast, haulier, make_source, workspace

ROUNDS = 5
SIZE = GIB
STREAMS = 4
CHUNK = 8 * MIB
Plans = list[list[dict[str, object]]]


def one_request(_server: Program) -> Plans:
    return [[request("/api/files/file?digest=none", length=SIZE)]]


def four_uploads(_server: Program) -> Plans:
    part = SIZE // STREAMS
    return [
        [request(f"/api/files/file{number}?digest=none", length=part, offset=number * part)]
        for number in range(STREAMS)
    ]


def chunks(server: Program, streams: int) -> Plans:
    begin = {"filename": "chunks", "size": SIZE, "chunk_size": CHUNK, "digest_name": "none"}
    _, begun = server.ask("POST", "/api/uploads", begin)
    target = f"/api/uploads/{begun['id']}/chunks"
    return [
        [
            request(f"{target}/{index}", length=CHUNK, offset=index * CHUNK)
            for index in range(first, SIZE // CHUNK, streams)
        ]
        for first in range(streams)
    ]


def run(directory: Path, source: Path, plans_of: Callable[[Program], Plans]) -> Measure:
    with ballast(directory, SIZE + CHUNK) as held, haulier(directory) as server:
        upload(server, source, [request("/api/files/warm-up?digest=none", length=CHUNK)])
        plans = plans_of(server)
        held.unlink()
        return measured(server, lambda: upload(server, source, *plans))


def main() -> int:
    ways: dict[str, Callable[[Program], Plans]] = {
        "one upload": one_request,
        "four uploads at once": four_uploads,
        "one upload, chunk after chunk": lambda server: chunks(server, 1),
        "one upload, four chunks at once": lambda server: chunks(server, STREAMS),
    }
    with workspace() as directory:
        source = make_source(directory, SIZE)
        found = take_turns(ROUNDS, {name: partial(run, directory, source, way) for name, way in ways.items()})
    speed = {name: SIZE / MIB / median(measures, "wall_s") for name, measures in found.items()}
    names = list(ways)
    ratio = max(speed[names[0]] / speed[names[1]], speed[names[2]] / speed[names[3]])
    rows = tuple((name, speed[name], median(found[name], "cpu_s")) for name in names)
    return conclude(
        Verdict(
            id="P4",
            title="four streams at once against one, 1 GiB in all, no digest, RAM disk, one worker",
            ratio=ratio,
            bar=1.0,
            aim=1.0,
            columns=("what", "MiB/s in all", "CPU s/GiB"),
            rows=rows,
            notes="The ratio is one stream's speed to the sum of four, the worse of uploads and chunks of 8 MiB: "
            "up to 1 means that the sum is not below one stream.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
