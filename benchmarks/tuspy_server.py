"""tuspyserver as a program: `python -m benchmarks.tuspy_server DIRECTORY` prints its port."""

import socket
import sys

import uvicorn
from fastapi import FastAPI
from tuspyserver import create_tus_router


def main() -> None:
    app = FastAPI()
    app.include_router(create_tus_router(prefix="files", files_dir=sys.argv[1]))
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    # As quick as uvicorn gets: no log of requests.
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, loop="uvloop", http="httptools")
    )
    server.run(sockets=[listening])


if __name__ == "__main__":
    main()
