"""The child process: `python -P -m haulier.bounded.child SOCKET PARENT LIMITS`.

Rule 1: confined first, libraries later.
Rule 2: one job at a time, files only as descriptors; this process opens nothing by name but its libraries.
Rule 3: it never mends itself. What it does not expect ends it, and its parent starts another.
"""

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict

from haulier.bounded.limits import Limits, allow_cpu, confine
from haulier.bounded.messages import CHECK, DERIVE, LENGTH, MAX_DETAIL, MAX_FILES, frame, length_of
from haulier.core.processing import Derivatives, FileMetadata, ProcessingFailure, Unprocessed

Reply = Derivatives | FileMetadata | Unprocessed


def main(arguments: list[str]) -> None:
    """Answer jobs until the parent closes the socket."""
    limits = Limits.from_json(arguments[2])
    confine(limits, parent=int(arguments[1]))
    with socket.socket(fileno=int(arguments[0])) as line:
        while (request := _receive(line)) is not None:
            job, files = request
            allow_cpu(2 * limits.job_s)  # a decoder may have a thread beside ours
            try:
                reply = _work(job, files, limits)
            finally:
                for descriptor in files:
                    os.close(descriptor)
            line.sendall(frame(json.dumps(asdict(reply)).encode()))


def _receive(line: socket.socket) -> tuple[Mapping[str, str | None], list[int]] | None:
    """Return the next job and its files; None: there is no parent any more."""
    head, files, _, _ = socket.recv_fds(line, LENGTH.size, MAX_FILES)
    if not head:
        return None
    head += _exactly(line, LENGTH.size - len(head))
    job: Mapping[str, str | None] = json.loads(_exactly(line, length_of(head)))
    return job, files


def _exactly(line: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = line.recv(size - len(data))
        if not piece:
            raise SystemExit
        data += piece
    return bytes(data)


def _work(job: Mapping[str, str | None], files: list[int], limits: Limits) -> Reply:
    if job["job"] == DERIVE:
        return _derive(files, limits)
    assert job["job"] == CHECK
    return _check(job, files)


def _derive(files: list[int], limits: Limits) -> Derivatives | Unprocessed:
    try:
        # Only who derives loads a decoder, and only after the limits hold.
        from haulier.bounded import images  # noqa: PLC0415
    except ImportError as error:
        detail = f"images need haulier[images]: {error}"
        return Unprocessed(ProcessingFailure.FORMAT_UNSUPPORTED, detail[:MAX_DETAIL])
    images.prepare()
    source, display, thumbnail = files
    return images.derive(source, display, thumbnail, limits)


def _check(job: Mapping[str, str | None], files: list[int]) -> FileMetadata | Unprocessed:
    from haulier.bounded.content import inspect  # noqa: PLC0415 - as above

    try:
        return inspect(files[0], extension=job["extension"] or "", charset=job["charset"])
    except MemoryError:
        return Unprocessed(ProcessingFailure.CHECK_TOO_LARGE, "out of memory")


if __name__ == "__main__":
    main(sys.argv[1:])
