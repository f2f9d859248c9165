"""A port is given to one process of tests only."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPT = """
import sys
from tests.support import ports
ports.PORTS = range(20_000, 20_004)
ports._is_free = lambda port: port != 20_003
for _ in range(int(sys.argv[1])):
    try:
        print(ports.free_port(), flush=True)
    except AssertionError as error:
        print(error, flush=True)
sys.stdin.read()
"""


@contextmanager
def taking(count: int, folder: Path) -> Iterator[list[str]]:
    """Run a process that takes so many of three free ports, and keeps them while it lives."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},  # noqa: TID251 - a child's
    )
    with process:
        assert process.stdout is not None
        yield [process.stdout.readline().strip() for _ in range(count)]


def test_no_port_is_given_twice_while_its_process_lives(tmp_path: Path) -> None:
    with taking(2, tmp_path) as first, taking(1, tmp_path) as second, taking(1, tmp_path) as third:
        assert sorted(first + second) == ["20000", "20001", "20002"]
        assert third == ["a thousand ports are taken"]
    with taking(3, tmp_path) as all_of_them:
        assert sorted(all_of_them) == ["20000", "20001", "20002"]
