"""A real `haulier serve` process: started, stopped, killed, and always reaped.

Rule 1: nobody waits without a deadline, and nobody sleeps to wait: `wait_until` is the one loop.
Rule 2: whatever fails while a service runs is told with the service's log.
"""

import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")

ROOT: Final = Path(__file__).parents[2]
HAULIER: Final = (str(Path(sys.executable).with_name("haulier")),)
"""The installed command."""
DEADLINE_S: Final = 60.0
"""For anything that takes a second on an idle machine."""
_READY: Final = "haulier serve ready on http://127.0.0.1:"
_LOG_SHOWN: Final = 20_000
"""Characters of a log that a failure shows: its end says why."""


@dataclass(frozen=True, slots=True)
class ServiceProcess:
    """A service that has said it is ready."""

    process: subprocess.Popen[str]
    port: int
    data_dir: Path
    """As the service names it: absolute."""
    log: Path

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """Kill it (SIGKILL) and reap it; harmless when it has ended."""
        self.process.kill()
        self.wait()

    def stop(self) -> int:
        """Ask it to end (SIGTERM) and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Return its exit code, negative for a signal, once it has ended."""
        return self.process.wait(DEADLINE_S)


@contextmanager
def running_service(
    data_dir: Path,
    *arguments: str,
    port: int = 0,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = HAULIER,
    **options: Any,
) -> Iterator[ServiceProcess]:
    """Run a service until the block ends; if it still lives then, it must end with 0 on SIGTERM.

    Args:
        data_dir: its data directory; the log is a file beside it.
        arguments: further ones for `haulier serve`.
        port: 0 for a free one. For a restart on the same port use `free_port`.
        environment: added to this process' own.
        command: what is run instead of the installed command.
        options: of `subprocess.Popen`.
    """
    log = data_dir.with_name(f"{data_dir.name}.log")
    with log.open("a", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [*command, "serve", "--port", str(port), "--data-dir", str(data_dir), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},  # noqa: TID251 - a child gets what we have
            **options,
        )
    try:
        service = _ready(process, log)
        yield service
        if service.alive:
            assert service.stop() == 0, "the service did not end with 0 on SIGTERM"
    except BaseException as error:
        error.add_note(f"--- {log}\n{log.read_text(encoding='utf-8')[-_LOG_SHOWN:]}")
        raise
    finally:
        process.kill()
        process.wait(DEADLINE_S)
        if process.stdout is not None:
            process.stdout.close()


def _ready(process: subprocess.Popen[str], log: Path) -> ServiceProcess:
    assert process.stdout is not None
    # Both lines are written at once, so whoever has the first need not wait for the second.
    readable, _, _ = select.select([process.stdout], [], [], DEADLINE_S)
    line = process.stdout.readline() if readable else ""
    assert line.startswith(_READY), f"the service said {line!r} and is at {process.poll()}"
    directory = process.stdout.readline().removeprefix("data directory ").rstrip("\n")
    return ServiceProcess(process, int(line.removeprefix(_READY)), Path(directory), log)


def free_port() -> int:
    """Return a port on which a service can be stopped and started again.

    Never one that the kernel gives to connections: while the service is down, its client's own
    connection could take it, and then connects to itself.
    """
    for _ in range(1000):
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("a thousand ports are taken")


def wait_until(look: Callable[[], T], *, deadline_s: float = DEADLINE_S) -> T:
    """Return the first true answer of `look`; fail after the deadline with the last one."""
    end = time.monotonic() + deadline_s
    while not (answer := look()):
        assert time.monotonic() < end, f"still {answer!r} after {deadline_s} s"
        time.sleep(0.01)
    return answer
