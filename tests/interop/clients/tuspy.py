"""Runs one upload of tuspy: `python -m tests.interop.clients.tuspy '{"endpoint": ..., "file": ...}'`.

`chunk`: bytes of a PATCH. `store`: a file that remembers where uploads go on. `stop_at`: bytes after which it ends.
`checksum`, `asynchronous`: whether. Prints the upload's URL.
"""

import asyncio
import json
import sys

from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage

TRIES = 200
"""Of each chunk; more than any test cuts."""


def main() -> None:
    task = json.loads(sys.argv[1])
    client = TusClient(task["endpoint"])
    options = {
        "chunk_size": task.get("chunk", sys.maxsize),
        "metadata": {"filename": "file.bin", "filetype": "application/x-test"},
        "retries": TRIES,
        "retry_delay": 0,
        "upload_checksum": task.get("checksum", False),
    }
    if "store" in task:
        storage = FileStorage(task["store"])  # type: ignore[no-untyped-call]  # theirs
        options |= {"store_url": True, "url_storage": storage}
    if task.get("asynchronous"):
        aio = client.async_uploader(task["file"], **options)
        asyncio.run(aio.upload())
        print(aio.url)
    else:
        uploader = client.uploader(task["file"], **options)
        uploader.upload(stop_at=task.get("stop_at"))
        print(uploader.url)


if __name__ == "__main__":
    main()
