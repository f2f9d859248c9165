"""The fuzz targets in short: every parser takes its seeds and some thousand mutations of them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import oracles

ROOT = Path(__file__).parents[2]
FUZZ = ROOT / "tests" / "fuzz"
TARGETS = sorted(path.stem for path in FUZZ.glob("[a-z]*.py") if path.stem != "harness")

RUNS = 10_000
"""A second or two each; a nightly run gives `-max_total_time=600` instead."""
DEADLINE_S = 120.0


def test_every_oracle_is_a_target_and_has_seeds() -> None:
    asked = {
        name.removeprefix("check_")
        for name, it in vars(oracles).items()
        if name.startswith("check_") and it.__module__ == oracles.__name__
    }
    assert set(TARGETS) == asked
    assert {folder.name for folder in (FUZZ / "seeds").iterdir()} == asked


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_short_fuzz_finds_nothing(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        reason = "atheris is not installed (it has wheels for Linux on x86-64 only)"
        if os.environ.get("CI") == "true":  # noqa: TID251 - asks about the machine, not about a setting of ours
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    run = subprocess.run(
        [sys.executable, "-m", f"tests.fuzz.{name}", f"-runs={RUNS}", f"-artifact_prefix={tmp_path}/"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"Done {RUNS} runs" in run.stderr
