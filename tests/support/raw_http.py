"""HTTP as bytes on a socket: what no well-behaved client would send."""

import json
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from haulier.core.values import dataclass

DEADLINE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response; field names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class Line:
    """A connection to a server on this machine."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def put(self, target: str, body: bytes = b"", *, length: int | None = None, fields: str = "") -> None:
        """Send a PUT with a body of known length."""
        size = len(body) if length is None else length
        self.send(
            f"PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n{fields}\r\n".encode() + body
        )

    def answer(self) -> Answer:
        """Read the next response, interim ones too."""
        status, headers = self._head()
        body = self._exactly(int(headers.get("content-length", "0"))) if status >= 200 else b""
        return Answer(status, headers, body)

    def readable(self, timeout_s: float) -> bool:
        """Wait so long for more; whether there is some."""
        return bool(self._buffer) or bool(select.select([self.socket], [], [], timeout_s)[0])

    def status(self) -> int:
        """Read the next response's head; return its status."""
        return self._head()[0]

    def rest(self) -> bytes:
        """Read all that comes until the orderly end of the connection."""
        with suppress(EOFError):
            while True:
                self._more()
        rest, self._buffer = self._buffer, b""
        return rest

    def ended(self) -> bool:
        """Wait for more; whether there was the orderly end of the connection instead."""
        if not self._buffer:
            self._buffer = self.socket.recv(1)
        return not self._buffer

    def statuses_to_the_end(self) -> list[int]:
        """Read all further responses and the orderly end of the connection; return their statuses."""
        statuses = []
        while not self.ended():
            statuses.append(self.answer().status)
        return statuses

    def reset(self) -> None:
        """End the connection the rude way (RST)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()

    def _head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        fields = (line.partition(":") for line in lines)
        return int(status.split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields}

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return body

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"the server closed after {self._buffer!r}")
        self._buffer += data


@dataclass(frozen=True, slots=True)
class Served:
    """A running server process."""

    process: subprocess.Popen[str]
    port: int

    def line(self) -> Line:
        """Return a new connection."""
        return Line(self.port)

    def ask(self, target: str) -> Any:
        """GET on a connection of its own; return the JSON."""
        with self.line() as line:
            line.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            return line.answer().json

    def wait_until(self, target: str, wanted: Any) -> None:
        """Ask until the answer is `wanted`; fail after the deadline."""
        deadline = time.monotonic() + DEADLINE_S
        while (answer := self.ask(target)) != wanted:
            assert time.monotonic() < deadline, f"{target} stays {answer!r}"

    def sockets(self) -> int:
        """Count the sockets of the process."""
        links = [_link(entry) for entry in Path(f"/proc/{self.process.pid}/fd").iterdir()]
        return sum(link.startswith("socket:") for link in links)

    def wait_for_sockets(self, count: int) -> None:
        """Look until there are no more than so many; fail after the deadline."""
        deadline = time.monotonic() + DEADLINE_S
        while self.sockets() > count:
            assert time.monotonic() < deadline, "a connection is never closed"


def _link(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except FileNotFoundError:  # closed since it was listed
        return ""


@contextmanager
def served(module: str, *arguments: str, expected: int = 0) -> Iterator[Served]:
    """Run a module that prints its port; on SIGTERM it must end with `expected`."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Served(process, int(process.stdout.readline()))
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(DEADLINE_S)
    assert code == expected
