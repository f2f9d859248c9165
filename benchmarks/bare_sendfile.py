"""The least that an upload can cost: accept, `sendfile` until all is sent, close. `python -m benchmarks.bare_sendfile FILE`."""

import os
import socket
import sys


def main() -> None:
    source = os.open(sys.argv[1], os.O_RDONLY)
    size = os.fstat(source).st_size
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(f"ready on 127.0.0.1:{server.getsockname()[1]}", flush=True)
        while True:
            connection, _ = server.accept()
            with connection:
                at = 0
                while at < size:
                    at += os.sendfile(connection.fileno(), source, at, size - at)


if __name__ == "__main__":
    main()
