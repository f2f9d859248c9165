"""Write docs/explanation/performance.md from the last results: `python -m benchmarks.page`."""

import json
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import RESULTS

BENCHMARKS: Final = (*(f"p{number}" for number in range(1, 13)), "takeover", "acceptance")
PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "performance.md"

INTRODUCTION: Final = """# Performance

<!-- Written by `python -m benchmarks`; the words are in benchmarks/page.py. -->

Absolute times mean nothing on shared machines. Every figure here is a ratio against a named peer, measured
side by side in one run: the programs take turns, and medians are compared; P4 compares pairs of one round. Clients are processes of their
own and cost as little as one can (`sendfile`); only the server's CPU seconds count.
`make bench` measures all of it again, `make bench-p1` one.
"""

EXPLANATION: Final = """## Where the time goes

* **Receiving.** A body of known length never meets the HTTP parser: the kernel copies it into one buffer of
  512 KiB that all connections of an event loop share, and from there it is written to its place at once, while
  it is in the processor's cache. Two copies, both in the kernel; Python sees a few thousand pieces per GiB.
  Chunked bodies, whose length nobody knows, take the ordinary way through parser and messages.
* **Memory.** glibc maps, faults and unmaps a buffer of this size each time it is needed; the service tells it
  to reuse memory instead (`mallopt`, on Linux with glibc). Pieces are written as they come, so the size of an
  upload does not matter.
* **Digests** are computed in threads beside receiving. On a processor without SHA-NI, SHA-256 is what an
  upload waits for: about 0.2 to 0.4 GB/s a core, BLAKE3 about 2, CRC32C several. `?digest=blake3` and
  `?digest=none` are there for whoever wants it faster.
* **Finishing** costs the same for every size: bytes are where they belong already, write-back was started every
  8 MiB of a part, and the digest has followed the bytes.
* **Small files** are bound by Python: a file of up to 16 KiB is one job of the disk, and rows of its session, record and
  events. Files that come at the same time share the transaction that adds these rows; none waits for others to come. A
  server that only writes a file, and keeps no record of it, has a third of that to do.

## What distorts such measurements

A virtual machine gives free memory back to its host within seconds, and touching it again costs three times
what a copy does. Each run therefore holds memory until just before it measures (`ballast` in
`benchmarks/programs.py`); without that, whichever program starts slowest pays most.
"""


def main() -> None:
    write_page()


def write_page() -> None:
    """Write the last results of all benchmarks."""
    found = [json.loads((RESULTS / f"{name}.json").read_text()) for name in BENCHMARKS]
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    parts = [INTRODUCTION, summary(found), *(section(result) for result in found), EXPLANATION]
    PAGE.write_text("\n".join(parts))


def summary(found: list[dict[str, Any]]) -> str:
    rows = [
        (r["id"], r["title"], r["ratio"], r["bar"], r["aim"], "ok" if r["ok"] else "**missed**")
        for r in found
    ]
    dates = sorted({result["date"] for result in found})
    head = f"## Last run\n\n{' to '.join(dates)}.\n\n{machines(found)}\n"
    return f"{head}\n{markdown(('', 'what', 'ratio', 'bar', 'aim', ''), rows)}\n"


def machines(found: list[dict[str, Any]]) -> str:
    """Tell each machine, and what was measured there: a run of single benchmarks may be on another one than that before."""
    measured: dict[str, list[str]] = {}
    for result in found:
        made = ", ".join(f"{name}: {value}" for name, value in result["machine"].items())
        measured.setdefault(made, []).append(result["id"])
    return "\n".join(f"* {', '.join(ids)}: {made}." for made, ids in measured.items())


def section(result: dict[str, Any]) -> str:
    return f"## {result['id']}: {result['title']}\n\n{markdown(result['columns'], result['rows'])}\n\n{result['notes']}\n"


def markdown(columns: Any, rows: Any) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell(value) for value in line)} |" for line in lines)


def cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
