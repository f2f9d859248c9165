"""P4: several streams at once against one stream of the same server, with one worker and with two.

`python -m benchmarks.p4 --mib 64` tries it out on less; that result is not kept.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
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
    round_ratios,
    take_turns,
    upload,
)
from benchmarks.programs import Program, ballast, haulier, make_source, workspace

ROUNDS = 15
"""Enough for the median: one pair is off by a tenth and more either way, as much as four streams gain or lose."""
STREAMS = 4
CHUNK = 8 * MIB
AIM_OF_TWO = 1.7
Plans = list[list[dict[str, object]]]


@dataclass(frozen=True, slots=True)
class Way:
    """How `size` bytes come in; `workers` processes receive them."""

    plans: Callable[[Program, int], Plans]
    workers: int = 1


def one_request(_server: Program, size: int) -> Plans:
    return [[request("/api/files/file?digest=none", length=size)]]


def four_uploads(_server: Program, size: int) -> Plans:
    part = size // STREAMS
    return [
        [request(f"/api/files/file{number}?digest=none", length=part, offset=number * part)]
        for number in range(STREAMS)
    ]


def chunks(server: Program, size: int, *, streams: int) -> Plans:
    begin = {"filename": "chunks", "size": size, "chunk_size": CHUNK, "digest_name": "none"}
    _, begun = server.ask("POST", "/api/uploads", begin)
    target = f"/api/uploads/{begun['id']}/chunks"
    return [
        [
            request(f"{target}/{index}", length=CHUNK, offset=index * CHUNK)
            for index in range(first, size // CHUNK, streams)
        ]
        for first in range(streams)
    ]


WAYS = {
    "one upload": Way(one_request),
    "four uploads at once": Way(four_uploads),
    "one upload, chunk after chunk": Way(partial(chunks, streams=1)),
    "one upload, four chunks at once": Way(partial(chunks, streams=STREAMS)),
    "four uploads at once, two workers": Way(four_uploads, workers=2),
    "one upload, four chunks at once, two workers": Way(partial(chunks, streams=STREAMS), workers=2),
}


def run(directory: Path, source: Path, size: int, way: Way) -> Measure:
    with ballast(directory, size + CHUNK) as held, haulier(directory, workers=way.workers) as server:
        warm_up = [request("/api/files/warm-up?digest=none", length=CHUNK)]
        upload(server, source, *[warm_up] * way.workers)
        # First: where chunks are begun their room is taken, and pages that the host has to find cost more than all else.
        held.unlink()
        plans = way.plans(server, size)
        return measured(server, lambda: upload(server, source, *plans))


def verdict(found: dict[str, list[Measure]], size: int) -> Verdict:
    speed = {name: size / MIB / median(measures, "wall_s") for name, measures in found.items()}
    one_file, files, chunk_by_chunk, at_once, files_of_two, at_once_of_two = found.values()
    worse = max(
        round_ratios(files, one_file, what="wall_s"),
        round_ratios(at_once, chunk_by_chunk, what="wall_s"),
        key=statistics.median,
    )
    of_two = min(
        statistics.median(round_ratios(one_file, files_of_two, what="wall_s")),
        statistics.median(round_ratios(chunk_by_chunk, at_once_of_two, what="wall_s")),
    )
    low, _, high = statistics.quantiles(worse, n=4)
    return Verdict(
        id="P4",
        title=f"four streams at once against one, {size // MIB} MiB in all, no digest, RAM disk",
        ratio=statistics.median(worse),
        bar=1.0,
        aim=1.0,
        columns=("what", "MiB/s in all", "CPU s in all"),
        rows=tuple((name, speed[name], median(found[name], "cpu_s")) for name in WAYS),
        notes="The ratio is one stream's speed to the sum of four on one worker in the same round, the median of "
        f"{len(worse)} rounds, the worse of uploads and chunks of 8 MiB: up to 1 means that the sum is not below one "
        f"stream. Half of those rounds lie between {low:.2f} and {high:.2f}: what is nearer to 1 than that says no more "
        f"than that nothing is won and nothing lost. Two workers receive {of_two:.2f} times what one stream brings, the "
        f"worse of the same two (aim: {AIM_OF_TWO}); four clients and two workers share the processors that the machine "
        "line tells.",
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=GIB // MIB)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    if asked.rounds < 2:
        parser.error("--rounds must be 2 or more: of one, nobody knows how far off it is")
    size = asked.mib * MIB
    with workspace() as directory:
        source = make_source(directory, size)
        runs = {name: partial(run, directory, source, size, way) for name, way in WAYS.items()}
        found = take_turns(asked.rounds, runs)
    return conclude(verdict(found, size), keep=size == GIB and asked.rounds == ROUNDS)


if __name__ == "__main__":
    sys.exit(main())
