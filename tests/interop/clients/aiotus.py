"""Runs one upload of aiotus: `python -m tests.interop.clients.aiotus '{"endpoint": ..., "files": [...]}'`.

Several files are brought as partial uploads, in parallel, and put together. Prints JSON: the URL, and the metadata
that the service gives back.
"""

import asyncio
import base64
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import aiotus

METADATA = {"filename": b"file.bin", "filetype": b"application/x-test", "flag": None}


def open_file(name: str) -> BinaryIO:
    return Path(name).open("rb")


async def run(task: dict[str, Any]) -> None:
    # A hundredth of a second between two tries, and more tries than any test cuts.
    patience = aiotus.RetryConfiguration(retry_attempts=100, max_retry_period_seconds=0.01)
    with ExitStack() as stack:
        files = [stack.enter_context(open_file(name)) for name in task["files"]]
        if len(files) == 1:
            url = await aiotus.upload(task["endpoint"], files[0], METADATA, config=patience)
        else:
            url = await aiotus.upload_multiple(task["endpoint"], files, METADATA, config=patience)
    if url is None:
        sys.exit("aiotus gave up")
    found = await aiotus.metadata(url, config=patience) or {}
    told = {key: None if value is None else base64.b64encode(value).decode() for key, value in found.items()}
    print(json.dumps({"url": str(url), "metadata": told}))


if __name__ == "__main__":
    asyncio.run(run(json.loads(sys.argv[1])))
