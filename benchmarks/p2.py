"""P2: one upload of 1 GiB through tus, no digest, RAM disk: in one PATCH and in PATCHes of 16 MiB, against other servers."""

import http.client
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.harness import (
    GIB,
    MIB,
    Measure,
    Verdict,
    conclude,
    measured,
    median,
    take_turns,
    upload,
)
from benchmarks.p1 import Start
from benchmarks.programs import (
    Program,
    ballast,
    haulier,
    make_source,
    seaweedfs,
    tus_node,
    tuspyserver,
    workspace,
)

ROUNDS = 3
SIZE = GIB
PIECE = 16 * MIB
WARM_UP = 64 * MIB
VERSION = {"Tus-Resumable": "1.0.0"}
MEDIA_TYPE = {"Content-Type": "application/offset+octet-stream"}

SERVERS: Mapping[str, tuple[Start, str]] = {
    "haulier": (haulier, "/tus/?digest=none"),
    "@tus/server": (tus_node, "/files"),
    "tuspyserver": (tuspyserver, "/files/"),
    "seaweedfs": (seaweedfs, "/.tus/bench/file"),
}


def create(program: Program, target: str, size: int) -> str:
    """Create an upload; return its path."""
    connection = http.client.HTTPConnection("127.0.0.1", program.port)
    fields = {
        **VERSION,
        "Upload-Length": str(size),
        "Upload-Metadata": "filename ZmlsZQ==",
        "Content-Length": "0",
    }
    connection.request("POST", target, headers=fields)
    answer = connection.getresponse()
    location = answer.getheader("Location")
    if answer.status != 201 or location is None:
        raise RuntimeError(f"{program.name} refused an upload: {answer.status} {answer.read()!r}")
    connection.close()
    return urlsplit(location).path


def patches(path: str, size: int, piece: int) -> Sequence[dict[str, Any]]:
    """Describe the requests that bring a file."""
    return [
        {
            "method": "PATCH",
            "target": path,
            "offset": offset,
            "length": min(piece, size - offset),
            "headers": {**VERSION, **MEDIA_TYPE, "Upload-Offset": str(offset)},
        }
        for offset in range(0, size, piece)
    ]


def run(name: str, piece: int, directory: Path, source: Path) -> Measure:
    start, target = SERVERS[name]
    with ballast(directory, SIZE + WARM_UP) as held, start(directory) as program:
        upload(program, source, patches(create(program, target, WARM_UP), WARM_UP, piece))
        plan = patches(create(program, target, SIZE), SIZE, piece)
        held.unlink()
        return measured(program, lambda: upload(program, source, plan))


def main() -> int:
    ways = {"one PATCH": SIZE, "16 MiB": PIECE}
    rows, ratios = [], []
    with workspace() as directory:
        source = make_source(directory, SIZE)
        for way, piece in ways.items():
            found = take_turns(
                ROUNDS,
                {name: lambda name=name: run(name, piece, directory, source) for name in SERVERS},  # type: ignore[misc]  # noqa: B023
            )
            cpu = {name: median(measures, "cpu_s") for name, measures in found.items()}
            best = min(value for name, value in cpu.items() if name != "haulier")
            ratios.append(cpu["haulier"] / best)
            rows += [
                (
                    way,
                    name,
                    cpu[name],
                    cpu[name] / best,
                    median(measures, "wall_s"),
                    median(measures, "peak_bytes") / MIB,
                )
                for name, measures in found.items()
            ]
    return conclude(
        Verdict(
            id="P2",
            title="one upload of 1 GiB through tus, no digest, RAM disk",
            ratio=max(ratios),
            bar=1 / 1.3,
            aim=1 / 1.7,
            columns=("way", "server", "CPU s/GiB", "ratio", "wall s", "peak MiB"),
            rows=tuple(rows),
            notes="The ratio is our CPU to that of the best other server, the worse of both ways; below 1 is better.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
