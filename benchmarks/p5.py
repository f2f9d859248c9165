"""P5: resident memory: an upload of 4 GiB against one of 64 MiB, and a thousand uploads open at once."""

import socket
import sys
from contextlib import ExitStack
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
from benchmarks.programs import Program, haulier, make_source, workspace

ROUNDS = 3
OPEN = 1000
SENT = 64 * 1024
GROWTH_BAR = 16 * MIB
OPEN_BAR = 250 * MIB


def one(directory: Path, source: Path, size: int) -> Measure:
    with haulier(directory) as server:
        plan = [request("/api/files/file?digest=none", length=size)]
        return measured(server, lambda: upload(server, source, plan))


def many(directory: Path) -> Measure:
    """Open them all, each with a part of its body sent; the peak is read while all are open."""
    with haulier(directory) as server, ExitStack() as lines:
        server.forget_peak()
        for number in range(OPEN):
            line = lines.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            head = f"PUT /api/files/open{number}?digest=none HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            line.sendall(f"{head}Content-Length: {4 * SENT}\r\n\r\n".encode() + bytes(SENT))
        wait_until_open(server)
        return Measure(0.0, 0.0, server.peak_bytes())


def wait_until_open(server: Program) -> None:
    """Ask until every upload has a session."""
    while server.metric("haulier_live_sessions") < OPEN:
        pass


def main() -> int:
    with workspace() as directory:
        source = make_source(directory, 4 * GIB)
        found = take_turns(
            ROUNDS,
            {
                "one upload of 64 MiB": lambda: one(directory, source, 64 * MIB),
                "one upload of 4 GiB": lambda: one(directory, source, 4 * GIB),
                "1000 uploads open at once": lambda: many(directory),
            },
        )
    peak = {name: median(measures, "peak_bytes") for name, measures in found.items()}
    small, large, thousand = peak.values()
    return conclude(
        Verdict(
            id="P5",
            title="peak resident memory",
            ratio=max((large - small) / GROWTH_BAR, thousand / OPEN_BAR),
            bar=1.0,
            aim=max(4 / 16, 120 / 250),
            columns=("what", "peak MiB"),
            rows=tuple((name, value / MIB) for name, value in peak.items()),
            notes="The ratio is the worse of two parts of a bar: growth from 64 MiB to 4 GiB of at most 16 MiB "
            "(aim: 4), and at most 250 MiB with a thousand uploads open (aim: 120).",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
