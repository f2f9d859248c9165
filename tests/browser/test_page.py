"""The page's own tests, file by file: units, and the page in Chromium on a service of its own."""

import fcntl
import os
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest

from tests.support.components import require

ROOT: Final = Path(__file__).parents[2]
WEB: Final = ROOT / "web"
FILES: Final = sorted(str(path.relative_to(WEB)) for path in (WEB / "test").rglob("*.test.ts"))
DEADLINE_S: Final = 560.0
"""A bound against hanging, no measure of speed: a busy machine has taken 230 s for the longest file."""
NO_NODE: Final = 77
"""The exit code of `tools/page test` where there is no Node.js that can run them."""


@pytest.mark.slow
@pytest.mark.needs("chromium", "node")
@pytest.mark.parametrize("file", FILES)
def test_the_page_does_what_its_tests_say(file: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    with (WEB / "package.json").open() as lock:  # the workers share packages and the built page
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run_page_tool("ready", deadline=deadline)
    if done.returncode == 0:
        done = run_page_tool("test", file, deadline=deadline)
    if done.returncode == NO_NODE:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-4000:]}"


def run_page_tool(*arguments: str, deadline: float) -> "subprocess.CompletedProcess[str]":
    chromium = {"CHROMIUM": require("chromium")}
    return subprocess.run(
        [ROOT / "tools" / "page", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=deadline - time.monotonic(),
        env={**os.environ, **chromium, "NO_COLOR": "1"},  # noqa: TID251 - a child gets what we have
        check=False,
    )


def test_a_file_that_hangs_is_told_of_before_its_worker_is_ended(pytestconfig: pytest.Config) -> None:
    assert float(pytestconfig.getini("faulthandler_timeout")) > DEADLINE_S
