"""What a proxy in front of the service does to uploads: found out by sending some through it.

Rule 1: it looks as a client does, over the address that clients use; nothing is asked of the proxy itself.
Rule 2: nothing stays: what was begun is cancelled, whatever was found.
"""

import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from haulier.core.values import dataclass

PATIENCE_S: Final = 5.0
"""For what must come by itself: a service behind a proxy that passes everything on answers in milliseconds, and writes
down what it has at least once a second."""
PIECE: Final = 64 * 1024
"""Sent and held: beyond what a proxy that does not buffer keeps in hand (nginx: 16 KiB)."""
VERSION: Final = {"Upload-Draft-Interop-Version": "8"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of a response, field names in lower case, and what came of its body."""

    status: int
    fields: dict[str, str]
    body: bytes


class Connection:
    """One connection to the address that clients use."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = urlsplit(url)
        self._token = token
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        plain = socket.create_connection((self._url.hostname or "", port), timeout=PATIENCE_S)
        self._socket = (
            ssl.create_default_context().wrap_socket(plain, server_hostname=self._url.hostname)
            if self._url.scheme == "https"
            else plain
        )
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        """End it."""
        self._file.close()
        self._socket.close()

    def start(self, method: str, path: str, length: int, fields: dict[str, str] | None = None) -> None:
        """Send the head of a request."""
        lines = [f"{method} {self._url.path.rstrip('/')}{path} HTTP/1.1", f"Host: {self._url.netloc}"]
        given = {"Content-Length": str(length), **(fields or {})}
        if self._token is not None:
            given["Authorization"] = f"Bearer {self._token}"
        lines += [f"{name}: {value}" for name, value in given.items()]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    def send(self, data: bytes) -> None:
        """Send more."""
        self._socket.sendall(data)

    def answer(self) -> Answer:
        """Read the next response. Raises OSError when none comes in time, or only a part of one."""
        status = self._file.readline().split()
        if len(status) < 2:
            raise ConnectionError("the connection was closed")
        fields: dict[str, str] = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        return Answer(int(status[1]), fields, self._body(fields) if int(status[1]) >= 200 else b"")

    def _body(self, fields: dict[str, str]) -> bytes:
        if fields.get("transfer-encoding", "").lower() != "chunked":
            return self._file.read(int(fields.get("content-length", "0")))
        body = b""
        while size := int(self._file.readline().partition(b";")[0], 16):  # some proxies frame answers anew
            body += self._file.read(size)
            self._file.readline()
        while self._file.readline().strip():
            pass
        return body

    def ask(self, method: str, path: str, fields: dict[str, str] | None = None) -> Answer:
        """Send a request without a body; read its response."""
        self.start(method, path, 0, fields)
        return self.answer()


def look_through(url: str, token: str | None, *, interim: bool) -> Iterator[Finding]:
    """Look at what stands between here and the service at `url`.

    Args:
        url: what clients use.
        token: of somebody who may write.
        interim: whether the service is set to send 104 at all.
    """
    try:
        _require_address(url)
        with _begun(url, token) as (name, location):
            yield Finding("service", ok=True, detail=f"answers at {url}")
            yield _look_at_links(url, location)
            yield _look_at_buffering(url, token, name)
        yield _look_at_interim(url, token) if interim else Finding("104", ok=True, detail="turned off")
    except (OSError, ValueError) as error:
        yield Finding("service", ok=False, detail=f"{url}: {error}")


def _require_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an address like https://files.example")


def _words_of(answer: Answer) -> str:
    """Return what a refusal says."""
    if "problem+json" not in answer.fields.get("content-type", ""):
        return ", and not by the service: something else is at this address"
    cure = "; HAULIER_TOKEN must be one that may write" if answer.status == HTTPStatus.UNAUTHORIZED else ""
    return f": {json.loads(answer.body)['detail']}{cure}"


@contextmanager
def _connected(url: str, token: str | None) -> Iterator[Connection]:
    connection = Connection(url, token)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _begun(url: str, token: str | None) -> Iterator[tuple[str, str]]:
    """Begin an upload, and cancel it at the end; its id and its address."""
    with _connected(url, token) as connection:
        answer = connection.ask("POST", "/resumable/", {"Upload-Complete": "?0"})
    location = answer.fields.get("location", "")
    if answer.status != 201 or not location:
        raise ConnectionError(f"an upload was answered with {answer.status}{_words_of(answer)}")
    name = location.rpartition("/")[2]
    try:
        yield name, location
    finally:
        _cancel(url, token, name)


def _cancel(url: str, token: str | None, name: str) -> None:
    with suppress(OSError, ValueError), _connected(url, token) as connection:
        connection.ask("DELETE", f"/resumable/{name}")


def _look_at_links(url: str, location: str) -> Finding:
    right = location.startswith(f"{url.rstrip('/')}/")
    cure = (
        ""
        if right
        else "; set HAULIER_PUBLIC_URL, or let the proxy say the host and list it in HAULIER_TRUSTED_PROXIES"
    )
    return Finding("links", ok=right, detail=f"name {location.rpartition('/resumable/')[0]}{cure}")


def _look_at_buffering(url: str, token: str | None, name: str) -> Finding:
    """Send a part of a body and hold the rest: the service must get that part now."""
    fields = {"Upload-Complete": "?0", "Upload-Offset": "0", "Content-Type": "application/partial-upload"}
    with _connected(url, token) as sending:
        sending.start("PATCH", f"/resumable/{name}", 2 * PIECE, fields)
        sending.send(bytes(PIECE))
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if _received(url, token, name) > 0:
                return Finding("request bodies", ok=True, detail="arrive while they are sent")
            time.sleep(0.2)
    cure = "nginx: proxy_request_buffering off; proxy_http_version 1.1"
    return Finding("request bodies", ok=False, detail=f"are held back until they are whole ({cure})")


def _received(url: str, token: str | None, name: str) -> int:
    with _connected(url, token) as asking:
        answer = asking.ask("GET", f"/api/uploads/{name}")
    document = json.loads(answer.body or b"{}")
    return int(document.get("received_bytes", 0))


def _look_at_interim(url: str, token: str | None) -> Finding:
    """Send the head of an upload and hold its body: a 104 must come, and after the body the answer."""
    seen: list[Answer] = []
    with _connected(url, token) as sending:
        sending.start("POST", "/resumable/", 1, {"Upload-Complete": "?0", **VERSION})
        with suppress(OSError, ValueError):
            seen.append(sending.answer())
        with suppress(OSError, ValueError):
            sending.send(b"x")
            while not (seen and seen[-1].status >= 200):
                seen.append(sending.answer())
    for answer in seen:
        if "location" in answer.fields:
            _cancel(url, token, answer.fields["location"].rpartition("/")[2])
    statuses = [answer.status for answer in seen]
    # A proxy that ends its answer with the 104 says so in it; what follows is then a body to every hop before us.
    ended = any(answer.status == 104 and "connection" in answer.fields for answer in seen)
    if statuses[:1] == [104] and statuses[-1] == 201 and not ended:
        return Finding("104", ok=True, detail="comes through")
    if 104 in statuses:
        return Finding("104", ok=False, detail="is taken for the answer; set HAULIER_INTERIM_RESPONSES=false")
    return Finding("104", ok=False, detail="does not come through; set HAULIER_INTERIM_RESPONSES=false")
