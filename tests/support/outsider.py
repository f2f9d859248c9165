"""The native API as an outsider speaks it: `http.client` and JSON, nothing of ours on this side of the wire."""

import hashlib
import http.client
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self

from haulier.core.values import dataclass

TIMEOUT_S: Final = 60.0
"""For any single answer."""
NO_ANSWER: Final = (ConnectionError, http.client.HTTPException, TimeoutError)
"""What a request ends with when the service dies under it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response; field names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)

    @property
    def problem(self) -> tuple[int, str]:
        """The status, and the slug of the problem type."""
        assert self.headers["content-type"] == "application/problem+json", self
        return self.status, str(self.json["type"]).rpartition("/")[2]


class FinalResponse(http.client.HTTPResponse):
    """A final response; `http.client` takes every interim one but 100 for it."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]  # no public hook
            if status == 100 or status >= 200:
                return version, status, reason
            while self.fp.readline() not in {b"\r\n", b"\n", b""}:
                pass


class Wire:
    """One connection to the service on this machine's `port`; opened when it is needed."""

    def __init__(self, port: int, *, timeout_s: float = TIMEOUT_S) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        self._connection.response_class = FinalResponse

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def start(self, method: str, target: str, length: int, headers: Mapping[str, str]) -> None:
        """Send the head of a request whose body has `length` bytes."""
        self._connection.putrequest(method, target, skip_accept_encoding=True, skip_host="Host" in headers)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self._connection.putheader(name, value)
        self._connection.endheaders()

    def send(self, piece: bytes) -> None:
        """Send more of the body."""
        self._connection.send(piece)

    def answer(self) -> Answer:
        """Read the whole response."""
        response = self._connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())

    def ask(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a whole request and read the whole response."""
        self.start(method, target, len(body), headers or {})
        self.send(body)
        return self.answer()

    def fetch_sha256(self, target: str) -> tuple[int, str]:
        """GET a file; return its size and digest, without keeping it."""
        self._connection.request("GET", target)
        response = self._connection.getresponse()
        assert response.status == 200, response.read()
        digest, size = hashlib.sha256(), 0
        while piece := response.read(1024 * 1024):
            digest.update(piece)
            size += len(piece)
        return size, digest.hexdigest()


class Outsider:
    """Single calls, each on a connection of its own."""

    def __init__(self, port: int, *, timeout_s: float = TIMEOUT_S) -> None:
        self.port = port
        self._timeout_s = timeout_s

    def ask(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a whole request and read the whole response."""
        with Wire(self.port, timeout_s=self._timeout_s) as wire:
            return wire.ask(method, target, body, headers)

    def post(
        self, target: str, document: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Answer:
        """POST JSON."""
        fields = {"Content-Type": "application/json", **(headers or {})}
        return self.ask("POST", target, json.dumps(document).encode(), fields)

    def try_begin(self, *, key: str | None = None, **fields: Any) -> Answer:
        """Ask for an upload."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.post("/api/uploads", {"filename": "file.bin", **fields}, headers)

    def begin(self, *, key: str | None = None, **fields: Any) -> Any:
        """Begin an upload; return what the service says of it."""
        answer = self.try_begin(key=key, **fields)
        assert answer.status in {200, 201}, answer
        return answer.json

    def state(self, upload: str) -> Any:
        """Return an upload's state."""
        answer = self.ask("GET", f"/api/uploads/{upload}")
        assert answer.status == 200, answer
        return answer.json

    def put(self, upload: str, index: int, body: bytes) -> Answer:
        """Send a chunk."""
        return self.ask("PUT", f"/api/uploads/{upload}/chunks/{index}", body)

    def append(self, upload: str, offset: int, body: bytes) -> Answer:
        """Send bytes for the end."""
        return self.ask("PATCH", f"/api/uploads/{upload}", body, {"Upload-Offset": str(offset)})

    def offset(self, upload: str) -> int:
        """Return where an append goes on."""
        answer = self.ask("HEAD", f"/api/uploads/{upload}")
        assert answer.status == 200, answer
        return int(answer.headers["upload-offset"])

    def finish(self, upload: str) -> Answer:
        """Ask for the record."""
        return self.post(f"/api/uploads/{upload}/finish", {})

    def latest_records(self) -> list[str]:
        """Return the ids of the newest records, among which a new one would be; what they say may still change."""
        answer = self.ask("GET", "/api/records?limit=20")
        assert answer.status == 200, answer
        return [str(record["id"]) for record in answer.json["items"]]

    def records(self) -> list[Any]:
        """Return all records, newest first; no test has more than a page of them."""
        answer = self.ask("GET", "/api/records?limit=200")
        assert answer.status == 200, answer
        assert answer.json["next"] is None
        return list(answer.json["items"])

    def original_sha256(self, record: str) -> tuple[int, str]:
        """Fetch a record's file; return its size and digest."""
        with Wire(self.port) as wire:
            return wire.fetch_sha256(f"/api/records/{record}/assets/original")


def pieces_of(data: bytes, size: int) -> Iterable[bytes]:
    """Cut bytes into pieces."""
    return (data[start : start + size] for start in range(0, len(data), size))
