"""P11: a Soulseek upload of 1 GiB: uploader CPU per GiB against Nicotine+ and a bare sendfile loop; RAM disk.

aioslsk listens on all addresses of the machine, so it is run by hand only: `python -m benchmarks.p11 --peer PORT USER
PATH PID` measures any peer that is logged in at a rendezvous on PORT.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import GIB, Measure, Verdict, conclude, measured, median, take_turns
from benchmarks.programs import Program, make_source, workspace

ROUNDS = 5
HAULIER = Path(sys.executable).with_name("haulier")
NICOTINE = Path(sys.executable).with_name("nicotine")
VIRTUAL = "shared\\source"
START_S = 60


def drained(*arguments: object) -> float:
    """Let a peer fetch the file; return its wall seconds."""
    command = [sys.executable, "-m", "benchmarks.drain", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    answer = json.loads(done.stdout)
    if answer["bytes"] != GIB:
        raise RuntimeError(f"{answer['bytes']} bytes came: {done.stderr}")
    return float(answer["wall_s"])


@contextmanager
def started(name: str, command: Sequence[object], log: Path) -> Iterator[Program]:
    """Run a program whose first line ends with its port."""
    environment = {
        **os.environ,
        "HAULIER_SOULSEEK_PASSWORD": "secret",
        "HAULIER_HOME": str(log.parent / "home"),
    }
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*map(str, command)], stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            if "ready on" not in first:
                raise RuntimeError(f"{name} did not start: {log.read_text()}")
            yield Program(name, process.pid, int(first.rpartition(":")[2]), log.parent)
        finally:
            process.kill()


@contextmanager
def nicotine(directory: Path, shared: Path, server_port: int) -> Iterator[Program]:
    """Run Nicotine+ without a window and without limits."""
    home = directory / "nicotine"
    home.mkdir()
    config = home / "config"
    settings = {
        "server": {
            "server": ("127.0.0.1", server_port),
            "login": "nicotine",
            "passw": "secret",
            "upnp": False,
            "portrange": (23_411, 23_411),
        },
        "transfers": {"shared": [(shared.name, str(shared))], "useupslots": True, "uploadslots": 3},
    }
    config.write_text(
        "\n".join(
            line
            for section, options in settings.items()
            for line in (f"[{section}]", *(f"{name} = {value}" for name, value in options.items()))
        )
        + "\n"
    )
    log = home / "log"
    command = [NICOTINE, "--headless", "-b", "127.0.0.1", "-c", config, "-u", home / "data"]
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "HOME": str(home)},
        ) as process,
    ):
        try:
            deadline = time.monotonic() + START_S
            while "Rescan complete" not in log.read_text():
                if time.monotonic() > deadline:
                    raise RuntimeError(f"Nicotine+ did not start: {log.read_text()}")
                time.sleep(0.1)
            time.sleep(2)  # what a start still costs is not an upload's
            yield Program("nicotine", process.pid, 0, home)
        finally:
            process.kill()


def run(program: Program, *arguments: object) -> Callable[[], Measure]:
    return lambda: measured(program, lambda: drained(*arguments))


def main() -> int:
    if sys.argv[1:2] == ["--peer"]:
        port, user, path, pid = sys.argv[2:6]
        print(measured(Program(user, int(pid), 0, Path()), lambda: drained(port, user, path)))
        return 0
    with workspace() as directory:
        shared = directory / "shared"
        shared.mkdir()
        source = make_source(shared, GIB)
        rendezvous = [HAULIER, "soulseek", "rendezvous", "--port", 0]
        with started("rendezvous", rendezvous, directory / "rendezvous.log") as server:
            share = [
                HAULIER, "soulseek", "share", shared, "--user", "haulier", "--server", f"127.0.0.1:{server.port}",
                "--listen", "127.0.0.1:0", "--data-dir", directory / "data",
            ]  # fmt: skip
            bare = [sys.executable, "-m", "benchmarks.bare_sendfile", source]
            with (
                started("haulier", share, directory / "haulier.log") as ours,
                nicotine(directory, shared, server.port) as theirs,
                started("sendfile", bare, directory / "bare.log") as least,
            ):
                found = take_turns(
                    ROUNDS,
                    {
                        "haulier": run(ours, server.port, "haulier", VIRTUAL),
                        "nicotine+": run(theirs, server.port, "nicotine", VIRTUAL),
                        "bare sendfile": run(least, "-", least.port, "-"),
                    },
                )
    cpu = {name: median(measures, "cpu_s") for name, measures in found.items()}
    rows = tuple(
        (name, cpu[name], cpu[name] / cpu["bare sendfile"], median(found[name], "wall_s")) for name in found
    )
    return conclude(
        Verdict(
            id="P11",
            title="Soulseek upload of 1 GiB, RAM disk",
            ratio=cpu["haulier"] / cpu["bare sendfile"],
            bar=1.5,
            aim=1.1,
            columns=("uploader", "CPU s/GiB", "against sendfile", "wall s"),
            rows=rows,
            notes="The downloader is the same for all: it reads into one buffer and keeps nothing. The bar is also to be "
            "better than Nicotine+: "
            + ("it is." if cpu["haulier"] < cpu["nicotine+"] else "it is NOT.")
            + " aioslsk 1.7.1 beside Haulier, by hand on 2026-11-28: 0.81 against 0.34 CPU s/GiB.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
