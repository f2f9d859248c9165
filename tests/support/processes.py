"""The installed `haulier` command as processes: a service that can be killed, and runs of the client."""

import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from haulier.core.values import dataclass
from tests.support.ports import free_port

HAULIER: Final = Path(sys.executable).with_name("haulier")
DEADLINE_S: Final = 120.0
"""How long anything may take before a test fails; a bound against hanging, no measure of speed."""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look often until the condition holds, for at most the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.005)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of ours, then what a test adds."""
    own = os.environ.items()  # noqa: TID251 - a child gets what we have
    clean = {name: value for name, value in own if not name.startswith("HAULIER_")}
    return {**clean, **(extra or {})}


class ServeProcess:
    """`haulier serve`, started, killed and started again on one port and one data directory.

    Args:
        data_dir: its data directory; the log is a file beside it.
        settings: environment variables.
        command: what is run instead of the installed command.
        options: of `subprocess.Popen`.
    """

    def __init__(
        self,
        data_dir: Path,
        settings: Mapping[str, str] | None = None,
        *,
        command: Sequence[str | Path] = (HAULIER,),
        **options: Any,
    ) -> None:
        self.data_dir = data_dir
        # A home of its own: a service runs the transfers that it finds there.
        home = str(data_dir.with_name(f"{data_dir.name}.home"))
        self._settings = {"HAULIER_LOG": "json", "HAULIER_HOME": home, **(settings or {})}
        self._command = command
        self._options = options
        self._log = data_dir.with_name(f"{data_dir.name}.log")
        self._process: subprocess.Popen[str] | None = None
        self.port = free_port()

    @property
    def pid(self) -> int:
        """The process id of the one that runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """The process ids of its workers, oldest first; none when it serves by itself."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(child) for child in children.split()]

    def ready_workers(self) -> dict[str, int]:
        """Return the workers that take requests now: their ids as log lines name them, and process ids."""
        living = self.workers
        return {
            event["worker"]: event["pid"]
            for event in self.events()
            if event.get("event") == "worker.ready" and event["pid"] in living
        }

    @property
    def log(self) -> str:
        """What it has written to standard error since the first start."""
        return self._log.read_text()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait for its first line."""
        process = self.spawn()
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], DEADLINE_S)
        line = process.stdout.readline() if readable else ""
        found = re.fullmatch(r"haulier serve ready on http://127\.0\.0\.1:(\d+)\n", line)
        assert found is not None, f"{line!r}; {self.log}"
        assert int(found[1]) == self.port

    def spawn(self) -> "subprocess.Popen[str]":
        """Start it only: it may not live to say that it is ready."""
        assert self._process is None
        arguments = ["serve", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        with self._log.open("a") as log:
            process = subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment(self._settings),
                **self._options,
            )
        self._process = process
        return process

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self, *, within_s: float = DEADLINE_S) -> int:
        """End it as an operator would; return its exit code."""
        return self._end(signal.SIGTERM, within_s)

    def wait(self) -> int:
        """Wait until it has ended by itself; return its exit code, negative for a signal."""
        return self._end(None)

    def requests(self, method: str, path: str) -> list[dict[str, Any]]:
        """Return the logged requests of that method whose path matches, as they were answered."""
        return [
            event
            for event in self.events()
            if event.get("event") == "request"
            and event.get("method") == method
            and re.search(path, str(event.get("path")))
        ]

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield all log events since the first start."""
        for line in self._log.read_text().splitlines():
            if line.startswith("{") and line.endswith("}"):
                yield json.loads(line)

    def _end(self, how: signal.Signals | None, within_s: float = DEADLINE_S) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if how is not None:
            process.send_signal(how)
        try:
            return process.wait(within_s)
        finally:
            process.kill()  # one that did not end in time is not left to run
            process.wait(DEADLINE_S)
            if process.stdout is not None:
                process.stdout.close()


@contextmanager
def serving(
    data_dir: Path, settings: Mapping[str, str] | None = None, **options: Any
) -> Iterator[ServeProcess]:
    """Run a service for the duration of a test; what fails meanwhile is told with its log."""
    service = ServeProcess(data_dir, settings, **options)
    try:
        service.start()
        yield service
    except BaseException as error:
        error.add_note(f"--- the service's log\n{service.log[-20_000:]}")
        raise
    finally:
        service.kill()


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


class Commands:
    """Runs of `haulier` against one service, with a home and a working directory of their own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.environment = environment({"HAULIER_URL": url, "HAULIER_HOME": str(folder / "home")})
        folder.mkdir(exist_ok=True)

    def run(self, *arguments: str | Path, given: bytes | None = None, **settings: str) -> Ran:
        """Run to the end."""
        return self._run([HAULIER, *map(str, arguments)], given=given, **settings)

    def shell(self, line: str) -> Ran:
        """Run a line for the shell, in which `haulier` is the command."""
        return self._run(["sh", "-c", f"PATH={shlex.quote(str(HAULIER.parent))}:$PATH; {line}"])

    def _run(self, command: list[str | Path], *, given: bytes | None = None, **settings: str) -> Ran:
        done = subprocess.run(
            command,
            input=given,
            stdin=None if given is not None else subprocess.DEVNULL,
            capture_output=True,
            cwd=self.folder,
            env={**self.environment, **settings},
            timeout=5 * DEADLINE_S,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *arguments: str | Path, **options: Any) -> "subprocess.Popen[bytes]":
        """Start and return the process; the caller waits for it."""
        return subprocess.Popen(
            [HAULIER, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )
