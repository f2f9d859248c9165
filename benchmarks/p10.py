"""P10: push 1 GiB on loopback, the client's CPU and wall: to tus against tuspy and tus-js-client, to S3 against rclone."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from benchmarks.harness import GIB, MIB, Measure, Verdict, conclude, median, take_turns
from benchmarks.p9 import children_of
from benchmarks.programs import (
    NODE_PACKAGES,
    bare_tus,
    free_port,
    make_source,
    tus_node,
    wait_until_listening,
    workspace,
)

ROUNDS: Final = 3
CHUNK: Final = 16 * MIB
BIN: Final = Path(sys.executable).parent
NODE: Final = "node"
BARE: Final = "bare"
S3: Final = "s3"
SERVERS: Final = {NODE: "@tus/server", BARE: "a bare tus server"}
"""The tus servers behind the remotes of these names."""
KEYS: Final = ("haulierbenchmark", "haulierbenchmarksecret")
BARS: Final = {"tus CPU": 0.5, "tus wall": 0.5, "S3 CPU": 1.2, "S3 wall": 1.1}
"""Ours against the best peer. Of tus the client is measured, so it is a server that does the least; where `@tus/server`
receives, all wait for that most of the time, which is told beside it."""
STOP_S: Final = 30
TUSPY: Final = """
import sys
from tusclient.client import TusClient
sending = {"metadata": {"filename": "file.bin"}, "chunk_size": int(sys.argv[3])}
TusClient(sys.argv[1]).uploader(sys.argv[2], **sending).upload()
"""


@contextmanager
def rclone_s3(directory: Path) -> Iterator[int]:
    """Run rclone as an S3 service with one bucket on the RAM disk; yield its port."""
    home, port = directory / "s3", free_port()
    (home / "bench").mkdir(parents=True)
    command = [str(BIN / "rclone"), "serve", "s3", str(home), "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", ",".join(KEYS), "--config", str(directory / "rclone.conf")]
    with (
        (directory / "rclone.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            wait_until_listening(process, port)
            yield port
        finally:
            process.terminate()
            process.wait(STOP_S)


class Clients:
    """The commands that push a file, each in a process of its own, whose start counts."""

    def __init__(self, directory: Path, source: Path, tus: Mapping[str, str], s3_url: str) -> None:
        self._source = source
        self._tus = tus
        self._stored = (directory / "tus-node", directory / "s3" / "bench")
        self._size = source.stat().st_size
        self._counted = 0
        keys = {"AWS_ACCESS_KEY_ID": KEYS[0], "AWS_SECRET_ACCESS_KEY": KEYS[1]}
        # Bytecode is kept, as where a package is installed: compiling all of it at each start would be most of what is measured.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._environment = {
            **{name: value for name, value in kept.items() if not name.startswith("HAULIER_")},
            **keys,
            "HAULIER_HOME": str(directory / "home"),
            "RCLONE_CONFIG": str(directory / "client.conf"),
        }
        (directory / "client.conf").write_text(
            "[there]\ntype = s3\nprovider = Other\nforce_path_style = true\n"
            f"endpoint = {s3_url}\naccess_key_id = {KEYS[0]}\nsecret_access_key = {KEYS[1]}\n"
        )
        for name, url in tus.items():
            self._run(["remote", "add", name, "--type", "tus", "--url", url], by=BIN / "haulier")
        bucket = ["--option", "bucket=bench"]
        self._run(["remote", "add", S3, "--type", "s3", "--url", s3_url, *bucket], by=BIN / "haulier")

    def haulier(self, remote: str) -> Measure:
        """Push by way of the journal, as people do."""
        return self._measured(
            ["push", str(self._source), "--to", f"{remote}:file.bin"], by=BIN / "haulier", to=remote
        )

    def tuspy(self, server: str) -> Measure:
        """Send chunks, the largest that still fit into memory without a thought."""
        arguments = ["-c", TUSPY, self._tus[server], str(self._source), str(CHUNK)]
        return self._measured(arguments, by=sys.executable, to=server)

    def tus_js_client(self, server: str) -> Measure:
        """Send all in one request, as it does when nothing is said."""
        task = json.dumps({"endpoint": self._tus[server], "file": str(self._source)})
        return self._measured(
            [str(NODE_PACKAGES / "client.js"), task], by=shutil.which("node") or "node", to=server
        )

    def rclone(self) -> Measure:
        """Copy in parts of 8 MiB, four at once, with its sums: what ours does as well."""
        parts = ["--s3-chunk-size", "8Mi", "--s3-upload-concurrency", "4"]
        return self._measured(
            ["copyto", str(self._source), "there:bench/file.bin", "--ignore-times", *parts],
            by=BIN / "rclone",
            to=S3,
        )

    def _measured(self, arguments: Sequence[str], *, by: str | Path, to: str) -> Measure:
        measure = children_of(lambda: self._run(arguments, by=by))
        if to == BARE:
            self._require_counted()
        else:
            self._take_away()
        return measure

    def _run(self, arguments: Sequence[str], *, by: str | Path) -> None:
        subprocess.run([str(by), *arguments], check=True, env=self._environment, stdout=subprocess.DEVNULL)

    def _require_counted(self) -> None:
        """Check that the bare server has counted one more file, and all of it."""
        with urlopen(self._tus[BARE].replace("/files", "/complete"), timeout=STOP_S) as answer:
            counted = json.load(answer)
        self._counted += 1
        if counted != [self._size] * self._counted:
            raise RuntimeError("the file has not arrived whole")

    def _take_away(self) -> None:
        """Remove what has arrived, once it is known to be all of it."""
        found = [each for place in self._stored for each in place.rglob("*") if each.is_file()]
        if max((each.stat().st_size for each in found), default=0) != self._size:
            raise RuntimeError("the file has not arrived whole")
        for each in found:
            each.unlink()


def ratios(found: Mapping[str, list[Measure]], kind: str) -> dict[str, float]:
    """Return ours to a kind of server against the best peer, CPU and wall."""
    return {
        word: median(found[f"haulier to {kind}"], what)
        / min(
            median(measures, what)
            for name, measures in found.items()
            if name.endswith(f" to {kind}") and not name.startswith("haulier")
        )
        for word, what in (("CPU", "cpu_s"), ("wall", "wall_s"))
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--size", type=int, default=GIB)
    options.add_argument("--dry", action="store_true", help="do not write the result down")
    chosen = options.parse_args()
    with workspace() as directory:
        source = make_source(directory, chosen.size)
        with tus_node(directory) as node, bare_tus(directory) as bare, rclone_s3(directory) as s3:
            urls = {
                name: f"http://127.0.0.1:{program.port}/files"
                for name, program in ((NODE, node), (BARE, bare))
            }
            clients = Clients(directory, source, urls, f"http://127.0.0.1:{s3}")
            runs: dict[str, Callable[[], Measure]] = {}
            for remote, server in SERVERS.items():
                runs[f"haulier to {server}"] = partial(clients.haulier, remote)
                runs[f"tuspy to {server}"] = partial(clients.tuspy, remote)
                runs[f"tus-js-client to {server}"] = partial(clients.tus_js_client, remote)
            runs["haulier to S3"] = partial(clients.haulier, S3)
            runs["rclone to S3"] = clients.rclone
            found = take_turns(chosen.rounds, runs)
    judged = {f"tus {word}": ratio for word, ratio in ratios(found, SERVERS[BARE]).items()}
    judged |= {f"S3 {word}": ratio for word, ratio in ratios(found, "S3").items()}
    beside = ratios(found, SERVERS[NODE])
    return conclude(
        Verdict(
            id="P10",
            title=f"push {chosen.size // MIB} MiB on loopback, the client's CPU and wall",
            ratio=max(judged[name] / bar for name, bar in BARS.items()),
            bar=1.0,
            aim=1.0,
            columns=("client", "CPU s", "wall s"),
            rows=tuple(
                (name, median(measures, "cpu_s"), median(measures, "wall_s"))
                for name, measures in found.items()
            ),
            notes="Ours against the best peer: "
            + ", ".join(f"{name} {judged[name]:.2f} (bar {bar})" for name, bar in BARS.items())
            + ". The ratio is the worst of them, as a share of its bar. The bare server reads and keeps nothing, so that "
            "what takes time is the client; where `@tus/server` receives, all clients wait for it, and ours takes "
            f"{beside['wall']:.2f} of the best peer's time and {beside['CPU']:.2f} of its CPU. The start of each process "
            "counts; both S3 clients compare MD5.",
        ),
        keep=not chosen.dry,
    )


if __name__ == "__main__":
    sys.exit(main())
