"""The IETF's resumable uploads as an outsider speaks them, in any of their versions."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import Final

from haulier.core.values import dataclass
from tests.support.outsider import Answer, Outsider
from tests.support.raw_http import Answer as RawAnswer
from tests.support.raw_http import Line

VERSIONS: Final = (3, 4, 5, 6, 7, 8)
IANA: Final = "https://iana.org/assignments/http-problem-types#"
PARTIAL: Final = "application/partial-upload"
Fields = Mapping[str, str]


@dataclass(frozen=True)
class Draft:
    """Single requests of one version, each on a connection of its own."""

    port: int
    number: int = 8
    timeout_s: float = 60.0
    credentials: Fields = field(default_factory=dict)

    @property
    def named(self) -> dict[str, str]:
        """What names the version."""
        return {"Upload-Draft-Interop-Version": str(self.number)}

    @property
    def outsider(self) -> Outsider:
        """Whoever speaks no protocol in particular."""
        return Outsider(self.port, timeout_s=self.timeout_s)

    def says(self, complete: bool) -> dict[str, str]:
        """Say whether this was all."""
        if self.number == 3:
            return {"Upload-Incomplete": "?0" if complete else "?1"}
        return {"Upload-Complete": "?1" if complete else "?0"}

    def ask(self, method: str, target: str, body: bytes = b"", fields: Fields | None = None) -> Answer:
        """Send a request, with the version."""
        return self.outsider.ask(method, target, body, {**self.named, **self.credentials, **(fields or {})})

    def create(
        self,
        body: bytes = b"",
        *,
        complete: bool = False,
        method: str = "POST",
        target: str = "/resumable/",
        **fields: str,
    ) -> Answer:
        """Ask for an upload."""
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return self.ask(method, target, body, {**self.says(complete), **named})

    def begin(self, length: int | None = None, **fields: str) -> str:
        """Create an upload carefully; return its path."""
        said = {} if length is None else {"Upload-Length": str(length)}
        answer = self.create(**{**said, **fields})  # type: ignore[arg-type]  # texts by name
        assert answer.status == 201, answer
        return path_of(answer)

    def patch(
        self, upload: str, offset: int | str, body: bytes = b"", *, complete: bool = False, **fields: str
    ) -> Answer:
        """Append."""
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        typed = {"Content-Type": PARTIAL} if self.number >= 6 else {}
        return self.ask(
            "PATCH", upload, body, {**self.says(complete), **typed, "Upload-Offset": str(offset), **named}
        )

    def head(self, upload: str) -> Answer:
        """Ask where the upload goes on."""
        return self.ask("HEAD", upload)

    def offset(self, upload: str) -> int:
        """Return where an upload goes on that is there."""
        answer = self.head(upload)
        assert answer.status == 204, answer
        return int(answer.headers["upload-offset"])

    def is_complete(self, answer: Answer | RawAnswer) -> bool:
        """Return what an answer says about completeness; it must say it."""
        (name,) = self.says(complete=True)
        return answer.headers[name.lower()] == self.says(complete=True)[name]

    def content(self, answer: Answer) -> bytes:
        """Download what a completion was answered with."""
        record = self.outsider.ask("GET", f"/api/records/{answer.json['id']}/assets/original")
        assert record.status == 200, record
        return record.body


@contextmanager
def talking(port: int, request: str, fields: Fields, *, length: int | None = None) -> Iterator[Line]:
    """Send the head of a request on a connection of its own; `length` None: its body will be chunked."""
    framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    with Line(port) as line:
        head = [f"{request} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        head += [f"{name}: {value}" for name, value in {**framing, **fields}.items()]
        line.send(("\r\n".join(head) + "\r\n\r\n").encode())
        yield line


def limits_of(answer: Answer | RawAnswer) -> dict[str, int]:
    """Read `Upload-Limit`."""
    pairs = (item.strip().split("=") for item in answer.headers["upload-limit"].split(","))
    return {key: int(value) for key, value in pairs}


def path_of(answer: Answer | RawAnswer) -> str:
    """Return the path of a created upload."""
    return "/" + answer.headers["location"].split("/", 3)[3]
