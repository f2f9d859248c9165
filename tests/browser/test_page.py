"""The page's own tests, file by file: units, and the page in Chromium on a service of its own."""

import os
import subprocess
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


@pytest.mark.needs("chromium", "node")
@pytest.mark.parametrize("file", FILES)
def test_the_page_does_what_its_tests_say(file: str) -> None:
    chromium = {"CHROMIUM": require("chromium")}
    done = subprocess.run(
        [ROOT / "tools" / "page", "test", file],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, **chromium, "NO_COLOR": "1"},  # noqa: TID251 - a child gets what we have
        check=False,
    )
    if done.returncode == NO_NODE:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-4000:]}"


def test_a_file_that_hangs_is_told_of_before_its_worker_is_ended(pytestconfig: pytest.Config) -> None:
    assert float(pytestconfig.getini("faulthandler_timeout")) > DEADLINE_S
