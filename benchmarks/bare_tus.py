"""The least that a tus server can do: it reads each body into one buffer, counts, and keeps nothing.

Run as a process of its own: `python -m benchmarks.bare_tus`; it prints its port. Uploads are at `/files`; `GET /complete`
tells the sizes of those that came whole. What a client costs shows here: elsewhere it waits for the server.
"""

import json
import re
import socket
import threading
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from typing import Final

PIECE: Final = 1024 * 1024
HEAD_MAX: Final = 64 * 1024
VERSION: Final = "Tus-Resumable: 1.0.0"
NUMBERED: Final = re.compile(r"/files/(\d+)")


@dataclass(slots=True)
class Upload:
    """How far one upload has come."""

    size: int
    offset: int = 0


class Server:
    """All uploads; each connection has a thread of its own."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._port = listening.getsockname()[1]
        self._uploads: dict[str, Upload] = {}
        self._ids = count(1)

    def run(self) -> None:
        """Serve until the process ends."""
        while True:
            connection, _ = self._listening.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        buffer = memoryview(bytearray(PIECE))
        with connection:
            filled = 0
            while True:
                while (end := bytes(buffer[:filled]).find(b"\r\n\r\n")) < 0:
                    came = connection.recv_into(buffer[filled:HEAD_MAX])
                    if not came:
                        return
                    filled += came
                lines = bytes(buffer[:end]).decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ")
                fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
                if fields.get("expect", "").lower() == "100-continue":
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                length = int(fields.get("content-length", "0"))
                came = min(filled - end - 4, length)
                rest = bytes(buffer[end + 4 + came : filled])
                while came < length:
                    piece = connection.recv_into(buffer, min(PIECE, length - came))
                    if not piece:
                        return
                    came += piece
                connection.sendall(self._answer(method, target, fields, came))
                buffer[: len(rest)] = rest
                filled = len(rest)

    def _answer(self, method: str, target: str, fields: dict[str, str], came: int) -> bytes:
        numbered = NUMBERED.fullmatch(target)
        upload = self._uploads.get(numbered[1]) if numbered else None
        match method:
            case "OPTIONS":
                return _answer(HTTPStatus.NO_CONTENT, "Tus-Version: 1.0.0", "Tus-Extension: creation")
            case "GET" if target == "/complete":
                whole = [each.size for each in self._uploads.values() if each.offset == each.size]
                return _answer(HTTPStatus.OK, body=json.dumps(whole).encode())
            case "POST" if target == "/files":
                name = str(next(self._ids))
                self._uploads[name] = Upload(int(fields["upload-length"]))
                return _answer(
                    HTTPStatus.CREATED,
                    f"Location: http://127.0.0.1:{self._port}/files/{name}",
                    "Upload-Offset: 0",
                )
            case "HEAD" if upload:
                told = f"Upload-Offset: {upload.offset}", f"Upload-Length: {upload.size}"
                return _answer(HTTPStatus.OK, *told, "Cache-Control: no-store")
            case "PATCH" if upload:
                if int(fields["upload-offset"]) != upload.offset:
                    return _answer(HTTPStatus.CONFLICT)
                upload.offset += came
                return _answer(HTTPStatus.NO_CONTENT, f"Upload-Offset: {upload.offset}")
            case _:
                return _answer(HTTPStatus.NOT_FOUND)


def _answer(status: HTTPStatus, *fields: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", VERSION, *fields]
    if status is not HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def main() -> None:
    """Serve on a port of the kernel's choice."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        Server(listening).run()


if __name__ == "__main__":
    main()
