"""Bars are for people: on a terminal they are drawn on standard error, and results stay on standard output."""

import json
import os
import pty
import subprocess

from tests.support.files import MIB, make_file
from tests.support.processes import Commands


def test_results_stay_on_standard_output_while_bars_are_drawn(haulier: Commands) -> None:
    source = make_file(haulier.folder / "large.bin", 20 * MIB)
    controller, terminal = pty.openpty()
    running = haulier.start("put", source, "--json", stderr=terminal)
    os.close(terminal)
    drawn = b""
    try:
        while piece := os.read(controller, 65536):
            drawn += piece
    except OSError:  # Linux tells the end of a terminal so
        pass
    finally:
        os.close(controller)
    out, _ = running.communicate()
    assert running.returncode == 0
    assert json.loads(out)["size"] == 20 * MIB
    assert b"large.bin" in drawn
    assert b"total" in drawn


def test_without_a_terminal_standard_error_is_silent(haulier: Commands) -> None:
    source = make_file(haulier.folder / "large.bin", 20 * MIB)
    running = haulier.start("put", source, stderr=subprocess.PIPE)
    _, err = running.communicate()
    assert (running.returncode, err) == (0, b"")
