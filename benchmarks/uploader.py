"""A client that costs as little as one can: `sendfile` on one keep-alive connection.

Run as a process of its own: `python -m benchmarks.uploader PORT FILE`. It connects, prints `ready`, reads
one JSON line with the requests (`method`, `target`, `headers`, `offset`, `length`), sends them one after
the other, and prints one JSON line: the seconds that took, the statuses of refusals, the last answer's body.
"""

import json
import os
import socket
import sys
import time
from typing import Any


def main() -> None:
    port, path = int(sys.argv[1]), sys.argv[2]
    source = os.open(path, os.O_RDONLY)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        print("ready", flush=True)
        requests = json.loads(sys.stdin.readline())
        started = time.perf_counter()
        answers = [send(connection, source, request) for request in requests]
        seconds = time.perf_counter() - started
    bad = [status for status, _ in answers if not 200 <= status < 300]
    print(json.dumps({"wall_s": seconds, "refused": bad, "body": answers[-1][1]}), flush=True)


def send(connection: socket.socket, source: int, request: dict[str, Any]) -> tuple[int, str]:
    head = [
        f"{request['method']} {request['target']} HTTP/1.1",
        f"Host: 127.0.0.1:{connection.getpeername()[1]}",
    ]
    head += [f"{name}: {value}" for name, value in request.get("headers", {}).items()]
    head.append(f"Content-Length: {request['length']}")
    connection.sendall("\r\n".join([*head, "", ""]).encode())
    at, end = request["offset"], request["offset"] + request["length"]
    while at < end:
        at += os.sendfile(connection.fileno(), source, at, end - at)
    return answer(connection)


def answer(connection: socket.socket) -> tuple[int, str]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:])
    while len(body) < int(fields.get("content-length", "0")):
        body += more(connection)
    return int(lines[0].split(" ")[1]), body.decode(errors="replace")


def more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise EOFError("the server closed the connection")
    return data


if __name__ == "__main__":
    main()
