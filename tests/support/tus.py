"""tus 1.0.0 as an outsider speaks it: fields and bodies, nothing of ours on this side of the wire."""

import base64
from collections.abc import Mapping
from typing import Final

from tests.support.outsider import Answer, Outsider

TUS: Final = {"Tus-Resumable": "1.0.0"}
MEDIA_TYPE: Final = {"Content-Type": "application/offset+octet-stream"}
Fields = Mapping[str, str]


def metadata(**values: str | bytes) -> str:
    """Write `Upload-Metadata`."""
    raw = {key: value.encode() if isinstance(value, str) else value for key, value in values.items()}
    return ",".join(f"{key} {base64.b64encode(value).decode()}" for key, value in raw.items())


class TusClient:
    """Single requests, each on a connection of its own; every one with the version."""

    def __init__(self, port: int, *, timeout_s: float = 60.0) -> None:
        self.outsider = Outsider(port, timeout_s=timeout_s)

    def ask(self, method: str, target: str, body: bytes = b"", fields: Fields | None = None) -> Answer:
        """Send a request, with the version unless the fields have one."""
        return self.outsider.ask(method, target, body, {**TUS, **(fields or {})})

    def post(self, body: bytes = b"", fields: Fields | None = None, *, target: str = "/tus/") -> Answer:
        """Ask for an upload."""
        return self.ask("POST", target, body, fields)

    def create(self, size: int | None = None, *, target: str = "/tus/", **fields: str) -> str:
        """Create an upload; return its path."""
        length = {"Upload-Defer-Length": "1"} if size is None else {"Upload-Length": str(size)}
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        answer = self.post(fields={**length, **named}, target=target)
        assert answer.status == 201, answer
        return path_of(answer)

    def patch(self, upload: str, offset: int | str, body: bytes, fields: Fields | None = None) -> Answer:
        """Append."""
        return self.ask("PATCH", upload, body, {**MEDIA_TYPE, "Upload-Offset": str(offset), **(fields or {})})

    def append(self, upload: str, offset: int, body: bytes, **fields: str) -> int:
        """Append what must be taken; return the new offset."""
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        answer = self.patch(upload, offset, body, named)
        assert answer.status == 204, answer
        return int(answer.headers["upload-offset"])

    def head(self, upload: str, fields: Fields | None = None) -> Answer:
        """Ask for the offset."""
        return self.ask("HEAD", upload, fields=fields)

    def offset(self, upload: str) -> int:
        """Return the offset of an upload that is there."""
        answer = self.head(upload)
        assert answer.status == 200, answer
        return int(answer.headers["upload-offset"])

    def whole(self, content: bytes, **fields: str) -> str:
        """Create an upload and bring all of it; return its path."""
        upload = self.create(len(content), **fields)
        assert self.append(upload, 0, content) == len(content)
        return upload

    def content(self, upload: str) -> bytes:
        """Download a finished upload."""
        answer = self.outsider.ask("GET", upload)
        assert answer.status == 200, answer
        return answer.body

    def records(self) -> list[str]:
        """Return the ids of the newest records, among which a new one would be."""
        return self.outsider.latest_records()


def path_of(answer: Answer) -> str:
    """Return the path of a created upload."""
    return "/" + answer.headers["location"].split("/", 3)[3]
