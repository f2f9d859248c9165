"""Takeover: what a connection that dies silently costs the next request, by kind of death and by topology."""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import MIB, Verdict, conclude
from benchmarks.programs import RAM_DISK
from tests.support.content import Content
from tests.support.fault_plan import Drop
from tests.support.fault_proxy import fault_proxy
from tests.support.fleet import ONE_PROCESS, TWO_SERVICES, TWO_WORKERS, Fleet, fleet
from tests.support.outsider import Outsider
from tests.support.processes import wait_until
from tests.support.raw_http import Line

ROUNDS = 5
SIZE = 64 * MIB
"""Of which a little less than half arrives before the death: past the last row that was written about it."""
NEXT = 1024
"""The next bytes that are sent."""
TOPOLOGIES = (ONE_PROCESS, TWO_WORKERS, TWO_SERVICES)
SILENT = {Drop.FIN: "FIN", Drop.RST: "RST", Drop.STALL: "silence", Drop.HALF_OPEN: "half-open"}


@dataclass(frozen=True, slots=True)
class Takeover:
    """One death: what it cost."""

    lost_bytes: int
    head_s: float
    next_s: float


def once(services: Fleet, drop: Drop, size: int) -> Takeover:
    """Let a request die, and ask another process to go on."""
    content, arrived = Content(size), size * 7 // 16
    upload = Outsider(services.first).begin(size=size, mode="append")["id"]
    with fault_proxy(services.first) as proxy, Line(proxy.port) as line:
        head = f"PATCH /api/uploads/{upload} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\nContent-Length: {size}\r\n\r\n"
        line.send(head.encode())
        for piece in content.pieces(0, arrived):
            line.send(piece)
        part = services.part(upload)
        wait_until(lambda: part.exists() and part.stat().st_size == arrived, "all that was sent is written")
        newer = Outsider(services.last)
        proxy.drop(drop)
        died = time.perf_counter()
        offset = newer.offset(upload)
        head_s = time.perf_counter() - died
        answer = newer.append(upload, offset, content.range(offset, offset + NEXT))
        next_s = time.perf_counter() - died
    assert answer.status == 204, answer
    assert newer.ask("DELETE", f"/api/uploads/{upload}").status == 204
    return Takeover(arrived - offset, head_s, next_s)


def measure(services: Fleet, drop: Drop, *, rounds: int, size: int) -> tuple[object, ...]:
    print(f"{services.topology.name}: {SILENT[drop]}", file=sys.stderr)
    found = [once(services, drop, size) for _ in range(rounds)]
    return (
        SILENT[drop],
        services.topology.name,
        max(each.lost_bytes for each in found),
        statistics.median(each.head_s for each in found),
        max(each.head_s for each in found),
        statistics.median(each.next_s for each in found),
    )


def run(*, rounds: int, size: int) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for topology in TOPOLOGIES:
        with (
            tempfile.TemporaryDirectory(prefix="haulier-bench-", dir=RAM_DISK) as folder,
            fleet(topology, Path(folder)) as services,
        ):
            rows.extend(measure(services, drop, rounds=rounds, size=size) for drop in SILENT)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--mib", type=int, default=SIZE // MIB, help="size of an upload")
    options = parser.parse_args()
    rows = run(rounds=options.rounds, size=options.mib * MIB)
    lost = max(int(str(row[2])) for row in rows)
    return conclude(
        Verdict(
            id="takeover",
            title=f"a connection dies in the middle of {options.mib} MiB, another process goes on",
            # A lost byte is never good enough.
            ratio=max(float(str(row[4])) for row in rows) if not lost else float("inf"),
            bar=1.0,
            aim=0.2,
            columns=(
                "drop",
                "topology",
                "bytes lost",
                "HEAD: s",
                "slowest HEAD: s",
                "next byte accepted: s",
            ),
            rows=tuple(rows),
            notes=f"Medians of {options.rounds}. The ratio is the slowest HEAD of all to one second.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
