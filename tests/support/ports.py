"""Ports of this machine that nobody else takes while a test needs them.

Rule 1: a port is given once. Of a port that is free when it is looked at another test's process may think the same, so
        it is reserved among all processes of tests, for the life of the one that asked: by a lock of one byte in a file
        that they share, which ends with its process however that ends.
"""

import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

PORTS: Final = range(20_000, 32_000)
"""Never one that the kernel gives to connections: while a service is down, its client's own connection could take it,
and then connects to itself."""
_given: set[int] = set()


def free_port() -> int:
    """Return a port on which a service can be stopped and started again."""
    for _ in range(1000):
        port = random.SystemRandom().choice(PORTS)
        if _reserve(port) and _is_free(port):
            return port
    raise AssertionError("a thousand ports are taken")


def _reserve(port: int) -> bool:
    """Return whether the port is this process's from now on, and was nobody's."""
    if port in _given:  # the kernel does not refuse a process what it has already
        return False
    try:
        fcntl.lockf(_shared(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _given.add(port)
    return True


@cache
def _shared() -> int:
    """Return the shared file. It stays open: closing it once would let go of every lock."""
    path = Path(tempfile.gettempdir()) / f"haulier-test-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _is_free(port: int) -> bool:
    """Whether a service could listen on it now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
