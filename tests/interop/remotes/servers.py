"""Foreign servers as processes: started on free ports, waited for, stopped by their ids."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx2

from tests.support.components import require

DEADLINE_S: Final = 60.0
BIN: Final = Path(sys.executable).parent


def program(name: str) -> str:
    """Return a program that a package has brought into our environment."""
    path = BIN / name
    return str(path) if path.exists() else require(name)


class Server:
    """One foreign program; it may be killed and started again on its port."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        ready: Callable[[], bool],
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._command = command
        self._log = folder / "server.log"
        self.folder = folder
        self._ready = ready
        self._settings = {"PATH": os.environ["PATH"], "HOME": str(folder), **(settings or {})}  # noqa: TID251 - a child's
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self._settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + DEADLINE_S
        while not self._is_ready():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(DEADLINE_S)
            self._process = None

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text(errors="replace")[-1500:]

    def _is_ready(self) -> bool:
        try:
            return self._ready()
        except httpx2.TransportError:
            return False


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Run a server for the duration of a test, or of all tests of a file."""
    try:
        server.start()
        yield server
    finally:
        server.kill()


def answers(url: str, *, statuses: range = range(200, 500)) -> Callable[[], bool]:
    """Return what asks whether an address answers."""
    return lambda: httpx2.get(url, trust_env=False, timeout=2).status_code in statuses
