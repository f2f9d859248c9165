"""Bars are for people: whoever is none is shown none, and loads no library that draws them."""

import subprocess
import sys
from typing import Final

PUSHES: Final = """
import sys
from haulier.cli.display import Bars
with Bars(10) as bars, bars.file("name") as report:
    assert not bars.drawn
    report(None)
assert "rich.progress" not in sys.modules
"""


def test_without_a_terminal_no_bar_is_drawn_and_nothing_loaded_for_it() -> None:
    done = subprocess.run([sys.executable, "-c", PUSHES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
