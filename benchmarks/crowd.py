"""Many small requests over many connections: a client as cheap as one can be, in a process of its own.

Run as `python -m benchmarks.crowd PORT SECONDS CONNECTIONS`: it connects, prints `ready`, reads one JSON line with the
request (`head`, `size` of its body), sends it again and again on each connection for so long, and prints one JSON line:
how many were answered with 2xx, and how many otherwise.
"""

import json
import os
import selectors
import socket
import sys
import time


class Caller:
    """One connection that asks and listens in turn."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._answer = b""

    def ask(self) -> None:
        """Send the request."""
        self._answer = b""
        self.socket.sendall(self._request)

    def listen(self) -> int | None:
        """Read more; return the status once the answer is whole."""
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("the server closed the connection")
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end:
            return None
        length = 0
        for line in head.lower().split(b"\r\n")[1:]:
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return int(head.split(b" ", 2)[1]) if len(body) >= length else None


def main() -> None:
    port, seconds, connections = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    print("ready", flush=True)
    task = json.loads(sys.stdin.readline())
    request = task["head"].encode() + os.urandom(task["size"])
    callers = [Caller(port, request) for _ in range(connections)]
    with selectors.DefaultSelector() as selector:
        for caller in callers:
            selector.register(caller.socket, selectors.EVENT_READ, caller)
            caller.ask()
        good = bad = 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for key, _ in selector.select(1.0):
                status = key.data.listen()
                if status is not None:
                    good, bad = (good + 1, bad) if 200 <= status < 300 else (good, bad + 1)
                    key.data.ask()
    print(json.dumps({"good": good, "bad": bad}), flush=True)


if __name__ == "__main__":
    main()
