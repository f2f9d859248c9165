"""P6: small files, created, brought and finished in one request each, over 32 connections; files a second."""

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import KIB, Verdict, conclude
from benchmarks.p1 import Start
from benchmarks.programs import Program, haulier, tus_node, tuspyserver, workspace

ROUNDS = 3
SIZE = 10 * KIB
CONNECTIONS = 32
WARM_UP_S = 2
SECONDS = 8

_CREATE = (
    "POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nTus-Resumable: 1.0.0\r\nUpload-Length: {size}\r\n"
    "Upload-Metadata: filename ZmlsZQ==\r\nContent-Type: application/offset+octet-stream\r\n"
    "Content-Length: {size}\r\n\r\n"
)
_PUT = "PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {size}\r\n\r\n"

WAYS: Mapping[str, tuple[Start, str, str]] = {
    "haulier, PUT": (haulier, _PUT, "/api/files/file"),
    "haulier, tus": (haulier, _CREATE, "/tus/"),
    "haulier, PUT, two workers": (partial(haulier, workers=2), _PUT, "/api/files/file"),
    "haulier, tus, two workers": (partial(haulier, workers=2), _CREATE, "/tus/"),
    "@tus/server": (tus_node, _CREATE, "/files"),
    "tuspyserver": (tuspyserver, _CREATE, "/files/"),
}

COMPARED = ("haulier, PUT", "haulier, tus")
"""Ours as it is by default: one worker."""


def run(way: str, directory: Path) -> tuple[float, float]:
    """Return files a second, and the server's CPU milliseconds a file."""
    start, head, target = WAYS[way]
    with start(directory) as program:
        request = head.format(target=target, port=program.port, size=SIZE)
        ask(program, request, WARM_UP_S)
        before = program.cpu_s()
        count = ask(program, request, SECONDS)
        return count / SECONDS, (program.cpu_s() - before) / count * 1000


def ask(program: Program, head: str, seconds: float) -> int:
    command = [sys.executable, "-m", "benchmarks.crowd", str(program.port), str(seconds), str(CONNECTIONS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        client.stdout.readline()
        answer, _ = client.communicate(json.dumps({"head": head, "size": SIZE}) + "\n")
    told: dict[str, Any] = json.loads(answer) if answer else {"good": 0, "bad": "all"}
    if told["bad"] or not told["good"]:
        raise RuntimeError(f"{program.name} refused {told['bad']} of its requests")
    return int(told["good"])


def main() -> int:
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with workspace() as directory:
        for turn in range(ROUNDS):
            for way, results in found.items():
                print(f"round {turn + 1} of {ROUNDS}: {way}", file=sys.stderr)
                results.append(run(way, directory))
    speed = {way: statistics.median(result[0] for result in results) for way, results in found.items()}
    cpu = {way: statistics.median(result[1] for result in results) for way, results in found.items()}
    best = max(value for way, value in speed.items() if not way.startswith("haulier"))
    ours = min(speed[way] for way in COMPARED)
    return conclude(
        Verdict(
            id="P6",
            title="small files of 10 KiB, one request each, 32 connections, RAM disk",
            ratio=best / ours,
            bar=1 / 1.5,
            aim=1 / 3,
            columns=("way", "files/s", "to the best other", "CPU ms/file"),
            rows=tuple((way, speed[way], speed[way] / best, cpu[way]) for way in WAYS),
            notes="The ratio is the time that the best other server takes for a file to ours turned over: its files a "
            "second to those of our slower way with one worker; below 1 is better. Ours are recorded in SQL, with a SHA-256. "
            "With two workers both processors serve; the other servers run as one process.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
